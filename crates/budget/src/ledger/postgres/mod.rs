//! The ledger in PostgreSQL, for any number of replicas.

pub(crate) mod moves;
mod queue;

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use postgres_link::{Pool, connect};
use sqlx::{Connection as _, PgPool, Row as _};
use types::{Clock, TenantId};

use self::queue::{Queue, Work, timed};
use crate::ledger::account::Account;
use crate::ledger::verify::{PAGE, Sums};
use crate::ledger::{Alert, Entry, Ledger, Maintenance, Move, Order, Statement};
use crate::usage::{self, Audited, Calls, Cost, Group, Usage};
use crate::{Error, Kind, Period, Rules, Scope};

/// How connections are known to the server.
const SERVICE: &str = "baton-budget";

/// How long one statement may take; the server ends it, and the call fails, when it takes longer.
const STATEMENT: (&str, &str) = ("statement_timeout", "5000");

/// Moves find every row by its key. Left to itself the server, which cannot know how few they are, would read whole
/// tables, or plan each statement anew. Nobody holds another's rows for long: who waits for them in vain is refused and
/// goes alone, and a replica that froze in a transaction loses it.
const OF_MOVES: [(&str, &str); 7] = [
    STATEMENT,
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_seqscan", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("lock_timeout", "1000"),
    ("idle_in_transaction_session_timeout", "10000"),
];

/// The ledger in a PostgreSQL database.
///
/// Whoever changes an account has its row locked until the commit: what was read under the lock stays
/// true. Every transaction locks reservations first and accounts then, each in the order of their
/// keys, so that no two wait for each other.
pub struct Postgres {
    queue: Arc<Queue>,
    /// For what only reads: a replica's where one is configured.
    reports: PgPool,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Postgres {
    /// Opens the ledger at `url` (`postgres://user:password@host/database`); reports are read at
    /// `reports` where there is one.
    ///
    /// # Errors
    /// If an address is malformed, the server does not answer for a minute or refuses, or its migrations
    /// fail.
    pub async fn open(
        url: &str,
        reports: Option<&str>,
        pool: Pool,
        rules: Rules,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        // Whoever else migrates is waited for longer than for rows.
        let one = Pool { connections: 1, ..pool };
        let migrating = connect(url, SERVICE, &[STATEMENT], one).await?;
        let migrations = sqlx::migrate!("migrations/postgres");
        postgres_link::migrate(&migrating, migrations, "_sqlx_migrations").await?;
        migrating.close().await;
        let main = connect(url, SERVICE, &OF_MOVES, pool).await?;
        sqlx::raw_sql(queue::PROBE)
            .execute(&main)
            .await
            .context("what has been committed cannot be waited for")?;
        let reports = connect(reports.unwrap_or(url), SERVICE, &[STATEMENT], pool);
        let reports = reports.await.context("reports")?;
        let queue = Arc::new(Queue::new(main, rules, Arc::clone(&clock)));
        Ok(Self { queue, reports, clock })
    }

    /// Returns the connections to what is written.
    pub(crate) fn pool(&self) -> &PgPool {
        self.queue.pool()
    }
}

#[async_trait]
impl Ledger for Postgres {
    async fn run(&self, one: Move) -> Result<i64, Error> {
        self.queue.ask(Work::Move(one)).await
    }

    async fn expire(&self) -> Result<u64, Error> {
        self.queue.expire().await
    }

    async fn statement(
        &self,
        tenant: &TenantId,
        scope: &Scope,
        period: Period,
    ) -> Result<Statement, Error> {
        timed(async {
            self.queue.expire().await?;
            let now = self.clock.now_ms();
            let mut connection = self.queue.pool().acquire().await?;
            let account = moves::account(&mut connection, tenant, scope).await?;
            let new = || Account::new(self.queue.rules().limits(scope.kind()), now);
            Ok(Statement::of(scope.clone(), account.unwrap_or_else(new), period, now))
        })
        .await
    }

