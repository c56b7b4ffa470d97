use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Which answers are kept and given again, and for how long.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// For what `routes` does not name.
    pub mode: CacheMode,
    /// How long an answer is kept, in milliseconds.
    pub ttl_ms: u64,
    /// How many bytes are kept in memory.
    pub max_bytes: u64,
    /// The largest answer that is kept, in bytes.
    pub max_entry_bytes: usize,
    /// By what a request calls its `model`: a route or a model.
    pub routes: BTreeMap<String, CacheMode>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            mode: CacheMode::Off,
            ttl_ms: 3_600_000,
            max_bytes: 64 * 1024 * 1024,
            max_entry_bytes: 1024 * 1024,
            routes: BTreeMap::new(),
        }
    }
}

/// For which calls answers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// For none, whatever a call asks for.
    Off,
    /// For those that ask for it.
    Asked,
    /// For all but those that ask for none.
    Always,
}

impl CacheConfig {
    /// Returns whether there is nothing to keep.
    pub(crate) fn is_off(&self) -> bool {
        let off = |mode: &CacheMode| *mode == CacheMode::Off;
        off(&self.mode) && self.routes.values().all(off)
    }

    /// Returns the mode of what a request calls its `model`.
    pub(crate) fn mode(&self, model: &str) -> CacheMode {
        self.routes.get(model).copied().unwrap_or(self.mode)
    }
}
