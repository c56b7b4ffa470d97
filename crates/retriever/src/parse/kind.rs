//! What a file is: by what it begins with, by what was given, by its ending. Pure.

use crate::Error;

/// A file of pages.
pub(super) const PDF: &str = "application/pdf";
/// A document of Word.
pub(super) const DOCX: &str =
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
/// A workbook of Excel.
pub(super) const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// Media types that are understood, each with the file endings that mean it.
const KINDS: [(&str, &[&str]); 17] = [
    ("text/markdown", &["md", "markdown"]),
    ("text/html", &["html", "htm"]),
    ("text/plain", &["txt", "text"]),
    ("text/csv", &["csv", "tsv"]),
    (PDF, &["pdf"]),
    (DOCX, &["docx", "docm"]),
    (XLSX, &["xlsx", "xlsm"]),
    ("application/json", &["json"]),
    ("application/x-ndjson", &["ndjson", "jsonl"]),
    ("text/x-c", &["c", "h"]),
    ("text/x-go", &["go"]),
    ("text/x-java", &["java"]),
    ("text/javascript", &["js", "mjs", "cjs", "jsx"]),
    ("text/x-python", &["py", "pyi"]),
    ("text/x-rust", &["rs"]),
    ("text/x-typescript", &["ts", "mts", "cts"]),
    ("text/x-tsx", &["tsx"]),
];

/// What files that cannot be read begin with.
const SIGNATURES: [(&[u8], &str); 9] = [
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"PK\x03\x04", "a ZIP archive, and neither DOCX nor XLSX"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x7fELF", "a program"),
    (b"\xd0\xcf\x11\xe0", "an encrypted Office document, or one of before 2007"),
    (b"{\\rtf", "an RTF document"),
];

/// Returns the media type to read a file as: the one that its content shows, else the `given` one,
/// else what its ending means, else plain text.
///
/// # Errors
/// [`Error::Invalid`] for a given type that is not understood, and for a file that is not of its type.
pub(crate) fn media_type(source: &str, given: &str, content: &[u8]) -> Result<&'static str, Error> {
    let named = if given.is_empty() {
        ending_type(source).unwrap_or("text/plain")
    } else {
        let known = KINDS.iter().find(|kind| kind.0 == given).map(|kind| kind.0);
        known.ok_or_else(|| {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.0).collect();
            Error::Invalid(format!("media type {given:?} is none of {}", known.join(", ")))
        })?
    };
    if let Some(shown) = shown(content, named) {
        return Ok(shown);
    }
    let short = match named {
        PDF => "a PDF",
        DOCX => "a DOCX document",
        XLSX => "an XLSX workbook",
        _ => return Ok(named),
    };
    let is = what(content).map_or_else(
        || match content {
            [] => "it is empty".to_owned(),
            content => format!(
                "it begins with {:?}",
                String::from_utf8_lossy(&content[..content.len().min(16)])
            ),
        },
        |is| format!("it is {is}"),
    );
    Err(Error::Invalid(format!("{source:?} is not {short}: {is}")))
}

/// Tells whether a file's ending is one that is understood.
#[must_use]
pub fn is_document(source: &str) -> bool {
    ending_type(source).is_some()
}

/// Returns the media type that a file's ending means.
pub(crate) fn ending_type(source: &str) -> Option<&'static str> {
    let ending = source.rsplit_once('.')?.1.to_lowercase();
    KINDS.iter().find(|kind| kind.1.contains(&ending.as_str())).map(|kind| kind.0)
}

/// Returns the type of a file that is no text, as its bytes show it.
fn shown(content: &[u8], named: &str) -> Option<&'static str> {
    let has = |part: &str| memchr::memmem::find(content, part.as_bytes()).is_some();
    // Some programs write something before it; a text about PDF has it anywhere.
    let early = named == PDF
        && memchr::memmem::find(&content[..content.len().min(1024)], b"%PDF-").is_some();
    if early || content.starts_with(b"%PDF-") {
        Some(PDF)
    } else if content.starts_with(b"PK\x03\x04") && has("[Content_Types].xml") {
        // The archive itself is untrusted and not opened here; names of its files stand in it as they are.
        let kinds = [("word/", DOCX), ("xl/workbook.xml", XLSX)];
        kinds.into_iter().find(|kind| has(kind.0)).map(|kind| kind.1)
    } else {
        None
    }
}

/// Says what a file is that cannot be read.
pub(super) fn what(content: &[u8]) -> Option<&'static str> {
    SIGNATURES.iter().find(|kind| content.starts_with(kind.0)).map(|kind| kind.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(source: &str, given: &str, content: &[u8]) -> Result<&'static str, String> {
        media_type(source, given, content).map_err(|fault| fault.to_string())
    }

    #[test]
    fn the_ending_tells_the_type_unless_one_is_given() {
        assert_eq!(kind("a/B.MD", "", b"x"), Ok("text/markdown"));
        assert_eq!(kind("noending", "", b"x"), Ok("text/plain"));
        assert_eq!(kind("a.md", "text/html", b"x"), Ok("text/html"));
        assert!(kind("a.md", "image/png", b"x").is_err());
    }

    #[test]
    fn content_counts_more_than_a_name() {
        assert_eq!(kind("a.txt", "", b"%PDF-1.7"), Ok(PDF));
        assert_eq!(kind("a.docx", "text/html", b"%PDF-1.7"), Ok(PDF));
        assert_eq!(kind("a.pdf", "", b"\xef\xbb\xbf\n%PDF-1.7"), Ok(PDF));
        assert_eq!(kind("a.md", "", b"It begins with %PDF-"), Ok("text/markdown"));
        let zip = |part: &str| format!("PK\x03\x04[Content_Types].xml {part}").into_bytes();
        assert_eq!(kind("a.xlsx", "", &zip("word/document.xml")), Ok(DOCX));
        assert_eq!(kind("a", "", &zip("xl/workbook.xml")), Ok(XLSX));
    }

    #[test]
    fn what_is_not_what_it_says_is_named() {
        for (source, content, wanted) in [
            (
                "a.pdf",
                b"<html><body>Not found".as_slice(),
                "\"a.pdf\" is not a PDF: it begins with \"<html><body>Not \"",
            ),
            ("a.pdf", b"", "\"a.pdf\" is not a PDF: it is empty"),
            (
                "a.docx",
                b"\xd0\xcf\x11\xe0\xa1\xb1",
                "\"a.docx\" is not a DOCX document: it is an encrypted Office document, or one of before 2007",
            ),
            (
                "a.xlsx",
                b"PK\x03\x04mimetype",
                "\"a.xlsx\" is not an XLSX workbook: it is a ZIP archive, and neither DOCX nor XLSX",
            ),
        ] {
            assert_eq!(kind(source, "", content), Err(wanted.to_owned()));
        }
    }
}
