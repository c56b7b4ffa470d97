//! Who works on a PostgreSQL database: any number of retrievers that share an index, or one that has its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::sync::Mutex;

use super::session::within;
use super::{AGAIN, PATIENCE};
use crate::Error;

/// How long one that is about to end is waited for.
const LEAVING: Duration = Duration::from_secs(3);

const NAME: &str = "retriever presence";

/// A retriever's lock on the database, held by a connection of its own.
pub(crate) struct Presence {
    options: PgConnectOptions,
    shared: bool,
    held: Mutex<PgConnection>,
    /// Somebody else took the database while this connection was gone.
    lost: AtomicBool,
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold a password.
        f.debug_struct("Presence").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Presence {
    /// Takes the database, `shared` with others who share it, or for this retriever alone.
    ///
    /// # Errors
    /// If others have it otherwise, or it cannot be reached.
    pub(super) async fn take(options: PgConnectOptions, shared: bool) -> anyhow::Result<Self> {
        let started = Instant::now();
        let held = loop {
            match hold(&options, shared).await? {
                Some(held) => break held,
                None if started.elapsed() < LEAVING => tokio::time::sleep(AGAIN).await,
                None if shared => anyhow::bail!(
                    "a retriever without Qdrant has this database for itself: configure retriever.qdrant for it too"
                ),
                None => anyhow::bail!(
                    "another retriever has this database, and what either of them stores the other's index, which is in \
                     its memory, would not hear of: configure retriever.qdrant for each, or run one"
                ),
            }
        };
        Ok(Self { options, shared, held: Mutex::new(held), lost: AtomicBool::new(false) })
    }

    /// # Errors
    /// [`Error::Taken`] if somebody else has the database by now.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.lost.load(Ordering::Relaxed) {
            true => Err(Error::Taken),
            false => Ok(()),
        }
    }

    /// Takes the database again if the connection that held it is gone.
    ///
    /// # Errors
    /// [`Error::Taken`] if somebody else has it by now, [`Error::Store`] while it is away.
    pub(super) async fn keep(&self) -> Result<(), Error> {
        self.check()?;
        let mut held = self.held.lock().await;
        if within(PATIENCE, held.ping()).await.is_ok() {
            return Ok(());
        }
        match within(PATIENCE, hold(&self.options, self.shared)).await? {
            Some(again) => *held = again,
            None => self.lost.store(true, Ordering::Relaxed),
        }
        self.check()
    }
}

async fn hold(options: &PgConnectOptions, shared: bool) -> sqlx::Result<Option<PgConnection>> {
    let mut connection = PgConnection::connect_with(options).await?;
    let take = match shared {
        true => "SELECT pg_try_advisory_lock_shared(hashtextextended($1, 0))",
        false => "SELECT pg_try_advisory_lock(hashtextextended($1, 0))",
    };
    let row = sqlx::query(take).bind(NAME).fetch_one(&mut connection).await?;
    Ok(row.try_get::<bool, _>(0)?.then_some(connection))
}
