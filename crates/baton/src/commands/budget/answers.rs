//! What a running system answers about money, as far as it is shown.

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use types::NanoUsd;

/// An amount of USD, read without passing through a float.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usd(pub(super) NanoUsd);

impl<'de> Deserialize<'de> for Usd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        text.get().parse().map(Self).map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct State {
    pub(super) id: String,
    pub(super) period: String,
    pub(super) limit: Option<Usd>,
    pub(super) current_spend: Usd,
    pub(super) held: Usd,
    pub(super) remaining: Option<Usd>,
    pub(super) utilization: Option<f64>,
    pub(super) status: String,
    pub(super) projected_spend: Option<Usd>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Spend {
    pub(super) states: Vec<State>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Spenders {
    pub(super) spenders: Vec<State>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Utilization {
    pub(super) counts: Counts,
    pub(super) scopes: Vec<State>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    ok: u64,
    warning: u64,
    critical: u64,
    exceeded: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ok, warning, critical, exceeded } = self;
        writeln!(f, "{exceeded} exceeded, {critical} critical, {warning} warning, {ok} ok")
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct History {
    pub(super) entries: Vec<Line>,
    pub(super) next: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) number: i64,
    pub(super) kind: String,
    pub(super) spent_usd: Usd,
    pub(super) held_usd: Usd,
    pub(super) scopes: Vec<Named>,
    pub(super) at_ms: i64,
    pub(super) reason: Option<String>,
    pub(super) author: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    pub(super) scope: String,
    pub(super) id: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Verified {
    pub(super) consistent: bool,
    differences: Vec<String>,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.consistent {
            return writeln!(f, "what is spent and held is the sum of the history");
        }
        self.differences.iter().try_for_each(|difference| writeln!(f, "{difference}"))
    }
}
