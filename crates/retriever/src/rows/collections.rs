//! Collections and their fields.

use std::collections::HashMap;

use types::TenantId;

use super::{Rows, lock};
use crate::Error;
use crate::attributes::{Kind, Known};
use crate::database::{Tx, transaction};
use crate::index::Scope;

/// What every tenant has from its beginning.
pub(crate) const DEFAULT: &str = "default";

/// One collection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Collection {
    /// The identity of the model whose vectors it has; empty without one.
    pub(crate) model: String,
    /// How many numbers a vector has; 0 without a model.
    pub(crate) dimension: u32,
    /// Which of its indexes has them.
    pub(crate) generation: u32,
    /// It has no passage.
    pub(crate) is_empty: bool,
}

impl Rows {
    /// Makes a collection; tells whether it was not there.
    pub(crate) async fn create(&self, scope: &Scope, now_ms: i64) -> Result<bool, Error> {
        transaction!(self.database, |tx| { create(tx, scope, now_ms).await })
    }

    /// Changes what people call a collection, and what they note of it; what is none stays. Tells whether it is there.
    pub(crate) async fn change(
        &self,
        scope: &Scope,
        title: Option<&str>,
        metadata: Option<&HashMap<String, String>>,
    ) -> Result<bool, Error> {
        let metadata = metadata.map(serde_json::to_string).transpose();
        let metadata = metadata.map_err(|fault| Error::Broken(fault.into()))?;
        let changed = transaction!(self.database, |tx| {
            let change = tx.query(
                "UPDATE collections SET title = COALESCE($3, title), metadata = COALESCE($4, metadata)
                 WHERE tenant = $1 AND name = $2",
            );
            let change = change.bind(scope.tenant.as_str()).bind(&scope.collection);
            change.bind(title).bind(metadata.as_deref()).execute().await
        });
        Ok(changed? > 0)
    }

    /// Returns a collection; the default one is always there.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if there is none.
    pub(crate) async fn collection(&self, scope: &Scope) -> Result<Collection, Error> {
        let mut db = self.database.read().await?;
        let row = db.query(
            "SELECT model, dimension, generation, NOT EXISTS
             (SELECT 1 FROM documents d WHERE d.tenant = c.tenant AND d.collection = c.name AND d.passages > 0)
             FROM collections c WHERE tenant = $1 AND name = $2",
        );
        match row.bind(scope.tenant.as_str()).bind(&scope.collection).optional().await? {
            Some(row) => Ok(Collection {
                model: row.get(0)?,
                dimension: row.number(1)?,
                generation: row.number(2)?,
                is_empty: row.get(3)?,
            }),
            None if scope.collection == DEFAULT => {
                Ok(Collection { is_empty: true, ..Collection::default() })
            }
            None => Err(Error::NoCollection(scope.collection.clone())),
        }
    }

    /// Lists a tenant's collections by name, or the one of this name; without what is on its way into them.
    pub(crate) async fn collections(
        &self,
        tenant: &TenantId,
        name: Option<&str>,
    ) -> Result<Vec<proto::retriever::Collection>, Error> {
        let mut db = self.database.read().await?;
        let rows = db.query(
            "SELECT c.name, c.model, c.dimension, c.created_at, COUNT(d.id),
             CAST(COALESCE(SUM(d.passages), 0) AS BIGINT),
             CAST(COALESCE(SUM(octet_length(d.text)), 0) AS BIGINT), c.title, c.metadata
             FROM collections c LEFT JOIN documents d ON d.tenant = c.tenant AND d.collection = c.name
             WHERE c.tenant = $1 AND ($2 IS NULL OR c.name = $2)
             GROUP BY c.tenant, c.name ORDER BY c.name",
        );
        let rows = rows.bind(tenant.as_str()).bind(name).all().await?;
        drop(db);
        let mut collections = Vec::with_capacity(rows.len());
        for row in rows {
            let name: String = row.get(0)?;
            let scope = Scope { tenant: tenant.clone(), collection: name, generation: 0 };
            let known = self.known(&scope).await?;
            let fields = known.attributes().map(|(name, kind)| proto::retriever::Field {
                name: name.to_owned(),
                kind: kind.name().to_owned(),
            });
            collections.push(proto::retriever::Collection {
                model: row.get(1)?,
                dimension: row.number(2)?,
                created_at_ms: row.get(3)?,
                documents: row.count(4)?,
                passages: row.count(5)?,
                bytes: row.count(6)?,
                title: row.get(7)?,
                metadata: serde_json::from_str(row.get(8)?)
                    .map_err(|fault| Error::Broken(fault.into()))?,
                fields: fields.collect(),
                name: scope.collection,
                ..proto::retriever::Collection::default()
            });
        }
        Ok(collections)
    }

    /// Removes a collection with its documents; tells whether it was there.
    pub(crate) async fn remove(&self, scope: &Scope) -> Result<bool, Error> {
        transaction!(self.database, |tx| {
            tx.unhurried().await?;
            lock(tx, scope).await?;
            let gone = tx.query("DELETE FROM collections WHERE tenant = $1 AND name = $2");
            let gone = gone.bind(scope.tenant.as_str()).bind(&scope.collection).execute().await?;
            self.unindexed(tx, scope, "").await?;
            Ok(gone > 0)
        })
    }

    /// Returns a collection's fields.
    pub(crate) async fn known(&self, scope: &Scope) -> Result<Known, Error> {
        let mut db = self.database.read().await?;
        let rows = db.query("SELECT name, kind FROM fields WHERE tenant = $1 AND collection = $2");
        let rows = rows.bind(scope.tenant.as_str()).bind(&scope.collection).all().await?;
        let fields = rows.iter().map(|row| {
            let kind = Kind::named(row.get(1)?).unwrap_or(Kind::Text);
            Ok((row.get(0)?, kind))
        });
        Ok(Known::new(fields.collect::<Result<Vec<_>, Error>>()?))
    }
}

/// Makes a collection, if it is not there; tells whether it was not.
pub(super) async fn create(tx: &mut Tx, scope: &Scope, now_ms: i64) -> Result<bool, Error> {
    let made = tx.query(
        "INSERT INTO collections (tenant, name, model, dimension, created_at) VALUES ($1, $2, '', 0, $3)
         ON CONFLICT DO NOTHING",
    );
    let made = made.bind(scope.tenant.as_str()).bind(&scope.collection).bind(now_ms);
    Ok(made.execute().await? > 0)
}
