//! From one model's vectors to another's, all at once.

use sqlx::Row as _;
use types::JobId;

use super::{Rows, stored_vector};
use crate::Error;
use crate::index::Scope;

/// What a collection becomes.
#[derive(Debug)]
pub(crate) struct Next {
    /// The model's identity, empty for none, and how many numbers its vectors have.
    pub(crate) model: (String, u32),
    /// Of each document, the hashes of what is embedded of its passages, in their order; none without a model.
    pub(crate) hashes: Vec<(String, Vec<[u8; 32]>)>,
}

impl Rows {
    /// Returns the ids of a collection's documents.
    pub(crate) async fn ids(&self, scope: &Scope) -> Result<Vec<String>, Error> {
        let rows =
            sqlx::query("SELECT id FROM documents WHERE tenant = ? AND collection = ? ORDER BY id")
                .bind(scope.tenant.as_str())
                .bind(&scope.collection)
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Makes vectors that are there already those of all of a collection's passages, and its index the one of the next
    /// generation, in one transaction, with which its job has ended. Nobody else writes to it meanwhile.
    ///
    /// # Errors
    /// [`Error::Broken`] if a passage has no such vector, [`Error::Lost`] if the job was removed; nothing changed.
    pub(crate) async fn switch(
        &self,
        scope: &Scope,
        next: &Next,
        job: &JobId,
    ) -> Result<(), Error> {
        let (tenant, name) = (scope.tenant.as_str(), &scope.collection);
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "UPDATE passages SET sha256 = NULL, vector = NULL WHERE tenant = ?1
             AND document IN (SELECT id FROM documents WHERE tenant = ?1 AND collection = ?2) AND ?3 = ''",
        )
        .bind(tenant)
        .bind(name)
        .bind(&next.model.0)
        .execute(&mut *tx)
        .await?;
        for (document, hashes) in &next.hashes {
            for (hash, position) in hashes.iter().zip(0_i64..) {
                let vector = stored_vector(&mut tx, scope, hash).await?;
                let vector = vector.ok_or_else(|| Error::Broken("a vector is missing".into()))?;
                sqlx::query(
                    "UPDATE passages SET sha256 = ?, vector = ?
                     WHERE tenant = ? AND document = ? AND position = ?",
                )
                .bind(hash.as_slice())
                .bind(vector)
                .bind(tenant)
                .bind(document)
                .bind(position)
                .execute(&mut *tx)
                .await?;
            }
        }
        for hash in next.hashes.iter().flat_map(|(_, hashes)| hashes) {
            sqlx::query("DELETE FROM vectors WHERE tenant = ? AND sha256 = ?")
                .bind(tenant)
                .bind(hash.as_slice())
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(
            "UPDATE collections SET model = ?, dimension = ?, generation = generation + 1
             WHERE tenant = ? AND name = ?",
        )
        .bind(&next.model.0)
        .bind(next.model.1)
        .bind(tenant)
        .bind(name)
        .execute(&mut *tx)
        .await?;
        let ended = sqlx::query("UPDATE jobs SET switched = 1 WHERE tenant = ? AND id = ?")
            .bind(tenant)
            .bind(job.as_str())
            .execute(&mut *tx)
            .await?;
        if ended.rows_affected() == 0 {
            return Err(Error::Lost);
        }
        // The index of the generation before is to go.
        self.unindexed(&mut tx, scope, "").await?;
        Ok(tx.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use types::TenantId;

    use super::*;
    use crate::Config;

    #[tokio::test]
    async fn a_job_that_was_removed_switches_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("documents.db");
        let rows = Rows::open(&Config { database, ..Config::default() }, false).await.unwrap();
        let (tenant, collection) = (TenantId::new("a").unwrap(), "c".to_owned());
        let scope = Scope { tenant, collection, generation: 0 };
        rows.create(&scope, 1).await.unwrap();
        let next = Next { model: ("m".to_owned(), 2), hashes: Vec::new() };
        let switched = rows.switch(&scope, &next, &JobId::generate()).await;
        assert!(matches!(switched, Err(Error::Lost)), "{switched:?}");
        let there = rows.collection(&scope).await.unwrap();
        assert_eq!((there.model.as_str(), there.generation), ("", 0));
    }
}
