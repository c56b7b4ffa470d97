use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// What the budget service needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the ledger is: `sqlite:PATH`, made when missing, or
    /// `postgres://USER:PASSWORD@HOST/DATABASE`; printed without its password.
    #[serde(serialize_with = "runtime::address::without_password")]
    pub ledger: SecretString,
    /// How many connections to PostgreSQL are held at most.
    pub connections: u32,
    /// How often expired holds are swept, in milliseconds; they stop counting at once all the same.
    pub sweep_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let ledger = "sqlite:data/ledger.db".into();
        Self { ledger, connections: 16, sweep_ms: 5_000 }
    }
}

impl Config {
    /// Returns the ledger's address without its password.
    pub(crate) fn shown(&self) -> String {
        runtime::address::shown(self.ledger.expose_secret())
    }
}
