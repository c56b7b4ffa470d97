//! Pins and calls in one SQLite file.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use types::TenantId;

use super::{Call, Decider, Known, Pin, Seen, Store};
use crate::Error;

#[allow(clippy::duplicate_mod, reason = "the same statements, of another database")]
#[path = "statements.rs"]
mod statements;

type Db = sqlx::Sqlite;

/// How long a change waits for those of other processes.
const BUSY: Duration = Duration::from_secs(5);

/// Pins and calls in one SQLite file (WAL): kill -9 loses nothing that was acknowledged.
#[derive(Debug)]
pub struct Sqlite {
    pool: SqlitePool,
}

impl Sqlite {
    /// Opens the store at `path`, made when missing; `:memory:` lies nowhere and ends with it.
    ///
    /// # Errors
    /// If the file cannot be opened or its migrations fail.
    pub async fn open(path: impl AsRef<Path>) -> anyhow::Result<Self> {
        let path = path.as_ref();
        let is_file = path != Path::new(":memory:");
        if let Some(directory) = path.parent().filter(|_| is_file) {
            tokio::fs::create_dir_all(directory).await?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY);
        // One connection: SQLite has one writer, and a queue here is fairer than its busy timeout. What
        // lies in memory ends with it, so it is never given up.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self { pool })
    }

    /// Begins with the right to write: who read first would be refused when another wrote meanwhile.
    async fn begin(&self) -> Result<sqlx::Transaction<'static, Db>, sqlx::Error> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn revision(&self) -> Result<i64, Error> {
        statements::revision(&self.pool).await
    }

    async fn known(&self) -> Result<Vec<Known>, Error> {
        statements::known(&self.pool).await
    }

    async fn see(&self, now_ms: i64, server: &str, seen: &[Seen]) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        statements::see(&mut tx, now_ms, server, seen).await?;
        Ok(tx.commit().await?)
    }

    async fn pins(&self, server: Option<&str>, tool: Option<&str>) -> Result<Vec<Pin>, Error> {
        statements::pins(&self.pool, server, tool).await
    }

    async fn decide(&self, now_ms: i64, pin: &Known, by: &Decider) -> Result<bool, Error> {
        let mut tx = self.begin().await?;
        let known = statements::decide(&mut tx, now_ms, pin, by).await?;
        if known {
            tx.commit().await?;
        }
        Ok(known)
    }

    async fn record(&self, calls: &[Call]) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        // As many as one statement has room for values.
        for some in calls.chunks(500) {
            statements::record(&mut tx, some).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn calls(
        &self,
        tenant: &TenantId,
        before: Option<i64>,
        most: u32,
    ) -> Result<Vec<(i64, Call)>, Error> {
        statements::calls(&self.pool, tenant, before, most).await
    }

    async fn forget(&self, until_ms: i64) -> Result<u64, Error> {
        statements::forget(&self.pool, until_ms).await
    }

    async fn secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, Error> {
        statements::secret(&self.pool, name, fresh).await
    }
}
