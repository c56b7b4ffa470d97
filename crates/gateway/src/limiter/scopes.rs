//! Which limits a request is under.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use types::RequestId;

use super::gate::MOST;
use super::{Ask, Lease, Scope, Wanted, address, tokens};
use crate::Config;
use crate::auth::{Grant, Rates};

/// A limit's name for clients: of requests, of tokens, at once.
type Policies = [&'static str; 3];

const USER: Policies = ["user", "user-tokens", "user-concurrency"];
const KEY: Policies = ["key", "key-tokens", "key-concurrency"];
const ADDRESS: Policies = ["address", "address-tokens", "address-concurrency"];
const ROUTE: Policies = ["route", "route-tokens", "route-concurrency"];

/// Returns what a request takes; its tokens are estimated later.
pub(super) fn ask(config: &Config, grant: &Grant, address: Option<IpAddr>, route: &str) -> Ask {
    let mut ask = Ask::default();
    // No id holds a control character, so no two owners have a name in common.
    let owner = format!("{}\n{}", grant.tenant, grant.user);
    let mut add =
        |policies, owner: &str, rates: Rates| add(&mut ask, policies, owner, rates, route);
    add(USER, &owner, config.limits.user.into());
    if let Some(key) = &grant.key {
        let rates = grant.rates.or(config.limits.key.into());
        add(KEY, &format!("{}\n{key}", grant.tenant), rates);
    }
    if let Some(address) = address {
        add(ADDRESS, &address::network(address).to_string(), config.limits.address.into());
    }
    if let Some(scope) = config.endpoint_limits.get(route) {
        add(ROUTE, &format!("{route}\n{owner}"), (*scope).into());
    }
    if !ask.leases.is_empty() {
        ask.id = RequestId::generate().to_string();
    }
    ask
}

/// Returns what a credential takes that is none.
pub(super) fn failure(config: &Config, address: IpAddr) -> Ask {
    let mut ask = Ask::default();
    let rates =
        Rates { tokens_per_minute: None, concurrency: None, ..config.limits.failures.into() };
    let policies = ["failures", "", ""];
    add(&mut ask, policies, &address::network(address).to_string(), rates, "");
    ask
}

fn add(
    ask: &mut Ask,
    [requests, in_tokens, at_once]: Policies,
    owner: &str,
    rates: Rates,
    route: &str,
) {
    let owner = hash(owner);
    let window = |policy: &'static str, limit: u64, window_ms: u64, cost| Wanted {
        bucket: format!("{policy}:{window_ms}:{owner}"),
        limit: limit.min(MOST),
        window_ms,
        cost,
        policy,
    };
    if let Some(limit) = rates.requests {
        let window_ms = rates.window_ms.map_or(60_000, Into::into);
        ask.windows.push(window(requests, limit.into(), window_ms, 1));
    }
    if let Some(limit) = rates.tokens_per_minute.filter(|_| tokens::are_used(route)) {
        ask.windows.push(window(in_tokens, limit.into(), 60_000, 0));
    }
    if let Some(limit) = rates.concurrency {
        let bucket = format!("{at_once}:{owner}");
        ask.leases.push(Lease { bucket, limit: u64::from(limit).min(MOST), policy: at_once });
    }
}

/// Returns a name that tells nobody whose it is, and is short.
fn hash(owner: &str) -> String {
    let hash = Sha256::digest(owner.as_bytes());
    u128::from_be_bytes(std::array::from_fn(|at| hash[at])).to_string()
}

impl Wanted {
    /// Tells whether it is of tokens.
    pub(super) fn is_tokens(&self) -> bool {
        self.policy.ends_with("-tokens")
    }
}

impl From<Scope> for Rates {
    fn from(scope: Scope) -> Self {
        let count = std::num::NonZeroU64::new;
        Self {
            requests: count(scope.requests),
            window_ms: count(scope.window_s.saturating_mul(1000)),
            tokens_per_minute: count(scope.tokens_per_minute),
            concurrency: count(scope.concurrency),
        }
    }
}
