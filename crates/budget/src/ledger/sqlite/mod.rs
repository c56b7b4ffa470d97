//! The ledger in one SQLite file.

mod checkpoint;
pub(crate) mod moves;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row as _, SqlitePool};
use types::{Clock, TenantId};

use self::writer::Writer;
use crate::ledger::account::Account;
use crate::ledger::verify::{PAGE, Sums};
use crate::ledger::{Alert, Entry, Ledger, Maintenance, Move, Order, Statement};
use crate::usage::{self, Audited, Calls, Cost, Group, Usage};
use crate::{Error, Kind, Period, Rules, Scope};

/// The ledger in one SQLite file (WAL): kill -9 loses nothing that was acknowledged.
pub struct Sqlite {
    writer: Arc<Writer>,
    path: PathBuf,
    /// For what may read long.
    pool: SqlitePool,
    rules: Arc<Rules>,
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
    pub async fn open(
        path: impl AsRef<Path>,
        rules: Rules,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
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
        let rules = Arc::new(rules);
        let writer = Writer::new(writing(path)?, Arc::clone(&rules), Arc::clone(&clock));
        let writer = Arc::new(writer);
        tokio::spawn(checkpoint::keep(Arc::downgrade(&writer), path.to_owned()));
        let path = path.to_owned();
        Ok(Self { writer, path, pool, rules, clock })
    }

    /// Writes with the time of the writing.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, i64) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.writer.write(move |all| work(all.db()?, all.now())).await
    }
}

impl Sqlite {
    /// Runs what may read long on a thread and a connection of its own, as the file is at one moment:
    /// nobody's write waits for it.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let path = self.path.clone();
        let read = move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let db = Connection::open_with_flags(path, flags)?;
            db.execute_batch("BEGIN")?;
            work(&db)
        };
        tokio::task::spawn_blocking(read).await.map_err(|fault| Error::Ledger(fault.into()))?
    }
}

/// Opens the connection that writes: SQLite has one writer at a time.
fn writing(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.pragma_update(None, "synchronous", "normal")?;
    db.pragma_update(None, "wal_autocheckpoint", 0)?;
    db.pragma_update(None, "journal_size_limit", checkpoint::KEPT)?;
    db.pragma_update(None, "temp_store", "memory")?;
    db.pragma_update(None, "cache_size", -16 * 1024)?;
    Ok(db)
}

#[async_trait]
impl Ledger for Sqlite {
    async fn run(&self, one: Move) -> Result<i64, Error> {
        self.writer.write(move |all| all.run(&one)).await
    }

    async fn expire(&self) -> Result<u64, Error> {
        let rules = Arc::clone(&self.rules);
        self.write(move |db, now| moves::expire(db, &rules, now)).await
    }

    async fn statement(
        &self,
        tenant: &TenantId,
        scope: &Scope,
        period: Period,
    ) -> Result<Statement, Error> {
        let (key, rules) = ((tenant.clone(), scope.clone()), Arc::clone(&self.rules));
        let read = move |db: &Connection, now| {
            moves::expire(db, &rules, now)?;
            let account = moves::account(db, &key)?;
            let new = || Account::new(rules.limits(key.1.kind()), now);
            let account = account.unwrap_or_else(new);
            Ok(Statement::of(key.1, account, period, now))
        };
        self.write(read).await
    }

    async fn statements(
        &self,
        tenant: &TenantId,
        kind: Kind,
        period: Period,
        order: Order,
        limit: u32,
    ) -> Result<Vec<Statement>, Error> {
        let (tenant, rules) = (tenant.to_string(), Arc::clone(&self.rules));
        let read = move |db: &Connection, now| {
            moves::expire(db, &rules, now)?;
            let starts_at = period.bounds(now).0;
            let values: [Value; 4] =
                [tenant.into(), kind.as_str().to_owned().into(), starts_at.into(), limit.into()];
            let found = moves::list(db, &order.query(period, "name"), &values)?;
            let state =
                |(name, account)| Ok(Statement::of(Scope::new(kind, name)?, account, period, now));
            found.into_iter().map(state).collect()
        };
        self.write(read).await
    }

