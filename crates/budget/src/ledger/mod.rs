//! What every ledger does.

pub(crate) mod account;
pub(crate) mod book;
pub(crate) mod kept;
mod moves;
pub(crate) mod postgres;
mod rules;
pub(crate) mod sqlite;
pub(crate) mod verify;

use async_trait::async_trait;
use types::{NanoUsd, ReservationId, TenantId};

use self::account::Account;
pub use self::moves::{Correction, Move, Reservation};
pub use self::rules::Rules;
use crate::usage::{Audited, Calls, Cost, Group, Usage};
use crate::{Error, Kind, Period, Scope};

/// The columns of an account, in the order in which it is read and written.
macro_rules! columns {
    () => {
        "moved_at, limit_daily, limit_weekly, limit_monthly, limit_total, \
         spent_daily, spent_weekly, spent_monthly, spent_total, \
         held_daily, held_weekly, held_monthly, held_total"
    };
}
pub(crate) use columns;

/// A scope's state in one period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Whose.
    pub scope: Scope,
    /// In which period.
    pub period: Period,
    /// None: unlimited.
    pub limit: Option<NanoUsd>,
    /// Settled.
    pub spent: NanoUsd,
    /// Reserved and neither settled, released nor expired.
    pub held: NanoUsd,
}

impl Statement {
    /// Reads the state of an account in the windows that hold `now`.
    fn of(scope: Scope, mut account: Account, period: Period, now: i64) -> Self {
        account.advance(now);
        let at = period as usize;
        Self {
            scope,
            period,
            limit: account.limits[at].map(NanoUsd::new),
            spent: NanoUsd::new(account.spent[at]),
            held: NanoUsd::new(account.held[at]),
        }
    }
}

/// Which statements come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Those who spent most, without those who spent nothing.
    Spent,
    /// Those who used most of their limit, without those who have none.
    Used,
}

impl Order {
    /// Returns the query for accounts of a kind in this order; its parameters are the tenant, the
    /// kind, when the period began, and how many at most.
    fn query(self, period: Period, name: &str) -> String {
        let (period, columns) = (period.as_str(), columns!());
        let (spent, used) = (
            format!("CASE WHEN moved_at >= $3 THEN spent_{period} ELSE 0 END"),
            format!("CASE WHEN moved_at >= $3 THEN spent_{period} + held_{period} ELSE 0 END"),
        );
        let (wanted, first) = match self {
            Self::Spent => (format!("{spent} > 0"), spent),
            Self::Used => {
                let limit = format!("limit_{period}");
                (
                    format!("{limit} IS NOT NULL"),
                    format!("CAST({used} AS REAL) / (CASE {limit} WHEN 0 THEN 1 ELSE {limit} END)"),
                )
            }
        };
        format!(
            "SELECT name, {columns} FROM accounts WHERE tenant = $1 AND kind = $2 AND {wanted}
             ORDER BY {first} DESC, {name} LIMIT $4"
        )
    }
}

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Later lines have higher numbers.
    pub number: i64,
    /// Of which reservation or correction.
    pub reservation: String,
    /// hold, settle, release, expire or correct.
    pub kind: String,
    /// By how much what is spent changed, in nano-USD.
    pub spent: i64,
    /// By how much what is held changed, in nano-USD.
    pub held: i64,
    /// Where it counts.
    pub scopes: Vec<Scope>,
    /// The moment in whose periods it counts, in milliseconds since 1970.
    pub counts_at_ms: i64,
    /// When it was written.
    pub at_ms: i64,
    /// Why, of a correction.
    pub reason: String,
    /// By whom, of a correction.
    pub author: String,
}

/// A limit of which so much is spent that somebody is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Whose.
    pub tenant: TenantId,
    /// Of which scope.
    pub scope: Scope,
    /// In which period.
    pub period: Period,
    /// When that began, in milliseconds since 1970.
    pub starts_at_ms: i64,
    /// So many percent of the limit are spent.
    pub percent: u8,
    /// The limit, as it was then.
    pub limit: NanoUsd,
    /// What was spent then.
    pub spent: NanoUsd,
    /// When that was.
    pub at_ms: i64,
    /// How often somebody tried to tell it, this time included.
    pub attempts: i64,
}

/// How long an alert is tried to be told, in milliseconds.
const TRIED: i64 = 7 * 86_400_000;

/// Returns when an alert that was tried so often before is tried again, in milliseconds from now:
/// after ten seconds, twice as long each time, an hour at most.
fn again_after(attempts: i64) -> i64 {
    (10_000 << attempts.clamp(0, 9)).min(3_600_000)
}

