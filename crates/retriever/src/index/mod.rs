//! One tenant's passages in memory: found by their words, and by their vectors. Pure.

mod dense;
mod keyword;

use rustc_hash::FxHashMap;

use self::dense::Dense;
use self::keyword::{Context, Keyword};
use crate::fuse::Candidate;

/// So many of the best passages of each side are ranked together.
const DEPTH: usize = 1000;
/// Of the documents of so many of the best passages, …
const LEADING: usize = 20;
/// … so many passages around them are ranked also when they hold no word of the query: what answers a
/// question may go on in other words.
const AROUND: usize = 10;
/// So many words of a document's beginning are every passage's context.
const CONTEXT_WORDS: usize = 40;

/// What is indexed of a passage.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Its id, unique in the tenant.
    pub(crate) id: String,
    /// Headings above it, and its text.
    pub(crate) text: String,
    /// Its vector of length 1, where there is a model.
    pub(crate) vector: Option<Vec<f32>>,
}

/// A question, as both sides take it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query<'a> {
    pub(crate) text: &'a str,
    /// Its vector of length 1; without it only words are looked at.
    pub(crate) vector: Option<&'a [f32]>,
}

/// One tenant's index. Every statistic is of this tenant's passages alone.
#[derive(Debug, Default)]
pub(crate) struct Index {
    keyword: Keyword,
    dense: Dense,
    /// By slot.
    passages: Vec<Option<Named>>,
    free: Vec<u32>,
    documents: FxHashMap<String, Vec<u32>>,
}

#[derive(Debug)]
struct Named {
    id: String,
    document: String,
}

impl Index {
    /// Puts a document's passages, in order, in place of what it had.
    pub(crate) fn replace(&mut self, document: &str, entries: Vec<Entry>) {
        self.remove(document);
        let context = self.keyword.context(&beginning(&entries));
        let mut slots = Vec::with_capacity(entries.len());
        for entry in entries {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.passages.push(None);
                (self.passages.len() - 1) as u32
            });
            // The first passage is the beginning itself.
            let context = if slots.is_empty() { Context::default() } else { context.clone() };
            self.keyword.insert(slot, &entry.text, context);
            if let Some(vector) = &entry.vector {
                self.dense.insert(slot, vector);
            }
            let named = Named { id: entry.id, document: document.to_owned() };
            self.passages[slot as usize] = Some(named);
            slots.push(slot);
        }
        if !slots.is_empty() {
            self.documents.insert(document.to_owned(), slots);
        }
    }

    /// Removes a document's passages and everything made from them.
    pub(crate) fn remove(&mut self, document: &str) {
        for slot in self.documents.remove(document).unwrap_or_default() {
            self.keyword.remove(slot);
            self.dense.remove(slot);
            self.passages[slot as usize] = None;
            self.free.push(slot);
        }
    }

    /// Returns how many passages there are.
    pub(crate) fn len(&self) -> usize {
        self.passages.len() - self.free.len()
    }

    /// Returns the best passages of each side, each with both its scores, in no order.
    pub(crate) fn candidates(&self, query: Query<'_>) -> Vec<Candidate> {
        let keyword = self.keyword.scores(&self.keyword.terms(query.text), None);
        let dense = query.vector.map(|vector| self.dense.scores(vector));
        let mut found = best(&keyword, DEPTH);
        self.surround(&mut found);
        if let Some(dense) = &dense {
            found.extend(best(dense, DEPTH));
            found.sort_unstable();
            found.dedup();
        }
        let candidate = |slot: u32| {
            let named = self.passages[slot as usize].as_ref()?;
            Some(Candidate {
                id: named.id.clone(),
                document: named.document.clone(),
                keyword: keyword.get(slot as usize).copied().unwrap_or_default(),
                dense: dense.as_ref().and_then(|dense| dense.get(slot as usize).copied()),
            })
        };
        found.into_iter().filter_map(candidate).collect()
    }
}

