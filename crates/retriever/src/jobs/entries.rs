//! What is on its way into collections, and what one job added.

use std::collections::HashMap;

use proto::retriever::{Collection, Entry, TaskState};
use types::TenantId;

use super::queue::{Queue, read_state, written};
use crate::Error;
use crate::database::{Row, transaction};
use crate::index::Scope;
use crate::rows::{Page, on_the_wire, read_attributes};

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
        rows.iter().map(entry).collect()
    }

    /// Returns a page of an ingest job's documents in one of these states, or in any, by source: those that are done as
    /// they are stored, without those that are not any more.
    pub(crate) async fn entries_of(
        &self,
        scope: &Scope,
        job: &str,
        page: Page<'_>,
        states: &[TaskState],
    ) -> Result<Vec<Entry>, Error> {
        let states: Vec<String> = states
            .iter()
            .map(|state| format!("'{}'", written(*state).unwrap_or_default()))
            .collect();
        let wanted = match states.is_empty() {
            true => String::new(),
            false => format!("AND t.state IN ({})", states.join(", ")),
        };
        let mut db = self.database.read().await?;
        let rows = db.made(format!(
            "SELECT t.source, t.state, t.reason, COALESCE(d.attributes, t.attributes),
             COALESCE(d.updated_at, t.updated_at), CAST(COALESCE(octet_length(d.text), 0) AS BIGINT)
             FROM tasks t LEFT JOIN documents d
             ON d.tenant = t.tenant AND d.collection = $2 AND d.source = t.source AND t.state = 'done'
             WHERE t.tenant = $1 AND t.job = $5 AND (t.state <> 'done' OR d.id IS NOT NULL) {wanted} AND {}",
            page.rest_of_select("t.source")
        ));
        let rows = rows.bind(scope.tenant.as_str()).bind(&scope.collection);
        let rows = rows.bind(page.after).bind(i64::from(page.count)).bind(job).all().await?;
        rows.iter().map(|row| Ok(Entry { bytes: row.count(5)?, ..entry(row)? })).collect()
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

/// Reads the columns of source, state, reason, attributes and time.
fn entry(row: &Row) -> Result<Entry, Error> {
    Ok(Entry {
        source: row.get(0)?,
        state: read_state(row.get(1)?).into(),
        reason: row.get(2)?,
        attributes: on_the_wire(&read_attributes(row.get(3)?)?),
        updated_at_ms: row.get(4)?,
        ..Entry::default()
    })
}
