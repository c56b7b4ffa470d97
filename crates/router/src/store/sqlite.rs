//! Responses in one SQLite file.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use types::{Clock, TenantId};

use super::{SLACK_MS, SWEPT, Store, Stored, Terms, Turn, counted, expiry, stored, turn};
use crate::Error;

/// Responses in one SQLite file (WAL): kill -9 loses nothing that was acknowledged.
pub struct Sqlite {
    pool: SqlitePool,
    terms: Terms,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}

impl Sqlite {
    /// Opens the store at `path`, made when missing.
    ///
    /// # Errors
    /// If the file cannot be opened or its migrations fail.
    pub async fn open(
        path: impl AsRef<Path>,
        terms: Terms,
        clock: Arc<dyn Clock>,
    ) -> anyhow::Result<Self> {
        if let Some(directory) = path.as_ref().parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal);
        // One connection: SQLite has one writer, and a queue here is fairer than its busy timeout.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await?;
        Ok(Self { pool, terms, clock })
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn keep(&self, tenant: &TenantId, response: &Stored) -> Result<(), Error> {
        let now = self.clock.now_ms();
        let expires_at = expiry(now, self.terms);
        let mut tx = self.pool.begin().await?;
        if let Some(previous) = &response.previous {
            sqlx::query(
                "WITH RECURSIVE chain (id, previous) AS (
                   SELECT id, previous FROM responses WHERE tenant = ?1 AND id = ?2
                   UNION SELECT r.id, r.previous FROM chain
                   JOIN responses AS r ON r.tenant = ?1 AND r.id = chain.previous)
                 UPDATE responses SET expires_at = ?3
                 WHERE tenant = ?1 AND id IN (SELECT id FROM chain)
                   AND expires_at > ?4 AND expires_at < ?5",
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
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
             WHERE coalesce((SELECT bytes FROM kept WHERE tenant = ?1), 0) + ?5 <= ?10
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
               SELECT id, previous, private, bytes, 1 FROM responses
               WHERE tenant = ?1 AND id = ?2 AND expires_at > ?3
               UNION ALL SELECT r.id, r.previous, r.private, r.bytes, place + 1 FROM chain
               JOIN responses AS r ON r.tenant = ?1 AND r.id = chain.previous
               WHERE r.expires_at > ?3 AND place < ?4)
             SELECT id, previous, private, bytes FROM chain ORDER BY place",
        )
        .bind(tenant.as_str())
        .bind(id)
        .bind(self.clock.now_ms())
        .bind(most)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(turn).collect())
    }

    async fn read(&self, tenant: &TenantId, ids: &[String]) -> Result<Vec<Stored>, Error> {
        let rows = sqlx::query_as(
            "SELECT id, previous, private, input, response FROM responses
             WHERE tenant = ?1 AND id IN (SELECT value FROM json_each(?2)) AND expires_at > ?3",
        )
        .bind(tenant.as_str())
        .bind(serde_json::json!(ids).to_string())
        .bind(self.clock.now_ms())
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(stored).collect())
    }

    async fn delete(&self, tenant: &TenantId, id: &str) -> Result<bool, Error> {
        let gone =
            sqlx::query("DELETE FROM responses WHERE tenant = ? AND id = ? AND expires_at > ?")
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
            let gone = sqlx::query(
                "DELETE FROM responses WHERE rowid IN
                   (SELECT rowid FROM responses WHERE expires_at <= ? LIMIT ?)",
            )
            .bind(self.clock.now_ms())
            .bind(SWEPT)
            .execute(&self.pool)
            .await?
            .rows_affected();
            count += gone;
            if gone < u64::from(SWEPT) {
                return Ok(count);
            }
        }
    }
}
