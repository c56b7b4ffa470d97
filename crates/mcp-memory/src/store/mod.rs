//! Where graphs lie: in one SQLite file, or in PostgreSQL for any number of replicas.

mod postgres;
mod rules;
mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use types::{Clock, TenantId};

pub use postgres::Postgres;
pub use rules::Rules;
pub use sqlite::Sqlite;

use crate::graph::{Change, Changed, Page, Query};
use crate::{Config, Error};

/// Graphs of tenants; every implementation passes `tests/suite/contract.rs`.
///
/// A tenant sees its own alone. No entity is there twice, no observation of it, and no relation; a
/// relation has both its ends.
#[async_trait]
pub trait Store: Send + Sync {
    /// Changes a tenant's graph: all of it, or nothing.
    ///
    /// Atomic, one after the other; once this returns, the change survives the process.
    ///
    /// # Errors
    /// [`Error::Missing`] if an entity is wanted that is not there, [`Error::Invalid`] for what cannot
    /// be stored, [`Error::Store`] if the store fails.
    async fn change(&self, tenant: &TenantId, change: &Change) -> Result<Changed, Error>;

    /// Reads a part of a tenant's graph, as it was at one moment.
    ///
    /// # Errors
    /// [`Error::TooMuch`] if it is more than an answer may have and no limit was given,
    /// [`Error::Sealed`] if a key is missing, [`Error::Store`] if the store fails.
    async fn read(&self, tenant: &TenantId, query: &Query) -> Result<Page, Error>;

    /// Deletes what nobody has changed for as long as its type is kept, removes what was deleted for
    /// good when its time is over, and returns how many entities that were.
    ///
    /// # Errors
    /// [`Error::Store`] if the store fails.
    async fn sweep(&self) -> Result<u64, Error>;

    /// Seals with the first key what lies otherwise, and returns how many contents that were.
    ///
    /// # Errors
    /// [`Error::Sealed`] if a key is missing, [`Error::Store`] if the store fails.
    async fn reseal(&self) -> Result<u64, Error>;
}

/// Opens the store that the configuration names, with every content sealed by the first key.
pub(crate) async fn open(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<dyn Store>> {
    let rules = Rules::new(config, clock)?;
    let address = config.store.expose_secret();
    let opened: anyhow::Result<Arc<dyn Store>> = match address.split_once(':') {
        Some(("sqlite", path)) => Sqlite::open(path, rules).await.map(|store| Arc::new(store) as _),
        Some(("postgres" | "postgresql", _)) => {
            let store = Postgres::open(address, config.connections, rules).await;
            store.map(|store| Arc::new(store) as _)
        }
        _ => Err(anyhow::anyhow!("neither sqlite:PATH nor postgres://USER:PASSWORD@HOST/DATABASE")),
    };
    let place = || format!("mcp_memory.store: {}", runtime::address::shown(address));
    let store = opened.with_context(place)?;
    match store.reseal().await? {
        0 => {}
        count => tracing::info!(count, "contents were sealed with the first key"),
    }
    Ok(store)
}

/// Removes what is too old until the server is gone.
pub(crate) async fn sweep(store: std::sync::Weak<dyn Store>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(store) = store.upgrade() else { return };
        match store.sweep().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "entities that were too old were removed"),
            Err(error) => tracing::warn!(%error, "what is too old was not removed"),
        }
    }
}
