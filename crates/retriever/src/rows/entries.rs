//! Documents by their sources, as a collection's entries.

use proto::retriever::{Entry, TaskState};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::{Rows, on_the_wire, read_attributes, unsigned};
use crate::Error;
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
    /// Returns how a source is compared with the one that it is behind, and in which order they come.
    pub(crate) fn order(&self) -> (&'static str, &'static str) {
        if self.backwards { ("<", "DESC") } else { (">", "ASC") }
    }
}

impl Rows {
    /// Returns a page of the documents that are stored.
    pub(crate) async fn stored(&self, scope: &Scope, page: Page<'_>) -> Result<Vec<Entry>, Error> {
        let (behind, order) = page.order();
        let statement = format!(
            "SELECT source, id, attributes, updated_at, octet_length(text) FROM documents
             WHERE tenant = $1 AND collection = $2 AND ($3 = '' OR source {behind} $3)
             ORDER BY source {order} LIMIT $4"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .bind(page.after)
            .bind(i64::from(page.count))
            .fetch_all(&self.readers)
            .await?;
        let entry = |row: &SqliteRow| {
            Ok(Entry {
                source: row.try_get(0)?,
                state: TaskState::Done.into(),
                document_id: row.try_get(1)?,
                attributes: on_the_wire(&read_attributes(row.try_get(2)?)?),
                updated_at_ms: row.try_get(3)?,
                bytes: unsigned(row.try_get(4)?),
                ..Entry::default()
            })
        };
        rows.iter().map(entry).collect()
    }
}
