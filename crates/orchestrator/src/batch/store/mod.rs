//! Batches and their requests in SQLite, next to the journal.
//!
//! The queue is these rows and a lease, not a job queue of its own. `apalis-sqlite` 1.0 fits our `sqlx`,
//! but pushes a job in a transaction of its own, so that a batch and its job could part in a crash; it
//! leases workers and not jobs, so that a worker which lost a job is not told; and its migrations
//! want the table in which `sqlx` counts ours.

mod parts;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use proto::orchestrator::{Batch, BatchFault, BatchStatus};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqlitePool};
use types::{
    BatchId, CallContext, Clock, FileId, KeyId, LeaseId, NanoUsd, RunId, TeamId, TenantId, UserId,
};

use super::files::{Closed, File, privacy};
use super::{Endpoint, Fault, NewBatch, hours, status, status_name};
use crate::Error;

pub(crate) use parts::{Body, Part, Stage};
pub(crate) use requests::{Answer, Ended, Request};

const HOUR_MS: i64 = 60 * 60 * 1000;
/// A single request's most, so that no sum of a batch wraps; about 46,000 USD.
const MOST: i64 = i64::MAX / 200_000;

/// Every tenant's batches.
#[derive(Clone)]
pub(crate) struct Store {
    pool: SqlitePool,
    clock: Arc<dyn Clock>,
}

/// The right to work on a batch: whoever lost it changes nothing any more.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) batch: BatchId,
    token: LeaseId,
}

/// A batch to work on.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) lease: Lease,
    /// In whose name, and how privately.
    pub(crate) context: CallContext,
    pub(crate) endpoint: Endpoint,
    pub(crate) input: FileId,
    pub(crate) max_cost: Option<NanoUsd>,
    pub(crate) expires_at: i64,
    /// How long its creator said that they wait, in hours.
    pub(crate) hours: u32,
}

impl Store {
    pub(crate) fn new(pool: SqlitePool, clock: Arc<dyn Clock>) -> Self {
        Self { pool, clock }
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Stores a batch in the name of `context`; it is at least as private as its file.
    pub(crate) async fn create(
        &self,
        context: &CallContext,
        batch: &NewBatch,
        input: &File,
    ) -> Result<Batch, Error> {
        let (id, now) = (BatchId::generate(), self.now());
        let metadata = serde_json::to_string(&batch.metadata);
        sqlx::query(
            "INSERT INTO batches (id, tenant, team, user, key, privacy, endpoint, input_file, window,
               metadata, max_cost, status, created_at, expires_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'validating', ?, ?)",
        )
        .bind(id.as_str())
        .bind(context.tenant.as_str())
        .bind(context.team.as_ref().map(TeamId::as_str))
        .bind(context.user.as_str())
        .bind(context.key.as_ref().map(KeyId::as_str))
        .bind(context.privacy.raised_to(input.privacy).as_str())
        .bind(batch.endpoint.path())
        .bind(batch.input.as_str())
        .bind(&batch.window)
        .bind(metadata.map_err(|_| Error::Corrupt("metadata"))?)
        .bind(batch.max_cost.map(NanoUsd::nanos))
        .bind(now)
        .bind(now.saturating_add(i64::from(batch.hours) * HOUR_MS))
        .execute(&self.pool)
        .await?;
        self.find(&context.tenant, &id).await
    }

    pub(crate) async fn find(&self, tenant: &TenantId, id: &BatchId) -> Result<Batch, Error> {
        let row = sqlx::query("SELECT * FROM batches WHERE tenant = ? AND id = ?")
            .bind(tenant.as_str())
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await?;
        row.map_or_else(|| Err(Error::NoSuchBatch(id.to_string())), |row| shown(&row))
    }

    /// Returns a page, the newest first, and whether there is another.
    pub(crate) async fn list(
        &self,
        tenant: &TenantId,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<Batch>, bool), Error> {
        // Ids sort by age.
        let rows = sqlx::query(
            "SELECT * FROM batches WHERE tenant = ?1 AND (?2 = '' OR id < ?2) ORDER BY id DESC LIMIT ?3",
        )
        .bind(tenant.as_str())
        .bind(after)
        .bind(i64::from(limit) + 1)
        .fetch_all(&self.pool)
        .await?;
        let mut batches = rows.iter().map(shown).collect::<Result<Vec<_>, _>>()?;
        let more = batches.len() > limit as usize;
        batches.truncate(limit as usize);
        Ok((batches, more))
    }

