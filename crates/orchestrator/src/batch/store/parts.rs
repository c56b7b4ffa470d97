//! Parts of batches that are at a provider's batch API: journaled before anybody hears of them.

use futures::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;
use types::{NanoUsd, ReservationId};

use super::{Answer, Lease, MOST, Store, held};
use crate::Error;

/// How far a part has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The provider does not have it.
    Planned,
    /// The provider was asked, and may have it.
    Doubted,
    /// The provider has it, and calls it so.
    Begun(String),
}

/// Requests that go to a provider's batch API together.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) id: ReservationId,
    pub(crate) candidate: String,
    pub(crate) worst: NanoUsd,
    /// Or when it was submitted anew: the provider has begun none of it before.
    pub(crate) made_at: i64,
    pub(crate) stage: Stage,
}

/// A request's line and body.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) line: u32,
    pub(crate) body: Vec<u8>,
}

impl Store {
    /// Returns how many requests a batch has.
    pub(crate) async fn total(&self, lease: &Lease) -> Result<u32, Error> {
        let row = sqlx::query("SELECT total FROM batches WHERE id = ?")
            .bind(lease.batch.as_str())
            .fetch_one(&self.pool)
            .await?;
        Ok(row.try_get(0)?)
    }

    /// Returns requests behind line `after` that nobody has asked or offered yet, in order, of at most
    /// `bytes` together, or one; none behind the last.
    pub(crate) async fn unoffered(
        &self,
        lease: &Lease,
        after: u32,
        bytes: usize,
    ) -> Result<Vec<Body>, Error> {
        let mut rows = sqlx::query(
            "SELECT line, body FROM requests
             WHERE batch = ?1 AND line > ?2 AND +state = 'pending' AND attempts = 0 AND offered = 0
             ORDER BY line LIMIT 1000",
        )
        .bind(lease.batch.as_str())
        .bind(after)
        .fetch(&self.pool);
        let (mut read, mut length) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            let body: Vec<u8> = row.try_get(1)?;
            length += body.len();
            if length > bytes && !read.is_empty() {
                break;
            }
            read.push(Body { line: row.try_get(0)?, body });
        }
        Ok(read)
    }

    /// Makes a part of requests that wait, each with the most that it can cost; false when nothing of
    /// the batch is to begin any more.
    pub(crate) async fn part(
        &self,
        lease: &Lease,
        part: &Part,
        lines: &[(u32, NanoUsd)],
    ) -> Result<bool, Error> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let made = sqlx::query(
            "INSERT INTO parts (id, batch, candidate, worst, made_at)
             SELECT ?3, id, ?4, ?5, ?6 FROM batches
             WHERE id = ?1 AND lease = ?2 AND status = 'in_progress'",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(part.id.as_str())
        .bind(&part.candidate)
        .bind(part.worst.nanos())
        .bind(part.made_at)
        .execute(&mut *tx)
        .await?;
        if made.rows_affected() == 0 {
            return Ok(false);
        }
        for (line, worst) in lines {
            sqlx::query(
                "UPDATE requests SET state = 'running', part = ?3, offered = 1, worst = ?4
                 WHERE batch = ?1 AND line = ?2 AND state = 'pending'",
            )
            .bind(lease.batch.as_str())
            .bind(line)
            .bind(part.id.as_str())
            .bind(worst.nanos().min(MOST))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Returns the parts that an earlier process, or this one, left.
    pub(crate) async fn parts(&self, lease: &Lease) -> Result<Vec<Part>, Error> {
        let rows = sqlx::query("SELECT * FROM parts WHERE batch = ? ORDER BY id")
            .bind(lease.batch.as_str())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Notes how far a part has come; whoever lost the lease does not.
    pub(crate) async fn note(&self, lease: &Lease, part: &Part) -> Result<(), Error> {
        let (state, provider_id) = match &part.stage {
            Stage::Planned => ("planned", None),
            Stage::Doubted => ("doubted", None),
            Stage::Begun(id) => ("begun", Some(id)),
        };
        let noted = sqlx::query(
            "UPDATE parts SET state = ?4, provider_id = ?5, made_at = ?6 WHERE id = ?3
               AND EXISTS (SELECT 1 FROM batches WHERE id = ?1 AND lease = ?2)",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(part.id.as_str())
        .bind(state)
        .bind(provider_id)
        .bind(part.made_at)
        .execute(&self.pool)
        .await?;
        held(noted.rows_affected() > 0)
    }

    /// Returns the requests of a part.
    pub(crate) async fn of_part(&self, part: &Part) -> Result<Vec<Body>, Error> {
        let rows = sqlx::query("SELECT line, body FROM requests WHERE part = ? ORDER BY line")
            .bind(part.id.as_str())
            .fetch_all(&self.pool)
            .await?;
        let body = |row: &SqliteRow| Ok(Body { line: row.try_get(0)?, body: row.try_get(1)? });
        rows.iter().map(body).collect()
    }

    /// Returns how many requests a part has, and what providers call the other parts of any batch.
    pub(crate) async fn beside(&self, part: &Part) -> Result<(u32, Vec<String>), Error> {
        let size = sqlx::query("SELECT count(*) FROM requests WHERE part = ?")
            .bind(part.id.as_str())
            .fetch_one(&self.pool)
            .await?;
        let others =
            sqlx::query("SELECT provider_id FROM parts WHERE provider_id IS NOT NULL AND id <> ?")
                .bind(part.id.as_str())
                .fetch_all(&self.pool)
                .await?;
        let others = others.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok((size.try_get(0)?, others))
    }

    /// Ends a request of a part; false when it had ended before.
    pub(crate) async fn end_in_part(
        &self,
        lease: &Lease,
        part: &Part,
        line: u32,
        answer: &Answer,
    ) -> Result<bool, Error> {
        let ended = sqlx::query(
            "UPDATE requests SET state = CASE WHEN ?5 < 400 THEN 'completed' ELSE 'failed' END,
               http = ?5, request_id = ?6, answer = ?7, cost = ?8, worst = 0
             WHERE part = ?3 AND line = ?4 AND state = 'running'
               AND EXISTS (SELECT 1 FROM batches WHERE id = ?1 AND lease = ?2)",
        )
        .bind(lease.batch.as_str())
        .bind(lease.token.as_str())
        .bind(part.id.as_str())
        .bind(line)
        .bind(answer.http)
        .bind(&answer.request_id)
        .bind(&answer.body)
        .bind(answer.cost.nanos().min(MOST))
        .execute(&self.pool)
        .await?;
        Ok(ended.rows_affected() > 0)
    }

    /// Ends a part: what it did not answer waits to be asked by itself. When nobody knows what it
    /// cost, it may be all that it can, which is `lost`.
    pub(crate) async fn part_with(
        &self,
        lease: &Lease,
        part: &Part,
        lost: bool,
    ) -> Result<(), Error> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let gone = sqlx::query(
            "DELETE FROM parts WHERE id = ?3
               AND EXISTS (SELECT 1 FROM batches WHERE id = ?1 AND lease = ?2)",
        );
        let gone = gone.bind(lease.batch.as_str()).bind(lease.token.as_str());
        held(gone.bind(part.id.as_str()).execute(&mut *tx).await?.rows_affected() > 0)?;
        sqlx::query(
            "UPDATE requests SET state = 'pending', part = NULL, worst = 0,
               lost = min(lost + iif(?2, worst, 0), ?3)
             WHERE part = ?1 AND state = 'running'",
        )
        .bind(part.id.as_str())
        .bind(lost)
        .bind(MOST)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }
}

fn read(row: &SqliteRow) -> Result<Part, Error> {
    let provider_id: Option<String> = row.try_get("provider_id")?;
    let state: String = row.try_get("state")?;
    let stage = match (state.as_str(), provider_id) {
        ("planned", _) => Stage::Planned,
        ("doubted", _) => Stage::Doubted,
        ("begun", Some(id)) => Stage::Begun(id),
        _ => return Err(Error::Corrupt("part of a batch")),
    };
    Ok(Part {
        id: ReservationId::new(row.try_get::<String, _>("id")?)?,
        candidate: row.try_get("candidate")?,
        worst: NanoUsd::new(row.try_get("worst")?),
        made_at: row.try_get("made_at")?,
        stage,
    })
}
