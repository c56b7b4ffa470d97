//! The requests of batches: what waits, is asked, has ended.

use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use types::NanoUsd;

use super::{Lease, MOST, Store, held};
use crate::Error;
use crate::batch::lines::Line;

/// How many rows one statement reads or removes, so that others get their turn.
const PAGE: u32 = 100;

/// A request that waits.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: i64,
    pub(crate) line: u32,
    pub(crate) not_before: i64,
    /// How often it was tried before.
    pub(crate) attempts: u32,
    pub(crate) body: Vec<u8>,
}

/// What became of a request that was asked.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) http: u16,
    pub(crate) request_id: String,
    pub(crate) body: Vec<u8>,
    /// What it cost for sure.
    pub(crate) cost: NanoUsd,
    /// What it can have cost besides.
    pub(crate) lost: NanoUsd,
}

/// A request that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) line: u32,
    pub(crate) custom_id: String,
    /// The answer's status; none when it was never asked.
    pub(crate) http: Option<u16>,
    pub(crate) request_id: String,
    pub(crate) answer: Vec<u8>,
}

impl Store {
    /// Forgets the requests that were read so far.
    pub(crate) async fn clear(&self, lease: &Lease) -> Result<(), Error> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let reset = sqlx::query(
            "UPDATE batches SET total = 0, completed = 0, failed = 0 WHERE id = ? AND lease = ?",
        );
        let reset = reset.bind(lease.batch.as_str()).bind(lease.token.as_str());
        held(reset.execute(&mut *tx).await?.rows_affected() > 0)?;
        let clear = sqlx::query("DELETE FROM requests WHERE batch = ?").bind(lease.batch.as_str());
        clear.execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Adds requests, all or none.
    pub(crate) async fn add(&self, lease: &Lease, lines: Vec<Line>) -> Result<(), Error> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        for line in lines {
            let added = sqlx::query(
                "INSERT INTO requests (batch, line, custom_id, body)
                 SELECT id, ?3, ?4, ?5 FROM batches WHERE id = ?1 AND lease = ?2",
            )
            .bind(lease.batch.as_str())
            .bind(lease.token.as_str())
            .bind(line.number)
            .bind(line.custom_id)
            .bind(line.body)
            .execute(&mut *tx)
            .await?;
            held(added.rows_affected() > 0)?;
        }
        Ok(tx.commit().await?)
    }

    /// Lets what was in flight when its process ended wait again, and returns what was or may have
    /// been spent so far.
    pub(crate) async fn resume(&self, lease: &Lease) -> Result<NanoUsd, Error> {
        sqlx::query(
            "UPDATE requests SET state = 'pending', lost = min(lost + worst, ?3), worst = 0
             WHERE batch = ?1 AND state = 'running' AND part IS NULL
               AND EXISTS (SELECT 1 FROM batches WHERE id = ?1 AND lease = ?2)",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(MOST)
        .execute(&self.pool)
        .await?;
        let row = sqlx::query("SELECT coalesce(sum(cost + lost), 0) FROM requests WHERE batch = ?")
            .bind(lease.batch.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(NanoUsd::new(row.try_get(0)?))
    }

    /// Returns the request to ask next; none when the batch is to begin no more.
    pub(crate) async fn next(&self, lease: &Lease) -> Result<Option<Request>, Error> {
        let row = sqlx::query(
            "SELECT id, line, not_before, attempts, body FROM requests
             WHERE batch = ?1 AND state = 'pending' AND EXISTS (SELECT 1 FROM batches
               WHERE id = ?1 AND lease = ?2 AND status = 'in_progress')
             ORDER BY not_before, line LIMIT 1",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Request {
            id: row.try_get(0)?,
            line: row.try_get(1)?,
            not_before: row.try_get(2)?,
            attempts: row.try_get(3)?,
            body: row.try_get(4)?,
        }))
    }

    /// Notes that a request is about to be asked; false when it must not be.
    pub(crate) async fn begin(
        &self,
        lease: &Lease,
        request: &Request,
        worst: NanoUsd,
    ) -> Result<bool, Error> {
        let begun = sqlx::query(
            "UPDATE requests SET state = 'running', attempts = attempts + 1, worst = ?4
             WHERE id = ?3 AND state = 'pending' AND EXISTS (SELECT 1 FROM batches
               WHERE id = ?1 AND lease = ?2 AND status = 'in_progress')",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(request.id)
        .bind(worst.nanos().min(MOST))
        .execute(&self.pool)
        .await?;
        Ok(begun.rows_affected() > 0)
    }

    /// Ends a request.
    pub(crate) async fn end(
        &self,
        lease: &Lease,
        request: &Request,
        answer: &Answer,
    ) -> Result<(), Error> {
        let ended = sqlx::query(
            "UPDATE requests SET state = CASE WHEN ?4 < 400 THEN 'completed' ELSE 'failed' END,
               http = ?4, request_id = ?5, answer = ?6, cost = ?7,
               lost = min(lost + ?8, ?9), worst = 0
             WHERE id = ?3 AND state IN ('pending', 'running')
               AND EXISTS (SELECT 1 FROM batches WHERE id = ?1 AND lease = ?2)",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(request.id)
        .bind(answer.http)
        .bind(&answer.request_id)
        .bind(&answer.body)
        .bind(answer.cost.nanos().min(MOST))
        .bind(answer.lost.nanos().min(MOST))
        .bind(MOST)
        .execute(&self.pool)
        .await?;
        held(ended.rows_affected() > 0)
    }

    /// Lets a request that nobody could answer wait for another attempt.
    pub(crate) async fn again(
        &self,
        lease: &Lease,
        request: &Request,
        not_before: i64,
        lost: NanoUsd,
    ) -> Result<(), Error> {
        let waits = sqlx::query(
            "UPDATE requests SET state = 'pending', not_before = ?4, worst = 0,
               attempts = ?5 + 1, lost = min(lost + ?6, ?7)
             WHERE id = ?3 AND state IN ('pending', 'running')
               AND EXISTS (SELECT 1 FROM batches WHERE id = ?1 AND lease = ?2)",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(request.id)
        .bind(not_before)
        .bind(request.attempts)
        .bind(lost.nanos().min(MOST))
        .bind(MOST)
        .execute(&self.pool)
        .await?;
        held(waits.rows_affected() > 0)
    }

    /// Ends every request that waits, unasked, and says why.
    pub(crate) async fn end_waiting(
        &self,
        lease: &Lease,
        code: &str,
        message: &str,
    ) -> Result<u64, Error> {
        let error = serde_json::json!({ "code": code, "message": message }).to_string();
        let ended = sqlx::query(
            "UPDATE requests SET state = 'failed', answer = ?3
             WHERE batch = ?1 AND state = 'pending'
               AND EXISTS (SELECT 1 FROM batches WHERE id = ?1 AND lease = ?2)",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(error.into_bytes())
        .execute(&self.pool)
        .await?;
        Ok(ended.rows_affected())
    }

    /// Returns requests that ended as `state` behind line `after`, in order; none behind the last.
    /// The plus keeps SQLite to the index by line, in which a page is a range.
    pub(crate) async fn ended(
        &self,
        lease: &Lease,
        state: &'static str,
        after: u32,
    ) -> Result<Vec<Ended>, Error> {
        let rows = sqlx::query(
            "SELECT line, custom_id, http, coalesce(request_id, ''), answer FROM requests
             WHERE batch = ? AND +state = ? AND line > ? ORDER BY line LIMIT ?",
        )
        .bind(lease.batch.as_str())
        .bind(state)
        .bind(after)
        .bind(PAGE)
        .fetch_all(&self.pool)
        .await?;
        let read = |row: SqliteRow| {
            Ok(Ended {
                line: row.try_get(0)?,
                custom_id: row.try_get(1)?,
                http: row.try_get(2)?,
                request_id: row.try_get(3)?,
                answer: row.try_get(4)?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// Removes requests of batches that have ended, a few at a time: their files tell what became of
    /// them, and whoever deletes a file wants its text gone.
    pub(crate) async fn purge(&self) -> Result<(), Error> {
        loop {
            let gone = sqlx::query(
                "DELETE FROM requests WHERE id IN (
                   SELECT requests.id FROM batches JOIN requests ON requests.batch = batches.id
                   WHERE batches.status IN ('failed', 'completed', 'expired', 'cancelled') LIMIT ?)",
            )
            .bind(PAGE)
            .execute(&self.pool)
            .await?;
            if gone.rows_affected() == 0 {
                return Ok(());
            }
        }
    }
}
