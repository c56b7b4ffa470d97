//! What wakes its own task while it is polled is polled again there and then; and how to let others go first all the same.
//!
//! The two ends of a connection wake each other, and one task polls both. A task that is woken while it runs goes to the
//! end of a queue, and another thread is woken to take it from there.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// How often something is polled that is woken each time, until others have their turn.
const AGAIN: usize = 8;

/// Nobody polls: the task that waits is woken.
const QUIET: u8 = 0;
const POLLED: u8 = 1;
/// Woken, besides.
const WOKEN: u8 = 2;

/// Polls again at once what wakes itself while it is polled; at any other time a wake goes to the task that waits.
#[derive(Debug)]
pub struct Repoll {
    state: Arc<State>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct State {
    now: AtomicU8,
    task: AtomicWaker,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Written also when it is set already: whoever polls again sees what was done before any wake.
        if self.now.fetch_or(WOKEN, Ordering::SeqCst) & POLLED == 0 {
            self.task.wake();
        }
    }
}

impl Default for Repoll {
    fn default() -> Self {
        let state = Arc::new(State::default());
        Self { waker: Waker::from(Arc::clone(&state)), state }
    }
}

impl Repoll {
    /// Polls, and again while it was woken meanwhile: eight times at most, then the task is woken and others have their
    /// turn. A wake that comes with an answer is dropped, so poll again before you wait.
    pub fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.state.task.register(context.waker());
        for _ in 0..AGAIN {
            self.state.now.swap(POLLED, Ordering::SeqCst);
            let polled = poll(&mut Context::from_waker(&self.waker));
            let is_woken = self.state.now.swap(QUIET, Ordering::SeqCst) & WOKEN != 0;
            if polled.is_ready() || !is_woken {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Waits for `future`, polled as by [`Self::poll`].
    pub async fn run<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| self.poll(context, |context| future.as_mut().poll(context))).await
    }
}

/// Lets the other tasks of this thread go first, as [`tokio::task::yield_now`] does, and also where what waits is polled
/// again at once.
pub async fn others_first() {
    let turn = Arc::new(Turn::default());
    let waker = Waker::from(Arc::clone(&turn));
    if pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&waker)).is_pending() {
        poll_fn(|context| {
            turn.task.register(context.waker());
            if turn.has_come.load(Ordering::SeqCst) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[derive(Default)]
struct Turn {
    has_come: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.has_come.store(true, Ordering::SeqCst);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt as _;

    use super::*;

    /// A task that counts its wakes.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once what wakes itself at its first `wakes` polls; returns how often it was polled, how often its task was
    /// woken, and what wakes it later.
    fn polled(count: &Arc<Count>, wakes: usize) -> (usize, usize, Waker) {
        let (repoll, waker) = (Repoll::default(), Waker::from(Arc::clone(count)));
        let mut polls = 0;
        let polled = repoll.poll(&mut Context::from_waker(&waker), |context| {
            polls += 1;
            if polls <= wakes {
                context.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        (polls, count.0.load(Ordering::SeqCst), repoll.waker)
    }

    #[test]
    fn what_wakes_itself_is_polled_again_and_its_task_is_not_woken() {
        let count = Arc::default();
        let (polls, woken, later) = polled(&count, 3);
        assert_eq!((polls, woken), (4, 0));
        later.wake();
        assert_eq!(count.0.load(Ordering::SeqCst), 1, "what comes later wakes its task");
    }

    #[test]
    fn what_always_wakes_itself_leaves_others_their_turn() {
        let (polls, woken, _) = polled(&Arc::default(), usize::MAX);
        assert_eq!((polls, woken), (AGAIN, 1));
    }

    #[tokio::test]
    async fn others_go_first_also_when_it_is_polled_at_once_again() {
        let mut turn = Box::pin(others_first());
        assert!((&mut turn).now_or_never().is_none() && (&mut turn).now_or_never().is_none());
        let other = tokio::spawn(async {});
        turn.await;
        assert!(other.is_finished());
    }
}
