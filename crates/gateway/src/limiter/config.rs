//! What limits there are.

use std::collections::BTreeMap;

use anyhow::ensure;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// A day: no window is longer.
const LONGEST_S: u64 = 86_400;

/// Rate limits, and where they are counted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Where replicas count together: `redis://HOST:PORT/DATABASE` or `redis+unix:///PATH`. Without it
    /// each is on its own.
    #[serde(skip_serializing)]
    pub redis: Option<SecretString>,
    /// How long a request waits for Redis, in milliseconds.
    pub redis_wait_ms: u64,
    /// How many gateways there are at least: without Redis each admits its share of a limit.
    pub replicas: u64,
    /// For each user.
    pub user: Scope,
    /// For each key that has no limits of its own.
    pub key: Scope,
    /// For each client's address.
    pub address: Scope,
    /// For each address, of credentials that are none.
    pub failures: Scope,
}

/// How much there may be; 0 is not limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Requests in a window.
    pub requests: u64,
    /// How long the window is, in seconds.
    pub window_s: u64,
    /// Tokens in a minute.
    pub tokens_per_minute: u64,
    /// Requests at once.
    pub concurrency: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let hundred = Scope { requests: 100, ..Scope::default() };
        Self {
            redis: None,
            redis_wait_ms: 50,
            replicas: 1,
            user: hundred,
            key: Scope::default(),
            address: Scope::default(),
            failures: hundred,
        }
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self { requests: 0, window_s: 60, tokens_per_minute: 0, concurrency: 0 }
    }
}

impl LimitsConfig {
    /// Checks them, with those of routes.
    ///
    /// # Errors
    /// If a window is none, or a route is not served; the message names it.
    pub(crate) fn check(&self, routes: &BTreeMap<String, Scope>) -> anyhow::Result<()> {
        let own = [
            ("user", self.user),
            ("key", self.key),
            ("address", self.address),
            ("failures", self.failures),
        ];
        let own = own.map(|(name, scope)| (format!("gateway.limits.{name}"), scope));
        let of_routes = routes.iter();
        let of_routes =
            of_routes.map(|(route, scope)| (format!("gateway.endpoint_limits.{route:?}"), *scope));
        for (place, scope) in own.into_iter().chain(of_routes) {
            let window = scope.window_s;
            ensure!(
                (1..=LONGEST_S).contains(&window),
                "{place}.window_s: {window} is not 1 to {LONGEST_S}"
            );
        }
        ensure!((1..=10_000).contains(&self.replicas), "gateway.limits.replicas: 1 to 10000");
        for route in routes.keys() {
            ensure!(
                crate::auth::is_route(route),
                "gateway.endpoint_limits: there is no route {route:?}"
            );
        }
        Ok(())
    }
}

/// Returns the limits of routes that hold unless others are configured.
pub(crate) fn routes() -> BTreeMap<String, Scope> {
    let ten = Scope { requests: 10, ..Scope::default() };
    let searches = ["/api/search", "/api/v1/search", "/v1/vector_stores/{id}/search"];
    searches.map(|route| (route.to_owned(), ten)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_that_is_not_served_and_a_window_that_is_none_are_refused() {
        let limits = LimitsConfig::default();
        assert!(limits.check(&routes()).is_ok());
        let typo = BTreeMap::from([("/api/serach".to_owned(), Scope::default())]);
        assert!(limits.check(&typo).unwrap_err().to_string().contains("serach"));
        let user = Scope { window_s: 0, ..Scope::default() };
        let fault = LimitsConfig { user, ..limits }.check(&routes()).unwrap_err().to_string();
        assert_eq!(fault, "gateway.limits.user.window_s: 0 is not 1 to 86400");
    }
}
