//! Pins and calls in PostgreSQL, for any number of replicas.

use std::time::Duration;

use async_trait::async_trait;
use postgres_link::Pool;
use sqlx::PgPool;
use types::TenantId;

use super::{Call, Decider, Known, Pin, Seen, Store};
use crate::Error;

#[allow(clippy::duplicate_mod, reason = "the same statements, of another database")]
#[path = "statements.rs"]
mod statements;

type Db = sqlx::Postgres;

/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);

/// How long one statement may take; the server ends it, and the call fails, when it takes longer.
const STATEMENT: (&str, &str) = ("statement_timeout", "5000");

/// Pins and calls in a PostgreSQL database, which may be another service's too.
///
/// Changes of pins go one after the other.
#[derive(Debug)]
pub struct Postgres {
    pool: PgPool,
}

impl Postgres {
    /// Opens the store at `url` (`postgres://user:password@host/database`) with at most `connections`
    /// connections.
    ///
    /// # Errors
    /// If `url` is malformed, the server does not answer for a minute or refuses, or its migrations fail.
    pub async fn open(url: &str, connections: u32) -> anyhow::Result<Self> {
        let size = Pool { connections, acquire: ACQUIRE };
        let pool = postgres_link::connect(url, "baton-mcp-bridge", &[STATEMENT], size).await?;
        let migrations = sqlx::migrate!("migrations/postgres");
        postgres_link::migrate(&pool, migrations, "bridge_migrations").await?;
        Ok(Self { pool })
    }

    async fn begin(&self) -> Result<sqlx::Transaction<'static, Db>, sqlx::Error> {
        self.pool.begin().await
    }
}

#[async_trait]
impl Store for Postgres {
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
