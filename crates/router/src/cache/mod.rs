//! Answers that are given again for the same call, at no cost. Off unless configured.
//!
//! Only what a model said whole is kept: no errors, no streams that broke or were given up, and
//! nothing of the last resort.

mod config;
#[cfg(test)]
mod contract;
mod entry;
mod key;
mod memory;
mod redis;
mod semantic;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use proto::router::{Grounding, Kept, Receipt};
use runtime::metrics::Metrics;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use types::{Caching, CallContext, Clock as _, Privacy, SystemClock};

pub use config::{CacheConfig, CacheMode, SemanticConfig};
pub(crate) use entry::Entry;
use key::Key;
use memory::Memory;
use redis::Redis;
pub(crate) use semantic::Question;
use semantic::Semantic;

use crate::catalog::{Candidate, Catalog};
use crate::request::ChatRequest;
use redis_link::Link;

/// Where entries are.
#[async_trait]
trait Store: Send + Sync {
    /// Returns what is kept; nothing also when the store cannot be asked in time.
    async fn find(&self, key: &Key) -> Option<Bytes>;

    /// Keeps an entry, unless there is no room or the store cannot be reached.
    async fn keep(&self, key: Key, entry: Bytes);
}

/// Kept answers. Clones share them.
#[derive(Clone)]
pub(crate) struct Cache(Arc<Inner>);

struct Inner {
    config: CacheConfig,
    memory: Memory,
    redis: Option<Redis>,
    semantic: Option<Arc<Semantic>>,
    hits: Counter,
    nearest: Counter,
    misses: Counter,
}

impl Inner {
    /// Returns Redis, if answers of this privacy may be sent there.
    fn redis(&self, privacy: Privacy) -> Option<&Redis> {
        self.redis.as_ref().filter(|redis| privacy == Privacy::Public || redis.is_local())
    }
}

/// Whether an answer comes whole. A stream is given again as a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Whole,
    Pieces,
}

impl Form {
    /// Returns the name of what is kept in this form of a scope.
    fn key(self, scope: &Sha256) -> Key {
        let form: &[u8] = match self {
            Self::Whole => b"whole",
            Self::Pieces => b"pieces",
        };
        scope.clone().chain_update(form).finalize().into()
    }
}

impl Cache {
    /// Opens what the configuration says; nothing when that is off.
    pub(crate) fn open(
        config: &CacheConfig,
        link: Option<Arc<Link>>,
        metrics: &Metrics,
    ) -> Option<Self> {
        if config.is_off() {
            return None;
        }
        let looked = Family::<[(&str, &str); 1], Counter>::default();
        let looked = metrics.register("baton_cache", "Calls by what the cache had", looked);
        let counter = |outcome| looked.get_or_create(&[("outcome", outcome)]).clone();
        let ttl = Duration::from_millis(config.ttl_ms);
        let memory = Memory::new(config.max_bytes, ttl);
        let redis = link.map(|link| Redis::new(link, ttl, config.max_entry_bytes));
        let semantic = Semantic::open(&config.semantic, ttl);
        let (hits, nearest, misses) = (counter("hit"), counter("semantic"), counter("miss"));
        let config = config.clone();
        Some(Self(Arc::new(Inner { config, memory, redis, semantic, hits, nearest, misses })))
    }

    /// Returns where the answer to a call is, or will be; nowhere when none is kept of it.
    pub(crate) fn place(
        &self,
        context: &CallContext,
        request: &ChatRequest,
        groundings: &[Grounding],
        candidates: &[Arc<Candidate>],
        catalog: &Arc<Catalog>,
    ) -> Option<Place> {
        match (self.0.config.mode(&request.model), context.caching) {
            (CacheMode::Off, _) | (_, Caching::Never) => return None,
            (CacheMode::Asked, Caching::AsConfigured) => return None,
            (CacheMode::Asked, Caching::Asked) | (CacheMode::Always, _) => {}
        }
        let scope = |body: &Map<String, Value>| {
            let names = candidates.iter().map(|one| (&*one.provider_name, &*one.model.name));
            key::scope(context, request.dialect, body, groundings, names)
        };
        let semantic = self.0.semantic.as_ref();
        let question = semantic.and_then(|semantic| semantic.question(request, catalog, scope));
        let (cache, scope) = (self.clone(), scope(request.body()?));
        Some(Place { cache, scope, privacy: context.privacy, question })
    }
}

