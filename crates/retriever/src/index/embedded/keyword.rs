//! Exact BM25 over one collection's passages, changed in place. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use reading::each_term;
use rustc_hash::{FxHashMap, FxHashSet};

use super::Slots;

const K1: f32 = 1.2;
const B: f32 = 0.75;
/// How much a word of a passage's context counts, of one of its own.
const CONTEXT: f32 = 0.5;
/// How much two words that stand together as in the query count, of the rarer of them.
const TOGETHER: f32 = 0.25;
/// So many of the best passages are looked at for words that stand together.
const LOOKED_AT: usize = 200;

/// One collection's passages by their terms. A passage is known by its slot, a small number that the caller
/// gives it and may give again after [`Keyword::remove`].
#[derive(Debug, Default)]
pub(crate) struct Keyword {
    /// Hashed with a seed: what terms there are is up to strangers.
    lexicon: HashMap<Box<str>, u32, RandomState>,
    /// By term, in the order of slots.
    postings: Vec<Vec<Posting>>,
    /// By slot.
    rows: Vec<Option<Row>>,
    /// By slot, how long its passage is, in terms. Apart, as a search looks at it for every posting.
    lengths: Vec<f32>,
    count: u32,
    total_length: f64,
}

#[derive(Debug, Clone, Copy)]
struct Posting {
    slot: u32,
    /// How often, a word of the context counting [`CONTEXT`].
    frequency: f32,
}

#[derive(Debug)]
struct Row {
    /// The passage's own terms in order.
    terms: Box<[u32]>,
    context: Context,
}

/// Terms that belong to every passage of a document but its first: shared by them.
pub(crate) type Context = Arc<[u32]>;

/// A query's terms as the index knows them.
#[derive(Debug, Default)]
pub(crate) struct Terms {
    /// Each once: the term and its inverse document frequency.
    distinct: Vec<(u32, f32)>,
    /// Each once: two terms that follow each other, and the smaller of their frequencies.
    pairs: Vec<(u32, u32, f32)>,
}

impl Keyword {
    /// Returns the number of each term here, in order; one that is new gets the next.
    pub(crate) fn numbers(&mut self, terms: &[Box<str>]) -> Vec<u32> {
        let number = |term: &str| {
            self.lexicon.get(term).copied().unwrap_or_else(|| {
                let next = self.postings.len() as u32;
                self.lexicon.insert(term.into(), next);
                self.postings.push(Vec::new());
                next
            })
        };
        terms.iter().map(Box::as_ref).map(number).collect()
    }

    /// Adds a passage in a free slot, by the numbers of its terms.
    pub(crate) fn insert(&mut self, slot: u32, terms: Box<[u32]>, context: Context) {
        let length = length(&terms, &context);
        let row = Row { terms, context };
        for (term, frequency) in row.frequencies() {
            let list = &mut self.postings[term as usize];
            let at = match list.last() {
                Some(last) if last.slot >= slot => list.partition_point(|held| held.slot < slot),
                _ => list.len(),
            };
            list.insert(at, Posting { slot, frequency });
        }
        if self.rows.len() <= slot as usize {
            self.rows.resize_with(slot as usize + 1, || None);
            self.lengths.resize(slot as usize + 1, 0.0);
        }
        self.rows[slot as usize] = Some(row);
        self.lengths[slot as usize] = length;
        self.count += 1;
        self.total_length += f64::from(length);
    }

    /// Removes a passage and everything made from it.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(row) = self.rows.get_mut(slot as usize).and_then(Option::take) else { return };
        for (term, _) in row.frequencies() {
            let list = &mut self.postings[term as usize];
            if let Ok(at) = list.binary_search_by_key(&slot, |held| held.slot) {
                list.remove(at);
            }
        }
        self.count -= 1;
        self.total_length -= f64::from(std::mem::take(&mut self.lengths[slot as usize]));
    }

    /// Returns what of a query is in the index.
    pub(crate) fn terms(&self, query: &str) -> Terms {
        let mut order = Vec::new();
        each_term(query, |term| order.push(self.lexicon.get(term).copied()));
        let mut terms = Terms::default();
        let (mut seen, mut together) = (FxHashSet::default(), FxHashSet::default());
        for term in order.iter().flatten() {
            if seen.insert(*term) && !self.postings[*term as usize].is_empty() {
                terms.distinct.push((*term, self.rarity(*term)));
            }
        }
        for pair in order.windows(2) {
            if let [Some(first), Some(second)] = *pair
                && first != second
                && together.insert((first, second))
            {
                let rarity = self.rarity(first).min(self.rarity(second));
                terms.pairs.push((first, second, rarity));
            }
        }
        terms
    }

    /// Inverse document frequency, never negative.
    fn rarity(&self, term: u32) -> f32 {
        let holding = self.postings[term as usize].len() as f32;
        (1.0 + (self.count as f32 - holding + 0.5) / (holding + 0.5)).ln()
    }

    /// Returns every slot's score, zero for a passage that holds none of the terms or is not `among`.
    pub(super) fn scores(&self, terms: &Terms, among: Option<&Slots>) -> Vec<f32> {
        let mean = self.mean();
        let mut scores = vec![0.0; self.rows.len()];
        let is_among = |held: &&Posting| among.is_none_or(|among| among.holds(held.slot));
        for (term, rarity) in &terms.distinct {
            for held in self.postings[*term as usize].iter().filter(is_among) {
                let slot = held.slot as usize;
                scores[slot] += rarity * saturated(held.frequency, self.lengths[slot] / mean);
            }
        }
        for slot in super::best(&scores, LOOKED_AT) {
            scores[slot as usize] += self.together(slot, terms);
        }
        scores
    }

    /// Returns what words that stand together as in the query add to a passage's score.
    fn together(&self, slot: u32, terms: &Terms) -> f32 {
        let Some(row) = &self.rows[slot as usize] else { return 0.0 };
        let of = |(first, second, rarity): &(u32, u32, f32)| {
            let found = row.terms.windows(2).filter(|two| **two == [*first, *second]).count();
            TOGETHER * rarity * saturated(found as f32, 1.0)
        };
        terms.pairs.iter().map(of).sum()
    }

    fn mean(&self) -> f32 {
        ((self.total_length / f64::from(self.count.max(1))) as f32).max(1.0)
    }
}

