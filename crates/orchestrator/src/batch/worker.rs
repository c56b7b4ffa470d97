//! Who works on batches: takes them by lease, as many as the configuration says.

use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::transport::Peer;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::files::Files;
use super::run::Runner;
use super::store::{Claimed, Store};
use crate::Error;
use crate::config::Batch as Config;

/// How long a batch of another replica waits unseen at most.
const LOOK: Duration = Duration::from_secs(1);

/// Works on batches, and removes what is over, once it is run. Any number may share a database.
#[must_use = "no batch gets anywhere until this is run"]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Worker {
    store: Store,
    files: Files,
    router: Peer,
    config: Config,
    /// Told when there is a new batch.
    woken: Arc<Notify>,
}

impl Worker {
    pub(crate) fn new(
        store: Store,
        files: Files,
        router: Peer,
        config: Config,
        woken: Arc<Notify>,
    ) -> Self {
        Self { store, files, router, config, woken }
    }

    /// Works until `stop`, and then finishes the requests in flight, as long as the configuration
    /// grants. What does not get done is done by the next worker.
    pub async fn run(self, stop: CancellationToken) {
        let shutdown = Duration::from_millis(self.config.shutdown_ms);
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(shutdown).await;
        };
        tokio::select! {
            () = self.work(&stop) => {}
            () = self.sweep() => {}
            () = late => tracing::warn!("requests of batches were in flight after {shutdown:?}"),
        }
    }

    async fn work(&self, stop: &CancellationToken) {
        let lasting = Duration::from_millis(self.config.lease_ms);
        let runner = Arc::new(Runner {
            store: self.store.clone(),
            files: self.files.clone(),
            router: self.router.clone(),
            config: self.config.clone(),
            stop: stop.clone(),
        });
        let mut running = JoinSet::new();
        while !stop.is_cancelled() {
            while running.try_join_next().is_some() {}
            let claimed = match running.len() < self.config.batches {
                true => self.store.claim(lasting).await,
                false => Ok(None),
            };
            match claimed {
                Ok(Some(batch)) => {
                    let id = batch.lease.batch.to_string();
                    let span = tracing::info_span!("batch", id);
                    running.spawn(leased(Arc::clone(&runner), batch, lasting).instrument(span));
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "no batch could be taken"),
            }
            tokio::select! {
                () = self.woken.notified() => {}
                () = tokio::time::sleep(lasting.min(LOOK)) => {}
                Some(_) = running.join_next() => {}
                () = stop.cancelled() => {}
            }
        }
        while running.join_next().await.is_some() {}
    }

    async fn sweep(&self) {
        let every = Duration::from_millis(self.config.sweep_ms);
        loop {
            match self.files.sweep().await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "expired files were removed"),
                Err(error) => tracing::warn!(%error, "expired files were not removed"),
            }
            if let Err(error) = self.store.purge().await {
                tracing::warn!(%error, "requests of ended batches were not removed");
            }
            tokio::time::sleep(every).await;
        }
    }
}

/// Works on a batch as long as its lease is held. Dropping the work aborts its requests; the router
/// finishes and pays what it has begun.
async fn leased(runner: Arc<Runner>, batch: Claimed, lasting: Duration) {
    let batch = Arc::new(batch);
    let done = tokio::select! {
        done = runner.run(Arc::clone(&batch)) => done,
        () = lost(&runner.store, &batch, lasting) => Err(Error::LeaseLost),
    };
    if let Err(error) = done {
        // Its lease runs out, and then somebody tries again.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(%error, cause, "a batch was left");
    }
}

/// Renews a lease until that fails for as long as it lasts, or it is another's.
async fn lost(store: &Store, batch: &Claimed, lasting: Duration) {
    let mut renewed = Instant::now();
    loop {
        tokio::time::sleep(lasting / 4).await;
        let asked = Instant::now();
        let left = lasting.saturating_sub(renewed.elapsed());
        match tokio::time::timeout(left, store.renew(&batch.lease, lasting)).await {
            Ok(Ok(true)) => renewed = asked,
            Ok(Ok(false)) | Err(_) => return,
            Ok(Err(error)) => tracing::warn!(%error, "a lease was not renewed"),
        }
        if renewed.elapsed() >= lasting {
            return;
        }
    }
}
