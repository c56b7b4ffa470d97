//! In which order candidates are tried.

use std::sync::Arc;

use types::CallContext;

use super::Candidate;
use crate::complexity::Need;
use crate::split::Split;

/// A place in a route's order.
#[derive(Clone)]
pub(super) enum Place {
    One(Arc<Candidate>),
    Split(Arc<Split>),
}

/// Returns a route's candidates for a caller, and what it says of its splits.
pub(super) fn in_order(route: &[Place], context: &CallContext) -> (Vec<Arc<Candidate>>, String) {
    let (mut candidates, mut shares) = (Vec::new(), String::new());
    for place in route {
        match place {
            Place::One(candidate) => candidates.push(Arc::clone(candidate)),
            Place::Split(split) => {
                let members = split.of(&format!("{}/{}", context.tenant, context.user));
                if let Some(first) = members.first() {
                    let (name, share) = (&split.name, split.share(first));
                    shares.push_str(&format!("; {name}: {} ({share})", first.name()));
                }
                candidates.extend(members);
            }
        }
    }
    (candidates, shares)
}

/// Puts those first that do for what a call needs, and says why.
pub(super) fn sort(candidates: &mut [Arc<Candidate>], need: &Need) -> String {
    let tiers = preferred(need.tier);
    candidates.sort_by_key(|candidate| {
        let tier = tiers.iter().position(|tier| *tier == candidate.tier);
        (candidate.is_last_resort(), tier)
    });
    format!("{}: tier {}", need.reason, need.tier)
}

/// Returns the tiers in the order in which they do for a call that needs `tier`: it, abler ones,
/// lesser ones. The batch tier is for those that ask for it.
pub(super) fn preferred(tier: u32) -> [u32; 5] {
    match tier {
        0 => [0, 2, 1, 3, 4],
        1 => [1, 3, 0, 2, 4],
        2 => [2, 3, 1, 0, 4],
        3 => [3, 1, 0, 2, 4],
        _ => [4, 1, 3, 0, 2],
    }
}