impl Row {
    fn frequencies(&self) -> FxHashMap<u32, f32> {
        frequencies(&self.terms, &self.context)
    }
}

/// Returns how often each term is in a passage.
pub(super) fn frequencies(terms: &[u32], context: &[u32]) -> FxHashMap<u32, f32> {
    let mut frequencies = FxHashMap::default();
    terms.iter().for_each(|term| *frequencies.entry(*term).or_default() += 1.0);
    context.iter().for_each(|term| *frequencies.entry(*term).or_default() += CONTEXT);
    frequencies
}

/// Returns how long a passage is, in terms.
pub(super) fn length(terms: &[u32], context: &[u32]) -> f32 {
    terms.len() as f32 + CONTEXT * context.len() as f32
}

/// BM25's term frequency, as of Robertson and Zaragoza, 2009: it grows to K1 + 1, and slower in a
/// `long` passage (its length by the mean).
pub(super) fn saturated(frequency: f32, long: f32) -> f32 {
    frequency * (K1 + 1.0) / (frequency + K1 * (1.0 - B + B * long))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(texts: &[&str]) -> Keyword {
        let mut index = Keyword::default();
        for (slot, text) in (0..).zip(texts) {
            insert(&mut index, slot, text, "");
        }
        index
    }

    fn insert(index: &mut Keyword, slot: u32, text: &str, context: &str) {
        let mut numbers = |text: &str| {
            let terms: Vec<Box<str>> = reading::terms(text).into_iter().map(Into::into).collect();
            index.numbers(&terms)
        };
        let (terms, context) = (numbers(text), numbers(context));
        index.insert(slot, terms.into(), context.into());
    }

    fn found(index: &Keyword, query: &str) -> Vec<u32> {
        super::super::best(&index.scores(&index.terms(query), None), 10)
    }

    #[test]
    fn rare_words_and_short_passages_win() {
        let index =
            of(&["release release notes of the project", "rollback of a release", "project"]);
        assert_eq!(found(&index, "rollback release"), [1, 0]);
        assert_eq!(found(&index, "project"), [2, 0]);
        assert!(found(&index, "unheard of").is_empty());
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let index = of(&["apple", "pear"]);
        let scores = index.scores(&index.terms("apple"), None);
        assert!((scores[0] - 2.0_f32.ln()).abs() < 1e-6, "{scores:?}");
    }

    #[test]
    fn those_that_are_not_among_have_no_score_and_the_others_the_same() {
        let index = of(&["apple pear", "apple", "fig", "apple apple fig"]);
        let terms = index.terms("apple");
        let mut wanted = index.scores(&terms, None);
        wanted[1] = 0.0;
        let among = Slots::from_iter([0, 2, 3]);
        assert!(wanted[0] > 0.0 && wanted[3] > 0.0);
        assert_eq!(index.scores(&terms, Some(&among)), wanted);
    }

    #[test]
    fn words_that_stand_as_in_the_query_win() {
        let index = of(&["key river api api lake key", "api key river lake key api", "pear"]);
        assert_eq!(found(&index, "api key")[0], 1);
    }

    #[test]
    fn a_word_of_the_context_counts_less_than_an_own_one() {
        let mut index = of(&["pear tree", "cedar tree"]);
        insert(&mut index, 2, "tree cedar", "pear");
        assert_eq!(found(&index, "pear"), [0, 2]);
    }

    proptest! {
        /// Whatever was there before: scores are those of an index that never held it.
        #[test]
        fn a_removed_passage_leaves_nothing(
            steps in proptest::collection::vec((0_u32..8, "[abc]( [abcd]){0,6}", any::<bool>()), 1..40),
        ) {
            let (mut changed, mut held) = (Keyword::default(), std::collections::BTreeMap::new());
            for (slot, text, kept) in steps {
                if held.remove(&slot).is_some() {
                    changed.remove(slot);
                }
                if kept {
                    insert(&mut changed, slot, &text, "");
                    held.insert(slot, text);
                }
            }
            let mut fresh = Keyword::default();
            for (slot, text) in &held {
                insert(&mut fresh, *slot, text, "");
            }
            let scores = |index: &Keyword| {
                let mut scores = index.scores(&index.terms("b c d b"), None);
                scores.resize(8, 0.0);
                scores
            };
            for (one, other) in scores(&changed).iter().zip(scores(&fresh)) {
                prop_assert!((one - other).abs() < 1e-5);
            }
        }
    }
}
