//! Vectors by what they are of: a tenant's text is embedded once.

use std::collections::HashMap;

use sqlx::{Row as _, SqliteConnection};

use super::{NewPassage, Rows, bytes, floats};
use crate::Error;
use crate::index::Scope;

/// So long a bought vector waits for its document.
const KEPT_MS: i64 = 7 * 24 * 60 * 60 * 1000;

impl Rows {
    /// Returns the vectors that a tenant has already, by the hash of what was embedded.
    pub(crate) async fn vectors(
        &self,
        scope: &Scope,
        hashes: &[[u8; 32]],
    ) -> Result<HashMap<[u8; 32], Vec<f32>>, Error> {
        let mut found = HashMap::new();
        let mut db = self.readers.acquire().await?;
        for hash in hashes {
            if let Some(vector) = stored_vector(&mut db, scope, hash).await? {
                found.insert(*hash, floats(&vector));
            }
        }
        Ok(found)
    }

    /// Keeps vectors that were paid for until their document is stored, in one transaction.
    pub(crate) async fn keep(
        &self,
        scope: &Scope,
        vectors: &[([u8; 32], Vec<f32>)],
        now_ms: i64,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin().await?;
        for (hash, vector) in vectors {
            sqlx::query(
                "INSERT INTO vectors (tenant, sha256, vector, at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
            )
            .bind(scope.tenant.as_str())
            .bind(hash.as_slice())
            .bind(bytes(vector))
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
        }
        Ok(tx.commit().await?)
    }

    /// Removes the vectors whose document has not come in a week.
    pub(crate) async fn sweep(&self, now_ms: i64) -> Result<(), Error> {
        sqlx::query("DELETE FROM vectors WHERE at < ?")
            .bind(now_ms.saturating_sub(KEPT_MS))
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

/// Returns the vector that a tenant has of a hash. Two models never give one text one vector: the hash is of both.
pub(super) async fn stored_vector(
    db: &mut SqliteConnection,
    scope: &Scope,
    hash: &[u8; 32],
) -> Result<Option<Vec<u8>>, Error> {
    // Left to itself, SQLite would read all of the tenant's passages.
    let row = sqlx::query(
        "SELECT vector FROM passages INDEXED BY passages_embedded WHERE tenant = ?1 AND sha256 = ?2
         UNION ALL SELECT vector FROM vectors WHERE tenant = ?1 AND sha256 = ?2 LIMIT 1",
    )
    .bind(scope.tenant.as_str())
    .bind(hash.as_slice())
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Removes the vectors that waited for these passages.
pub(super) async fn stored(
    db: &mut SqliteConnection,
    scope: &Scope,
    passages: &[NewPassage],
) -> Result<(), Error> {
    for (hash, _) in passages.iter().filter_map(|passage| passage.vector.as_ref()) {
        sqlx::query("DELETE FROM vectors WHERE tenant = ? AND sha256 = ?")
            .bind(scope.tenant.as_str())
            .bind(hash.as_slice())
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}
