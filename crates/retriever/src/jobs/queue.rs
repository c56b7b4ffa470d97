//! Jobs and their tasks as rows.

use std::sync::Arc;

use proto::retriever::{Job, TaskState};
use tokio::sync::Notify;
use types::{
    CallContext, Clock as _, JobId, KeyId, LeaseId, Privacy, SystemClock, TeamId, TenantId, UserId,
};

use crate::Error;
use crate::attributes::Attributes;
use crate::database::{Database, Row, Tx, locked, transaction};
use crate::index::Scope;
use crate::rows::{read_attributes, write_attributes};
use crate::store::Put;

/// A tenant's documents that wait have at most so many bytes, …
const MOST_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// … and there are at most so many of them.
const MOST_TASKS: i64 = 100_000;

/// The states as they are written.
const STATES: [(TaskState, &str); 4] = [
    (TaskState::Queued, "queued"),
    (TaskState::Running, "running"),
    (TaskState::Done, "done"),
    (TaskState::Failed, "failed"),
];

/// Every tenant's jobs.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(super) database: Arc<Database>,
    pub(super) bell: Notify,
    pub(super) ended: Notify,
}

/// A document to be worked on.
#[derive(Debug)]
pub(crate) struct Task {
    /// In the name of whoever made the job, as private as the document.
    pub(crate) context: CallContext,
    pub(crate) collection: String,
    pub(crate) work: Work,
    /// With this one.
    pub(crate) attempts: u32,
}

/// A document that is added to a job.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) put: Put,
    /// Its source is an address, from which it is fetched.
    pub(crate) fetch: bool,
}

/// What a task is.
#[derive(Debug)]
pub(crate) enum Work {
    /// A document is to be stored.
    Put(Put),
    /// One is to be fetched from the address that is its source, and stored.
    Fetch(Put),
    /// A stored one is to have vectors of another model.
    Prepare { document: String, model: String },
}

/// How work on a task ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The document has this id.
    Done(String),
    /// It will not be better later, for this reason.
    Failed(String),
    /// It may be better at this time, for this reason.
    Later(String, i64),
}

impl Queue {
    /// Opens the queue. Where nobody else works on this database (it is not `shared`), what was worked on when a process
    /// died waits again; elsewhere it does when its lease ends.
    ///
    /// # Errors
    /// If the database fails.
    pub(crate) async fn open(database: Arc<Database>, shared: bool) -> Result<Self, Error> {
        if !shared {
            transaction!(database, |tx| {
                let again = tx.query(
                    "UPDATE tasks SET state = 'queued', lease = '', due_at = updated_at WHERE state = 'running'",
                );
                again.execute().await
            })?;
        }
        Ok(Self { database, bell: Notify::new(), ended: Notify::new() })
    }

    /// Waits until something may have become due.
    pub(crate) async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Makes a job, in the name of whoever pays for what its documents cost, with its `first` documents in one
    /// transaction.
    ///
    /// # Errors
    /// [`Error::NoCollection`] if its collection was removed, [`Error::Full`] if too much waits; then there is no job.
    pub(crate) async fn create(
        &self,
        scope: &Scope,
        context: &CallContext,
        first: &[Added],
    ) -> Result<Job, Error> {
        let (id, now) = (JobId::generate(), SystemClock.now_ms());
        transaction!(self.database, |tx| {
            let there = locked!(
                tx,
                "SELECT 1 FROM collections WHERE tenant = $1 AND name = $2",
                " FOR KEY SHARE"
            );
            let there = there.bind(scope.tenant.as_str()).bind(&scope.collection);
            let missing = || Error::NoCollection(scope.collection.clone());
            there.optional().await?.ok_or_else(missing)?;
            tx.query(
                "INSERT INTO jobs (tenant, id, collection, created_at, team, \"user\", key)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)",
            )
            .bind(scope.tenant.as_str())
            .bind(id.as_str())
            .bind(&scope.collection)
            .bind(now)
            .bind(context.team.as_ref().map(TeamId::as_str))
            .bind(context.user.as_str())
            .bind(context.key.as_ref().map(KeyId::as_str))
            .execute()
            .await?;
            if !first.is_empty() {
                check_waiting(tx, &scope.tenant).await?;
            }
            for added in first {
                insert(tx, &scope.tenant, id.as_str(), added, now).await?;
            }
            Ok(())
        })?;
        self.bell.notify_one();
        let (id, collection, queued) = (id.to_string(), scope.collection.clone(), first.len());
        Ok(Job { id, collection, created_at_ms: now, queued: queued as u64, ..Job::default() })
    }

