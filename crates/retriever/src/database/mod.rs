//! The database of documents: one SQLite file, or PostgreSQL for any number of replicas.
//!
//! Both understand the same statements, with `$1` for a value; where they differ, a [`Session`] has the word for it.

mod presence;
mod session;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use postgres_link::Pool;
use secrecy::ExposeSecret as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool, Postgres, Row as _, SqlitePool, Transaction};

use self::presence::Presence;
use self::session::{Connection, within};
pub(crate) use self::session::{Row, Session, Tx, locked, outcome, places, transaction};
use crate::{Config, Error};

/// So many read a SQLite file at once.
const READERS: u32 = 4;
/// How long one statement may take; PostgreSQL ends it, and the call fails, when it takes longer, …
const STATEMENT_MS: &str = "10000";
/// … and this long its answer is waited for: a server that froze says nothing.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a lock is waited for.
const LOCK: Duration = Duration::from_secs(60);
const LOCK_MS: &str = "60000";

/// A database.
#[derive(Debug)]
pub(crate) enum Database {
    Sqlite {
        /// One connection: SQLite has one writer, and a queue here is fairer than its busy timeout.
        writer: SqlitePool,
        /// Those that only read wait for no writer, nor for each other's large documents.
        readers: SqlitePool,
    },
    Postgres {
        pool: PgPool,
        /// Whoever holds a lock needs another connection to go on: here nobody waits for one who does.
        locks: PgPool,
        presence: Box<Presence>,
    },
}

impl Database {
    /// Opens the database that the configuration names, makes and migrates it. One that is not `shared` is nobody
    /// else's.
    ///
    /// # Errors
    /// If it cannot be opened, is of a later version, or is another's.
    pub(crate) async fn open(config: &Config, shared: bool) -> anyhow::Result<Self> {
        let address = config.database.expose_secret();
        let opened = match address.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Self::postgres(config, shared).await,
            Some(("sqlite", path)) => Self::sqlite(path.as_ref()).await,
            _ => Self::sqlite(address.as_ref()).await,
        };
        opened.with_context(|| format!("retriever.database: {}", runtime::address::shown(address)))
    }

    async fn sqlite(path: &Path) -> anyhow::Result<Self> {
        if let Some(directory) = path.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        let connect = async |count, options: SqliteConnectOptions| {
            let pool = SqlitePoolOptions::new().max_connections(count).test_before_acquire(false);
            pool.connect_with(options).await
        };
        let writer = connect(1, options.clone()).await?;
        sqlx::migrate!("migrations/sqlite").run(&writer).await?;
        let readers = connect(READERS, options.read_only(true)).await?;
        Ok(Self::Sqlite { writer, readers })
    }

    async fn postgres(config: &Config, shared: bool) -> anyhow::Result<Self> {
        let address = config.database.expose_secret();
        let options = postgres_link::options(address, "baton-retriever", &[])?;
        let acquire = Duration::from_millis(config.acquire_ms);
        let pool = |connections, timeout| {
            let options = options.clone().options([
                ("statement_timeout", timeout),
                // Whoever holds a lock may wait for an index.
                ("idle_in_transaction_session_timeout", "0"),
            ]);
            postgres_link::pool(options, Pool { connections, acquire })
        };
        let of_locks = config.connections / 2;
        let (locks, pool) =
            (pool(of_locks, LOCK_MS), pool(config.connections - of_locks, STATEMENT_MS));
        postgres_link::connected(&pool).await?;
        let presence = Box::new(Presence::take(options, shared).await?);
        let migrations = sqlx::migrate!("migrations/postgres");
        postgres_link::migrate(&pool, migrations, "retriever_migrations").await?;
        Ok(Self::Postgres { pool, locks, presence })
    }

    /// Tells whether others may share it.
    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    /// Returns a connection for those that only read.
    pub(crate) async fn read(&self) -> Result<Connection, Error> {
        Ok(match self {
            Self::Sqlite { readers, .. } => Session::Sqlite(readers.acquire().await?),
            Self::Postgres { pool, presence, .. } => {
                presence.check()?;
                Session::Postgres(pool.acquire().await?, PATIENCE)
            }
        })
    }

    /// Begins a transaction that ends with nothing done, unless it is committed.
    pub(crate) async fn begin(&self) -> Result<Tx, Error> {
        Ok(match self {
            Self::Sqlite { writer, .. } => Session::Sqlite(writer.begin().await?),
            Self::Postgres { pool, presence, .. } => {
                presence.check()?;
                Session::Postgres(within(PATIENCE, pool.begin()).await?, PATIENCE)
            }
        })
    }

    /// Waits until nobody in any process has the lock of this name, and takes it. Of SQLite there is one process, and
    /// nothing to take.
    ///
    /// # Errors
    /// [`Error::Store`] if it is not free within a minute.
    pub(crate) async fn lock(&self, name: &str) -> Result<Lock, Error> {
        let Self::Postgres { locks, presence, .. } = self else { return Ok(Lock(None)) };
        presence.check()?;
        let mut tx = within(PATIENCE, locks.begin()).await?;
        let take = sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))");
        within(LOCK, take.bind(name).execute(&mut *tx)).await?;
        Ok(Lock(Some(tx)))
    }

    /// As [`Self::lock`]; none if somebody has it.
    pub(crate) async fn try_lock(&self, name: &str) -> Result<Option<Lock>, Error> {
        let Self::Postgres { locks, presence, .. } = self else { return Ok(Some(Lock(None))) };
        presence.check()?;
        let mut tx = within(PATIENCE, locks.begin()).await?;
        let take = sqlx::query("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))");
        let taken = within(PATIENCE, take.bind(name).fetch_one(&mut *tx)).await?;
        Ok(taken.try_get::<bool, _>(0)?.then_some(Lock(Some(tx))))
    }

    /// Sees to it that nobody else takes the database for theirs alone.
    ///
    /// # Errors
    /// [`Error::Taken`] if somebody has; it is used no more. [`Error::Store`] while it is away.
    pub(crate) async fn keep(&self) -> Result<(), Error> {
        match self {
            Self::Sqlite { .. } => Ok(()),
            Self::Postgres { presence, .. } => presence.keep().await,
        }
    }
}

/// What nobody else has in any process until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(Option<Transaction<'static, Postgres>>);

impl Lock {
    /// Tells whether it is held still: it ends with its connection.
    pub(crate) async fn is_held(&mut self) -> bool {
        match &mut self.0 {
            Some(tx) => within(PATIENCE, tx.ping()).await.is_ok(),
            None => true,
        }
    }
}