    /// Lets nothing more of a batch begin.
    pub(crate) async fn cancel(&self, tenant: &TenantId, id: &BatchId) -> Result<Batch, Error> {
        sqlx::query(
            "UPDATE batches SET status = 'cancelling', cancelling_at = ?
             WHERE tenant = ? AND id = ? AND status IN ('validating', 'in_progress')",
        )
        .bind(self.now())
        .bind(tenant.as_str())
        .bind(id.as_str())
        .execute(&self.pool)
        .await?;
        let batch = self.find(tenant, id).await?;
        match batch.status() {
            BatchStatus::Cancelling | BatchStatus::Cancelled => Ok(batch),
            status => Err(Error::TooLate(status_name(status))),
        }
    }

    /// Takes a batch that nobody works on: of the tenant with the fewest under way, the oldest.
    pub(crate) async fn claim(&self, lasting: Duration) -> Result<Option<Claimed>, Error> {
        let (token, now) = (LeaseId::generate(), self.now());
        let row = sqlx::query(
            "UPDATE batches SET lease = ?1, lease_until = ?2 WHERE id = (
               SELECT id FROM batches AS waiting
               WHERE status IN ('validating', 'in_progress', 'cancelling', 'finalizing')
                 AND lease_until <= ?3
               ORDER BY (SELECT count(*) FROM batches AS busy
                         WHERE busy.tenant = waiting.tenant AND busy.lease_until > ?3), id
               LIMIT 1)
             RETURNING *",
        )
        .bind(token.as_str())
        .bind(now.saturating_add(millis(lasting)))
        .bind(now)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| claimed(&row, token)).transpose()
    }

    /// Keeps a lease; false when it is another's by now.
    pub(crate) async fn renew(&self, lease: &Lease, lasting: Duration) -> Result<bool, Error> {
        let until = self.now().saturating_add(millis(lasting));
        self.change(
            lease,
            "UPDATE batches SET lease_until = ?3 WHERE id = ?1 AND lease = ?2",
            until,
        )
        .await
    }

    /// Gives a lease back, so that nobody waits for its end.
    pub(crate) async fn release(&self, lease: &Lease) -> Result<(), Error> {
        let release =
            "UPDATE batches SET lease = NULL, lease_until = ?3 WHERE id = ?1 AND lease = ?2";
        self.change(lease, release, 0).await?;
        Ok(())
    }

    /// Returns how the batch stands.
    pub(crate) async fn status(&self, lease: &Lease) -> Result<BatchStatus, Error> {
        let row = sqlx::query("SELECT status FROM batches WHERE id = ? AND lease = ?")
            .bind(lease.batch.as_str())
            .bind(lease.token.as_str())
            .fetch_optional(&self.pool)
            .await?;
        status(row.ok_or(Error::LeaseLost)?.try_get(0)?)
    }

    /// Begins the requests, unless somebody has cancelled the batch.
    pub(crate) async fn start(&self, lease: &Lease) -> Result<(), Error> {
        let start = "UPDATE batches SET status = 'in_progress', in_progress_at = ?3
                     WHERE id = ?1 AND lease = ?2 AND status = 'validating'";
        self.change(lease, start, self.now()).await?;
        Ok(())
    }

    /// Ends the batch for what is wrong with its lines.
    pub(crate) async fn fail(&self, lease: &Lease, faults: &[Fault]) -> Result<(), Error> {
        let faults = serde_json::to_string(faults).map_err(|_| Error::Corrupt("list of faults"))?;
        let failed = sqlx::query(
            "UPDATE batches SET status = 'failed', total = 0, faults = ?3, ended_at = ?4,
               lease = NULL, lease_until = 0
             WHERE id = ?1 AND lease = ?2",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(faults)
        .bind(self.now())
        .execute(&self.pool)
        .await?;
        held(failed.rows_affected() > 0)
    }

    /// Notes that the batch's time was over before its requests had all begun.
    pub(crate) async fn expire(&self, lease: &Lease) -> Result<(), Error> {
        let expire = "UPDATE batches SET expired = ?3 WHERE id = ?1 AND lease = ?2";
        held(self.change(lease, expire, 1).await?)
    }

    /// Goes on to the writing of files, from which there is no way back; a cancelled batch stays one.
    pub(crate) async fn finalize(&self, lease: &Lease) -> Result<(), Error> {
        let finalize = "UPDATE batches SET status = 'finalizing', finalizing_at = ?3
                        WHERE id = ?1 AND lease = ?2 AND status = 'in_progress'";
        self.change(lease, finalize, self.now()).await?;
        Ok(())
    }

    /// Shows the files and ends the batch, at once, and returns how it ended.
    pub(crate) async fn finish(
        &self,
        lease: &Lease,
        output: Option<&Closed>,
        errors: Option<&Closed>,
    ) -> Result<BatchStatus, Error> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for (file, kind) in [(output, "output"), (errors, "error")] {
            if let Some(file) = file {
                file.publish(&format!("{}_{kind}.jsonl", lease.batch), &mut *tx).await?;
            }
        }
        let row = sqlx::query(
            "UPDATE batches SET
               status = CASE WHEN status = 'cancelling' THEN 'cancelled'
                             WHEN expired THEN 'expired' ELSE 'completed' END,
               output_file = ?3, error_file = ?4, ended_at = ?5, lease = NULL, lease_until = 0
             WHERE id = ?1 AND lease = ?2 AND status IN ('finalizing', 'cancelling')
             RETURNING status",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(output.map(|file| file.id.as_str()))
        .bind(errors.map(|file| file.id.as_str()))
        .bind(self.now())
        .fetch_optional(&mut *tx)
        .await?;
        let ended = status(row.ok_or(Error::LeaseLost)?.try_get(0)?)?;
        tx.commit().await?;
        Ok(ended)
    }

    /// Runs a statement on the batch of a lease; false when it changed nothing.
    async fn change(
        &self,
        lease: &Lease,
        statement: &'static str,
        value: i64,
    ) -> Result<bool, Error> {
        let changed = sqlx::query(statement)
            .bind(lease.batch.as_str())
            .bind(lease.token.as_str())
            .bind(value)
            .execute(&self.pool)
            .await?;
        Ok(changed.rows_affected() > 0)
    }
}

