//! Graphs in PostgreSQL, for any number of replicas.

use std::time::Duration;

use async_trait::async_trait;
use postgres_link::Pool;
use sqlx::PgPool;
use types::TenantId;

use super::{Rules, Store};
use crate::Error;
use crate::graph::{Change, Changed, Page, Query};

#[allow(clippy::duplicate_mod, reason = "the same statements, of another database")]
#[path = "statements.rs"]
mod statements;

type Db = sqlx::Postgres;

/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);

/// How long one statement may take; the server ends it, and the call fails, when it takes longer.
const STATEMENT: (&str, &str) = ("statement_timeout", "10000");

/// Graphs in a PostgreSQL database, which may be another service's too.
///
/// Each transaction names its tenant, and row security lets it see that one's rows alone. Changes of
/// one tenant go one after the other.
#[derive(Debug)]
pub struct Postgres {
    pool: PgPool,
    rules: Rules,
}

impl Postgres {
    /// Opens the store at `url` (`postgres://user:password@host/database`) with at most `connections`
    /// connections.
    ///
    /// # Errors
    /// If `url` is malformed, the server does not answer for a minute or refuses, or its migrations fail.
    pub async fn open(url: &str, connections: u32, rules: Rules) -> anyhow::Result<Self> {
        let size = Pool { connections, acquire: ACQUIRE };
        let pool = postgres_link::connect(url, "baton-memory", &[STATEMENT], size).await?;
        let migrations = sqlx::migrate!("migrations/postgres");
        postgres_link::migrate(&pool, migrations, "memory_migrations").await?;
        let (above,): (bool,) = sqlx::query_as(
            "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user",
        )
        .fetch_one(&pool)
        .await?;
        if above {
            tracing::warn!("row security does not hold for this role: give the memory a plain one");
        }
        Ok(Self { pool, rules })
    }

    async fn begin(&self, tenant: &str) -> Result<sqlx::Transaction<'static, Db>, sqlx::Error> {
        // One moment for all of its statements.
        let mut tx = self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        sqlx::query("SELECT set_config('baton.tenant', $1, true)")
            .bind(tenant)
            .execute(&mut *tx)
            .await?;
        Ok(tx)
    }

    async fn begin_change(
        &self,
        tenant: &str,
    ) -> Result<sqlx::Transaction<'static, Db>, sqlx::Error> {
        // Each statement sees what those before it in the queue have committed.
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "SELECT set_config('baton.tenant', $1, true),
                    pg_advisory_xact_lock(hashtextextended('memory ' || $1, 0))",
        )
        .bind(tenant)
        .execute(&mut *tx)
        .await?;
        Ok(tx)
    }
}

#[async_trait]
impl Store for Postgres {
    async fn change(&self, tenant: &TenantId, change: &Change) -> Result<Changed, Error> {
        change.check()?;
        let mut tx = self.begin_change(tenant.as_str()).await?;
        let changed = statements::change(&mut tx, &self.rules, tenant.as_str(), change).await?;
        tx.commit().await?;
        Ok(changed)
    }

    async fn read(&self, tenant: &TenantId, query: &Query) -> Result<Page, Error> {
        query.check(self.rules.max_items)?;
        let mut tx = self.begin(tenant.as_str()).await?;
        statements::read(&mut tx, &self.rules, tenant.as_str(), query).await
    }

    async fn sweep(&self) -> Result<u64, Error> {
        let mut count = 0;
        for tenant in statements::tenants(&self.pool).await? {
            let mut tx = self.begin_change(&tenant).await?;
            count += statements::sweep(&mut tx, &self.rules, &tenant).await?;
            tx.commit().await?;
        }
        Ok(count)
    }

    async fn reseal(&self) -> Result<u64, Error> {
        let mut count = 0;
        for tenant in statements::tenants(&self.pool).await? {
            let mut tx = self.begin_change(&tenant).await?;
            count += statements::reseal(&mut tx, &self.rules, &tenant).await?;
            tx.commit().await?;
        }
        Ok(count)
    }
}
