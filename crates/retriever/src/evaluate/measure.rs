//! What a ranking is worth. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

/// One query's measures, or the mean of many; each 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Normalised discounted cumulative gain of the first ten, as trec_eval has it: gain is the judgement.
    #[serde(rename = "ndcg@10")]
    pub ndcg_10: f64,
    /// The part of the relevant documents that is among the first hundred.
    #[serde(rename = "recall@100")]
    pub recall_100: f64,
    /// One by the rank of the first relevant document, 0 past the tenth.
    #[serde(rename = "mrr@10")]
    pub mrr_10: f64,
}

/// Measures a ranking of documents, best first, each once.
pub(super) fn measure(ranking: &[&str], relevant: &BTreeMap<String, u32>) -> Measures {
    let gain = |id: &&str| relevant.get(*id).copied().unwrap_or_default();
    let discounted = |gains: &mut dyn Iterator<Item = u32>| -> f64 {
        gains.take(10).zip(2_u32..).map(|(gain, at)| f64::from(gain) / f64::from(at).log2()).sum()
    };
    let mut ideal: Vec<u32> = relevant.values().copied().collect();
    ideal.sort_unstable_by(|a, b| b.cmp(a));
    let best = discounted(&mut ideal.iter().copied());
    let found = ranking.iter().take(100).filter(|id| gain(id) > 0).count();
    let first = ranking.iter().take(10).position(|id| gain(id) > 0);
    Measures {
        ndcg_10: if best > 0.0 { discounted(&mut ranking.iter().map(gain)) / best } else { 0.0 },
        recall_100: found as f64 / relevant.len().max(1) as f64,
        mrr_10: first.map_or(0.0, |at| 1.0 / (at + 1) as f64),
    }
}

pub(super) fn mean(all: &[Measures]) -> Measures {
    let count = all.len().max(1) as f64;
    let of = |value: fn(&Measures) -> f64| all.iter().map(value).sum::<f64>() / count;
    Measures {
        ndcg_10: of(|one| one.ndcg_10),
        recall_100: of(|one| one.recall_100),
        mrr_10: of(|one| one.mrr_10),
    }
}

/// Returns how likely a difference of means so large is when which of two systems made which of a query's two
/// values is chance: a paired randomisation test, two-sided
/// ([Smucker et al., 2007](https://doi.org/10.1145/1321440.1321528)). The same for the same values.
pub(super) fn significance(one: &[f64], other: &[f64]) -> f64 {
    const ROUNDS: u32 = 10_000;
    let differences: Vec<f64> = one.iter().zip(other).map(|(one, other)| one - other).collect();
    let seen = differences.iter().sum::<f64>().abs();
    let mut random = fastrand::Rng::with_seed(7);
    let as_large = (0..ROUNDS).filter(|_| {
        let sum: f64 = differences.iter().map(|by| if random.bool() { *by } else { -by }).sum();
        // Equal sums may differ by rounding.
        sum.abs() >= seen - 1e-9
    });
    f64::from(as_large.count() as u32 + 1) / f64::from(ROUNDS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_those_of_their_formulas() {
        let relevant = BTreeMap::from([("a".to_owned(), 2), ("b".to_owned(), 1)]);
        let of = |ranking: &[&str]| measure(ranking, &relevant);
        let best = Measures { ndcg_10: 1.0, recall_100: 1.0, mrr_10: 1.0 };
        assert_eq!(of(&["a", "b"]), best);
        let third = 1.0_f64 / 3.0;
        let ideal = 2.0 + 1.0 / 3.0_f64.log2();
        let late = of(&["x", "y", "a"]);
        assert!((late.ndcg_10 - 2.0 / 4.0_f64.log2() / ideal).abs() < 1e-12);
        assert!((late.mrr_10 - third).abs() < 1e-12 && (late.recall_100 - 0.5).abs() < 1e-12);
        let mut far = vec!["x"; 10];
        far.push("a");
        assert_eq!(of(&far), Measures { ndcg_10: 0.0, recall_100: 0.5, mrr_10: 0.0 });
        assert_eq!(of(&[]), Measures::default());
    }

    #[test]
    fn chance_is_told_from_difference() {
        let same = vec![0.5; 20];
        assert!((significance(&same, &same) - 1.0).abs() < 1e-12);
        let better: Vec<f64> = same.iter().map(|value| value + 0.1).collect();
        assert!(significance(&better, &same) < 0.001);
        let mixed: Vec<f64> =
            (0..20).map(|at| if at % 2 == 0 { 0.6 } else { 0.4 + 0.01 }).collect();
        assert!(significance(&mixed, &same) > 0.5);
    }
}
