use serde::{Deserialize, Serialize};

/// What the budget service needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the ledger is: `sqlite:PATH`; made when missing.
    pub ledger: String,
    /// How often expired holds are swept, in milliseconds; they stop counting at once all the same.
    pub sweep_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { ledger: "sqlite:data/ledger.db".to_owned(), sweep_ms: 5_000 }
    }
}
