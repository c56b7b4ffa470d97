//! What an index has yet to hear of.

use types::TenantId;

use super::Rows;
use crate::Error;
use crate::database::{Row, Tx, transaction};
use crate::index::Scope;

impl Rows {
    /// Keeps in mind that the index has yet to hear of a document, or of a collection's end.
    pub(super) async fn unindexed(
        &self,
        tx: &mut Tx,
        scope: &Scope,
        document: &str,
    ) -> Result<(), Error> {
        if self.remembers {
            tx.query(
                "INSERT INTO unindexed (tenant, collection, document, generation)
                 VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .bind(document)
            .bind(generation(scope, document))
            .execute()
            .await?;
        }
        Ok(())
    }

    /// Forgets that the index has yet to hear of a document, or of a collection's end.
    pub(crate) async fn indexed(&self, scope: &Scope, document: &str) -> Result<(), Error> {
        if self.remembers {
            transaction!(self.database, |tx| {
                tx.query(
                    "DELETE FROM unindexed
                     WHERE tenant = $1 AND collection = $2 AND document = $3 AND generation = $4",
                )
                .bind(scope.tenant.as_str())
                .bind(&scope.collection)
                .bind(document)
                .bind(generation(scope, document))
                .execute()
                .await
            })?;
        }
        Ok(())
    }

    /// Tells whether the index has yet to hear of a document, or of a collection's end.
    pub(crate) async fn is_behind(&self, scope: &Scope, document: &str) -> Result<bool, Error> {
        let mut db = self.database.read().await?;
        let row = db.query(
            "SELECT 1 FROM unindexed
             WHERE tenant = $1 AND collection = $2 AND document = $3 AND generation = $4",
        );
        let row = row.bind(scope.tenant.as_str()).bind(&scope.collection).bind(document);
        Ok(row.bind(generation(scope, document)).optional().await?.is_some())
    }

    /// Returns at most 100 of the documents and collections that the index has yet to hear of, behind one of them.
    pub(crate) async fn behind(
        &self,
        after: Option<&(Scope, String)>,
    ) -> Result<Vec<(Scope, String)>, Error> {
        let (tenant, collection, document, generation) =
            after.map_or(("", "", "", -1), |(scope, document)| {
                let generation = generation(scope, document);
                (scope.tenant.as_str(), scope.collection.as_str(), document.as_str(), generation)
            });
        let mut db = self.database.read().await?;
        let rows = db.query(
            "SELECT tenant, collection, generation, document FROM unindexed
             WHERE (tenant, collection, document, generation) > ($1, $2, $3, $4)
             ORDER BY tenant, collection, document, generation LIMIT 100",
        );
        let rows = rows.bind(tenant).bind(collection).bind(document).bind(generation).all().await?;
        rows.iter().map(|row| Ok((scope(row)?, row.get(3)?))).collect()
    }

    /// Returns every collection of every tenant, with how many passages it has.
    pub(crate) async fn sizes(&self) -> Result<Vec<(Scope, u64)>, Error> {
        let mut tx = self.database.begin().await?;
        tx.unhurried().await?;
        let rows = tx.query(
            "SELECT c.tenant, c.name, c.generation, CAST(COALESCE(SUM(d.passages), 0) AS BIGINT)
             FROM collections c LEFT JOIN documents d ON d.tenant = c.tenant AND d.collection = c.name
             GROUP BY c.tenant, c.name",
        );
        rows.all().await?.iter().map(|row| Ok((scope(row)?, row.count(3)?))).collect()
    }

    /// Returns how many passages a collection has.
    pub(crate) async fn size(&self, scope: &Scope) -> Result<u64, Error> {
        let mut db = self.database.read().await?;
        let row = db.query(
            "SELECT CAST(COALESCE(SUM(passages), 0) AS BIGINT) FROM documents
             WHERE tenant = $1 AND collection = $2",
        );
        let row = row.bind(scope.tenant.as_str()).bind(&scope.collection).optional().await?;
        row.map_or(Ok(0), |row| row.count(0))
    }

    /// Keeps in mind that the index has to be told of a document once more, or, without one, to begin a collection anew.
    pub(crate) async fn tell_anew(&self, scope: &Scope, document: &str) -> Result<(), Error> {
        transaction!(self.database, |tx| { self.unindexed(tx, scope, document).await })
    }

    /// Keeps in mind that the index has yet to hear of every document of a collection.
    pub(crate) async fn unindex(&self, scope: &Scope) -> Result<(), Error> {
        transaction!(self.database, |tx| {
            tx.unhurried().await?;
            tx.query(
                "INSERT INTO unindexed (tenant, collection, document, generation)
                 SELECT tenant, collection, id, 0 FROM documents
                 WHERE tenant = $1 AND collection = $2 ON CONFLICT DO NOTHING",
            )
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .execute()
            .await
        })?;
        Ok(())
    }
}

/// A whole collection's index is that of a generation; documents are in whichever there is.
fn generation(scope: &Scope, document: &str) -> i64 {
    if document.is_empty() { scope.generation.into() } else { 0 }
}

/// Reads the columns `tenant`, `collection` and `generation`.
fn scope(row: &Row) -> Result<Scope, Error> {
    let tenant = TenantId::new(row.get::<String>(0)?);
    let tenant = tenant.map_err(|fault| Error::Broken(fault.into()))?;
    Ok(Scope { tenant, collection: row.get(1)?, generation: row.number(2)? })
}
