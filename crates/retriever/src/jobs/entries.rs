//! What is on its way into collections.

use std::collections::HashMap;

use proto::retriever::{Collection, Entry};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use types::TenantId;

use super::queue::{Queue, read_state};
use crate::Error;
use crate::attributes::Attributes;
use crate::index::Scope;
use crate::rows::{Page, on_the_wire};

impl Queue {
    /// Returns a page of what waits, is worked on or failed, by source; of one source what was added last comes last. Of
    /// the last source of a whole page there may be more.
    pub(crate) async fn entries(&self, scope: &Scope, page: Page<'_>) -> Result<Vec<Entry>, Error> {
        let (behind, order) = page.order();
        let statement = format!(
            "SELECT t.source, t.state, t.reason, t.attributes, t.updated_at FROM jobs j
             JOIN tasks t ON t.tenant = j.tenant AND t.job = j.id AND t.state <> 'done'
             WHERE j.tenant = $1 AND j.collection = $2 AND j.model IS NULL AND ($3 = '' OR t.source {behind} $3)
             ORDER BY t.source {order}, t.job LIMIT $4"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .bind(page.after)
            .bind(i64::from(page.count))
            .fetch_all(&self.pool)
            .await?;
        let entry = |row: &SqliteRow| {
            let attributes: Attributes = serde_json::from_str(row.try_get(3)?)
                .map_err(|fault| Error::Broken(fault.into()))?;
            Ok(Entry {
                source: row.try_get(0)?,
                state: read_state(row.try_get(1)?).into(),
                reason: row.try_get(2)?,
                attributes: on_the_wire(&attributes),
                updated_at_ms: row.try_get(4)?,
                ..Entry::default()
            })
        };
        rows.iter().map(entry).collect()
    }

    /// Says of collections how much is on its way into them.
    pub(crate) async fn count_open(
        &self,
        tenant: &TenantId,
        collections: &mut [Collection],
    ) -> Result<(), Error> {
        let name = match &collections {
            [one] => Some(one.name.clone()),
            _ => None,
        };
        let rows = sqlx::query(
            "SELECT j.collection, COUNT(DISTINCT t.source) FILTER (WHERE t.state <> 'failed'),
             COUNT(DISTINCT t.source) FILTER (WHERE t.state <> 'failed' AND d.id IS NOT NULL),
             COUNT(DISTINCT t.source) FILTER (WHERE t.state = 'failed' AND d.id IS NULL)
             FROM jobs j JOIN tasks t ON t.tenant = j.tenant AND t.job = j.id AND t.state <> 'done'
             LEFT JOIN documents d ON d.tenant = j.tenant AND d.collection = j.collection AND d.source = t.source
             WHERE j.tenant = $1 AND ($2 IS NULL OR j.collection = $2) AND j.model IS NULL GROUP BY j.collection",
        )
        .bind(tenant.as_str())
        .bind(name)
        .fetch_all(&self.pool)
        .await?;
        let mut counts = HashMap::new();
        for row in rows {
            let count = |at: usize| Ok::<_, Error>(row.try_get::<i64, _>(at)?.unsigned_abs());
            counts.insert(row.try_get::<String, _>(0)?, [count(1)?, count(2)?, count(3)?]);
        }
        for collection in collections {
            let [waiting, stored, failed] =
                counts.get(&collection.name).copied().unwrap_or_default();
            collection.waiting = waiting;
            collection.waiting_stored = stored;
            collection.failed = failed;
        }
        Ok(())
    }

    /// Removes what of one source waits, is worked on or failed; tells whether there was any.
    pub(crate) async fn forget(&self, scope: &Scope, source: &str) -> Result<bool, Error> {
        let removed = sqlx::query(
            "DELETE FROM tasks WHERE tenant = $1 AND source = $3 AND state <> 'done' AND job IN
             (SELECT id FROM jobs WHERE tenant = $1 AND collection = $2 AND model IS NULL)",
        )
        .bind(scope.tenant.as_str())
        .bind(&scope.collection)
        .bind(source)
        .execute(&self.pool)
        .await?;
        Ok(removed.rows_affected() > 0)
    }
}
