//! Reservations as a store keeps them. Pure.

use types::{ReservationId, TenantId};

use super::Reservation;
use crate::{Error, Scope};

/// A tenant and a reservation's id.
pub(crate) type ReservationKey = (TenantId, ReservationId);

/// A tenant and a scope of it.
pub(crate) type AccountKey = (TenantId, Scope);

/// What became of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Held,
    Settled,
    Released,
    Expired,
}

impl State {
    const ALL: [Self; 4] = [Self::Held, Self::Settled, Self::Released, Self::Expired];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Settled => "settled",
            Self::Released => "released",
            Self::Expired => "expired",
        }
    }

    /// # Errors
    /// [`Error::Ledger`] if a store holds another word.
    pub(crate) fn read(word: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|state| state.as_str() == word);
        known.ok_or_else(|| Error::Ledger(format!("state {word:?}").into()))
    }
}

/// A reservation as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) scopes: Vec<Scope>,
    pub(crate) amount: i64,
    pub(crate) settled: Option<i64>,
    pub(crate) state: State,
    /// When it was made, which says in which periods it counts.
    pub(crate) made_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) ended_at: Option<i64>,
}

impl Kept {
    /// Answers a reserve under an id that is known with when the hold ends: as before, or later if
    /// the repeat asks for longer.
    pub(super) fn repeated(&self, wanted: &Reservation, now: i64) -> Result<i64, Error> {
        let until = now.saturating_add(i64::from(wanted.ttl_ms));
        match self.state {
            State::Held | State::Settled
                if self.amount != wanted.amount.nanos() || self.scopes != wanted.scopes =>
            {
                Err(conflict(&wanted.id, "held for another user or amount"))
            }
            State::Held if self.expires_at <= now => Err(conflict(&wanted.id, "expired")),
            State::Held => Ok(self.expires_at.max(until)),
            State::Settled => Ok(self.expires_at),
            ended => Err(conflict(&wanted.id, ended.as_str())),
        }
    }
}

pub(super) fn conflict(id: &ReservationId, was: &str) -> Error {
    Error::Conflict { id: id.clone(), was: was.to_owned() }
}
