//! Responses that are kept, so that later calls can continue them.

mod config;
mod postgres;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use types::{Clock, Privacy, TenantId};

pub use config::Responses;
pub use postgres::Postgres;
pub use sqlite::Sqlite;

use crate::Error;

/// A response and what it answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its id, such as `resp_…`.
    pub id: String,
    /// The response that it continues, if any.
    pub previous: Option<String>,
    /// Of the call that it answered.
    pub privacy: Privacy,
    /// The items that it answered: a list in JSON.
    pub input: String,
    /// The response as its client got it, in JSON.
    pub response: String,
}

impl Stored {
    /// Returns how much it counts against its tenant's share.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (self.input.len() + self.response.len()) as u64
    }
}

/// A response's place in its conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its id.
    pub id: String,
    /// The response that it continues, if any.
    pub previous: Option<String>,
    /// Of the call that it answered.
    pub privacy: Privacy,
    /// As [`Stored::bytes`].
    pub bytes: u64,
}

/// For how long responses are kept, and how much of them.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long a response is kept that nothing continues.
    pub lifetime: Duration,
    /// How many bytes a tenant may keep.
    pub tenant_bytes: u64,
}

/// Responses of tenants; every implementation passes `tests/suite.rs`.
///
/// A tenant sees its own alone. What has expired is gone at once, swept or not.
#[async_trait]
pub trait Store: Send + Sync {
    /// Keeps a response. What it continues is kept as long as it, give or take a day: a conversation
    /// that goes on does not lose its beginning.
    ///
    /// Atomic; once this returns, the response survives the process.
    ///
    /// # Errors
    /// [`Error::Full`] if the tenant would keep too much, [`Error::Store`] if the store fails.
    async fn keep(&self, tenant: &TenantId, response: &Stored) -> Result<(), Error>;

    /// Returns a response's place and those before it, newest first, at most `most`; fewer where one
    /// is not kept.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    async fn turns(&self, tenant: &TenantId, id: &str, most: u32) -> Result<Vec<Turn>, Error>;

    /// Returns those of the responses that are kept, in any order.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    async fn read(&self, tenant: &TenantId, ids: &[String]) -> Result<Vec<Stored>, Error>;

    /// Removes a response; tells whether it was kept.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    async fn delete(&self, tenant: &TenantId, id: &str) -> Result<bool, Error>;

    /// Removes what has expired, and returns how many that were. Several may sweep at once.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    async fn expire(&self) -> Result<u64, Error>;
}

/// Opens the store that the configuration names, and sweeps it as long as it lives; none when the
/// address is empty.
pub(crate) async fn open(
    config: &Responses,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<Option<Arc<dyn Store>>> {
    let (address, terms) = (config.store.expose_secret(), config.terms());
    let opened: anyhow::Result<Arc<dyn Store>> = match address.split_once(':') {
        _ if address.is_empty() => return Ok(None),
        Some(("sqlite", path)) => Sqlite::open(path, terms, clock).await.map(|s| Arc::new(s) as _),
        Some(("postgres" | "postgresql", _)) => {
            Postgres::open(address, config.connections, terms, clock)
                .await
                .map(|s| Arc::new(s) as _)
        }
        _ => Err(anyhow::anyhow!("neither sqlite:PATH nor postgres://USER:PASSWORD@HOST/DATABASE")),
    };
    let place = || format!("router.responses.store: {}", runtime::address::shown(address));
    let store = opened.with_context(place)?;
    tokio::spawn(sweep(Arc::downgrade(&store), Duration::from_millis(config.sweep_ms)));
    Ok(Some(store))
}

/// Removes what has expired until the service is gone.
async fn sweep(store: std::sync::Weak<dyn Store>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(store) = store.upgrade() else { return };
        match store.expire().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "expired responses were removed"),
            Err(error) => tracing::warn!(%error, "expired responses were not swept"),
        }
    }
}

/// How much later an expiry must be for those before it to be moved: not at every turn.
const SLACK_MS: i64 = 24 * 3_600_000;

/// How many responses one transaction of the sweeper removes.
const SWEPT: u32 = 500;

/// Returns when what is kept now expires.
fn expiry(now_ms: i64, terms: Terms) -> i64 {
    now_ms.saturating_add(i64::try_from(terms.lifetime.as_millis()).unwrap_or(i64::MAX))
}

fn counted(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Reads a row of `id, previous, private, bytes`.
fn turn((id, previous, private, bytes): (String, Option<String>, bool, i64)) -> Turn {
    Turn {
        id,
        previous,
        privacy: privacy(private),
        bytes: u64::try_from(bytes).unwrap_or_default(),
    }
}

/// Reads a row of `id, previous, private, input, response`.
fn stored(
    (id, previous, private, input, response): (String, Option<String>, bool, String, String),
) -> Stored {
    Stored { id, previous, privacy: privacy(private), input, response }
}

fn privacy(is_private: bool) -> Privacy {
    match is_private {
        true => Privacy::Private,
        false => Privacy::Public,
    }
}