/// Why gateways refuse work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintenance {
    /// What clients are told.
    pub message: String,
    /// When they may come back, in seconds.
    pub retry_after_s: u32,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// Limits, holds and history. Every implementation passes `tests/suite.rs`.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Makes a move, whole or not at all, and returns when the hold ends if it reserves; what it may
    /// be is said of the methods below.
    ///
    /// # Errors
    /// As theirs.
    async fn run(&self, one: Move) -> Result<i64, Error>;

    /// Sets money aside in every scope and period at once and returns when the hold ends, in
    /// milliseconds since 1970.
    ///
    /// Atomic: concurrent reservations never take settled + held above a limit and its grace.
    /// Idempotent in the id: a repeat takes nothing. It lengthens a hold whose time is not over, if it
    /// asks for longer, so that whoever works for days can say that they still do.
    ///
    /// # Errors
    /// [`Error::Exceeded`] if a limit does not cover it, [`Error::Conflict`] if the id holds another
    /// amount, was released before or has expired, [`Error::Ledger`] if the store fails.
    async fn reserve(&self, reservation: &Reservation) -> Result<i64, Error> {
        self.run(Move::Reserve(reservation.clone())).await
    }

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
    ) -> Result<(), Error> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.run(Move::Settle { tenant, id, amount }).await.map(drop)
    }

    /// Ends a reservation with nothing spent. One that never was is marked, so that a reserve that
    /// comes late holds nothing. Idempotent.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it was settled, [`Error::Ledger`].
    async fn release(&self, tenant: &TenantId, id: &ReservationId) -> Result<(), Error> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.run(Move::Release { tenant, id }).await.map(drop)
    }

    /// Ends every hold whose time is over and returns how many. Safe to run anywhere at once.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn expire(&self) -> Result<u64, Error>;

    /// Changes what scopes have spent now, by a line of its own. Idempotent in the id.
    ///
    /// # Errors
    /// [`Error::Invalid`] if less than nothing would be spent, [`Error::Conflict`] if the id was used
    /// for something else, [`Error::Ledger`].
    async fn correct(&self, correction: &Correction) -> Result<(), Error> {
        self.run(Move::Correct(correction.clone())).await.map(drop)
    }

    /// Sets a scope's limit for a period, or takes it away; one below what is spent already is kept,
    /// and refuses.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn set_limit(
        &self,
        tenant: &TenantId,
        scope: &Scope,
        period: Period,
        limit: Option<NanoUsd>,
    ) -> Result<(), Error> {
        let (tenant, scope) = (tenant.clone(), scope.clone());
        self.run(Move::Limit { tenant, scope, period, limit }).await.map(drop)
    }

    /// Returns a scope's state in the current period; for one never seen what it will begin with.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn statement(
        &self,
        tenant: &TenantId,
        scope: &Scope,
        period: Period,
    ) -> Result<Statement, Error>;

    /// Returns the states of a tenant's scopes of one kind in the current period, in an order, then by
    /// name; at most `limit`.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn statements(
        &self,
        tenant: &TenantId,
        kind: Kind,
        period: Period,
        order: Order,
        limit: u32,
    ) -> Result<Vec<Statement>, Error>;

    /// Returns the tenant's history behind number `after`, oldest first.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn history(&self, tenant: &TenantId, after: i64, limit: u32)
    -> Result<Vec<Entry>, Error>;

    /// Compares what the tenant's accounts hold with the sum of its history, and returns what
    /// differs: nothing, unless somebody else changed the store.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn verify(&self, tenant: &TenantId) -> Result<Vec<String>, Error>;

    /// Returns alerts that are to be told now, at most `limit`; each is returned again later until
    /// [`Ledger::told`] says that it was told, to one caller at a time, for a week.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn alerts(&self, limit: u32) -> Result<Vec<Alert>, Error>;

    /// Notes that an alert was told.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn told(&self, alert: &Alert) -> Result<(), Error>;

    /// Returns why gateways refuse work, if they are to.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn maintenance(&self) -> Result<Option<Maintenance>, Error>;

    /// Says why gateways are to refuse work, or that they are not to.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn set_maintenance(&self, maintenance: Option<&Maintenance>) -> Result<(), Error>;

    /// Settles the reservations of calls and keeps a row a call, all or nothing. Idempotent in the
    /// calls' ids; a reservation that ended otherwise stays as it is.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn record(&self, usages: &[Usage]) -> Result<(), Error>;

    /// Sums what calls cost, by one to three groups, most expensive first, at most ten thousand.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    async fn costs(&self, calls: &Calls, groups: &[Group]) -> Result<Vec<Cost>, Error>;

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

/// Writes scopes as a store keeps them.
fn scopes_to(scopes: &[Scope]) -> String {
    // Words are written whatever they are.
    serde_json::to_string(scopes).unwrap_or_default()
}

/// Reads what [`scopes_to`] wrote.
fn scopes_from(text: &str) -> Result<Vec<Scope>, Error> {
    let words: Vec<String> =
        serde_json::from_str(text).map_err(|fault| Error::Ledger(fault.into()))?;
    words.iter().map(|word| word.parse()).collect()
}