    /// Adds a document in one transaction.
    ///
    /// # Errors
    /// [`Error::NoJob`] if there is no such job, [`Error::Full`] if too much waits.
    pub(crate) async fn add(
        &self,
        tenant: &TenantId,
        job: &str,
        added: &Added,
    ) -> Result<(), Error> {
        let now = SystemClock.now_ms();
        transaction!(self.database, |tx| {
            check_waiting(tx, tenant).await?;
            let there = locked!(
                tx,
                "SELECT 1 FROM jobs WHERE tenant = $1 AND id = $2 AND model IS NULL",
                " FOR KEY SHARE"
            );
            let there = there.bind(tenant.as_str()).bind(job).optional().await?;
            there.ok_or_else(|| Error::NoJob(job.to_owned()))?;
            insert(tx, tenant, job, added, now).await
        })?;
        self.bell.notify_one();
        Ok(())
    }

    /// Takes the task that has been due longest; one whose lease ended is due again.
    pub(crate) async fn claim(
        &self,
        lease: &LeaseId,
        now: i64,
        until: i64,
    ) -> Result<Option<Task>, Error> {
        let row = transaction!(self.database, |tx| {
            // What others are taking, or are about to end, is theirs.
            let due = locked!(
                tx,
                "SELECT tenant, job, source FROM tasks
                 WHERE state IN ('queued', 'running') AND due_at <= $1 ORDER BY due_at LIMIT 1",
                " FOR NO KEY UPDATE SKIP LOCKED"
            );
            let Some(due) = due.bind(now).optional().await? else { return Ok(None) };
            tx.query(
                "UPDATE tasks SET state = 'running', lease = $1, due_at = $2, attempts = attempts + 1, updated_at = $3
                 WHERE tenant = $4 AND job = $5 AND source = $6
                 RETURNING tenant, job, source, media_type, attributes, private, content, attempts,
                 (SELECT collection FROM jobs j WHERE j.tenant = tasks.tenant AND j.id = tasks.job),
                 (SELECT team FROM jobs j WHERE j.tenant = tasks.tenant AND j.id = tasks.job),
                 (SELECT \"user\" FROM jobs j WHERE j.tenant = tasks.tenant AND j.id = tasks.job),
                 (SELECT key FROM jobs j WHERE j.tenant = tasks.tenant AND j.id = tasks.job), document,
                 (SELECT model FROM jobs j WHERE j.tenant = tasks.tenant AND j.id = tasks.job), by_address",
            )
            .bind(lease.as_str())
            .bind(until)
            .bind(now)
            .bind(due.get::<&str>(0)?)
            .bind(due.get::<&str>(1)?)
            .bind(due.get::<&str>(2)?)
            .optional()
            .await
        })?;
        let Some(row) = row else { return Ok(None) };
        // There may be more for another worker.
        self.bell.notify_one();
        let private = row.get::<Option<bool>>(5)?;
        let context = creator(&row, [0, 9, 10, 11], private == Some(true))?;
        let (collection, attempts) = (row.get(8)?, row.number(7)?);
        if let Some(model) = row.get(13)? {
            let work = Work::Prepare { document: row.get(12)?, model };
            return Ok(Some(Task { context, collection, work, attempts }));
        }
        let put = Put {
            source: row.get(2)?,
            media_type: row.get(3)?,
            attributes: read_attributes(row.get(4)?)?,
            private,
            content: row.get::<Vec<u8>>(6)?.into(),
        };
        let work = if row.get(14)? { Work::Fetch(put) } else { Work::Put(put) };
        Ok(Some(Task { context, collection, work, attempts }))
    }

    /// Returns what is said by now of the document that a task is: what it is filtered by, and whether it is private.
    ///
    /// # Errors
    /// [`Error::Lost`] if the lease is another's.
    pub(crate) async fn said(&self, lease: &LeaseId) -> Result<(Attributes, Option<bool>), Error> {
        let mut db = self.database.read().await?;
        let row = db
            .query("SELECT attributes, private FROM tasks WHERE lease = $1 AND state = 'running'");
        let row = row.bind(lease.as_str()).optional().await?.ok_or(Error::Lost)?;
        Ok((read_attributes(row.get(0)?)?, row.get(1)?))
    }

    /// Says that the task is still worked on.
    pub(crate) async fn renew(&self, lease: &LeaseId, until: i64) -> Result<(), Error> {
        transaction!(self.database, |tx| {
            let renew = "UPDATE tasks SET due_at = $1 WHERE lease = $2 AND state = 'running'";
            tx.query(renew).bind(until).bind(lease.as_str()).execute().await
        })?;
        Ok(())
    }

    /// Keeps how work on a task ended; whoever lost its lease changes nothing.
    pub(crate) async fn end(&self, lease: &LeaseId, end: End) -> Result<(), Error> {
        let now = SystemClock.now_ms();
        let (state, reason, document, due) = match end {
            End::Done(document) => ("done", String::new(), document, now),
            End::Failed(reason) => ("failed", reason, String::new(), now),
            End::Later(reason, due) => ("queued", reason, String::new(), due),
        };
        // What failed is kept for another attempt.
        transaction!(self.database, |tx| {
            tx.query(
                "UPDATE tasks SET state = $1, reason = $2,
                 document = CASE $3 WHEN '' THEN document ELSE $3 END,
                 due_at = $4, updated_at = $5, lease = '',
                 content = CASE $1 WHEN 'done' THEN NULL ELSE content END,
                 attempts = attempts - CASE $1 WHEN 'queued' THEN 1 ELSE 0 END
                 WHERE lease = $6 AND state = 'running'",
            )
            .bind(state)
            .bind(&reason)
            .bind(&document)
            .bind(due)
            .bind(now)
            .bind(lease.as_str())
            .execute()
            .await
        })?;
        self.ended.notify_one();
        Ok(())
    }

    /// Has what failed worked on again; returns how many documents that is. Those whose bytes are gone stay failed.
    pub(crate) async fn retry(&self, tenant: &TenantId, job: &str) -> Result<u64, Error> {
        self.bare(tenant, job).await?;
        // A re-index has no bytes: its documents are stored.
        let queued = transaction!(self.database, |tx| {
            tx.query(
                "UPDATE tasks SET state = 'queued', reason = '', attempts = 0, due_at = $3, updated_at = $3
                 WHERE tenant = $1 AND job = $2 AND state = 'failed' AND (content IS NOT NULL OR EXISTS
                 (SELECT 1 FROM jobs WHERE tenant = $1 AND id = $2 AND model IS NOT NULL))",
            )
            .bind(tenant.as_str())
            .bind(job)
            .bind(SystemClock.now_ms())
            .execute()
            .await
        })?;
        self.bell.notify_one();
        Ok(queued)
    }

    /// Removes a job with its documents, but for what of them is stored. Whoever works on one has lost it.
    ///
    /// # Errors
    /// [`Error::NoJob`] if there is none.
    pub(crate) async fn remove(&self, tenant: &TenantId, id: &str) -> Result<(), Error> {
        match transaction!(self.database, |tx| {
            tx.unhurried().await?;
            let remove = tx.query("DELETE FROM jobs WHERE tenant = $1 AND id = $2");
            remove.bind(tenant.as_str()).bind(id).execute().await
        })? {
            0 => Err(Error::NoJob(id.to_owned())),
            _ => Ok(()),
        }
    }

    /// Removes the bytes of every tenant's documents that failed at `until_ms` or before, and says so in their reasons.
    /// What is fetched has none: it is fetched anew.
    pub(crate) async fn drop_failed(&self, until_ms: i64) -> Result<(), Error> {
        transaction!(self.database, |tx| {
            let forget = tx.query(
                "UPDATE tasks SET content = NULL, reason = reason || '; its bytes were dropped since: send it again'
                 WHERE state = 'failed' AND content IS NOT NULL AND NOT by_address AND updated_at <= $1",
            );
            forget.bind(until_ms).execute().await
        })?;
        Ok(())
    }

    /// Returns a job.
    ///
    /// # Errors
    /// [`Error::NoJob`] if there is none.
    pub(crate) async fn read(&self, tenant: &TenantId, id: &str) -> Result<Job, Error> {
        let found = self.jobs(tenant, "id = $3", &[id], 1).await?.pop();
        found.ok_or_else(|| Error::NoJob(id.to_owned()))
    }

    /// Returns a job without counting its documents: that takes as long, however many there are.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) async fn bare(&self, tenant: &TenantId, id: &str) -> Result<Job, Error> {
        let mut db = self.database.read().await?;
        let row = db.query(
            "SELECT id, collection, created_at, model, switched FROM jobs WHERE tenant = $1 AND id = $2",
        );
        let row = row.bind(tenant.as_str()).bind(id).optional().await?;
        let row = row.ok_or_else(|| Error::NoJob(id.to_owned()))?;
        Ok(Job {
            id: row.get(0)?,
            collection: row.get(1)?,
            created_at_ms: row.get(2)?,
            model: row.get(3)?,
            switched: row.get(4)?,
            ..Job::default()
        })
    }

