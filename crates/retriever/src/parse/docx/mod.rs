//! Documents of Word: paragraphs, lists and tables, below their headings. Pure.

mod body;
mod styles;

use super::Parsed;
use super::archive::{Archive, Piece, attribute, read};
use body::Body;
use styles::Styles;

/// Parses a document: what a reader sees of its text, then its notes. Lines are those of the stored text.
/// Headers, footers, comments, hidden and deleted text are left out.
pub(super) fn parse(content: &[u8]) -> Result<Parsed, String> {
    let mut archive = Archive::open(content)?;
    let main = main_part(&mut archive)?;
    let folder = main.rsplit_once('/').map_or("", |parts| parts.0).to_owned();
    let mut part = |name: &str| archive.part(&format!("{folder}/{name}"));
    let styles = Styles::read(part("styles.xml")?.as_deref(), part("numbering.xml")?.as_deref())?;
    let notes = [part("footnotes.xml")?, part("endnotes.xml")?];
    let text = archive.part(&main)?.ok_or_else(|| format!("its {main:?} is missing"))?;
    let mut body = Body::new(&styles);
    body.read(&text)?;
    body.leave_headings();
    for notes in notes.iter().flatten() {
        body.read(notes)?;
    }
    Ok(body.finish())
}

/// Returns the name of the part that holds the text.
fn main_part(archive: &mut Archive<'_>) -> Result<String, String> {
    let links = archive.part("_rels/.rels")?.unwrap_or_default();
    let mut found = None;
    read(&links, |piece| {
        if let Piece::Start("Relationship", tag) = piece
            && attribute(tag, "Type").is_some_and(|kind| kind.ends_with("/officeDocument"))
        {
            found = attribute(tag, "Target");
        }
        Ok(())
    })?;
    let found = found.map(|name| name.trim_start_matches('/').to_owned());
    Ok(found.unwrap_or_else(|| "word/document.xml".to_owned()))
}
