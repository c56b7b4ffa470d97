//! What a ledger decides once it has read. Pure, so that every store decides the same.

use types::{NanoUsd, ReservationId};

use crate::ledger::{Reservation, Statement};
use crate::{Error, Period};

/// A reservation as a store keeps it.
pub(crate) struct Kept {
    pub(crate) user: String,
    pub(crate) amount: i64,
    pub(crate) settled: Option<i64>,
    pub(crate) state: String,
    pub(crate) expires_at: i64,
}

impl Kept {
    /// Answers a reserve under an id that is known: the first answer again, or a conflict.
    pub(crate) fn repeated(&self, wanted: &Reservation) -> Result<i64, Error> {
        let same = self.amount == wanted.amount.nanos() && self.user == wanted.user.as_str();
        match self.state.as_str() {
            "held" | "settled" if same => Ok(self.expires_at),
            "held" | "settled" => Err(conflict(&wanted.id, "held for another user or amount")),
            ended => Err(conflict(&wanted.id, ended)),
        }
    }

    /// Returns when a hold that a repeat lengthens ends; none if it stays as it is.
    pub(crate) fn lengthened(&self, wanted: &Reservation, now: i64) -> Option<i64> {
        let until = now.saturating_add(i64::from(wanted.ttl_ms));
        let lasts = self.state == "held" && self.expires_at > now && self.repeated(wanted).is_ok();
        (lasts && until > self.expires_at).then_some(until)
    }

    /// Answers a settle of what is neither held nor expired.
    pub(crate) fn settled_before(&self, id: &ReservationId, amount: NanoUsd) -> Result<(), Error> {
        match self.state.as_str() {
            "settled" if self.settled == Some(amount.nanos()) => Ok(()),
            "settled" => Err(conflict(id, "settled with another amount")),
            ended => Err(conflict(id, ended)),
        }
    }

    /// Answers a release of what is not held.
    pub(crate) fn released_before(&self, id: &ReservationId) -> Result<(), Error> {
        match self.state.as_str() {
            "settled" => Err(conflict(id, "settled")),
            _ => Ok(()),
        }
    }
}

/// Refuses what a period's limit does not cover.
pub(crate) fn cover(wanted: &Reservation, state: &Statement, now: i64) -> Result<(), Error> {
    let Some(limit) = state.limit else { return Ok(()) };
    let used = state.spent.checked_add(state.held);
    let then = used.and_then(|used| used.checked_add(wanted.amount));
    if then.is_some_and(|then| then <= limit) {
        return Ok(());
    }
    Err(Error::Exceeded {
        user: wanted.user.clone(),
        period: state.period,
        limit,
        spent: state.spent,
        held: state.held,
        needed: wanted.amount,
        resets_at_ms: state.period.bounds(now).1,
    })
}

pub(crate) fn conflict(id: &ReservationId, was: &str) -> Error {
    Error::Conflict { id: id.clone(), was: was.to_owned() }
}

/// Returns `[period, start]` for each of the periods that hold `at`, as JSON.
pub(crate) fn counted(periods: &[Period], at: i64) -> String {
    let counted = periods.iter().map(|period| (period.as_str(), period.bounds(at).0));
    serde_json::json!(counted.collect::<Vec<_>>()).to_string()
}