impl Index {
    /// Adds the passages [`AROUND`] the leading ones.
    fn surround(&self, found: &mut Vec<u32>) {
        for at in 0..found.len().min(LEADING) {
            let slot = found[at];
            let named = self.passages[slot as usize].as_ref();
            let Some(document) = named.and_then(|named| self.documents.get(&named.document)) else {
                continue;
            };
            let here = document.iter().position(|other| *other == slot).unwrap_or_default();
            let around = here.saturating_sub(AROUND)..(here + AROUND + 1).min(document.len());
            found.extend(&document[around]);
        }
        found.sort_unstable();
        found.dedup();
    }
}

/// Returns a document's first words.
fn beginning(entries: &[Entry]) -> String {
    let words = entries.iter().flat_map(|entry| entry.text.split_whitespace());
    words.take(CONTEXT_WORDS).collect::<Vec<_>>().join(" ")
}

/// Returns the at most `count` slots of the highest scores above 0, best first, equals in their order.
fn best(scores: &[f32], count: usize) -> Vec<u32> {
    let above = |slot: &u32| scores[*slot as usize] > 0.0;
    let mut found: Vec<u32> = (0..scores.len() as u32).filter(above).collect();
    let order =
        |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    if found.len() > count {
        found.select_nth_unstable_by(count, order);
        found.truncate(count);
    }
    found.sort_unstable_by(order);
    found
}

/// A set of slots.
#[derive(Debug, Default)]
pub(crate) struct Slots(Vec<u64>);

impl Slots {
    pub(crate) fn holds(&self, slot: usize) -> bool {
        self.0.get(slot / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, text: &str, vector: Option<[f32; 2]>) -> Entry {
        Entry { id: id.to_owned(), text: text.to_owned(), vector: vector.map(Vec::from) }
    }

    fn found(index: &Index, text: &str, vector: Option<&[f32]>) -> Vec<(String, f32, Option<f32>)> {
        let candidates = index.candidates(Query { text, vector });
        let mut shown: Vec<_> =
            candidates.into_iter().map(|one| (one.id, one.keyword, one.dense)).collect();
        shown.sort_by(|a, b| a.0.cmp(&b.0));
        shown
    }

    #[test]
    fn what_one_side_finds_has_both_scores() {
        let mut index = Index::default();
        let (apple, pear) = (Some([1.0, 0.0]), Some([0.6, 0.8]));
        index.replace("d", vec![entry("d-0", "apple", apple), entry("d-1", "pear", pear)]);
        let both = found(&index, "apple", Some(&[0.0, 1.0]));
        assert_eq!(
            both.iter().map(|one| (one.0.as_str(), one.2)).collect::<Vec<_>>(),
            [("d-0", Some(0.0)), ("d-1", Some(0.8)),]
        );
        assert!(both[0].1 > both[1].1);
        assert_eq!(found(&index, "apple", None)[0].2, None);
    }

    #[test]
    fn a_replaced_document_leaves_nothing_and_slots_are_used_again() {
        let mut index = Index::default();
        index.replace("a", vec![entry("a-0", "apple pear", None), entry("a-1", "fig", None)]);
        index.replace("b", vec![entry("b-0", "apple", None)]);
        index.replace("a", vec![entry("a-0", "plum", None)]);
        assert_eq!(index.len(), 2);
        let ids = |text| found(&index, text, None).into_iter().map(|one| one.0).collect::<Vec<_>>();
        assert_eq!(
            (ids("apple pear fig"), ids("plum")),
            (vec!["b-0".to_owned()], vec!["a-0".to_owned()])
        );
        index.remove("a");
        index.remove("b");
        assert_eq!((index.len(), index.passages.len()), (0, 3));
    }

    #[test]
    fn a_document_begins_with_forty_words() {
        let some = [entry("a", "# a  few", None), entry("b", &"wörd ".repeat(50), None)];
        assert_eq!(beginning(&some).split(' ').count(), 40);
        assert_eq!(beginning(&some[..1]), "# a few");
    }
}
