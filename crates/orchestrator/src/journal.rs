use std::sync::Arc;

use prost::Message as _;
use proto::orchestrator::event::Kind;
use proto::orchestrator::{Event, Failed};
use sqlx::{Row as _, SqlitePool};
use tonic::Status;
use types::{Classify as _, Clock as _, RunId, SystemClock, TenantId};

use crate::Error;

/// What runs did, in SQLite: an event is in here before anybody sees it.
#[derive(Debug)]
pub(crate) struct Journal {
    pool: SqlitePool,
}

impl Journal {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    /// Appends `event`; its run and sequence name it, and the same name twice is an error.
    pub(crate) async fn append(&self, tenant: &TenantId, event: &Event) -> Result<(), Error> {
        let sequence = i64::try_from(event.sequence).unwrap_or(i64::MAX);
        sqlx::query(
            "INSERT INTO events (tenant, run, sequence, at_ms, event) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(tenant.as_str())
        .bind(&event.run_id)
        .bind(sequence)
        .bind(event.at_ms)
        .bind(event.encode_to_vec())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Returns what a run of `tenant` did, in order; nothing for a run that never was.
    pub(crate) async fn events(&self, tenant: &TenantId, run: &RunId) -> Result<Vec<Event>, Error> {
        let rows =
            sqlx::query("SELECT event FROM events WHERE tenant = ? AND run = ? ORDER BY sequence")
                .bind(tenant.as_str())
                .bind(run.as_str())
                .fetch_all(&self.pool)
                .await?;
        let decode = |row| {
            let bytes: Vec<u8> = sqlx::sqlite::SqliteRow::try_get(&row, 0)?;
            Ok(Event::decode(bytes.as_slice())?)
        };
        rows.into_iter().map(decode).collect()
    }
}

/// One run, as it goes on in its journal.
pub(crate) struct Record {
    tenant: TenantId,
    run: RunId,
    sequence: u64,
    journal: Arc<Journal>,
}

impl Record {
    pub(crate) fn new(tenant: TenantId, run: RunId, journal: Arc<Journal>) -> Self {
        Self { tenant, run, sequence: 0, journal }
    }

    /// Writes what happened next, and returns it as it was written.
    pub(crate) async fn write(&mut self, kind: Kind) -> Result<Event, Error> {
        self.sequence += 1;
        let event = Event {
            run_id: self.run.to_string(),
            sequence: self.sequence,
            at_ms: SystemClock.now_ms(),
            kind: Some(kind),
        };
        self.journal.append(&self.tenant, &event).await?;
        Ok(event)
    }
}

/// Returns the end of a run that failed, and the same as a caller's status.
pub(crate) fn failure(error: Error) -> (Kind, Status) {
    let code = runtime::error::code(error.kind()).to_owned();
    let status = Status::from(error);
    let message = status.message().to_owned();
    (Kind::Failed(Failed { code, message }), status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database;

    #[tokio::test]
    async fn a_tenant_reads_its_own_runs_in_order_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep/journal.db");
        let (ours, theirs) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let run = RunId::new("r").unwrap();
        let journal = Journal::new(database::open(&file).await.unwrap());
        for sequence in [2, 1] {
            let event = Event { run_id: "r".to_owned(), sequence, ..Event::default() };
            journal.append(&ours, &event).await.unwrap();
            assert!(journal.append(&ours, &event).await.is_err(), "an event is written once");
        }
        drop(journal);
        let journal = Journal::new(database::open(&file).await.unwrap());
        let events = journal.events(&ours, &run).await.unwrap();
        assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
        assert!(journal.events(&theirs, &run).await.unwrap().is_empty());
    }
}
