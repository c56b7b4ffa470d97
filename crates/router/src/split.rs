//! Which of several models a caller gets: always the same one, by weight. Pure.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar, 1998; weights as in Schindelhauer and Schomaker,
//! 2005): no replica keeps anything, and a change of one weight moves only who must move.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::catalog::Candidate;

/// Models that share one place of a route.
pub(crate) struct Split {
    pub(crate) name: String,
    /// Each with its weight, above 0.
    pub(crate) members: Vec<(Arc<Candidate>, u32)>,
}

impl Split {
    /// Returns the members, the one first that `who` always gets.
    pub(crate) fn of(&self, who: &str) -> Vec<Arc<Candidate>> {
        let mut scored: Vec<_> = self
            .members
            .iter()
            .map(|(member, weight)| (score(&self.name, &member.name(), who, *weight), member))
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.into_iter().map(|(_, member)| Arc::clone(member)).collect()
    }

    /// Returns what share of the callers a member gets, for people.
    pub(crate) fn share(&self, candidate: &Arc<Candidate>) -> String {
        let all: u64 = self.members.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let own = self.members.iter().find(|(member, _)| Arc::ptr_eq(member, candidate));
        format!("{} of {all}", own.map_or(0, |(_, weight)| *weight))
    }
}

/// A member of weight w wins against those of weights v with probability w / (w + Σv).
fn score(split: &str, member: &str, who: &str, weight: u32) -> f64 {
    let mut hash = Sha256::new();
    for part in [split, member, who] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let bytes: [u8; 32] = hash.finalize().into();
    let high = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let uniform = (f64::from(high) + 0.5) / (f64::from(u32::MAX) + 1.0);
    f64::from(weight) / -uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(weights: [u32; 2], who: &str) -> usize {
        let scores = [("a", weights[0]), ("b", weights[1])].map(|(m, w)| score("s", m, who, w));
        usize::from(scores[1] > scores[0])
    }

    #[test]
    fn callers_are_shared_by_weight_and_few_move_when_it_changes() {
        let callers: Vec<String> = (0..10_000).map(|user| format!("acme/{user}")).collect();
        let of =
            |weights| -> Vec<usize> { callers.iter().map(|who| first(weights, who)).collect() };
        let (ten, twenty) = (of([90, 10]), of([80, 20]));
        let count = |chosen: &[usize]| chosen.iter().sum::<usize>();
        assert!((900..1_100).contains(&count(&ten)), "{}", count(&ten));
        assert!((1_880..2_120).contains(&count(&twenty)), "{}", count(&twenty));
        assert!(ten.iter().zip(&twenty).all(|(ten, twenty)| ten <= twenty), "nobody moves back");
    }
}
