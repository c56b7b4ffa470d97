//! Work that whoever asked for it need not wait for.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use futures::FutureExt as _;
use futures::future::{BoxFuture, CatchUnwind};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument as _;
use tracing::instrument::Instrumented;

/// Does work in the task that asks for it; dropped before its end, the work goes on in a task of its own, so that what a
/// caller caused is paid. Most callers stay, and then no other thread takes part. `calls` counts it from the start.
/// `work` comes boxed, as it is large and would be moved on its way here; it runs in the current span.
///
/// # Errors
/// If it panics.
pub(crate) fn outlive<T: Send + 'static>(
    calls: &TaskTracker,
    work: BoxFuture<'static, T>,
) -> impl Future<Output = thread::Result<T>> {
    let work = AssertUnwindSafe(work.in_current_span()).catch_unwind();
    Asked { work: Some(work), calls, runtime: Handle::current(), _counted: calls.token() }
}

struct Asked<'a, T: Send + 'static> {
    /// None once it is done.
    work: Option<CatchUnwind<AssertUnwindSafe<Instrumented<BoxFuture<'static, T>>>>>,
    calls: &'a TaskTracker,
    runtime: Handle,
    _counted: TaskTrackerToken,
}

impl<T: Send + 'static> Future for Asked<'_, T> {
    type Output = thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = work.poll_unpin(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Asked<'_, T> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.calls.spawn_on(work.map(drop), &self.runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_without_its_asker_and_is_waited_for() {
        let calls = TaskTracker::new();
        let (go, gone) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let work = async {
            gone.await.unwrap();
            done.send(()).unwrap();
        };
        {
            let mut asked = Box::pin(outlive(&calls, work.boxed()));
            assert!(futures::poll!(&mut asked).is_pending());
            assert_eq!(calls.len(), 1);
        }
        assert_eq!(calls.len(), 1);
        calls.close();
        go.send(()).unwrap();
        ended.await.unwrap();
        calls.wait().await;
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_is_counted_no_more() {
        let calls = TaskTracker::new();
        let work = async { panic!("on purpose") };
        let done: thread::Result<()> = outlive(&calls, work.boxed()).await;
        assert!(done.is_err());
        assert!(calls.is_empty());
        assert_eq!(outlive(&calls, async { 1 }.boxed()).await.unwrap(), 1);
    }
}
