use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Runs what blocks apart from the threads that serve: so much at once, and each so long.
#[derive(Debug, Clone)]
pub struct Blocking {
    permits: Arc<Semaphore>,
    limit: Duration,
}

/// When work has to end. What takes long asks now and then.
#[derive(Debug)]
pub struct Deadline {
    at: Instant,
    left: CancellationToken,
}

/// Work had no end.
#[derive(Debug, thiserror::Error)]
pub enum Unfinished {
    /// It took, or waited, too long. What it changes may yet be changed.
    #[error("it took longer than {} s", .0.as_secs_f64())]
    Late(Duration),
    /// A fault of ours.
    #[error("it broke off")]
    Broken,
}

impl Blocking {
    /// Allows `at_once` pieces of work, each of which gets `limit`, also to wait for its turn.
    #[must_use]
    pub fn new(at_once: usize, limit: Duration) -> Self {
        let at_once = at_once.clamp(1, Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(at_once)), limit }
    }

    /// Runs `work` and returns what it returns. It is told to end when nobody waits for it any more,
    /// and counts until it has.
    ///
    /// # Errors
    /// If it takes too long or breaks off.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Deadline) -> T + Send + 'static,
    ) -> Result<T, Unfinished> {
        let left = CancellationToken::new();
        let _leaving = left.clone().drop_guard();
        let run = async {
            let permit = Arc::clone(&self.permits).acquire_owned().await;
            let permit = permit.map_err(|_| Unfinished::Broken)?;
            let deadline = Deadline { at: Instant::now() + self.limit, left };
            let work = move || {
                let _permit = permit;
                work(&deadline)
            };
            tokio::task::spawn_blocking(work).await.map_err(|_| Unfinished::Broken)
        };
        tokio::time::timeout(self.limit, run).await.unwrap_or(Err(Unfinished::Late(self.limit)))
    }
}

impl Deadline {
    /// Returns whether it is time to end.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.left.is_cancelled() || Instant::now() >= self.at
    }

    /// Returns how much time is left.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_takes_too_long_is_left_and_told_to_end() {
        let blocking = Blocking::new(1, Duration::from_millis(20));
        let (tell, told) = tokio::sync::oneshot::channel();
        let endless = blocking.run(move |deadline| {
            while !deadline.passed() {
                std::thread::yield_now();
            }
            tell.send(()).unwrap();
        });
        // Told by the clock, or because its caller has left; whichever is first.
        let _ = endless.await;
        told.await.unwrap();
    }

    #[tokio::test]
    async fn no_more_runs_at_once_than_is_allowed() {
        let blocking = Blocking::new(1, Duration::from_secs(60));
        let (enter, entered) = std::sync::mpsc::channel();
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let first = tokio::spawn({
            let blocking = blocking.clone();
            let work = move |_: &Deadline| {
                enter.send(()).unwrap();
                wait.recv().unwrap();
            };
            async move { blocking.run(work).await }
        });
        tokio::task::spawn_blocking(move || entered.recv()).await.unwrap().unwrap();
        let impatient = Blocking { limit: Duration::from_millis(1), ..blocking.clone() };
        let refused = impatient.run(|_| ()).await;
        assert!(matches!(refused, Err(Unfinished::Late(_))), "{refused:?}");
        release.send(()).unwrap();
        first.await.unwrap().unwrap();
        blocking.run(|_| ()).await.unwrap();
    }
}
