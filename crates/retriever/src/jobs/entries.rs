//! What is on its way into collections.

use std::collections::HashMap;

use proto::retriever::{Collection, Entry};
use types::TenantId;

use super::queue::{Queue, read_state};
use crate::Error;
use crate::attributes::Attributes;
use crate::database::{Row, transaction};
use crate::index::Scope;
use crate::rows::{Page, on_the_wire};

impl Queue {
    /// Returns a page of what waits, is worked on or failed, by source; of one source what waits or is worked on, or else
    /// what failed, of the newest job.
    pub(crate) async fn entries(&self, scope: &Scope, page: Page<'_>) -> Result<Vec<Entry>, Error> {
        let mut db = self.database.read().await?;
        let rows = db.made(format!(
            "SELECT t.source, t.state, t.reason, t.attributes, t.updated_at FROM tasks t
             WHERE t.tenant = $1 AND t.collection = $2 AND t.state <> 'done' AND NOT EXISTS
             (SELECT 1 FROM tasks o WHERE o.tenant = t.tenant AND o.collection = t.collection
             AND o.source = t.source AND o.state <> 'done'
             AND (o.state <> 'failed', o.job) > (t.state <> 'failed', t.job)) AND {}",
            page.rest_of_select("t.source")
        ));
        let rows = rows.bind(scope.tenant.as_str()).bind(&scope.collection);
        let rows = rows.bind(page.after).bind(i64::from(page.count)).all().await?;
        let entry = |row: &Row| {
            let attributes: Attributes =
                serde_json::from_str(row.get(3)?).map_err(|fault| Error::Broken(fault.into()))?;
            Ok(Entry {
                source: row.get(0)?,
                state: read_state(row.get(1)?).into(),
                reason: row.get(2)?,
                attributes: on_the_wire(&attributes),
                updated_at_ms: row.get(4)?,
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
        let mut db = self.database.read().await?;
        let rows = db.query(
            "SELECT j.collection, COUNT(DISTINCT t.source) FILTER (WHERE t.state <> 'failed'),
             COUNT(DISTINCT t.source) FILTER (WHERE t.state <> 'failed' AND d.id IS NOT NULL),
             COUNT(DISTINCT t.source) FILTER (WHERE t.state = 'failed' AND d.id IS NULL)
             FROM jobs j JOIN tasks t ON t.tenant = j.tenant AND t.job = j.id AND t.state <> 'done'
             LEFT JOIN documents d ON d.tenant = j.tenant AND d.collection = j.collection AND d.source = t.source
             WHERE j.tenant = $1 AND ($2 IS NULL OR j.collection = $2) AND j.model IS NULL GROUP BY j.collection",
        );
        let mut counts = HashMap::new();
        for row in rows.bind(tenant.as_str()).bind(name).all().await? {
            let count = [row.count(1)?, row.count(2)?, row.count(3)?];
            counts.insert(row.get::<String>(0)?, count);
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
        let removed = transaction!(self.database, |tx| {
            let remove = tx.query(
                "DELETE FROM tasks WHERE tenant = $1 AND source = $3 AND state <> 'done' AND job IN
                 (SELECT id FROM jobs WHERE tenant = $1 AND collection = $2 AND model IS NULL)",
            );
            let remove = remove.bind(scope.tenant.as_str()).bind(&scope.collection);
            remove.bind(source).execute().await
        });
        Ok(removed? > 0)
    }
}
