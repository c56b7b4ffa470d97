//! From bytes to a text that is stored and cited, and its blocks. Pure.

mod archive;
mod code;
mod cuts;
mod data;
mod docx;
#[cfg(test)]
mod files;
mod html;
mod kind;
mod markdown;
mod pdf;
mod sheets;

use std::ops::Range;

pub use kind::is_document;
use kind::{DOCX, PDF, XLSX};
pub(crate) use kind::{ending_type, media_type};

use crate::Error;

/// The longest text that a file may hold, in bytes: a small file can unpack to a large one.
const MOST_TEXT: usize = 32 * 1024 * 1024;

/// The longest heading, in bytes.
const LONGEST_HEADING: usize = 300;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// The text that is stored and that citations count in.
    pub(crate) text: String,
    /// Its parts in order; between them lies nothing but white space.
    pub(crate) blocks: Vec<Block>,
    /// Where each page begins, in bytes of the text; empty when the file has none.
    pub(crate) pages: Vec<usize>,
}

impl Parsed {
    /// Returns the first and the last page of a part of the text, from 1, or zeros when there is none.
    pub(crate) fn pages_of(&self, range: &Range<usize>) -> (u32, u32) {
        let page = |at: usize| {
            let before = self.pages.partition_point(|begin| *begin <= at);
            u32::try_from(before).unwrap_or(u32::MAX)
        };
        (page(range.start), page(range.end.saturating_sub(1)))
    }

    /// Adds a block behind `between`.
    fn write(
        &mut self,
        between: &str,
        text: &str,
        headings: Vec<String>,
        lines: (u32, u32),
    ) -> Result<(), String> {
        if self.text.len() + between.len() + text.len() > MOST_TEXT {
            return Err(format!("it holds more than {MOST_TEXT} bytes of text"));
        }
        self.text.push_str(between);
        let start = self.text.len();
        self.text.push_str(text);
        self.blocks.push(Block { range: start..self.text.len(), headings, lines });
        Ok(())
    }

    /// Gives every block its lines in the text, where the file has no lines of its own.
    fn count_lines(&mut self) {
        let (mut line, mut counted) = (1, 0);
        for block in &mut self.blocks {
            line += newlines(&self.text[counted..block.range.start]);
            let last = line + newlines(&self.text[block.range.clone()]);
            block.lines = (line, last);
            (line, counted) = (last, block.range.end);
        }
    }
}

fn newlines(text: &str) -> u32 {
    u32::try_from(memchr::memchr_iter(b'\n', text.as_bytes()).count()).unwrap_or(u32::MAX)
}

/// A paragraph, list, code block, table or heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Bytes of the text.
    pub(crate) range: Range<usize>,
    /// The headings above it, outermost first; a heading counts as below itself.
    pub(crate) headings: Vec<String>,
    /// Lines of the file, from 1, first and last.
    pub(crate) lines: (u32, u32),
}

/// Parses `content`, which is of `media_type` as [`media_type`] told it.
///
/// # Errors
/// [`Error::Invalid`] if it cannot be read as that; the message has the reason.
pub(crate) fn parse(source: &str, media_type: &str, content: &[u8]) -> Result<Parsed, Error> {
    let parsed = match media_type {
        PDF => pdf::parse(content),
        DOCX => docx::parse(content),
        XLSX => sheets::parse(content),
        _ => return text(source, media_type, content),
    };
    let parsed = parsed.and_then(|parsed| match parsed.blocks.is_empty() {
        true => Err("it holds no text".to_owned()),
        false => Ok(parsed),
    });
    parsed.map_err(|why| Error::Invalid(format!("{source:?} cannot be read: {why}")))
}

/// Parses what is text itself.
fn text(source: &str, media_type: &str, content: &[u8]) -> Result<Parsed, Error> {
    let not_text = |why: String| {
        let why = kind::what(content).map_or(why, |what| format!("it is {what}"));
        Error::Invalid(format!("{source:?} is not text: {why}"))
    };
    let text = std::str::from_utf8(content)
        .map_err(|fault| not_text(format!("byte {} is not UTF-8", fault.valid_up_to())))?;
    if let Some(at) = text.find('\0') {
        return Err(not_text(format!("byte {at} is NUL")));
    }
    if text.starts_with("{\\rtf") {
        return Err(not_text("it is RTF".to_owned()));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    Ok(match media_type {
        "text/markdown" => markdown::parse(text),
        "text/html" => html::parse(text),
        "text/csv" => data::table(text),
        "application/json" => data::json(text),
        "application/x-ndjson" => data::json_lines(text),
        "text/plain" => paragraphs(text),
        code => code::parse(text, code),
    })
}

/// Cuts plain text at blank lines.
fn paragraphs(text: &str) -> Parsed {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut at = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        if line.trim().is_empty() {
            blocks.extend(open.take());
        } else {
            let block = open.get_or_insert_with(|| Block {
                range: at..at,
                headings: Vec::new(),
                lines: (number, number),
            });
            block.range.end = at + line.trim_end().len();
            block.lines.1 = number;
        }
        at += line.len();
    }
    blocks.extend(open);
    Parsed { text: text.to_owned(), blocks, pages: Vec::new() }
}

/// The headings that are open, by level.
#[derive(Default)]
struct Outline(Vec<(u8, String)>);

impl Outline {
    fn enter(&mut self, level: u8, mut heading: String) {
        // Every block below it has a copy.
        heading.truncate(heading.floor_char_boundary(LONGEST_HEADING));
        self.0.retain(|open| open.0 < level);
        self.0.push((level, heading));
    }

    fn path(&self) -> Vec<String> {
        self.0.iter().map(|open| open.1.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paragraph_ends_at_a_blank_line_and_keeps_its_lines() {
        let parsed = paragraphs("one\ntwo\n\n \nthree");
        let shown: Vec<_> =
            parsed.blocks.iter().map(|b| (&parsed.text[b.range.clone()], b.lines)).collect();
        assert_eq!(shown, [("one\ntwo", (1, 2)), ("three", (5, 5))]);
    }

    #[test]
    fn what_is_not_text_is_refused_with_the_place() {
        for content in [b"ab\xff".as_slice(), b"a\0b"] {
            let fault = parse("x.txt", "text/plain", content).unwrap_err().to_string();
            assert!(fault.contains("\"x.txt\" is not text: byte"), "{fault}");
        }
    }
}
