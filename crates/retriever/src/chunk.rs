//! Cuts a parsed text into passages along its structure. Pure and deterministic.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::parse::Parsed;

/// A passage is closed when it has so many words, …
const ENOUGH: usize = 150;
/// … and a block of more is cut, at line, sentence or word ends.
pub(crate) const MOST: usize = 300;

/// A passage of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Bytes of the text; always at character borders.
    pub(crate) range: Range<usize>,
    /// The headings above its first block, outermost first.
    pub(crate) headings: Vec<String>,
    /// Lines of the file, from 1, first and last.
    pub(crate) lines: (u32, u32),
    /// Its pages, from 1, first and last; zeros when the file has none.
    pub(crate) pages: (u32, u32),
}

/// Returns passages in order, without overlap, that hold every character but white space. A passage
/// stays below one heading path.
pub(crate) fn chunk(parsed: &Parsed) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut open: Option<(Chunk, usize)> = None;
    for block in &parsed.blocks {
        for range in pieces(&parsed.text, block.range.clone()) {
            let words = words(&parsed.text[range.clone()]);
            let fits = |(chunk, held): &(Chunk, usize)| {
                chunk.headings == block.headings && *held < ENOUGH && held + words <= MOST
            };
            if let Some((chunk, held)) = open.as_mut().filter(|open| fits(open)) {
                chunk.range.end = range.end;
                chunk.lines.1 = block.lines.1;
                *held += words;
            } else {
                chunks.extend(open.take().map(|open| open.0));
                let (headings, lines) = (block.headings.clone(), block.lines);
                open = Some((Chunk { range, headings, lines, pages: (0, 0) }, words));
            }
        }
    }
    chunks.extend(open.map(|open| open.0));
    for chunk in &mut chunks {
        chunk.pages = parsed.pages_of(&chunk.range);
    }
    chunks
}

/// Returns what is indexed of a passage: the headings above it count as its own words.
pub(crate) fn indexed(headings: &[String], text: &str) -> String {
    format!("{}\n{text}", headings.join("\n"))
}

/// Returns how many words a text has.
pub(crate) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// Cuts a block of more than [`MOST`] words into ranges of at most that many; a "word" of more than
/// 2,000 bytes (base64, minified code) is cut at a character border.
fn pieces(text: &str, whole: Range<usize>) -> Vec<Range<usize>> {
    let mut pieces = Vec::new();
    let mut rest = whole;
    while !rest.is_empty() {
        let part = &text[rest.clone()];
        let length = fitting(part);
        let piece = part[..length].trim_end();
        if !piece.is_empty() {
            pieces.push(rest.start..rest.start + piece.len());
        }
        let after = &part[length..];
        rest.start = rest.end - after.trim_start().len();
    }
    pieces
}

/// Returns how many bytes of `part` to take: all, or up to the best place to cut.
fn fitting(part: &str) -> usize {
    const LONGEST: usize = 8_000;
    let (mut seen, mut in_word) = (0, false);
    let (mut line, mut sentence, mut word) = (0, 0, 0);
    let mut before = ' ';
    for (at, c) in part.char_indices() {
        if c.is_whitespace() {
            if in_word {
                word = at;
                if matches!(before, '.' | '!' | '?') {
                    sentence = at;
                }
            }
            if c == '\n' {
                line = at;
            }
            in_word = false;
        } else if !in_word {
            in_word = true;
            seen += 1;
        }
        if seen > MOST || at >= LONGEST {
            let half = at / 2;
            let good = [line, sentence].into_iter().find(|cut| *cut > half);
            let cut = good.unwrap_or(word);
            return if cut == 0 { at } else { cut };
        }
        before = c;
    }
    part.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::parse;

    fn check(kind: &str, text: &str) {
        let parsed = parse("x", kind, text.as_bytes()).unwrap();
        let chunks = chunk(&parsed);
        let mut end = 0;
        for chunk in &chunks {
            assert!(parsed.text[end..chunk.range.start].trim().is_empty(), "nothing is left out");
            assert!(chunk.range.start >= end && !chunk.range.is_empty());
            assert!(words(&parsed.text[chunk.range.clone()]) <= MOST);
            end = chunk.range.end;
        }
        assert!(parsed.text[end..].trim().is_empty());
    }

    #[test]
    fn a_long_block_is_cut_at_a_sentence() {
        let text = "Seven words are in this very sentence. ".repeat(60);
        let parsed = parse("x", "text/plain", text.as_bytes()).unwrap();
        let chunks = chunk(&parsed);
        assert_eq!(chunks.len(), 2);
        assert!(chunks.iter().all(|chunk| parsed.text[chunk.range.clone()].ends_with("sentence.")));
    }

    #[test]
    fn a_passage_stays_below_its_heading() {
        let parsed = parse("x", "text/markdown", b"# A\n\none\n\ntwo\n\n# B\n\nthree").unwrap();
        let chunks = chunk(&parsed);
        let shown: Vec<_> =
            chunks.iter().map(|c| (&parsed.text[c.range.clone()], c.lines)).collect();
        assert_eq!(shown, [("# A\n\none\n\ntwo", (1, 5)), ("# B\n\nthree", (7, 9))]);
    }

    #[test]
    fn one_endless_line_is_cut_at_characters() {
        check("text/plain", &"ü".repeat(50_000));
    }

    proptest! {
        #[test]
        fn plain_text_is_covered(text in "([a-zäß☂.! ]{0,40}\n{0,3}){0,200}") {
            check("text/plain", &text);
        }
    }
}
