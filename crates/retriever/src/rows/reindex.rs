//! From one model's vectors to another's, all at once.

use types::JobId;

use super::vectors::stored;
use super::{Rows, TOGETHER, lock};
use crate::Error;
use crate::database::{Tx, places, transaction};
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
        let mut db = self.database.read().await?;
        let rows =
            db.query("SELECT id FROM documents WHERE tenant = $1 AND collection = $2 ORDER BY id");
        let rows = rows.bind(scope.tenant.as_str()).bind(&scope.collection).all().await?;
        rows.iter().map(|row| row.get(0)).collect()
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
        transaction!(self.database, |tx| { self.switch_in(tx, scope, next, job).await })
    }

    async fn switch_in(
        &self,
        tx: &mut Tx,
        scope: &Scope,
        next: &Next,
        job: &JobId,
    ) -> Result<(), Error> {
        let (tenant, name) = (scope.tenant.as_str(), &scope.collection);
        tx.unhurried().await?;
        lock(tx, scope).await?;
        if next.model.0.is_empty() {
            let without = tx.query(
                "UPDATE passages SET sha256 = NULL, vector = NULL WHERE tenant = $1
                 AND document IN (SELECT id FROM documents WHERE tenant = $1 AND collection = $2)",
            );
            without.bind(tenant).bind(name).execute().await?;
        }
        let by = tx.either(" INDEXED BY passages_embedded", "");
        let passages = next.hashes.iter().flat_map(|(document, hashes)| {
            hashes.iter().zip(0_i64..).map(move |(hash, position)| (document, position, hash))
        });
        let passages: Vec<_> = passages.collect();
        for some in passages.chunks(TOGETHER) {
            let mut update = tx.made(format!(
                "UPDATE passages SET sha256 = w.column3, vector = COALESCE(
                   (SELECT vector FROM passages AS p{by} WHERE p.tenant = $1 AND p.sha256 = w.column3 LIMIT 1),
                   (SELECT vector FROM vectors WHERE vectors.tenant = $1 AND vectors.sha256 = w.column3))
                 FROM (VALUES {}) AS w WHERE passages.tenant = $1 AND passages.document = w.column1
                 AND passages.position = w.column2 RETURNING vector IS NULL",
                places(1, some.len(), 3)
            ));
            update = update.bind(tenant);
            for (document, position, hash) in some {
                update = update.bind(document.as_str()).bind(*position).bind(hash.as_slice());
            }
            for row in update.all().await? {
                if row.get(0)? {
                    return Err(Error::Broken("a vector is missing".into()));
                }
            }
        }
        stored(tx, scope, passages.into_iter().map(|(_, _, hash)| *hash).collect()).await?;
        tx.query(
            "UPDATE collections SET model = $1, dimension = $2, generation = generation + 1
             WHERE tenant = $3 AND name = $4",
        )
        .bind(&next.model.0)
        .bind(i64::from(next.model.1))
        .bind(tenant)
        .bind(name)
        .execute()
        .await?;
        let ended = tx.query("UPDATE jobs SET switched = TRUE WHERE tenant = $1 AND id = $2");
        if ended.bind(tenant).bind(job.as_str()).execute().await? == 0 {
            return Err(Error::Lost);
        }
        // The index of the generation before is to go.
        self.unindexed(tx, scope, "").await
    }
}

#[cfg(test)]
mod tests {
    use types::TenantId;

    use super::*;

    #[tokio::test]
    async fn a_job_that_was_removed_switches_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let rows = Rows::fresh(directory.path()).await;
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
