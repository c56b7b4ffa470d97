//! What an index hears of a document, worked out beforehand: that takes the time, and holds up nobody's search. Pure.

use reading::Reader;

use super::super::{Entries, Entry};
use super::keyword;

/// So many words of a document's beginning are every passage's context.
const CONTEXT_WORDS: usize = 40;

/// A document and its terms, which are named by their places in `terms`.
#[derive(Debug)]
pub(crate) struct ReadDocument {
    pub(crate) entries: Entries,
    /// Each once.
    pub(super) terms: Vec<Box<str>>,
    /// Of each passage, in order.
    pub(super) own: Vec<Vec<u32>>,
    /// Of the document's beginning; see [`Self::context_of`].
    pub(super) context: Vec<u32>,
}

impl ReadDocument {
    /// Reads a document's passages.
    pub(crate) fn new(entries: Entries) -> Self {
        let mut reader = Reader::default();
        let context = reader.read(&beginning(&entries.passages));
        let own = entries.passages.iter().map(|entry| reader.read(&entry.text)).collect();
        Self { entries, terms: reader.into_terms(), own, context }
    }

    /// Returns the context of a passage: none of the first, which is the beginning itself.
    pub(super) fn context_of(&self, position: usize) -> &[u32] {
        if position == 0 { &[] } else { &self.context }
    }

    /// Returns for each passage its terms, each once with its part of BM25 without its rarity, where passages have
    /// this mean length.
    pub(crate) fn weighed(&self, mean: f32) -> impl Iterator<Item = Vec<(&str, f32)>> {
        self.own.iter().enumerate().map(move |(at, own)| {
            let context = self.context_of(at);
            let long = keyword::length(own, context) / mean;
            let weigh =
                |(term, often)| (&*self.terms[term as usize], keyword::saturated(often, long));
            keyword::frequencies(own, context).into_iter().map(weigh).collect()
        })
    }
}

/// Returns a document's first words.
fn beginning(entries: &[Entry]) -> String {
    let words = entries.iter().flat_map(|entry| entry.text.split_whitespace());
    words.take(CONTEXT_WORDS).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_begins_with_forty_words() {
        let of = |text: &str| Entry { id: String::new(), text: text.to_owned(), vector: None };
        let some = [of("# a  few"), of(&"wörd ".repeat(50))];
        assert_eq!(beginning(&some).split(' ').count(), 40);
        assert_eq!(beginning(&some[..1]), "# a few");
    }
}
