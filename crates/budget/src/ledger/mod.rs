//! What every ledger does.

pub(crate) mod postgres;
mod rules;
pub(crate) mod sqlite;

use async_trait::async_trait;
use types::{NanoUsd, ReservationId, TenantId, UserId};

use crate::usage::{Audited, Cost, Group, Usage};
use crate::{Error, Period};

/// A hold that is asked for.
#[derive(Debug, Clone)]
pub struct Reservation {
    /// Chosen by the caller; the same id again is the same hold.
    pub id: ReservationId,
    /// Whose money.
    pub tenant: TenantId,
    /// Who pays.
    pub user: UserId,
    /// Zero or more.
    pub amount: NanoUsd,
    /// How long it holds, in milliseconds.
    pub ttl_ms: u32,
}

/// A user's state in one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whose.
    pub user: UserId,
    /// In which period.
    pub period: Period,
    /// None: unlimited.
    pub limit: Option<NanoUsd>,
    /// Settled.
    pub spent: NanoUsd,
    /// Reserved and neither settled, released nor expired.
    pub held: NanoUsd,
}

/// Limits, holds and history. Every implementation passes `tests/suite.rs`.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Sets money aside in every period at once and returns when the hold ends, in milliseconds
    /// since 1970.
    ///
    /// Atomic: concurrent reservations never take settled + held above a limit. Idempotent in the
    /// id: a repeat takes nothing. It lengthens a hold whose time is not over, if it asks for longer,
    /// so that whoever works for days can say that they still do.
    ///
    /// # Errors
    /// [`Error::Exceeded`] if a limit does not cover it, [`Error::Conflict`] if the id holds another
    /// amount or was released before, [`Error::Ledger`] if the store fails.
    async fn reserve(&self, reservation: &Reservation) -> Result<i64, Error>;

    /// Ends a reservation with what was really spent, more or less than was held; an expired one
    /// too, because the money is gone. It counts in the periods in which it was reserved.
    /// Idempotent.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Conflict`] if it ended otherwise, [`Error::Ledger`].
    async fn settle(
        &self,
        tenant: &TenantId,
        id: &ReservationId,
        amount: NanoUsd,
    ) -> Result<(), Error>;

    /// Ends a reservation with nothing spent. One that never was is marked, so that a reserve that
    /// comes late holds nothing. Idempotent.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was settled, [`Error::Ledger`].
    async fn release(
        &self,
        tenant: &TenantId,
        user: &UserId,
        id: &ReservationId,
    ) -> Result<(), Error>;

    /// Ends every hold whose time is over and returns how many. Safe to run anywhere at once.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn expire(&self) -> Result<u64, Error>;

    /// Sets a user's limit for a period; one below what is spent already is kept, and refuses.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn set_limit(
        &self,
        tenant: &TenantId,
        user: &UserId,
        period: Period,
        limit: NanoUsd,
    ) -> Result<(), Error>;

    /// Returns a user's state in the current period; zeros for a user never seen.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn statement(
        &self,
        tenant: &TenantId,
        user: &UserId,
        period: Period,
    ) -> Result<Statement, Error>;

    /// Returns who spent most in the current period, most first, then by user.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn top_spenders(
        &self,
        tenant: &TenantId,
        period: Period,
        limit: u32,
    ) -> Result<Vec<Statement>, Error>;

    /// Settles the reservations of calls and keeps a row a call, all or nothing. Idempotent in the
    /// calls' ids; a reservation that ended otherwise stays as it is.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn record(&self, usages: &[Usage]) -> Result<(), Error>;

    /// Sums what the tenant's calls that began within `time` (from, to) cost, by one to three groups,
    /// most expensive first, at most ten thousand.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn costs(
        &self,
        tenant: &TenantId,
        groups: &[Group],
        time: (i64, i64),
    ) -> Result<Vec<Cost>, Error>;

    /// Returns the tenant's private calls behind number `after`, oldest first.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn audited(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Audited>, Error>;

    /// Returns the current time as the ledger counts periods, in milliseconds since 1970.
    fn now_ms(&self) -> i64;
}
