//! Documents by their sources, as a collection's entries.

use proto::retriever::{Entry, TaskState};

use super::{Rows, add_fields, lock, on_the_wire, read_attributes, write_attributes};
use crate::Error;
use crate::attributes::Attributes;
use crate::database::{Row, transaction};
use crate::index::Scope;

/// A page of entries, by source.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page<'a> {
    /// Only those behind this source; empty: from the beginning.
    pub(crate) after: &'a str,
    /// The last source first.
    pub(crate) backwards: bool,
    pub(crate) count: u32,
}

impl Page<'_> {
    /// Returns how a `SELECT` of this page ends, from its last condition on. `column` holds the sources; `$3` is the source
    /// before the page, `$4` its length.
    pub(crate) fn rest_of_select(&self, column: &str) -> String {
        match (self.backwards, self.after) {
            // Every source is behind an empty one, for none is empty.
            (false, _) => format!("{column} > $3 ORDER BY {column} LIMIT $4"),
            // There is none before it; a statement has to name every parameter that is bound.
            (true, "") => format!("$3 = '' ORDER BY {column} DESC LIMIT $4"),
            (true, _) => format!("{column} < $3 ORDER BY {column} DESC LIMIT $4"),
        }
    }
}

impl Rows {
    /// Returns a page of the documents that are stored.
    pub(crate) async fn stored(&self, scope: &Scope, page: Page<'_>) -> Result<Vec<Entry>, Error> {
        let mut db = self.database.read().await?;
        let rows = db.made(format!(
            "SELECT source, id, attributes, updated_at, CAST(octet_length(text) AS BIGINT) FROM documents
             WHERE tenant = $1 AND collection = $2 AND {}",
            page.rest_of_select("source")
        ));
        let rows = rows.bind(scope.tenant.as_str()).bind(&scope.collection);
        let rows = rows.bind(page.after).bind(i64::from(page.count)).all().await?;
        let entry = |row: &Row| {
            Ok(Entry {
                source: row.get(0)?,
                state: TaskState::Done.into(),
                document_id: row.get(1)?,
                attributes: on_the_wire(&read_attributes(row.get(2)?)?),
                updated_at_ms: row.get(3)?,
                bytes: row.count(4)?,
                ..Entry::default()
            })
        };
        rows.iter().map(entry).collect()
    }

    /// Changes what the document of an id and source is filtered by, and what of it is on its way, in one transaction;
    /// also `private` when that is asked for.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is neither, [`Error::Invalid`] for an attribute that has another kind there or is one
    /// too many.
    pub(crate) async fn set_attributes(
        &self,
        scope: &Scope,
        (id, source): (&str, &str),
        attributes: &Attributes,
        private: bool,
    ) -> Result<(), Error> {
        let written = write_attributes(attributes)?;
        transaction!(self.database, |tx| {
            lock(tx, scope).await?;
            // Whoever works on it reads it again before it is stored.
            let tasks = tx.query(
                "UPDATE tasks SET attributes = $4, private = private OR $5
                 WHERE tenant = $1 AND collection = $2 AND source = $3 AND state <> 'done'",
            );
            let tasks = tasks.bind(scope.tenant.as_str()).bind(&scope.collection).bind(source);
            let waiting = tasks.bind(written.as_str()).bind(private).execute().await?;
            let documents = tx.query(
                "UPDATE documents SET attributes = $4, private = private OR $5
                 WHERE tenant = $1 AND collection = $2 AND id = $3",
            );
            let documents = documents.bind(scope.tenant.as_str()).bind(&scope.collection).bind(id);
            let stored = documents.bind(written.as_str()).bind(private).execute().await?;
            if waiting + stored == 0 {
                return Err(Error::NotFound(source.to_owned()));
            }
            add_fields(tx, scope, attributes).await?;
            match stored {
                0 => Ok(()),
                _ => self.unindexed(tx, scope, id).await,
            }
        })
    }
}
