//! Group commit: writes that wait together go in one transaction.
//!
//! A transaction costs much the same whether one write is in it or ten, and nothing of it waits for
//! the disk: see [`super::checkpoint`]. So it runs where its first asker runs, which is cheaper than to
//! wake another thread and to be woken by it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;
use tokio::sync::oneshot;
use types::Clock;

use super::moves::Transaction;
use crate::{Error, Rules};

/// How many writes one transaction holds at most: others of this thread wait meanwhile.
const TOGETHER: usize = 256;

/// The one connection that writes, and what waits for it.
pub(super) struct Writer {
    waiting: Mutex<Waiting>,
    db: tokio::sync::Mutex<Connection>,
    commits: AtomicU64,
    rules: Arc<Rules>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Waiting {
    writes: Vec<Box<dyn Write>>,
    /// Somebody is at it, and looks again before they stop.
    led: bool,
}

impl Writer {
    pub(super) fn new(db: Connection, rules: Arc<Rules>, clock: Arc<dyn Clock>) -> Self {
        db.set_prepared_statement_cache_capacity(64);
        let (waiting, commits) = (Mutex::default(), AtomicU64::new(0));
        Self { waiting, db: db.into(), commits, rules, clock }
    }

    /// Runs `work` in a transaction with whatever else waits, and returns its answer once that is
    /// committed. A caller that goes away changes nothing: what was asked is done.
    ///
    /// What `work` changed before it failed stays, so it changes nothing before it fails.
    ///
    /// # Errors
    /// What `work` says, or [`Error::Ledger`] if the transaction failed: then none of it was done.
    pub(super) async fn write<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (asker, answer) = oneshot::channel();
        let write = Asked { work: Some(work), said: None, asker };
        let led = {
            let mut waiting = self.waiting();
            waiting.writes.push(Box::new(write));
            std::mem::replace(&mut waiting.led, true)
        };
        if !led {
            Leader::new(self).lead().await;
        }
        answer.await.unwrap_or_else(|_| Err(Error::Busy))
    }

    /// Keeps writes waiting for as long as the guard lives.
    pub(super) async fn pause(&self) -> impl Drop + use<'_> {
        self.db.lock().await
    }

    /// Returns how many transactions there were.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // It is whole between any two statements.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever came first writes for all that wait by then, in the task that asked: to wake another costs
/// more than the transaction.
struct Leader {
    writer: Arc<Writer>,
    begun: bool,
}

impl Leader {
    fn new(writer: &Arc<Writer>) -> Self {
        Self { writer: Arc::clone(writer), begun: false }
    }

    /// Commits what waits.
    async fn lead(mut self) {
        self.begun = true;
        // Those who are about to ask come along.
        runtime::repoll::others_first().await;
        let db = self.writer.db.lock().await;
        let mut writes = {
            let mut waiting = self.writer.waiting();
            let count = waiting.writes.len().min(TOGETHER);
            waiting.writes.drain(..count).collect::<Vec<_>>()
        };
        // A fault of one write is not its leader's; all of them are told that nothing was done.
        let Writer { rules, clock, .. } = self.writer.as_ref();
        let transact = || transact(&db, rules, clock.as_ref(), &mut writes);
        let done = catch_unwind(AssertUnwindSafe(transact));
        drop(db);
        let Ok(done) = done else { return };
        self.writer.commits.fetch_add(1, Ordering::Relaxed);
        for write in writes {
            write.answer(done.as_ref().err().map(String::as_str));
        }
    }
}

impl Drop for Leader {
    /// Leaves those who came meanwhile to another, also when whoever asked first went away or failed.
    fn drop(&mut self) {
        let mut waiting = self.writer.waiting();
        if !self.begun {
            // The runtime ends: nobody leads any more, and nobody waits.
            waiting.writes.clear();
        }
        waiting.led = !waiting.writes.is_empty();
        if waiting.led {
            drop(waiting);
            tokio::spawn(Self::new(&self.writer).lead());
        }
    }
}

/// Runs `writes` in one transaction: all of them, or none and why.
fn transact(
    db: &Connection,
    rules: &Rules,
    clock: &dyn Clock,
    writes: &mut [Box<dyn Write>],
) -> Result<(), String> {
    if !db.is_autocommit() {
        run(db, "ROLLBACK")?;
    }
    run(db, "BEGIN IMMEDIATE")?;
    // Another process may have been waited for.
    let mut all = Transaction::new(db, rules, clock.now_ms());
    for write in writes {
        write.run(&mut all);
        if db.is_autocommit() {
            return Err("a fault such as a full disk ended the transaction".to_owned());
        }
    }
    let kept = all.finish().map_err(|fault| fault.to_string());
    let done = kept.and_then(|()| run(db, "COMMIT"));
    if done.is_err() {
        // It may have ended itself.
        let _ = run(db, "ROLLBACK");
    }
    done
}

