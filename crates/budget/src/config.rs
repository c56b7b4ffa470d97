use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use types::NanoUsd;

use crate::{Kind, Period, Rules, WebhookConfig};

/// What the budget service needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the ledger is: `sqlite:PATH`, made when missing, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE`; printed without its password.
    #[serde(serialize_with = "runtime::address::without_password")]
    pub ledger: SecretString,
    /// Where reports are read, such as a read replica of PostgreSQL; the ledger itself when absent.
    #[serde(serialize_with = "runtime::address::optional_without_password")]
    pub reports: Option<SecretString>,
    /// How many connections to PostgreSQL are held at most.
    pub connections: u32,
    /// How long a call waits for a connection, in milliseconds.
    pub acquire_ms: u64,
    /// How often expired holds are swept, in milliseconds; they stop counting at once all the same.
    pub sweep_ms: u64,
    /// The limits of scopes never seen before, in USD: `user = { daily = 5.0 }`.
    pub default_limits: BTreeMap<String, BTreeMap<String, f64>>,
    /// How many percent above a limit are let through, 0 to 5.
    pub grace_percent: u8,
    /// At how many percent of a limit somebody is told.
    pub alert_percents: Vec<u8>,
    /// Where that goes besides the log and the metrics.
    pub webhook: Option<WebhookConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ledger: "sqlite:data/ledger.db".into(),
            reports: None,
            connections: 16,
            acquire_ms: 2_000,
            sweep_ms: 5_000,
            default_limits: BTreeMap::new(),
            grace_percent: 0,
            alert_percents: vec![80, 90, 95],
            webhook: None,
        }
    }
}

impl Config {
    /// Returns the ledger's address without its password.
    pub(crate) fn shown(&self) -> String {
        runtime::address::shown(self.ledger.expose_secret())
    }

    /// # Errors
    /// If a limit is none, or a share is out of bounds.
    pub(crate) fn rules(&self) -> anyhow::Result<Rules> {
        ensure!(
            self.grace_percent <= 5,
            "budget.grace_percent: {} is not 0 to 5",
            self.grace_percent
        );
        let mut alerts = self.alert_percents.clone();
        alerts.sort_unstable();
        alerts.dedup();
        ensure!(
            alerts.iter().all(|percent| (1..=100).contains(percent)),
            "budget.alert_percents: {:?} are not 1 to 100",
            self.alert_percents
        );
        let mut defaults = BTreeMap::new();
        for (kind, limits) in &self.default_limits {
            for (period, usd) in limits {
                let place = || format!("budget.default_limits.{kind}.{period}");
                let limit = NanoUsd::from_usd(*usd).with_context(place)?;
                ensure!(limit >= NanoUsd::ZERO, "{}: {usd} is negative", place());
                let key: (Kind, Period) =
                    (kind.parse().with_context(place)?, period.parse().with_context(place)?);
                defaults.insert(key, limit);
            }
        }
        Ok(Rules { defaults, grace: self.grace_percent, alerts })
    }
}
