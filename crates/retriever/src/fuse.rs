//! From two scores of each passage to one. Pure, and the same for every store.

use std::cmp::Ordering;

use rustc_hash::FxHashMap;

/// How much of its document's best score a passage gains.
pub(crate) const DOCUMENT_WEIGHT: f32 = 0.3;
/// The cosine's weight in a convex sum, unless configured.
pub(crate) const DENSE_WEIGHT: f32 = 0.4;
/// How little the first of reciprocal ranks stand out, unless configured.
pub(crate) const K: f32 = 60.0;

/// A passage that a store found on either side, with its score on both.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    /// The passage.
    pub(crate) id: String,
    /// Of which document it is.
    pub(crate) document: String,
    /// Its BM25 score, from 0.
    pub(crate) keyword: f32,
    /// The cosine of its vector and the query's, -1 to 1; none without vectors.
    pub(crate) dense: Option<f32>,
}

/// How the two scores become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fusion {
    /// The weighted sum of cosine and keyword score, the latter by the best one's. Its ends are those that a
    /// score can have and not those of a list, so that a list of equally bad passages stays bad:
    /// [Bruch et al., 2023](https://arxiv.org/abs/2210.11934).
    Convex {
        /// The cosine's weight, 0 to 1; the keyword score has the rest.
        dense_weight: f32,
    },
    /// Reciprocal ranks: a sum of 1 / (k + rank), which heeds no scores.
    Rrf {
        /// How little the first ranks stand out.
        k: f32,
    },
}

impl Default for Fusion {
    fn default() -> Self {
        Self::Convex { dense_weight: DENSE_WEIGHT }
    }
}

/// A passage with the score that it is ranked by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ranked {
    /// The passage and its scores before.
    pub(crate) candidate: Candidate,
    /// Its own score, from both sides.
    pub(crate) fused: f32,
    /// A part of its document's best one.
    pub(crate) document: f32,
    /// Where several wordings were searched, the sum of its reciprocal ranks.
    pub(crate) wordings: Option<f32>,
    /// What a reranker says of it.
    pub(crate) rerank: Option<f32>,
    /// What it stands by: the reranker's word, or else the sum of ranks, or else that of the two before.
    pub(crate) score: f32,
}

/// Returns candidates best first; equals of a document in its order. To each one's score is added `document_weight`
/// times the best score within its document: a passage of a document that answers well stands before a stray one.
#[must_use]
pub(crate) fn rank(
    candidates: Vec<Candidate>,
    fusion: Fusion,
    document_weight: f32,
) -> Vec<Ranked> {
    let fused = match fusion {
        Fusion::Convex { dense_weight } => convex(&candidates, dense_weight),
        Fusion::Rrf { k } => reciprocal(&candidates, k),
    };
    let mut documents: FxHashMap<&str, f32> = FxHashMap::default();
    for (candidate, score) in candidates.iter().zip(&fused) {
        let best = documents.entry(&candidate.document).or_insert(f32::NEG_INFINITY);
        *best = best.max(*score);
    }
    let best: Vec<f32> = candidates
        .iter()
        .map(|candidate| documents.get(candidate.document.as_str()).copied().unwrap_or_default())
        .collect();
    let mut ranked: Vec<Ranked> = candidates
        .into_iter()
        .zip(fused.into_iter().zip(best))
        .map(|(candidate, (fused, best))| Ranked {
            candidate,
            fused,
            document: document_weight * best,
            wordings: None,
            rerank: None,
            score: fused + document_weight * best,
        })
        .collect();
    sort(&mut ranked);
    ranked
}

/// Makes one ranking of those of several wordings of a question, by reciprocal ranks. The question itself comes first,
/// and counts as much as all others together: wordings that lead astray do not outvote it.
pub(crate) fn across(rankings: Vec<Vec<Ranked>>) -> Vec<Ranked> {
    let others = rankings.len().saturating_sub(1).max(1) as f32;
    let mut all: Vec<Ranked> = Vec::new();
    let mut known: FxHashMap<String, usize> = FxHashMap::default();
    for (ranking, at) in rankings.into_iter().zip(0..) {
        let weight = if at == 0 { 1.0 } else { 1.0 / others };
        for (ranked, rank) in ranking.into_iter().zip(1_u16..) {
            let score = weight / (K + f32::from(rank));
            let place = *known.entry(ranked.candidate.id.clone()).or_insert_with(|| {
                all.push(Ranked { wordings: Some(0.0), score: 0.0, ..ranked });
                all.len() - 1
            });
            all[place].score += score;
            all[place].wordings = Some(all[place].score);
        }
    }
    sort(&mut all);
    all
}

fn sort(ranked: &mut [Ranked]) {
    ranked.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then_with(|| in_order(&a.candidate.id, &b.candidate.id))
    });
}

/// Compares the ids of passages, which end in their position: by document, then by position.
fn in_order(a: &str, b: &str) -> Ordering {
    fn key(id: &str) -> (Option<&str>, usize, &str) {
        (id.rsplit_once('-').map(|(document, _)| document), id.len(), id)
    }
    key(a).cmp(&key(b))
}