fn held(held: bool) -> Result<(), Error> {
    if held { Ok(()) } else { Err(Error::LeaseLost) }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn claimed(row: &SqliteRow, token: LeaseId) -> Result<Claimed, Error> {
    let text = |name: &str| -> Result<String, Error> { Ok(row.try_get(name)?) };
    let maybe = |name: &str| -> Result<Option<String>, Error> { Ok(row.try_get(name)?) };
    let batch = BatchId::new(text("id")?)?;
    let mut context =
        CallContext::new(TenantId::new(text("tenant")?)?, UserId::new(text("user")?)?);
    context.team = maybe("team")?.map(TeamId::new).transpose()?;
    context.key = maybe("key")?.map(KeyId::new).transpose()?;
    context.run = Some(RunId::new(batch.as_str())?);
    context.privacy = privacy(&text("privacy")?);
    let max_cost: Option<i64> = row.try_get("max_cost")?;
    Ok(Claimed {
        context,
        endpoint: Endpoint::at(&text("endpoint")?).ok_or(Error::Corrupt("endpoint"))?,
        input: FileId::new(text("input_file")?)?,
        max_cost: max_cost.map(NanoUsd::new),
        expires_at: row.try_get("expires_at")?,
        hours: hours(&text("window")?).ok_or(Error::Corrupt("window"))?,
        lease: Lease { batch, token },
    })
}

fn shown(row: &SqliteRow) -> Result<Batch, Error> {
    let text = |name: &str| -> Result<String, Error> {
        Ok(row.try_get::<Option<String>, _>(name)?.unwrap_or_default())
    };
    let time = |name: &str| -> Result<i64, Error> {
        Ok(row.try_get::<Option<i64>, _>(name)?.unwrap_or_default())
    };
    let faults: Vec<Fault> =
        serde_json::from_str(&text("faults")?).map_err(|_| Error::Corrupt("list of faults"))?;
    let metadata = serde_json::from_str(&text("metadata")?);
    let fault = |fault: Fault| BatchFault {
        code: fault.code,
        line: fault.line.unwrap_or_default(),
        message: fault.message,
        param: fault.param.unwrap_or_default(),
    };
    Ok(Batch {
        id: text("id")?,
        endpoint: text("endpoint")?,
        input_file_id: text("input_file")?,
        completion_window: text("window")?,
        status: status(&text("status")?)?.into(),
        faults: faults.into_iter().map(fault).collect(),
        output_file_id: text("output_file")?,
        error_file_id: text("error_file")?,
        created_at_ms: time("created_at")?,
        in_progress_at_ms: time("in_progress_at")?,
        expires_at_ms: time("expires_at")?,
        finalizing_at_ms: time("finalizing_at")?,
        ended_at_ms: time("ended_at")?,
        cancelling_at_ms: time("cancelling_at")?,
        total: row.try_get("total")?,
        completed: row.try_get("completed")?,
        failed: row.try_get("failed")?,
        metadata: metadata.map_err(|_| Error::Corrupt("metadata"))?,
        cost_nanos: row.try_get("cost")?,
    })
}
