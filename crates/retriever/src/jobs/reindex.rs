//! Jobs that give a collection's documents vectors of another model.

use proto::retriever::Job;
use types::{CallContext, Clock as _, JobId, KeyId, SystemClock, TeamId};

use super::queue::{Queue, creator};
use crate::Error;
use crate::database::{locked, transaction};
use crate::index::Scope;

/// A job all of whose documents have their vectors.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) id: JobId,
    /// In the name of whoever made it.
    pub(crate) context: CallContext,
    pub(crate) collection: String,
    /// The identity of the model that the collection goes to.
    pub(crate) model: String,
}

impl Queue {
    /// Makes a job of all documents of a collection, in one transaction.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there is one of this collection that has not ended.
    pub(crate) async fn reindex(
        &self,
        scope: &Scope,
        context: &CallContext,
        model: &str,
    ) -> Result<Job, Error> {
        let (id, now) = (JobId::generate(), SystemClock.now_ms());
        let (tenant, name) = (scope.tenant.as_str(), &scope.collection);
        transaction!(self.database, |tx| {
            tx.unhurried().await?;
            // Of two that begin at once one comes first.
            let first = locked!(tx, "SELECT 1 FROM collections WHERE tenant = $1 AND name = $2");
            let first = first.bind(tenant).bind(name).optional().await?;
            first.ok_or_else(|| Error::NoCollection(name.clone()))?;
            // One for another model is of no use any more.
            let useless = tx.query(
                "DELETE FROM jobs WHERE tenant = $1 AND collection = $2 AND model <> $3 AND NOT switched",
            );
            useless.bind(tenant).bind(name).bind(model).execute().await?;
            let other = tx.query(
                "SELECT id FROM jobs
                 WHERE tenant = $1 AND collection = $2 AND model IS NOT NULL AND NOT switched",
            );
            if let Some(other) = other.bind(tenant).bind(name).optional().await? {
                let other: &str = other.get(0)?;
                return Err(Error::Conflict(format!("job {other} re-indexes {name:?} already")));
            }
            tx.query(
                "INSERT INTO jobs (tenant, id, collection, created_at, team, \"user\", key, model)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(tenant)
            .bind(id.as_str())
            .bind(name)
            .bind(now)
            .bind(context.team.as_ref().map(TeamId::as_str))
            .bind(context.user.as_str())
            .bind(context.key.as_ref().map(KeyId::as_str))
            .bind(model)
            .execute()
            .await?;
            let tasks = tx.query(
                "INSERT INTO tasks (tenant, job, source, media_type, attributes, private, content, state, reason,
                 document, attempts, lease, due_at, updated_at)
                 SELECT tenant, $3, source, media_type, '{}', private, NULL, 'queued', '', id, 0, '', $4, $4
                 FROM documents WHERE tenant = $1 AND collection = $2",
            );
            tasks.bind(tenant).bind(name).bind(id.as_str()).bind(now).execute().await
        })?;
        self.bell.notify_one();
        self.read(&scope.tenant, id.as_str()).await
    }

    /// Returns the jobs all of whose documents have their vectors, and which have not switched.
    pub(crate) async fn finished(&self) -> Result<Vec<Finished>, Error> {
        let mut db = self.database.read().await?;
        let rows = db.query(
            "SELECT tenant, team, \"user\", key, id, collection, model FROM jobs j
             WHERE model IS NOT NULL AND NOT switched AND NOT EXISTS
             (SELECT 1 FROM tasks t WHERE t.tenant = j.tenant AND t.job = j.id AND t.state <> 'done')",
        );
        let rows = rows.all().await?;
        let finished = rows.iter().map(|row| {
            let id = JobId::new(row.get::<String>(4)?);
            Ok(Finished {
                id: id.map_err(|fault| Error::Broken(fault.into()))?,
                context: creator(row, [0, 1, 2, 3], false)?,
                collection: row.get(5)?,
                model: row.get(6)?,
            })
        });
        finished.collect()
    }

    /// Waits until a document's work may have ended.
    pub(crate) async fn has_ended(&self) {
        self.ended.notified().await;
    }

    /// Says of a document of a job that it could not get its vectors.
    pub(crate) async fn refuse(
        &self,
        scope: &Scope,
        job: &JobId,
        document: &str,
        reason: &str,
    ) -> Result<(), Error> {
        transaction!(self.database, |tx| {
            tx.query(
                "INSERT INTO tasks (tenant, job, source, media_type, attributes, private, content, state, reason,
                 document, attempts, lease, due_at, updated_at)
                 SELECT tenant, $4, source, media_type, '{}', private, NULL, 'failed', $5, id, 1, '', $6, $6
                 FROM documents WHERE tenant = $1 AND collection = $2 AND id = $3
                 ON CONFLICT (tenant, job, source) DO UPDATE SET state = 'failed', reason = $5, updated_at = $6",
            )
            .bind(scope.tenant.as_str())
            .bind(&scope.collection)
            .bind(document)
            .bind(job.as_str())
            .bind(reason)
            .bind(SystemClock.now_ms())
            .execute()
            .await
        })?;
        Ok(())
    }
}
