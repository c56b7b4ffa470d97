//! Answers in Redis, for every replica.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use redis_link::fred::prelude::{Expiration, KeysInterface as _};

use super::Store;
use super::key::Key;
use redis_link::Link;

/// Entries for as long as Redis has room for them.
pub(super) struct Redis {
    link: Arc<Link>,
    ttl: Duration,
    max_entry_bytes: usize,
}

impl Redis {
    pub(super) fn new(link: Arc<Link>, ttl: Duration, max_entry_bytes: usize) -> Self {
        Self { link, ttl, max_entry_bytes }
    }

    /// Returns whether what is kept there stays here.
    pub(super) fn is_local(&self) -> bool {
        self.link.is_local()
    }
}

#[async_trait]
impl Store for Redis {
    async fn find(&self, key: &Key) -> Option<Bytes> {
        let entry = self.link.ask(self.link.client().get::<Option<Bytes>, _>(name(key))).await??;
        // Whoever else writes there.
        (entry.len() <= self.max_entry_bytes.saturating_mul(2)).then_some(entry)
    }

    async fn keep(&self, key: Key, entry: Bytes) {
        let ttl = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX);
        let (client, expires) = (self.link.client(), Some(Expiration::PX(ttl.max(1))));
        self.link.ask(client.set::<(), _, _>(name(&key), entry, expires, None, false)).await;
    }
}

fn name(key: &Key) -> String {
    use std::fmt::Write as _;
    key.iter().fold("baton:cache:".to_owned(), |mut name, byte| {
        // Writing into a String cannot fail.
        let _ = write!(name, "{byte:02x}");
        name
    })
}