    async fn statements(
        &self,
        tenant: &TenantId,
        kind: Kind,
        period: Period,
        order: Order,
        limit: u32,
    ) -> Result<Vec<Statement>, Error> {
        timed(async {
            let now = self.clock.now_ms();
            let query = order.query(period, "name COLLATE \"C\"");
            let rows = sqlx::query(sqlx::AssertSqlSafe(query))
                .bind(tenant.as_str())
                .bind(kind.as_str())
                .bind(period.bounds(now).0)
                .bind(i64::from(limit))
                .fetch_all(&self.reports)
                .await?;
            let state = |row: &sqlx::postgres::PgRow| {
                let scope = Scope::new(kind, row.try_get::<String, _>(0)?)?;
                Ok(Statement::of(scope, moves::read(row, 1)?, period, now))
            };
            rows.iter().map(state).collect()
        })
        .await
    }

    async fn history(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Entry>, Error> {
        timed(async {
            let mut connection = self.reports.acquire().await?;
            moves::history(&mut connection, tenant, after, limit).await
        })
        .await
    }

    async fn verify(&self, tenant: &TenantId) -> Result<Vec<String>, Error> {
        let mut connection = self.queue.pool().acquire().await?;
        // All of it as it was at one moment.
        let mut tx =
            connection.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let (mut sums, mut after) = (Sums::default(), 0);
        loop {
            let entries = moves::history(&mut tx, tenant, after, PAGE).await?;
            let Some(last) = entries.last() else { break };
            after = last.number;
            sums.add(&entries);
        }
        Ok(sums.compare(moves::all(&mut tx, tenant).await?))
    }

    async fn alerts(&self, limit: u32) -> Result<Vec<Alert>, Error> {
        timed(async {
            let mut connection = self.queue.pool().acquire().await?;
            moves::due(&mut connection, limit, self.clock.now_ms()).await
        })
        .await
    }

    async fn told(&self, alert: &Alert) -> Result<(), Error> {
        timed(async {
            let mut connection = self.queue.pool().acquire().await?;
            moves::told(&mut connection, alert, self.clock.now_ms()).await
        })
        .await
    }

    async fn maintenance(&self) -> Result<Option<Maintenance>, Error> {
        timed(async {
            let row = sqlx::query("SELECT message, retry_after, since FROM maintenance");
            let Some(row) = row.fetch_optional(self.queue.pool()).await? else { return Ok(None) };
            let retry_after_s = u32::try_from(row.try_get::<i64, _>(1)?).unwrap_or(u32::MAX);
            let (message, since_ms) = (row.try_get(0)?, row.try_get(2)?);
            Ok(Some(Maintenance { message, retry_after_s, since_ms }))
        })
        .await
    }

    async fn set_maintenance(&self, maintenance: Option<&Maintenance>) -> Result<(), Error> {
        timed(async {
            let change = match maintenance {
                None => sqlx::query("DELETE FROM maintenance"),
                Some(to) => sqlx::query(
                    "INSERT INTO maintenance (one, message, retry_after, since) VALUES (1, $1, $2, $3)
                     ON CONFLICT (one) DO UPDATE SET message = excluded.message,
                       retry_after = excluded.retry_after, since = excluded.since",
                )
                .bind(&to.message)
                .bind(i64::from(to.retry_after_s))
                .bind(to.since_ms),
            };
            change.execute(self.queue.pool()).await?;
            Ok(())
        })
        .await
    }

    async fn record(&self, usages: &[Usage]) -> Result<(), Error> {
        self.queue.ask(Work::Record(usages.to_vec())).await.map(drop)
    }

    async fn costs(&self, calls: &Calls, groups: &[Group]) -> Result<Vec<Cost>, Error> {
        timed(async { usage::postgres::list(&self.reports, calls, groups).await }).await
    }

    async fn audited(
        &self,
        tenant: &TenantId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Audited>, Error> {
        timed(async { usage::postgres::audited(&self.reports, tenant, after, limit).await }).await
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }
}