    /// Returns at most `count` jobs that were made before one (the newest, when that is empty), the newest first: of the
    /// collections that are named, or begin as something before a `*`; of all when none is.
    pub(crate) async fn list(
        &self,
        tenant: &TenantId,
        before: &str,
        collections: &[String],
        count: u32,
    ) -> Result<Vec<Job>, Error> {
        // Ids sort by age.
        let mut only = "($3 = '' OR id < $3)".to_owned();
        let (mut values, mut named) = (vec![before], Vec::new());
        for (collection, place) in collections.iter().zip(4..) {
            let (value, condition) = match collection.strip_suffix('*') {
                Some(beginning) => {
                    (beginning, format!("substr(collection, 1, length(${place})) = ${place}"))
                }
                None => (collection.as_str(), format!("collection = ${place}")),
            };
            values.push(value);
            named.push(condition);
        }
        if !named.is_empty() {
            only = format!("{only} AND ({})", named.join(" OR "));
        }
        self.jobs(tenant, &only, &values, count).await
    }

    /// Returns at most `count` jobs that meet a condition, the newest first; its values begin with `$3`.
    async fn jobs(
        &self,
        tenant: &TenantId,
        only: &str,
        values: &[&str],
        count: u32,
    ) -> Result<Vec<Job>, Error> {
        let mut db = self.database.read().await?;
        let query = db.made(format!(
            "SELECT j.id, j.collection, j.created_at, COUNT(*) FILTER (WHERE t.state = 'queued'),
             COUNT(*) FILTER (WHERE t.state = 'running'), COUNT(*) FILTER (WHERE t.state = 'done'),
             COUNT(*) FILTER (WHERE t.state = 'failed'), j.model, j.switched
             FROM (SELECT * FROM jobs WHERE tenant = $1 AND {only} ORDER BY id DESC LIMIT $2) j
             LEFT JOIN tasks t ON t.tenant = j.tenant AND t.job = j.id
             GROUP BY j.id, j.collection, j.created_at, j.model, j.switched ORDER BY j.id DESC"
        ));
        let query = query.bind(tenant.as_str()).bind(i64::from(count));
        let rows = values.iter().fold(query, |query, value| query.bind(*value)).all().await?;
        let job = |row: &Row| {
            Ok(Job {
                id: row.get(0)?,
                collection: row.get(1)?,
                created_at_ms: row.get(2)?,
                queued: row.count(3)?,
                running: row.count(4)?,
                done: row.count(5)?,
                failed: row.count(6)?,
                model: row.get(7)?,
                switched: row.get(8)?,
            })
        };
        rows.iter().map(job).collect()
    }

