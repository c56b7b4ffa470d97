//! From bytes to a text that is stored and cited, and its blocks. Pure.

mod code;
mod cuts;
mod data;
mod html;
mod markdown;

use crate::Error;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// The text that is stored and that citations count in.
    pub(crate) text: String,
    /// Its parts in order; between them lies nothing but white space.
    pub(crate) blocks: Vec<Block>,
}

/// A paragraph, list, code block, table or heading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// Bytes of the text.
    pub(crate) range: std::ops::Range<usize>,
    /// The headings above it, outermost first; a heading counts as below itself.
    pub(crate) headings: Vec<String>,
    /// Lines of the file, from 1, first and last.
    pub(crate) lines: (u32, u32),
}

/// Media types that are understood, each with the file endings that mean it.
const KINDS: [(&str, &[&str]); 14] = [
    ("text/markdown", &["md", "markdown"]),
    ("text/html", &["html", "htm"]),
    ("text/plain", &["txt", "text"]),
    ("text/csv", &["csv", "tsv"]),
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

/// Returns the media type to read `source` as: the `given` one, else what its ending means, else
/// plain text.
///
/// # Errors
/// [`Error::Invalid`] for a given type that is not understood.
pub(crate) fn media_type(source: &str, given: &str) -> Result<&'static str, Error> {
    if !given.is_empty() {
        let known = KINDS.iter().find(|kind| kind.0 == given).map(|kind| kind.0);
        return known.ok_or_else(|| {
            let known: Vec<_> = KINDS.iter().map(|kind| kind.0).collect();
            Error::Invalid(format!("media type {given:?} is none of {}", known.join(", ")))
        });
    }
    Ok(told(source).unwrap_or("text/plain"))
}

/// Tells whether a file's ending is one that is understood.
#[must_use]
pub fn is_document(source: &str) -> bool {
    told(source).is_some()
}

/// Returns the media type that a file's ending means.
fn told(source: &str) -> Option<&'static str> {
    let ending = source.rsplit_once('.')?.1.to_lowercase();
    KINDS.iter().find(|kind| kind.1.contains(&ending.as_str())).map(|kind| kind.0)
}

/// Parses `content`.
///
/// # Errors
/// [`Error::Invalid`] if it is not UTF-8 text.
pub(crate) fn parse(source: &str, media_type: &str, content: &[u8]) -> Result<Parsed, Error> {
    let not_text = |why: &str| Error::Invalid(format!("{source:?} is not text: {why}"));
    let text = std::str::from_utf8(content)
        .map_err(|fault| not_text(&format!("byte {} is not UTF-8", fault.valid_up_to())))?;
    if let Some(at) = text.find('\0') {
        return Err(not_text(&format!("byte {at} is NUL")));
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
    Parsed { text: text.to_owned(), blocks }
}

/// The headings that are open, by level.
#[derive(Default)]
struct Outline(Vec<(u8, String)>);

impl Outline {
    fn enter(&mut self, level: u8, heading: String) {
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

    #[test]
    fn the_ending_tells_the_type_unless_one_is_given() {
        assert_eq!(media_type("a/B.MD", "").unwrap(), "text/markdown");
        assert_eq!(media_type("noending", "").unwrap(), "text/plain");
        assert_eq!(media_type("a.md", "text/html").unwrap(), "text/html");
        assert!(media_type("a.md", "image/png").is_err());
    }
}