    async fn history(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, Error> {
        let tenant = tenant.clone();
        self.read(move |db| moves::history(db, &tenant, after, limit)).await
    }

    async fn verify(&self, tenant: &TenantId) -> Result<Vec<String>, Error> {
        let tenant = tenant.clone();
        let compare = move |db: &Connection| {
            let (mut sums, mut after) = (Sums::default(), 0);
            loop {
                let entries = moves::history(db, &tenant, after, PAGE)?;
                let Some(last) = entries.last() else { break };
                after = last.number;
                sums.add(&entries);
            }
            Ok(sums.compare(moves::all(db, &tenant)?))
        };
        self.read(compare).await
    }

    async fn alerts(&self, limit: u32) -> Result<Vec<Alert>, Error> {
        self.write(move |db, now| moves::alerts(db, limit, now)).await
    }

    async fn told(&self, alert: &Alert) -> Result<(), Error> {
        let alert = alert.clone();
        self.write(move |db, now| moves::told(db, &alert, now)).await
    }

    async fn maintenance(&self) -> Result<Option<Maintenance>, Error> {
        let row = sqlx::query("SELECT message, retry_after, since FROM maintenance");
        let Some(row) = row.fetch_optional(&self.pool).await? else { return Ok(None) };
        let (message, retry_after_s, since_ms) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Some(Maintenance { message, retry_after_s, since_ms }))
    }

    async fn set_maintenance(&self, maintenance: Option<&Maintenance>) -> Result<(), Error> {
        let maintenance = maintenance.cloned();
        self.write(move |db, _| moves::set_maintenance(db, maintenance.as_ref())).await
    }

    async fn record(&self, usages: &[Usage]) -> Result<(), Error> {
        let (usages, rules) = (usages.to_vec(), Arc::clone(&self.rules));
        self.write(move |db, now| usage::sqlite::record(db, &rules, &usages, now)).await
    }

    async fn costs(&self, calls: &Calls, groups: &[Group]) -> Result<Vec<Cost>, Error> {
        usage::sqlite::list(&self.pool, calls, groups).await
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

#[cfg(test)]
mod tests {
    use types::{NanoUsd, ReservationId, SystemClock};

    use super::*;
    use crate::Reservation;

    fn reserve(id: &str, user: &str, nanos: i64) -> Move {
        Move::Reserve(Reservation {
            id: ReservationId::new(id).unwrap(),
            tenant: TenantId::new("t").unwrap(),
            scopes: vec![Scope::tenant(), Scope::new(Kind::User, user).unwrap()],
            amount: NanoUsd::new(nanos),
            ttl_ms: 60_000,
        })
    }

    async fn ledger(directory: &tempfile::TempDir) -> Sqlite {
        let file = directory.path().join("l.db");
        Sqlite::open(file, Rules::default(), Arc::new(SystemClock)).await.unwrap()
    }

    #[tokio::test]
    async fn moves_that_wait_together_see_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let (ledger, tenant) = (ledger(&directory).await, TenantId::new("t").unwrap());
        let limit = Some(NanoUsd::new(100));
        ledger.set_limit(&tenant, &Scope::tenant(), Period::Total, limit).await.unwrap();
        let before = ledger.writer.commits();
        let (scope, period) = (Scope::tenant(), Period::Total);
        let (a, b, seen, c, again) = tokio::join!(
            ledger.run(reserve("a", "u", 60)),
            ledger.run(reserve("b", "v", 60)),
            ledger.statement(&tenant, &scope, period),
            ledger.run(reserve("c", "v", 40)),
            ledger.run(reserve("a", "u", 60)),
        );
        assert!(matches!(b, Err(Error::Exceeded { held, .. }) if held == NanoUsd::new(60)));
        assert_eq!(seen.unwrap().held, NanoUsd::new(60));
        assert!(a.is_ok() && c.is_ok() && again.is_ok());
        assert_eq!(ledger.writer.commits(), before + 1);
        assert_eq!(ledger.verify(&tenant).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_cannot_be_kept_was_not_moved() {
        let directory = tempfile::tempdir().unwrap();
        let (ledger, tenant) = (ledger(&directory).await, TenantId::new("t").unwrap());
        let other = Connection::open(&ledger.path).unwrap();
        other.execute_batch("ALTER TABLE history RENAME TO elsewhere").unwrap();
        let (scope, period) = (Scope::tenant(), Period::Total);
        let (moved, seen, after) = tokio::join!(
            ledger.run(reserve("a", "u", 60)),
            ledger.statement(&tenant, &scope, period),
            ledger.run(reserve("b", "u", 60)),
        );
        assert!(matches!(
            (moved, seen, after),
            (Err(Error::Ledger(_)), Err(Error::Ledger(_)), Err(Error::Ledger(_)))
        ));
        other.execute_batch("ALTER TABLE elsewhere RENAME TO history").unwrap();
        let state = ledger.statement(&tenant, &scope, period).await.unwrap();
        assert_eq!(state.held, NanoUsd::ZERO);
        ledger.run(reserve("a", "u", 60)).await.unwrap();
    }
}
