use html5gum::{Token, Tokenizer};

use super::{Block, Outline, Parsed};

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

/// Parses HTML: the stored text is what a reader sees, a block a line. Lines are the file's, counted
/// by what each block's own text and tags hold.
pub(super) fn parse(html: &str) -> Parsed {
    let mut page = Page::default();
    for token in Tokenizer::new(html) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => page.open(&name(&tag.name)),
            Token::EndTag(tag) => page.close(&name(&tag.name)),
            Token::String(text) => page.read(&String::from_utf8_lossy(&text)),
            _ => {}
        }
    }
    page.break_block();
    place(html, &mut page.parsed);
    page.parsed
}

fn name(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_lowercase()
}

#[derive(Default)]
struct Page {
    parsed: Parsed,
    outline: Outline,
    /// The block that is being read, with white space folded.
    block: String,
    silent: Vec<String>,
}

impl Page {
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

    fn read(&mut self, text: &str) {
        if self.silent.is_empty() {
            self.block.push_str(text);
        }
    }

    fn break_block(&mut self) {
        let block = fold(&std::mem::take(&mut self.block));
        if block.is_empty() {
            return;
        }
        let text = &mut self.parsed.text;
        let start = text.len();
        text.push_str(&block);
        let range = start..text.len();
        text.push('\n');
        self.parsed.blocks.push(Block { range, headings: self.outline.path(), lines: (1, 1) });
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

/// Finds the lines of each block by looking its first and last word up in the file, in order.
fn place(html: &str, parsed: &mut Parsed) {
    let (mut at, mut line) = (0, 1);
    for block in &mut parsed.blocks {
        let words: Vec<&str> = parsed.text[block.range.clone()].split(' ').collect();
        let mut first = None;
        for word in words {
            // A word that holds an entity stands otherwise in the file: the next one will do.
            let Some(found) = html[at..].find(word) else { continue };
            line += u32::try_from(html[at..at + found].matches('\n').count()).unwrap_or(0);
            at += found;
            first.get_or_insert(line);
        }
        block.lines = (first.unwrap_or(line), line);
    }
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