fn run(db: &Connection, statement: &str) -> Result<(), String> {
    let done = db.prepare_cached(statement).and_then(|mut statement| statement.execute([]));
    done.map(drop).map_err(|fault| format!("{statement}: {fault}"))
}

/// A write that waits, with somebody who waits for its answer.
trait Write: Send {
    fn run(&mut self, all: &mut Transaction<'_>);
    fn answer(self: Box<Self>, fault: Option<&str>);
}

struct Asked<T, W> {
    work: Option<W>,
    said: Option<Result<T, Error>>,
    asker: oneshot::Sender<Result<T, Error>>,
}

impl<T, W> Write for Asked<T, W>
where
    T: Send,
    W: FnOnce(&mut Transaction<'_>) -> Result<T, Error> + Send,
{
    fn run(&mut self, all: &mut Transaction<'_>) {
        self.said = self.work.take().map(|work| work(all));
    }

    fn answer(self: Box<Self>, fault: Option<&str>) {
        let answer = match fault {
            Some(fault) => Err(Error::Ledger(fault.into())),
            None => self.said.unwrap_or(Err(Error::Busy)),
        };
        // Who went away needs none.
        let _ = self.asker.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use types::SystemClock;

    use super::*;

    fn writer() -> Arc<Writer> {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(
            "PRAGMA foreign_keys = on;
             CREATE TABLE numbers (
               number INTEGER PRIMARY KEY,
               other  INTEGER REFERENCES numbers DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
        Arc::new(Writer::new(db, Arc::default(), Arc::new(SystemClock)))
    }

    async fn add(writer: &Arc<Writer>, number: i64, other: Option<i64>) -> Result<(), Error> {
        let add = move |all: &mut Transaction<'_>| {
            all.db()?.execute("INSERT INTO numbers VALUES (?, ?)", (number, other))?;
            Ok(())
        };
        writer.write(add).await
    }

    async fn count(writer: &Arc<Writer>) -> i64 {
        let count = |all: &mut Transaction<'_>| {
            Ok(all.db()?.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))?)
        };
        writer.write(count).await.unwrap()
    }

    #[tokio::test]
    async fn what_waits_together_is_one_transaction_and_a_refusal_is_one_writes_own() {
        let writer = writer();
        let refused = writer.write(|_| Err::<(), _>(Error::Busy));
        let answers = tokio::join!(
            add(&writer, 1, None),
            refused,
            add(&writer, 1, None),
            add(&writer, 2, None)
        );
        assert!(matches!(answers, (Ok(()), Err(Error::Busy), Err(Error::Ledger(_)), Ok(()))));
        assert_eq!((writer.commits(), count(&writer).await), (1, 2));
    }

    #[tokio::test]
    async fn a_transaction_that_fails_is_nobodys_success() {
        let writer = writer();
        let answers = tokio::join!(add(&writer, 1, None), add(&writer, 2, Some(99)));
        assert!(matches!(answers, (Err(Error::Ledger(_)), Err(Error::Ledger(_)))));
        assert_eq!(count(&writer).await, 0);
        add(&writer, 1, None).await.unwrap();
        assert_eq!(count(&writer).await, 1);
    }

    #[tokio::test]
    async fn a_write_that_panics_leaves_nothing_behind() {
        let writer = writer();
        let fault = writer.write(|_| -> Result<(), Error> { panic!("on purpose") });
        let (before, fault) = tokio::join!(add(&writer, 1, None), fault);
        assert!(matches!((before, fault), (Err(Error::Busy), Err(Error::Busy))));
        assert_eq!(count(&writer).await, 0);
    }

    #[test]
    fn the_end_of_a_runtime_is_the_end_of_what_waits() {
        let (runtime, writer) = (tokio::runtime::Runtime::new().unwrap(), writer());
        runtime.block_on(async {
            let held = writer.db.lock().await;
            for number in 0..3 {
                let writer = Arc::clone(&writer);
                tokio::spawn(async move { add(&writer, number, None).await });
            }
            while writer.waiting().writes.len() < 3 {
                tokio::task::yield_now().await;
            }
            drop(held);
        });
        drop(runtime);
        let waiting = writer.waiting();
        assert!(!waiting.led && waiting.writes.is_empty());
    }

    #[tokio::test]
    async fn a_write_whose_asker_left_is_written() {
        let writer = writer();
        tokio::select! {
            biased;
            _ = add(&writer, 1, None) => panic!("it is not written while it is asked"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(count(&writer).await, 1);
    }
}
