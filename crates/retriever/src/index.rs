//! Exact BM25 over one tenant's passages. Pure.

use std::collections::HashMap;

use crate::tokenize::terms;

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// One tenant's passages by their terms.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Term → passage number → how often.
    postings: HashMap<String, HashMap<u32, u32>>,
    /// Passage number → id, length in terms, distinct terms.
    passages: HashMap<u32, Entry>,
    numbers: HashMap<String, u32>,
    next: u32,
    total_length: u64,
}

#[derive(Debug)]
struct Entry {
    id: String,
    length: u32,
    terms: Vec<String>,
}

impl Index {
    /// Adds a passage; one of the same id is replaced.
    pub(crate) fn insert(&mut self, id: &str, text: &str) {
        self.remove(id);
        let number = self.next;
        self.next += 1;
        let mut counts: HashMap<String, u32> = HashMap::new();
        let mut length = 0;
        for term in terms(text) {
            *counts.entry(term).or_default() += 1;
            length += 1;
        }
        for (term, count) in &counts {
            self.postings.entry(term.clone()).or_default().insert(number, *count);
        }
        let terms = counts.into_keys().collect();
        self.passages.insert(number, Entry { id: id.to_owned(), length, terms });
        self.numbers.insert(id.to_owned(), number);
        self.total_length += u64::from(length);
    }

    /// Removes a passage and everything made from it.
    pub(crate) fn remove(&mut self, id: &str) {
        let Some(number) = self.numbers.remove(id) else { return };
        let Some(entry) = self.passages.remove(&number) else { return };
        self.total_length -= u64::from(entry.length);
        for term in entry.terms {
            if let Some(postings) = self.postings.get_mut(&term) {
                postings.remove(&number);
                if postings.is_empty() {
                    self.postings.remove(&term);
                }
            }
        }
    }

    /// Returns the ids and scores of the `top_k` best passages, best first, equals by id. A passage
    /// that holds none of the query's terms is not among them.
    #[allow(clippy::cast_precision_loss, reason = "counts of passages and terms are small")]
    pub(crate) fn search(&self, query: &str, top_k: usize) -> Vec<(String, f64)> {
        let count = self.passages.len() as f64;
        let mean = (self.total_length as f64 / count.max(1.0)).max(1.0);
        let mut wanted = terms(query);
        wanted.sort_unstable();
        wanted.dedup();
        let mut scores: HashMap<u32, f64> = HashMap::new();
        for term in wanted {
            let Some(postings) = self.postings.get(&term) else { continue };
            let holding = postings.len() as f64;
            let idf = (1.0 + (count - holding + 0.5) / (holding + 0.5)).ln();
            for (number, often) in postings {
                let Some(entry) = self.passages.get(number) else { continue };
                let often = f64::from(*often);
                let long = 1.0 - B + B * f64::from(entry.length) / mean;
                *scores.entry(*number).or_default() +=
                    idf * often * (K1 + 1.0) / (often + K1 * long);
            }
        }
        let named = scores
            .into_iter()
            .filter_map(|(number, score)| Some((self.passages.get(&number)?.id.as_str(), score)));
        let mut best: Vec<(&str, f64)> = named.collect();
        best.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
        best.truncate(top_k);
        best.into_iter().map(|(id, score)| (id.to_owned(), score)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_and_short_passages_win() {
        let mut index = Index::default();
        index.insert("a", "release release notes of the project");
        index.insert("b", "rollback of a release");
        index.insert("c", "project");
        let ids = |query| index.search(query, 10).into_iter().map(|hit| hit.0).collect::<Vec<_>>();
        assert_eq!(ids("rollback release"), ["b", "a"]);
        assert_eq!(ids("project"), ["c", "a"]);
        assert!(ids("unheard of").is_empty());
    }

    #[test]
    fn a_removed_passage_leaves_nothing() {
        let mut index = Index::default();
        index.insert("a", "one two");
        index.insert("a", "two three");
        assert!(index.search("one", 1).is_empty());
        index.remove("a");
        assert!(index.search("three", 1).is_empty());
        assert!(index.postings.is_empty() && index.total_length == 0);
    }

    #[test]
    fn scores_are_those_of_the_formula() {
        let mut index = Index::default();
        index.insert("a", "apple");
        index.insert("b", "pear");
        let score = index.search("apple", 1)[0].1;
        assert!((score - 2.0_f64.ln()).abs() < 1e-12, "{score}");
    }
}
