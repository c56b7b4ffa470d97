//! Graphs in one SQLite file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use types::TenantId;

use super::{Rules, Store};
use crate::Error;
use crate::graph::{Change, Changed, Page, Query};

#[allow(clippy::duplicate_mod, reason = "the same statements, of another database")]
#[path = "statements.rs"]
mod statements;

type Db = sqlx::Sqlite;

/// How long a change waits for those of other processes.
const BUSY: Duration = Duration::from_secs(10);

/// Graphs in one SQLite file (WAL): kill -9 loses nothing that was acknowledged.
#[derive(Debug)]
pub struct Sqlite {
    pool: SqlitePool,
    rules: Rules,
}

impl Sqlite {
    /// Opens the store at `path`, made when missing.
    ///
    /// # Errors
    /// If the file cannot be opened or its migrations fail.
    pub async fn open(path: impl AsRef<Path>, rules: Rules) -> anyhow::Result<Self> {
        let path = path.as_ref();
        if let Some(directory) = path.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        // Processes that start at once would each make the tables.
        let _alone = alone(path.with_added_extension("lock")).await?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY);
        // One connection: SQLite has one writer, and a queue here is fairer than its busy timeout.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self { pool, rules })
    }

    /// Begins with the right to write: who read first would be refused when another wrote meanwhile.
    async fn begin(&self) -> Result<sqlx::Transaction<'static, Db>, sqlx::Error> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }
}

/// Waits until this process has `file` for itself, as long as what is returned lives.
async fn alone(file: PathBuf) -> anyhow::Result<File> {
    let lock = move || {
        let file = File::create(file)?;
        file.lock().map(|()| file)
    };
    Ok(tokio::task::spawn_blocking(lock).await??)
}

#[async_trait]
impl Store for Sqlite {
    async fn change(&self, tenant: &TenantId, change: &Change) -> Result<Changed, Error> {
        change.check()?;
        let mut tx = self.begin().await?;
        let changed = statements::change(&mut tx, &self.rules, tenant.as_str(), change).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn read(&self, tenant: &TenantId, query: &Query) -> Result<Page, Error> {
        query.check(self.rules.max_items)?;
        let mut tx = self.pool.begin().await?;
        statements::read(&mut tx, &self.rules, tenant.as_str(), query).await
    }

    async fn sweep(&self) -> Result<u64, Error> {
        let mut count = 0;
        for tenant in statements::tenants(&self.pool).await? {
            let mut tx = self.begin().await?;
            count += statements::sweep(&mut tx, &self.rules, &tenant).await?;
            tx.commit().await?;
        }
        Ok(count)
    }

    async fn reseal(&self) -> Result<u64, Error> {
        let mut count = 0;
        for tenant in statements::tenants(&self.pool).await? {
            let mut tx = self.begin().await?;
            count += statements::reseal(&mut tx, &self.rules, &tenant).await?;
            tx.commit().await?;
        }
        Ok(count)
    }
}
