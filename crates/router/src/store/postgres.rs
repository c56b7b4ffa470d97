//! Responses in PostgreSQL, for any number of replicas.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postgres_link::Pool;
use sqlx::{PgPool, Row as _};
use types::{Clock, TenantId};

use super::{SLACK_MS, SWEPT, Store, Stored, Terms, Turn, counted, expiry, stored, turn};
use crate::Error;

/// How long a call waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(2);

/// How long one statement may take; the server ends it, and the call fails, when it takes longer.
const STATEMENT: (&str, &str) = ("statement_timeout", "5000");

/// Responses in a PostgreSQL database, which may be another service's too.
///
/// Whoever changes responses locks them in the order of their ids, and only then counts what is kept:
/// no two wait for each other.
pub struct Postgres {
    pool: PgPool,
    terms: Terms,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

impl Postgres {
    /// Opens the store at `url` (`postgres://user:password@host/database`) with at most `connections`
    /// connections.
    ///
    /// # Errors
    /// If `url` is malformed, the server does not answer for a minute or refuses, or its migrations fail.
    pub async fn open(
        url: &str,
        connections: u32,
        terms: Terms,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        let size = Pool { connections, acquire: ACQUIRE };
        let pool = postgres_link::connect(url, "baton-router", &[STATEMENT], size).await?;
        let migrations = sqlx::migrate!("migrations/postgres");
        postgres_link::migrate(&pool, migrations, "router_migrations").await?;
        Ok(Self { pool, terms, clock })
    }
}

#[async_trait]
impl Store for Postgres {
    async fn keep(&self, tenant: &TenantId, response: &Stored) -> Result<(), Error> {
        let now = self.clock.now_ms();
        let expires_at = expiry(now, self.terms);
        let mut tx = self.pool.begin().await?;
        if let Some(previous) = &response.previous {
            sqlx::query(
                "WITH RECURSIVE chain (id, previous) AS (
                   SELECT id, previous FROM responses WHERE tenant = $1 AND id = $2
                   UNION SELECT r.id, r.previous FROM chain
                   JOIN responses AS r ON r.tenant = $1 AND r.id = chain.previous),
                 locked AS (
                   SELECT id FROM responses
                   WHERE tenant = $1 AND id IN (SELECT id FROM chain)
                     AND expires_at > $4 AND expires_at < $5
                   ORDER BY id FOR UPDATE)
                 UPDATE responses SET expires_at = $3
                 WHERE tenant = $1 AND id IN (SELECT id FROM locked)",
            )
            .bind(tenant.as_str())
            .bind(previous)
            .bind(expires_at)
            .bind(now)
            .bind(expires_at.saturating_sub(SLACK_MS))
            .execute(&mut *tx)
            .await?;
        }
        let made = sqlx::query(
            "INSERT INTO responses
               (tenant, id, previous, private, bytes, made_at, expires_at, input, response)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
             WHERE (SELECT coalesce(sum(bytes), 0) FROM responses_kept WHERE tenant = $1) + $5 <= $10
             ON CONFLICT DO NOTHING",
        )
        .bind(tenant.as_str())
        .bind(&response.id)
        .bind(&response.previous)
        .bind(response.privacy == types::Privacy::Private)
        .bind(counted(response.bytes()))
        .bind(now)
        .bind(expires_at)
        .bind(&response.input)
        .bind(&response.response)
        .bind(counted(self.terms.tenant_bytes))
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 0 {
            return Err(Error::Full { most: self.terms.tenant_bytes });
        }
        Ok(tx.commit().await?)
    }

    async fn turns(&self, tenant: &TenantId, id: &str, most: u32) -> Result<Vec<Turn>, Error> {
        let rows = sqlx::query_as(
            "WITH RECURSIVE chain (id, previous, private, bytes, place) AS (
               SELECT id, previous, private, bytes, 1::BIGINT FROM responses
               WHERE tenant = $1 AND id = $2 AND expires_at > $3
               UNION ALL SELECT r.id, r.previous, r.private, r.bytes, place + 1 FROM chain
               JOIN responses AS r ON r.tenant = $1 AND r.id = chain.previous
               WHERE r.expires_at > $3 AND place < $4)
             SELECT id, previous, private, bytes FROM chain ORDER BY place",
        )
        .bind(tenant.as_str())
        .bind(id)
        .bind(self.clock.now_ms())
        .bind(i64::from(most))
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(turn).collect())
    }

    async fn read(&self, tenant: &TenantId, ids: &[String]) -> Result<Vec<Stored>, Error> {
        let rows = sqlx::query_as(
            "SELECT id, previous, private, input, response FROM responses
             WHERE tenant = $1 AND id = ANY($2) AND expires_at > $3",
        )
        .bind(tenant.as_str())
        .bind(ids)
        .bind(self.clock.now_ms())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(stored).collect())
    }

    async fn delete(&self, tenant: &TenantId, id: &str) -> Result<bool, Error> {
        let gone =
            sqlx::query("DELETE FROM responses WHERE tenant = $1 AND id = $2 AND expires_at > $3")
                .bind(tenant.as_str())
                .bind(id)
                .bind(self.clock.now_ms())
                .execute(&self.pool)
                .await?;
        Ok(gone.rows_affected() == 1)
    }

    async fn expire(&self) -> Result<u64, Error> {
        let mut count = 0;
        loop {
            let mut tx = self.pool.begin().await?;
            // Who comes second leaves the work to who is at it: both would count many parts.
            let alone: bool = sqlx::query(
                "SELECT pg_try_advisory_xact_lock(hashtextextended('responses sweep', 0))",
            )
            .fetch_one(&mut *tx)
            .await?
            .try_get(0)?;
            if !alone {
                return Ok(count);
            }
            let gone = sqlx::query(
                "DELETE FROM responses WHERE (tenant, id) IN
                   (SELECT tenant, id FROM responses WHERE expires_at <= $1
                    LIMIT $2 FOR UPDATE SKIP LOCKED)",
            )
            .bind(self.clock.now_ms())
            .bind(i64::from(SWEPT))
            .execute(&mut *tx)
            .await?
            .rows_affected();
            tx.commit().await?;
            count += gone;
            if gone < u64::from(SWEPT) {
                return Ok(count);
            }
        }
    }
}
