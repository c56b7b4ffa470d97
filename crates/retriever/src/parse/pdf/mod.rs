//! Pages of a PDF: paragraphs below the headings that their size makes. Pure.

mod direction;
mod glyphs;
mod layout;

use std::sync::Arc;

use hayro_interpret::hayro_syntax::{DecryptionError, LoadPdfError, Pdf};
use hayro_interpret::kurbo::{Affine, Rect};
use hayro_interpret::{Context, InterpreterCache, InterpreterSettings, interpret_page};

use super::{MOST_TEXT, Parsed};
use glyphs::Page;

/// Parses a PDF. Lines are those of the stored text.
pub(super) fn parse(content: &[u8]) -> Result<Parsed, String> {
    let pdf = Pdf::new(Arc::new(content.to_vec())).map_err(|fault| match fault {
        LoadPdfError::Decryption(DecryptionError::PasswordProtected) => {
            "it opens with a password only"
        }
        LoadPdfError::Decryption(_) => "it is encrypted in a way that is not known",
        LoadPdfError::Invalid => "it is broken: no page is found in it",
    })?;
    let cache = InterpreterCache::new();
    let mut pages = Vec::new();
    let mut bytes = 0;
    for page in pdf.pages().iter() {
        let everywhere = Rect::new(-1e6, -1e6, 1e6, 1e6);
        let settings = InterpreterSettings::default();
        let mut context = Context::new(Affine::IDENTITY, everywhere, &cache, pdf.xref(), settings);
        let mut seen = Page::up_to(MOST_TEXT - bytes);
        interpret_page(page, &mut context, &mut seen);
        let lines =
            seen.finish().ok_or_else(|| format!("it holds more than {MOST_TEXT} bytes of text"))?;
        bytes += lines.iter().map(|line| line.text.len()).sum::<usize>();
        pages.push(lines);
    }
    let parsed = layout::lay_out(pages)?;
    if parsed.blocks.is_empty() {
        let count = pdf.pages().len();
        return Err(format!(
            "none of its {count} pages holds text: what was scanned has to be recognised (OCR) first"
        ));
    }
    let unknown = parsed.text.matches(char::REPLACEMENT_CHARACTER).count();
    if unknown * 2 > parsed.text.chars().count() {
        return Err("its fonts do not say which letters they show".to_owned());
    }
    Ok(parsed)
}