/// Where the answer to one call is kept.
pub(crate) struct Place {
    cache: Cache,
    scope: Sha256,
    privacy: Privacy,
    /// What it asks, if the answer of the same in other words will do.
    question: Option<Arc<Question>>,
}

impl Place {
    /// Returns the answer that is kept of the same call, if any.
    pub(crate) async fn find(&self, form: Form) -> Option<Entry> {
        self.read(form.key(&self.scope)).await
    }

    /// Returns its question, if the answer of the same in other words will do.
    pub(crate) fn question(&self) -> Option<&Arc<Question>> {
        self.question.as_ref()
    }

    /// Returns the answer that is kept of the nearest question, if any is near enough.
    pub(crate) async fn find_nearest(&self, form: Form) -> Option<Entry> {
        let (key, similarity) = self.question.as_ref()?.nearest(form)?;
        let entry = self.read(key).await?;
        let receipt = Receipt { kept: Kept::Semantic.into(), similarity, ..entry.receipt };
        Some(Entry { receipt, ..entry })
    }

    /// Counts what was found.
    pub(crate) fn count(&self, found: Option<&Entry>) {
        let cache = &*self.cache.0;
        match found.map(|entry| entry.receipt.kept()) {
            None => cache.misses.inc(),
            Some(Kept::Semantic) => cache.nearest.inc(),
            Some(_) => cache.hits.inc(),
        };
    }

    async fn read(&self, key: Key) -> Option<Entry> {
        let (cache, now) = (&*self.cache.0, SystemClock.now_ms());
        let mut entry = cache.memory.find(&key).await.and_then(|bytes| Entry::read(bytes, now));
        if let (None, Some(redis)) = (&entry, cache.redis(self.privacy))
            && let Some(bytes) = redis.find(&key).await
        {
            entry = Entry::read(bytes.clone(), now);
            if entry.is_some() {
                cache.memory.keep(key, bytes).await;
            }
        }
        entry
    }

    /// Begins to note an answer that may be kept.
    pub(crate) fn record(&self, form: Form) -> Recording {
        let room = Some(self.cache.0.config.max_entry_bytes);
        let (cache, key, privacy) = (self.cache.clone(), form.key(&self.scope), self.privacy);
        let question = self.question.clone().map(|question| (question, form));
        Recording { cache, key, privacy, question, chunks: Vec::new(), room }
    }
}

/// An answer on its way to the client, noted as it goes. Dropped before it is kept, it is forgotten.
pub(crate) struct Recording {
    cache: Cache,
    key: Key,
    privacy: Privacy,
    question: Option<(Arc<Question>, Form)>,
    chunks: Vec<Bytes>,
    /// How many bytes it may have yet; nothing when it was too long.
    room: Option<usize>,
}

impl Recording {
    /// Notes a chunk.
    pub(crate) fn push(&mut self, chunk: &Bytes) {
        // A chunk is not free, however short.
        self.room = self.room.and_then(|room| room.checked_sub(chunk.len() + 8));
        match self.room {
            Some(_) => self.chunks.push(chunk.clone()),
            None => self.chunks = Vec::new(),
        }
    }

    /// Keeps the answer, which is whole, unless it is too long.
    pub(crate) async fn keep(self, receipt: &Receipt) {
        if self.room.is_none() {
            return;
        }
        let receipt = Receipt {
            provider: receipt.provider.clone(),
            model: receipt.model.clone(),
            tier: receipt.tier,
            kept: Kept::Hit.into(),
            ..Receipt::default()
        };
        let ttl = i64::try_from(self.cache.0.config.ttl_ms).unwrap_or(i64::MAX);
        let until = SystemClock.now_ms().saturating_add(ttl);
        let entry = Entry { receipt, chunks: self.chunks }.to_bytes(until);
        self.cache.0.memory.keep(self.key, entry.clone()).await;
        if let Some((question, form)) = &self.question {
            question.keep(*form, self.key, until);
        }
        if self.cache.0.redis(self.privacy).is_some() {
            // Nobody waits for it.
            tokio::spawn(async move {
                if let Some(redis) = self.cache.0.redis(self.privacy) {
                    redis.keep(self.key, entry).await;
                }
            });
        }
    }
}
