//! Answers in this process's memory.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::Store;
use super::key::Key;

/// What an entry takes besides its bytes, about.
const OVERHEAD: usize = 256;

/// Entries up to a number of bytes; those that are asked for stay longest.
pub(super) struct Memory(moka::sync::Cache<Key, Bytes>);

impl Memory {
    pub(super) fn new(max_bytes: u64, ttl: Duration) -> Self {
        let weigh = |_: &Key, entry: &Bytes| {
            u32::try_from(entry.len().saturating_add(OVERHEAD)).unwrap_or(u32::MAX)
        };
        let entries = moka::sync::Cache::builder().max_capacity(max_bytes).weigher(weigh);
        Self(entries.time_to_live(ttl).build())
    }
}

#[async_trait]
impl Store for Memory {
    async fn find(&self, key: &Key) -> Option<Bytes> {
        self.0.get(key)
    }

    async fn keep(&self, key: Key, entry: Bytes) {
        self.0.insert(key, entry);
    }
}
