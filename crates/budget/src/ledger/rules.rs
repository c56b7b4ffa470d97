//! What a ledger decides once it has read. Pure, so that every store decides the same.

use types::{NanoUsd, ReservationId};

use crate::Error;
use crate::ledger::{Reservation, Statement};

/// A reservation as a store keeps it.
pub(crate) struct Kept {
    pub(crate) user: String,
    pub(crate) amount: i64,
    pub(crate) settled: Option<i64>,
    pub(crate) state: String,
    pub(crate) made_at: i64,
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

    /// Returns how much a settlement frees; none when it was settled so before.
    pub(crate) fn to_settle(
        &self,
        id: &ReservationId,
        amount: NanoUsd,
    ) -> Result<Option<i64>, Error> {
        match self.state.as_str() {
            "settled" if self.settled == Some(amount.nanos()) => Ok(None),
            "settled" => Err(conflict(id, "settled with another amount")),
            "released" => Err(conflict(id, "released")),
            "held" => Ok(Some(self.amount)),
            // Expired: the hold is free already, the money is gone all the same.
            _ => Ok(Some(0)),
        }
    }

    /// Returns whether a release frees anything.
    pub(crate) fn to_release(&self, id: &ReservationId) -> Result<bool, Error> {
        match self.state.as_str() {
            "held" => Ok(true),
            "settled" => Err(conflict(id, "settled")),
            _ => Ok(false),
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
