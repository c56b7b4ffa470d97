//! What an index that outlives the process has yet to hear of.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};
use types::TenantId;

use super::{Rows, unsigned};
use crate::Error;
use crate::index::Scope;

impl Rows {
    /// Keeps in mind that the index has yet to hear of a document, or of a collection's end.
    pub(super) async fn unindexed(
        &self,
        db: &mut SqliteConnection,
        scope: &Scope,
        document: &str,
    ) -> Result<(), Error> {
        if self.outlived {
            sqlx::query(
                "INSERT INTO unindexed (tenant, collection, document, generation) VALUES (?, ?, ?, ?)
                 ON CONFLICT DO NOTHING",
            )
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .bind(document)
            .bind(generation(scope, document))
            .execute(db)
            .await?;
        }
        Ok(())
    }

    /// Forgets that the index has yet to hear of a document, or of a collection's end.
    pub(crate) async fn indexed(&self, scope: &Scope, document: &str) -> Result<(), Error> {
        if self.outlived {
            sqlx::query(
                "DELETE FROM unindexed
                 WHERE tenant = ? AND collection = ? AND document = ? AND generation = ?",
            )
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .bind(document)
            .bind(generation(scope, document))
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }

    /// Returns at most 100 of the documents and collections that the index has yet to hear of, behind one of them.
    pub(crate) async fn behind(
        &self,
        after: Option<&(Scope, String)>,
    ) -> Result<Vec<(Scope, String)>, Error> {
        let (tenant, collection, document, generation) =
            after.map_or(("", "", "", -1), |(scope, document)| {
                let generation = i64::from(generation(scope, document));
                (scope.tenant.as_str(), scope.collection.as_str(), document.as_str(), generation)
            });
        let rows = sqlx::query(
            "SELECT tenant, collection, generation, document FROM unindexed
             WHERE (tenant, collection, document, generation) > (?, ?, ?, ?)
             ORDER BY tenant, collection, document, generation LIMIT 100",
        )
        .bind(tenant)
        .bind(collection)
        .bind(document)
        .bind(generation)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((scope(row)?, row.try_get(3)?))).collect()
    }

    /// Returns every collection of every tenant, with how many passages it has.
    pub(crate) async fn sizes(&self) -> Result<Vec<(Scope, u64)>, Error> {
        let rows = sqlx::query(
            "SELECT c.tenant, c.name, c.generation, COALESCE(SUM(d.passages), 0) FROM collections c
             LEFT JOIN documents d ON d.tenant = c.tenant AND d.collection = c.name GROUP BY c.tenant, c.name",
        )
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok((scope(row)?, unsigned(row.try_get(3)?)))).collect()
    }

    /// Keeps in mind that the index has to begin a collection anew.
    pub(crate) async fn end_anew(&self, scope: &Scope) -> Result<(), Error> {
        let mut db = self.pool.acquire().await?;
        self.unindexed(&mut db, scope, "").await
    }

    /// Keeps in mind that the index has yet to hear of every document of a collection.
    pub(crate) async fn unindex(&self, scope: &Scope) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO unindexed SELECT tenant, collection, id, 0 FROM documents
             WHERE tenant = ? AND collection = ? ON CONFLICT DO NOTHING",
        )
        .bind(scope.tenant.as_str())
        .bind(&scope.collection)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// A whole collection's index is that of a generation; documents are in whichever there is.
fn generation(scope: &Scope, document: &str) -> u32 {
    if document.is_empty() { scope.generation } else { 0 }
}

/// Reads the columns `tenant`, `collection` and `generation`.
fn scope(row: &SqliteRow) -> Result<Scope, Error> {
    let tenant = TenantId::new(row.try_get::<String, _>(0)?);
    let tenant = tenant.map_err(|fault| Error::Broken(fault.into()))?;
    Ok(Scope { tenant, collection: row.try_get(1)?, generation: row.try_get(2)? })
}
