//! A text whose blocks are told by where each begins. Pure.

use super::{Block, Parsed, newlines};

/// Where blocks of a text begin, each with the headings above it, in order.
#[derive(Debug, Default)]
pub(super) struct Cuts(Vec<(usize, Vec<String>)>);

impl Cuts {
    /// Begins a block at byte `at`, below `headings`; what comes before `at` of a block before is
    /// that block's.
    pub(super) fn begin(&mut self, at: usize, headings: &[String]) {
        let last = self.0.last().map_or(0, |cut| cut.0);
        self.0.push((at.max(last), headings.to_vec()));
    }

    /// Returns `text` in blocks that hold every character of it but white space.
    pub(super) fn apply(self, text: &str) -> Parsed {
        let ends = self.0.iter().skip(1).map(|cut| cut.0).chain([text.len()]);
        let first = (0, Vec::new());
        let begins = std::iter::once(&first).chain(&self.0);
        let ends = self.0.first().map(|cut| cut.0).into_iter().chain(ends);
        let (mut line, mut counted) = (1, 0);
        let mut blocks = Vec::new();
        for ((begin, headings), end) in begins.zip(ends) {
            let whole = &text[*begin..end];
            let start = begin + (whole.len() - whole.trim_start().len());
            let end = begin + whole.trim_end().len();
            if start >= end {
                continue;
            }
            line += newlines(&text[counted..start]);
            let last = line + newlines(&text[start..end]);
            blocks.push(Block {
                range: start..end,
                headings: headings.clone(),
                lines: (line, last),
            });
            (line, counted) = (last, end);
        }
        Parsed { text: text.to_owned(), blocks, pages: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_is_in_a_block() {
        let mut cuts = Cuts::default();
        cuts.begin(3, &["x".to_owned()]);
        cuts.begin(3, &[]);
        cuts.begin(7, &["y".to_owned()]);
        let parsed = cuts.apply("a\n\nb c\n\nd\n");
        let shown: Vec<_> = parsed
            .blocks
            .iter()
            .map(|block| (&parsed.text[block.range.clone()], block.headings.join("/"), block.lines))
            .collect();
        let name = str::to_owned;
        assert_eq!(
            shown,
            [("a", name(""), (1, 1)), ("b c", name(""), (3, 3)), ("d", name("y"), (5, 5))]
        );
        assert_eq!(Cuts::default().apply("all").blocks.len(), 1);
        assert!(Cuts::default().apply(" \n").blocks.is_empty());
    }
}
