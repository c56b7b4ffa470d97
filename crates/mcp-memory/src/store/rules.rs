use std::collections::BTreeMap;
use std::sync::Arc;

use types::Clock;

use crate::Config;
use crate::keys::Keys;

const DAY_MS: i64 = 24 * 3_600_000;

/// What a store goes by: the time, keys, how long things are kept, and how much is read at once.
pub struct Rules {
    pub(crate) keys: Keys,
    pub(crate) max_items: usize,
    pub(crate) max_bytes: usize,
    clock: Arc<dyn Clock>,
    retention_days: BTreeMap<String, u32>,
    deleted_days: u32,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Rules {
    /// Reads the keys, and takes the rest as it is.
    ///
    /// # Errors
    /// If the file of keys cannot be read or has none.
    pub fn new(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let keys = config.key_file.as_deref().map(Keys::read).transpose()?.unwrap_or_default();
        Ok(Self {
            keys,
            max_items: config.max_items,
            max_bytes: config.max_bytes,
            clock,
            retention_days: config.retention_days.clone(),
            deleted_days: config.deleted_days,
        })
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Returns since when an entity of this type has to have been changed, if its type is not kept
    /// for ever.
    pub(crate) fn kept_since(&self, kind: &str) -> Option<i64> {
        let days = self.retention_days.get(kind).or_else(|| self.retention_days.get("*"))?;
        Some(self.now().saturating_sub(i64::from(*days) * DAY_MS))
    }

    /// Returns since when what is deleted can be restored.
    pub(crate) fn deleted_since(&self) -> i64 {
        self.now().saturating_sub(i64::from(self.deleted_days) * DAY_MS)
    }
}
