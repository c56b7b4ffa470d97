//! The ledger in one SQLite file.

mod checkpoint;
pub(crate) mod moves;
mod writer;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use types::{Clock, NanoUsd, ReservationId, TenantId, UserId};

use self::writer::Writer;
use crate::ledger::{Ledger, Reservation, Statement};
use crate::usage::{self, Audited, Cost, Group, Usage};
use crate::{Error, Period};

/// The ledger in one SQLite file (WAL): kill -9 loses nothing that was acknowledged.
pub struct Sqlite {
    writer: Arc<Writer>,
    /// For what may read long.
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the ledger at `path`, made when missing.
    ///
    /// # Errors
    /// If the file cannot be opened or its migrations fail.
    pub async fn open(path: impl AsRef<Path>, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let path = path.as_ref();
        if let Some(directory) = path.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let pool = SqlitePoolOptions::new()
            .max_connections(2)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        let writer = Arc::new(Writer::new(writing(path)?));
        tokio::spawn(checkpoint::keep(Arc::downgrade(&writer), path.to_owned()));
        Ok(Self { writer, pool, clock })
    }

    /// Writes with the time of the writing.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, i64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let clock = Arc::clone(&self.clock);
        self.writer.write(move |db| work(db, clock.now_ms())).await
    }
}

/// Opens the connection that writes: SQLite has one writer at a time.
fn writing(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "synchronous", "normal")?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "temp_store", "memory")?;
    db.pragma_update(None, "cache_size", -16 * 1024)?;
    Ok(db)
}

#[async_trait]
impl Ledger for Sqlite {
    async fn reserve(&self, wanted: &Reservation) -> Result<i64, Error> {
        let wanted = wanted.clone();
        self.write(move |db, now| moves::reserve(db, &wanted, now)).await
    }

    async fn settle(
        &self,
        tenant: &TenantId,
        id: &ReservationId,
        amount: NanoUsd,
    ) -> Result<(), Error> {
        let (tenant, id) = (tenant.clone(), id.clone());
        self.write(move |db, now| moves::settle(db, &tenant, &id, amount, now)).await
    }

    async fn release(
        &self,
        tenant: &TenantId,
        user: &UserId,
        id: &ReservationId,
    ) -> Result<(), Error> {
        let (tenant, user, id) = (tenant.clone(), user.clone(), id.clone());
        self.write(move |db, now| moves::release(db, &tenant, &user, &id, now)).await
    }

    async fn expire(&self) -> Result<u64, Error> {
        self.write(moves::expire).await
    }

    async fn set_limit(
        &self,
        tenant: &TenantId,
        user: &UserId,
        period: Period,
        limit: NanoUsd,
    ) -> Result<(), Error> {
        let (tenant, user) = (tenant.clone(), user.clone());
        self.write(move |db, _| moves::set_limit(db, &tenant, &user, period, limit)).await
    }

    async fn statement(
        &self,
        tenant: &TenantId,
        user: &UserId,
        period: Period,
    ) -> Result<Statement, Error> {
        let (tenant, user) = (tenant.clone(), user.clone());
        let read = move |db: &Connection, now| moves::read(db, &tenant, &user, &[period], now);
        let states = self.write(read).await?;
        states.into_iter().next().ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    async fn top_spenders(
        &self,
        tenant: &TenantId,
        period: Period,
        limit: u32,
    ) -> Result<Vec<Statement>, Error> {
        let tenant = tenant.clone();
        self.write(move |db, now| moves::top_spenders(db, &tenant, period, limit, now)).await
    }

    async fn record(&self, usages: &[Usage]) -> Result<(), Error> {
        let usages = usages.to_vec();
        self.write(move |db, now| usage::sqlite::record(db, &usages, now)).await
    }

    async fn costs(
        &self,
        tenant: &TenantId,
        groups: &[Group],
        time: (i64, i64),
    ) -> Result<Vec<Cost>, Error> {
        usage::sqlite::list(&self.pool, tenant, groups, time).await
    }

    async fn audited(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Audited>, Error> {
        usage::sqlite::audited(&self.pool, tenant, after, limit).await
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}