    /// Returns at most `count` documents of a job whose source is after `after`, by source.
    pub(crate) async fn tasks(
        &self,
        tenant: &TenantId,
        job: &str,
        after: &str,
        state: TaskState,
        count: u32,
    ) -> Result<Vec<proto::retriever::Task>, Error> {
        let state = written(state);
        let mut db = self.database.read().await?;
        let rows = db.query(
            "SELECT source, state, reason, document, attempts, updated_at FROM tasks
             WHERE tenant = $1 AND job = $2 AND source > $3 AND ($4 IS NULL OR state = $4)
             ORDER BY source LIMIT $5",
        );
        let rows = rows.bind(tenant.as_str()).bind(job).bind(after).bind(state);
        let rows = rows.bind(i64::from(count)).all().await?;
        let task = |row: &Row| {
            Ok(proto::retriever::Task {
                source: row.get(0)?,
                state: read_state(row.get(1)?).into(),
                reason: row.get(2)?,
                document_id: row.get(3)?,
                attempts: row.number(4)?,
                updated_at_ms: row.get(5)?,
            })
        };
        rows.iter().map(task).collect()
    }
}

/// Returns a state as it is written; none of one that is never.
pub(super) fn written(state: TaskState) -> Option<&'static str> {
    STATES.iter().find(|one| one.0 == state).map(|one| one.1)
}