fn convex(candidates: &[Candidate], dense_weight: f32) -> Vec<f32> {
    let most = candidates.iter().map(|candidate| candidate.keyword).fold(0.0, f32::max);
    let dense = candidates.iter().any(|candidate| candidate.dense.is_some());
    // Without vectors the score is BM25's own, which says more than its part of the best one.
    let of = |candidate: &Candidate| match candidate.dense {
        _ if !dense => candidate.keyword,
        cosine => {
            let keyword = if most > 0.0 { candidate.keyword / most } else { 0.0 };
            (1.0 - dense_weight) * keyword + dense_weight * cosine.unwrap_or_default()
        }
    };
    candidates.iter().map(of).collect()
}

fn reciprocal(candidates: &[Candidate], k: f32) -> Vec<f32> {
    let mut scores = vec![0.0; candidates.len()];
    let mut add = |of: &dyn Fn(&Candidate) -> Option<f32>| {
        let mut order: Vec<(usize, f32)> = candidates
            .iter()
            .enumerate()
            .filter_map(|(at, candidate)| Some((at, of(candidate)?)))
            .collect();
        order.sort_by(|a, b| {
            b.1.total_cmp(&a.1).then_with(|| in_order(&candidates[a.0].id, &candidates[b.0].id))
        });
        for ((at, _), rank) in order.into_iter().zip(1_u16..) {
            scores[at] += 1.0 / (k + f32::from(rank));
        }
    };
    add(&|candidate| Some(candidate.keyword).filter(|score| *score > 0.0));
    add(&|candidate| candidate.dense);
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_wordings_add_what_they_find_and_do_not_outvote_the_question() {
        let ranking = |ids: &[&str]| {
            let candidate = |id: &&str| Candidate {
                id: (*id).to_owned(),
                document: (*id).to_owned(),
                keyword: 1.0,
                dense: None,
            };
            let mut ranked = rank(ids.iter().map(candidate).collect(), Fusion::default(), 0.0);
            ranked.sort_by_key(|one| ids.iter().position(|id| *id == one.candidate.id));
            ranked
        };
        let astray = ranking(&["x", "a"]);
        let all = across(vec![ranking(&["a", "b"]), astray.clone(), astray.clone(), astray]);
        let ids: Vec<&str> = all.iter().map(|one| one.candidate.id.as_str()).collect();
        assert_eq!(ids, ["a", "x", "b"]);
        let first = 1.0 / 61.0 + 1.0 / 62.0;
        assert!((all[0].score - first).abs() < 1e-6 && all[0].wordings == Some(all[0].score));
    }

    fn candidate(id: &str, document: &str, keyword: f32, dense: Option<f32>) -> Candidate {
        Candidate { id: id.to_owned(), document: document.to_owned(), keyword, dense }
    }

    fn ids(ranked: &[Ranked]) -> Vec<&str> {
        ranked.iter().map(|ranked| ranked.candidate.id.as_str()).collect()
    }

    #[test]
    fn a_convex_sum_weighs_both_sides() {
        let both =
            || vec![candidate("a", "a", 4.0, Some(0.2)), candidate("b", "b", 1.0, Some(0.8))];
        let order = |dense_weight| rank(both(), Fusion::Convex { dense_weight }, 0.0);
        assert_eq!(ids(&order(0.0)), ["a", "b"]);
        assert_eq!(ids(&order(1.0)), ["b", "a"]);
        assert!((order(0.5)[0].score - 0.6).abs() < 1e-6);
    }

    #[test]
    fn reciprocal_ranks_heed_no_scores() {
        let some = vec![
            candidate("a", "a", 9.0, Some(0.1)),
            candidate("b", "b", 2.0, Some(0.3)),
            candidate("c", "c", 0.0, Some(0.2)),
        ];
        let ranked = rank(some, Fusion::Rrf { k: 60.0 }, 0.0);
        assert_eq!(ids(&ranked), ["b", "a", "c"]);
        assert!((ranked[0].score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-6);
    }

    #[test]
    fn a_passage_gains_from_its_document_and_equals_stand_by_id() {
        let some = || {
            vec![
                candidate("y", "one", 2.0, None),
                candidate("x", "two", 2.0, None),
                candidate("z", "one", 5.0, None),
            ]
        };
        assert_eq!(ids(&rank(some(), Fusion::default(), 0.0)), ["z", "x", "y"]);
        let ranked = rank(some(), Fusion::default(), 0.3);
        assert_eq!(ids(&ranked), ["z", "y", "x"]);
        assert!((ranked[1].score - 3.5).abs() < 1e-6 && ranked[1].fused == 2.0);
    }

    #[test]
    fn equals_of_a_document_stand_in_its_order() {
        let some = ["b-1", "a-b-10", "a-b-9", "a-b-100", "a-b-1"];
        let some = some.map(|id| candidate(id, "", 1.0, Some(1.0))).to_vec();
        for fusion in [Fusion::default(), Fusion::Rrf { k: 60.0 }] {
            let ranked = rank(some.clone(), fusion, 0.3);
            assert_eq!(ids(&ranked), ["a-b-1", "a-b-9", "a-b-10", "a-b-100", "b-1"]);
        }
    }

    #[test]
    fn nothing_stays_nothing() {
        assert!(rank(Vec::new(), Fusion::default(), 0.3).is_empty());
    }
}
