use std::ops::Range;

use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};

use super::{Block, Outline, Parsed, newlines};

/// Elements whose text nobody reads.
const SILENT: [&str; 7] = ["script", "style", "noscript", "template", "svg", "nav", "title"];
/// Elements that end the line before and after them.
const BREAKING: [&str; 27] = [
    "p",
    "div",
    "section",
    "article",
    "main",
    "header",
    "footer",
    "aside",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "table",
    "tr",
    "pre",
    "blockquote",
    "figure",
    "hr",
    "br",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
];

/// Parses HTML: the stored text is what a reader sees, a block a line. Lines are the file's.
pub(super) fn parse(html: &str) -> Parsed {
    let mut page = Page { html, line: 1, ..Page::default() };
    for token in Tokenizer::new_with_emitter(html, DefaultEmitter::<usize>::new_with_span()) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => page.open(&name(&tag.name)),
            Token::EndTag(tag) => page.close(&name(&tag.name)),
            Token::String(text) => {
                page.read(&String::from_utf8_lossy(&text), text.span.start..text.span.end);
            }
            _ => {}
        }
    }
    page.break_block();
    page.parsed
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_lowercase()
}

#[derive(Default)]
struct Page<'a> {
    html: &'a str,
    parsed: Parsed,
    outline: Outline,
    /// The block that is being read, and where it stands in the file.
    block: String,
    place: Option<Range<usize>>,
    silent: Vec<String>,
    /// The line of the byte up to which lines are counted.
    line: u32,
    counted: usize,
}

impl Page<'_> {
    fn open(&mut self, name: &str) {
        if SILENT.contains(&name) {
            self.silent.push(name.to_owned());
        } else if BREAKING.contains(&name) {
            self.break_block();
        } else if name == "td" || name == "th" {
            self.block.push(' ');
        }
    }

    fn close(&mut self, name: &str) {
        if self.silent.last().is_some_and(|open| open == name) {
            self.silent.pop();
        } else if let Some(level) = heading(name) {
            let heading = fold(&self.block);
            if !heading.is_empty() {
                self.outline.enter(level, heading);
            }
            self.break_block();
        } else if BREAKING.contains(&name) {
            self.break_block();
        }
    }

    fn read(&mut self, text: &str, place: Range<usize>) {
        if !self.silent.is_empty() {
            return;
        }
        self.block.push_str(text);
        let written = self.html.get(place.clone()).unwrap_or_default();
        if !written.trim().is_empty() {
            let start = place.start + (written.len() - written.trim_start().len());
            let end = place.start + written.trim_end().len();
            self.place = Some(self.place.take().map_or(start, |place| place.start)..end);
        }
    }

    fn break_block(&mut self) {
        let block = fold(&std::mem::take(&mut self.block));
        let place = self.place.take().unwrap_or(self.counted..self.counted);
        if block.is_empty() {
            return;
        }
        let first = self.line_at(place.start);
        let lines = (first, self.line_at(place.end));
        let text = &mut self.parsed.text;
        let start = text.len();
        text.push_str(&block);
        let range = start..text.len();
        text.push('\n');
        self.parsed.blocks.push(Block { range, headings: self.outline.path(), lines });
    }

    /// Returns the line of a byte behind those that were asked for before.
    fn line_at(&mut self, at: usize) -> u32 {
        self.line += newlines(self.html.get(self.counted..at).unwrap_or_default());
        self.counted = self.counted.max(at);
        self.line
    }
}

fn heading(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}

fn fold(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_a_person_reads_it() {
        let html = "<html><head><title>T</title><style>p{}</style></head>\n<body><h1>Guide</h1>\n\
                    <p>Salt &amp; <b>pepper</b>\nfor all.</p>\n<script>alert('x')</script>\n\
                    <h2>Next</h2><p>More.</p></body></html>";
        let parsed = parse(html);
        let shown: Vec<_> = parsed
            .blocks
            .iter()
            .map(|b| (&parsed.text[b.range.clone()], b.headings.join(">"), b.lines))
            .collect();
        assert_eq!(
            shown,
            [
                ("Guide", "Guide".to_owned(), (2, 2)),
                ("Salt & pepper for all.", "Guide".to_owned(), (3, 4)),
                ("Next", "Guide>Next".to_owned(), (6, 6)),
                ("More.", "Guide>Next".to_owned(), (6, 6)),
            ]
        );
    }
}
