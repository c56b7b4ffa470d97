//! Ingest jobs: documents that are stored and indexed while nobody waits.
//!
//! The queue is rows and leases beside the documents, not a job queue of its own, for the reasons that batches have
//! theirs: `apalis-sqlite` pushes in a transaction of its own, leases workers and not jobs, so that one which lost a
//! job is not told, and its migrations want the table in which `sqlx` counts ours.

mod entries;
mod queue;
mod reindex;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use types::{Classify as _, Clock as _, ErrorKind, LeaseId, SystemClock};

pub(crate) use self::queue::{Added, Queue};
use self::queue::{End, Task, Work};
pub(crate) use self::reindex::Finished;
use crate::Error;
use crate::store::Store;

/// So long a task is somebody's without a word from them.
const LEASE: Duration = Duration::from_secs(20);
/// So often whoever works on one is heard of.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// So often a worker without work looks for what became due.
const LOOK: Duration = Duration::from_secs(1);
/// So often an index that was away is told what it missed.
const FOLLOW: Duration = Duration::from_secs(5);
/// So long a document waits for a store or a model that is away.
const AGAIN: Duration = Duration::from_secs(2);
/// And so long one that is fetched anew each time.
const FETCH_AGAIN: Duration = Duration::from_secs(60);
/// A task is begun at most so often.
const ATTEMPTS: u32 = 5;

/// Who works on tasks, until it is dropped. What is cut off is begun again.
#[derive(Debug)]
pub(crate) struct Workers {
    _workers: JoinSet<()>,
}

impl Workers {
    /// Begins to work.
    pub(crate) fn start(store: &Arc<Store>, count: usize) -> Self {
        let mut workers = JoinSet::new();
        workers.spawn(follow(Arc::clone(store)));
        workers.spawn(switch(Arc::clone(store)));
        for _ in 0..count {
            workers.spawn(work(Arc::clone(store)));
        }
        Self { _workers: workers }
    }
}

/// Has the index hear of what it missed, forgets what nobody came for, and keeps the database ours.
async fn follow(store: Arc<Store>) {
    let mut compare = true;
    loop {
        if let Err(fault) = store.keep().await {
            tracing::warn!(%fault, "the database may be another's by now");
        }
        match store.catch_up(compare).await {
            Ok(()) => compare = false,
            Err(fault) => tracing::warn!(%fault, "the index has not heard of every change"),
        }
        if let Err(fault) = store.sweep().await {
            tracing::warn!(%fault, "what was kept too long was not removed");
        }
        tokio::time::sleep(FOLLOW).await;
    }
}

/// Has collections go to the models for which every vector is there.
async fn switch(store: Arc<Store>) {
    let queue = store.queue();
    loop {
        match queue.finished().await {
            Ok(finished) => {
                for job in finished {
                    let collection =
                        store.collection(job.context.tenant.clone(), job.collection.clone());
                    let switched = async { collection?.switch_alone(&job).await };
                    if let Err(fault) = switched.await {
                        tracing::warn!(%fault, job = %job.id, "a collection keeps its model for now");
                    }
                }
            }
            Err(fault) => tracing::warn!(%fault, "re-index jobs cannot be read"),
        }
        let _ = tokio::time::timeout(FOLLOW, queue.has_ended()).await;
    }
}

async fn work(store: Arc<Store>) {
    let queue = store.queue();
    loop {
        let lease = LeaseId::generate();
        let until = SystemClock.now_ms() + LEASE.as_millis() as i64;
        match queue.claim(&lease, SystemClock.now_ms(), until).await {
            Ok(Some(task)) => {
                if let Err(fault) = done(&store, queue, &lease, task).await {
                    // Its lease ends, and it is begun again.
                    tracing::warn!(%fault, "a document's end could not be kept");
                }
            }
            Ok(None) => {
                let _ = tokio::time::timeout(LOOK, queue.changed()).await;
            }
            Err(fault) => {
                tracing::warn!(%fault, "ingest jobs cannot be read");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Works on a task to its end and keeps it.
async fn done(store: &Store, queue: &Queue, lease: &LeaseId, task: Task) -> Result<(), Error> {
    if task.attempts > ATTEMPTS {
        let reason = format!("was begun {ATTEMPTS} times, and each time its work was cut off");
        return queue.end(lease, End::Failed(reason)).await;
    }
    let again = match task.work {
        Work::Fetch(_) => FETCH_AGAIN,
        Work::Put(_) | Work::Prepare { .. } => AGAIN,
    };
    let put = async {
        let collection = store.collection(task.context.tenant.clone(), task.collection)?;
        match task.work {
            Work::Put(put) => {
                let (document, _) = collection.put_under(&task.context, lease, put).await?;
                Ok(document.id)
            }
            Work::Fetch(put) => {
                let put = collection.fetch(&task.context, put).await?;
                let (document, _) = collection.put_under(&task.context, lease, put).await?;
                Ok(document.id)
            }
            Work::Prepare { document, model } => {
                collection.prepare(&task.context, &document, &model).await?;
                Ok(document)
            }
        }
    };
    // Both at once: what is written may be in the way of the lease until it is.
    let renew = async {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let until = SystemClock.now_ms() + LEASE.as_millis() as i64;
            if let Err(fault) = queue.renew(lease, until).await {
                tracing::warn!(%fault, "a document's lease was not renewed");
            }
        }
    };
    let ended = tokio::select! {
        ended = put => ended,
        never = renew => never,
    };
    let end = match ended {
        Ok(document) => End::Done(document),
        // It was sent again, or its job has ended with its collection: another's work by now.
        Err(Error::Lost) => return Ok(()),
        // The store or the model is away; the document is good, and was not to blame.
        Err(fault) if matches!(fault.kind(), ErrorKind::Unavailable | ErrorKind::RateLimited) => {
            End::Later(fault.to_string(), SystemClock.now_ms() + again.as_millis() as i64)
        }
        Err(fault) => End::Failed(fault.to_string()),
    };
    queue.end(lease, end).await
}
