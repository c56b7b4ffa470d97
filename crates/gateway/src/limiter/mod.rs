//! How often, how much and how many at once: what a request takes of each limit, or why it is refused.
//!
//! A decision is about all limits of a request at once, and takes of all or of none. Redis makes it for
//! every replica; without Redis this process does. While a configured Redis does not answer, each
//! process admits its share of what was left of every limit, as it heard from the others until then, and tells Redis
//! of it afterwards.

mod address;
mod config;
#[cfg(test)]
mod contract;
mod gate;
mod memory;
mod redis;
mod scopes;
mod shared;
mod ticket;
mod tokens;
mod window;

use async_trait::async_trait;

pub(crate) use self::address::{network, of as client_of};
pub(crate) use self::config::routes;
pub use self::config::{LimitsConfig, Scope};
pub(crate) use self::gate::{admit, failed, heard};
pub(crate) use self::shared::Limiter;
pub(crate) use self::tokens::Used;

/// What a request takes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// The name of its leases.
    pub(crate) id: String,
    /// Of windows.
    pub(crate) windows: Vec<Wanted>,
    /// Of what may go on at once.
    pub(crate) leases: Vec<Lease>,
}

/// So much of a window; more than its limit is as much as its limit.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Whose it is, and how long.
    pub(crate) bucket: String,
    /// The most in a window.
    pub(crate) limit: u64,
    /// How long it is.
    pub(crate) window_ms: u64,
    /// How much of it.
    pub(crate) cost: u64,
    /// What clients know the limit as.
    pub(crate) policy: &'static str,
}

/// One of those that go on at once.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) bucket: String,
    /// The most at once.
    pub(crate) limit: u64,
    pub(crate) policy: &'static str,
}

/// What a backend decided.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// All was taken; otherwise nothing.
    pub(crate) admitted: bool,
    /// When, by the backend's own clock.
    pub(crate) at_ms: u64,
    /// For each window that was asked for.
    pub(crate) windows: Vec<Seen>,
    /// How many more of each lease there were before.
    pub(crate) free: Vec<u64>,
}

/// How a window stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What the request takes.
    pub(crate) cost: u64,
    /// What was left before.
    pub(crate) left: u64,
    /// In how many milliseconds there is room for the request: 0 now, none never.
    pub(crate) wait_ms: Option<u64>,
    /// In how many milliseconds all of it is free, if nothing more is taken.
    pub(crate) reset_ms: u64,
}

/// What was taken of a window.
#[derive(Debug, Clone)]
pub(crate) struct Taken<'a> {
    pub(crate) bucket: &'a str,
    pub(crate) window_ms: u64,
    /// When, by the backend's own clock.
    pub(crate) at_ms: u64,
    /// Nobody else was told of it when it was taken.
    pub(crate) is_owed: bool,
}

/// What was taken in one process while nobody could be asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) bucket: String,
    pub(crate) window_ms: u64,
    /// When that was so, by this process's clock.
    pub(crate) at_ms: u64,
    /// How many twentieths of the window ago, and how much.
    pub(crate) slots: Vec<(u64, u64)>,
}

/// What another process changed in Redis.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) bucket: String,
    pub(crate) window_ms: u64,
    /// How many twentieths of the window ago that was taken.
    pub(crate) age: u64,
    /// By how much there is more of it.
    pub(crate) by: i64,
}

/// Where limits are counted; both keep the contract in `contract.rs`.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Decides, atomically: all is taken that was asked for, or nothing. None when it does not answer in
    /// time; then nobody knows, and what was taken ends as if it were used.
    async fn decide(&self, ask: &Ask) -> Option<Verdict>;

    /// Changes what was taken by so much; nothing happens when that is over already.
    async fn correct(&self, taken: &Taken<'_>, by: i64);

    /// Ends the leases of what was asked. Idempotent.
    async fn end(&self, ask: &Ask);
}
