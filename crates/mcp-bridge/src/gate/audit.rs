//! One row for every call, written behind the calls by one task.
//!
//! A call puts its row into a bounded queue and goes on; what is in the queue is written in one
//! transaction, as often as there is something. Arguments are kept as a hash under a key of the store:
//! a plain one would tell whoever reads the rows what was asked, where there is little to guess.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use types::{CallContext, Clock};

use super::canonical::{Digest, canonical};
use super::metrics::Counts;
use crate::Error;
use crate::store::{Call, Store};

/// How many rows are written at once.
const BATCH: usize = 500;

/// How long a store that failed is left alone.
const PAUSE: Duration = Duration::from_millis(500);

/// How often old rows are looked for.
const SWEEP: Duration = Duration::from_secs(600);

const DAY_MS: i64 = 24 * 3_600_000;

/// What happens to calls while their rows cannot be written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutStore {
    /// They go on; rows wait in the queue, and those that find it full are lost and counted.
    #[default]
    Lose,
    /// They are refused as soon as a row was not written, until one is again.
    Refuse,
}

/// How calls are audited.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auditing {
    /// What happens to calls while their rows cannot be written.
    pub without_store: WithoutStore,
    /// How many rows wait at most to be written.
    pub queue: usize,
    /// For how many days a row is kept; 0 is for ever.
    pub keep_days: u32,
}

impl Default for Auditing {
    fn default() -> Self {
        Self { without_store: WithoutStore::Lose, queue: 10_000, keep_days: 90 }
    }
}

enum Message {
    Row(Box<Call>),
    /// Everything before it is to be written, or given up.
    Flush(oneshot::Sender<()>),
}

/// Where rows go.
pub(crate) struct Audit {
    rows: mpsc::Sender<Message>,
    key: hmac::Key,
    failing: Arc<AtomicBool>,
    without_store: WithoutStore,
    counts: Counts,
}

impl Audit {
    /// Starts the task that writes; it ends with what is returned.
    ///
    /// # Errors
    /// If the store fails.
    pub(crate) async fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        config: &Auditing,
        counts: Counts,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(config.queue > 0, "mcp_bridge.audit.queue: 0 is too few");
        let mut fresh = [0; 32];
        ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut fresh)
            .map_err(|_| anyhow::anyhow!("the system gives no random bytes"))?;
        let secret = store.secret("arguments", &fresh).await?;
        let (rows, waiting) = mpsc::channel(config.queue);
        let failing = Arc::new(AtomicBool::new(false));
        tokio::spawn(write(Arc::clone(&store), waiting, Arc::clone(&failing)));
        if config.keep_days > 0 {
            let keep_ms = i64::from(config.keep_days) * DAY_MS;
            tokio::spawn(sweep(Arc::downgrade(&store), clock, keep_ms, rows.downgrade()));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Ok(Self { rows, key, failing, without_store: config.without_store, counts })
    }

    /// Returns the keyed hash of a tenant's arguments: the same for the same, to this store alone.
    pub(crate) fn hash(&self, context: &CallContext, arguments: &Value) -> Digest {
        let text = format!("{}\0{}", context.tenant, canonical(arguments));
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hmac::sign(&self.key, text.as_bytes()).as_ref());
        Digest::from(bytes)
    }

    /// Tells whether a call may go out, whose row may not be written.
    ///
    /// # Errors
    /// [`Error::Unaudited`] if it may not.
    pub(crate) fn ready(&self) -> Result<(), Error> {
        let behind = self.failing.load(Ordering::Relaxed) || self.rows.capacity() == 0;
        match behind && self.without_store == WithoutStore::Refuse {
            true => Err(Error::Unaudited),
            false => Ok(()),
        }
    }

    /// Has a row written, soon.
    pub(crate) fn keep(&self, call: Call) {
        if self.rows.try_send(Message::Row(Box::new(call))).is_err() {
            self.counts.lost();
            tracing::error!("a call's row of the audit was lost: the queue is full");
        }
    }

    /// Waits until what was kept until now is written, or cannot be.
    pub(crate) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        if self.rows.send(Message::Flush(done)).await.is_ok() {
            let _ = written.await;
        }
    }
}

async fn write(
    store: Arc<dyn Store>,
    mut waiting: mpsc::Receiver<Message>,
    failing: Arc<AtomicBool>,
) {
    let (mut messages, mut rows) = (Vec::new(), Vec::new());
    while waiting.recv_many(&mut messages, BATCH).await > 0 {
        let mut flushed = Vec::new();
        for message in messages.drain(..) {
            match message {
                Message::Row(row) => rows.push(*row),
                Message::Flush(done) => flushed.push(done),
            }
        }
        while !rows.is_empty() {
            match store.record(&rows).await {
                Ok(()) => {
                    failing.store(false, Ordering::Relaxed);
                    rows.clear();
                }
                Err(error) => {
                    failing.store(true, Ordering::Relaxed);
                    tracing::error!(%error, rows = rows.len(), "the audit of calls is not written");
                    // Whoever ends the process does not wait for a store that is down.
                    flushed.clear();
                    tokio::time::sleep(PAUSE).await;
                    if waiting.is_closed() {
                        break;
                    }
                }
            }
        }
        for done in flushed {
            let _ = done.send(());
        }
    }
}

async fn sweep(
    store: std::sync::Weak<dyn Store>,
    clock: Arc<dyn Clock>,
    keep_ms: i64,
    alive: mpsc::WeakSender<Message>,
) {
    while alive.upgrade().is_some() {
        let Some(store) = store.upgrade() else { return };
        match store.forget(clock.now_ms().saturating_sub(keep_ms)).await {
            Ok(0) => {}
            // There may be more.
            Ok(_) => continue,
            Err(error) => tracing::warn!(%error, "old rows of the audit were not removed"),
        }
        drop(store);
        tokio::time::sleep(SWEEP).await;
    }
}