/// Reads a state as it is written.
pub(super) fn read_state(written: &str) -> TaskState {
    let known = STATES.iter().find(|one| one.1 == written);
    known.map(|one| one.0).unwrap_or_default()
}

/// Checks that a tenant's documents that wait leave room for another. What others add at the same time is not seen: a
/// few more may wait than may.
///
/// # Errors
/// [`Error::Full`] if they do not.
async fn check_waiting(tx: &mut Tx, tenant: &TenantId) -> Result<(), Error> {
    let waiting = tx.query("SELECT tasks, bytes FROM waiting WHERE tenant = $1");
    let (tasks, bytes): (i64, i64) = match waiting.bind(tenant.as_str()).optional().await? {
        Some(row) => (row.get(0)?, row.get(1)?),
        None => (0, 0),
    };
    if tasks >= MOST_TASKS || bytes >= MOST_BYTES {
        return Err(Error::Full(format!("{tasks} documents of {bytes} bytes wait already")));
    }
    Ok(())
}

/// Adds a document to an ingest job, or replaces the one of the same source.
async fn insert(
    tx: &mut Tx,
    tenant: &TenantId,
    job: &str,
    Added { put, fetch }: &Added,
    now: i64,
) -> Result<(), Error> {
    let attributes = write_attributes(&put.attributes)?;
    // What is fetched has an empty content: it waits as others do, and is kept when it fails.
    tx.query(
        "INSERT INTO tasks (tenant, job, source, media_type, attributes, private, content, state, reason,
         document, attempts, lease, due_at, updated_at, by_address, collection)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 'queued', '', '', 0, '', $8, $8, $9,
         (SELECT collection FROM jobs WHERE tenant = $1 AND id = $2))
         ON CONFLICT (tenant, job, source) DO UPDATE SET media_type = excluded.media_type,
         attributes = excluded.attributes, private = excluded.private, content = excluded.content,
         state = 'queued', reason = '', document = '', attempts = 0, lease = '', due_at = $8, updated_at = $8,
         by_address = $9, collection = excluded.collection",
    )
    .bind(tenant.as_str())
    .bind(job)
    .bind(&put.source)
    .bind(&put.media_type)
    .bind(attributes)
    .bind(put.private)
    .bind(put.content.as_ref())
    .bind(now)
    .bind(*fetch)
    .execute()
    .await?;
    Ok(())
}

/// Reads in whose name a job is worked on: the columns of tenant, team, user and key.
pub(super) fn creator(
    row: &Row,
    [tenant, team, user, key]: [usize; 4],
    private: bool,
) -> Result<CallContext, Error> {
    let broken = |fault: types::IdError| Error::Broken(fault.into());
    let text = |at: usize| row.get::<Option<String>>(at);
    let tenant = TenantId::new(row.get::<String>(tenant)?).map_err(broken)?;
    let user = UserId::new(row.get::<String>(user)?).map_err(broken)?;
    Ok(CallContext {
        team: text(team)?.map(TeamId::new).transpose().map_err(broken)?,
        key: text(key)?.map(KeyId::new).transpose().map_err(broken)?,
        privacy: if private { Privacy::Private } else { Privacy::Public },
        ..CallContext::new(tenant, user)
    })
}
