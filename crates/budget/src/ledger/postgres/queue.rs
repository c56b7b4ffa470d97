//! Group commit: what waits together goes in one transaction.
//!
//! A commit waits for the disk, and costs much the same for one move or for hundreds. So whatever
//! comes while others commit goes with the next, and is answered when that is on the disk. A crash before
//! loses what nobody was told of; one after loses nothing.
//!
//! A transaction gives its rows free before it is on the disk, so that the next one, which wants some of them, does not
//! wait for that too. Whatever it makes of what it finds there comes to the disk behind it, or not at all.
//!
//! As most want the rows of the same tenant, one of this process's transactions is at accounts at a time, and one before it
//! looks for reservations: what comes meanwhile goes together in the next, and does not wait for rows in small pieces.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::pool::PoolConnection;
use tokio::sync::oneshot;
use types::Clock;

use super::moves;
use crate::ledger::Move;
use crate::ledger::book::Book;
use crate::ledger::kept::AccountKey;
use crate::usage::Usage;
use crate::{Error, Rules};

/// How much one transaction holds at most.
const TOGETHER: usize = 512;

/// How many transactions are under way at once: while some wait for the disk, another is made ready.
const LEADERS: usize = 4;

/// Begins a transaction whose commit does not wait for the disk.
const BEGIN: &str = "BEGIN; SET LOCAL synchronous_commit TO off";

/// Commits it, which gives its rows free, and waits until that is as durable as the server is told to make it: a commit
/// of something waits for all before it.
const COMMIT: &str = "COMMIT; SELECT pg_logical_emit_message(true, 'baton', '')";

/// Fails where [`COMMIT`] would.
pub(super) const PROBE: &str = "SELECT pg_logical_emit_message(true, 'baton', '')";

/// How much may wait; what comes then is refused.
const WAITING: usize = 20_000;

/// How long a transaction may take; a server that froze says nothing.
const TRANSACTION: Duration = Duration::from_secs(5);

/// How long somebody waits for an answer: for a transaction, and those before it.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often what others were in the way of is tried.
const ATTEMPTS: usize = 3;

/// How many accounts are remembered as made.
const REMEMBERED: usize = 100_000;

/// How many holds whose time is over one transaction ends.
const SWEPT: i64 = 500;

/// What one caller wants done, whole or not at all.
pub(super) enum Work {
    Move(Move),
    /// Rows, whose reservations are settled with them.
    Record(Vec<Usage>),
}

impl Work {
    /// Returns the moves of money in it.
    ///
    /// # Errors
    /// If a row's ids are malformed.
    fn moves(&self) -> Result<Vec<Move>, Error> {
        match self {
            Self::Move(one) => Ok(vec![one.clone()]),
            Self::Record(rows) => rows.iter().filter_map(|row| row.settles().transpose()).collect(),
        }
    }
}

/// What waits, and the connections that take it away.
pub(super) struct Queue {
    pool: PgPool,
    rules: Rules,
    clock: Arc<dyn Clock>,
    waiting: Mutex<Waiting>,
    /// Accounts that are known to be there.
    known: Mutex<HashSet<AccountKey>>,
    /// Whoever has it has taken what waits, and looks for its reservations.
    finding: Arc<tokio::sync::Mutex<()>>,
    /// Whoever has it reads and changes accounts; its commit is not waited for.
    moving: tokio::sync::Mutex<()>,
}

/// Of [`Queue::finding`].
type Turn = tokio::sync::OwnedMutexGuard<()>;

/// What a leader goes with: a connection, or why there is none, and a turn. What goes [`Queue::alone`] has no turn, and
/// goes beside.
type Way = (sqlx::Result<PoolConnection<sqlx::Postgres>>, Turn);

#[derive(Default)]
struct Waiting {
    asked: VecDeque<Asked>,
    leaders: usize,
}

struct Asked {
    work: Work,
    asker: oneshot::Sender<Result<i64, Error>>,
}

impl Queue {
    pub(super) fn new(pool: PgPool, rules: Rules, clock: Arc<dyn Clock>) -> Self {
        Self {
            pool,
            rules,
            clock,
            waiting: Mutex::default(),
            known: Mutex::default(),
            finding: Arc::default(),
            moving: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Has work done in a transaction with whatever else waits, and returns once that is on the disk.
    ///
    /// # Errors
    /// What the work says, [`Error::Busy`] if too much waits, [`Error::Ledger`] if the store failed or
    /// took too long: then the work may be done all the same, and may be asked for again.
    pub(super) async fn ask(self: &Arc<Self>, work: Work) -> Result<i64, Error> {
        let (asker, answer) = oneshot::channel();
        {
            let mut waiting = lock(&self.waiting);
            if waiting.asked.len() >= WAITING {
                return Err(Error::Busy);
            }
            waiting.asked.push_back(Asked { work, asker });
            if waiting.leaders < LEADERS {
                waiting.leaders += 1;
                tokio::spawn(Leader::new(self).lead());
            }
        }
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(answer) => answer.unwrap_or(Err(Error::Busy)),
            Err(_) => Err(Error::Ledger("it did not answer in time".into())),
        }
    }

    /// Ends holds whose time is over and returns how many.
    ///
    /// # Errors
    /// [`Error::Ledger`].
    pub(super) async fn expire(self: &Arc<Self>) -> Result<u64, Error> {
        let mut count = 0;
        loop {
            let over = timed(async {
                let mut connection = self.pool.acquire().await?;
                moves::over(&mut connection, self.clock.now_ms(), SWEPT).await
            });
            let over = over.await?;
            if over.is_empty() {
                return Ok(count);
            }
            count += over.len() as u64;
            let last = over.len() < SWEPT as usize;
            let over: Vec<_> = over
                .into_iter()
                .map(|(tenant, id)| Work::Move(Move::Expire { tenant, id }))
                .collect();
            self.attempt(&over.iter().collect::<Vec<_>>(), None).await?;
            if last {
                return Ok(count);
            }
        }
    }

    /// Does what was asked and answers.
    async fn serve(self: &Arc<Self>, asked: Vec<Asked>, way: Way) {
        if asked.is_empty() {
            return;
        }
        let (works, askers): (Vec<_>, Vec<_>) =
            asked.into_iter().map(|one| (one.work, one.asker)).unzip();
        let all: Vec<&Work> = works.iter().collect();
        let mut done = self.attempt(&all, Some(way)).await;
        if let Err(Failed::Refused(fault)) = &done
            && all.len() > 1
            && is_in_the_way(fault)
        {
            // Somebody made what one of them is about while they looked; now it can be found.
            done = self.attempt(&all, None).await;
        }
        let answers = match done {
            Ok(answers) => answers,
            // One of them is in the way of the others.
            Err(Failed::Refused(_)) if all.len() > 1 => {
                let mut answers = Vec::with_capacity(all.len());
                for (work, asker) in all.into_iter().zip(&askers) {
                    // Who went away meanwhile is not in the way of the others.
                    let gone = asker.is_closed();
                    answers.push(if gone { Err(Error::Busy) } else { self.alone(work).await });
                }
                answers
            }
            Err(failed) => {
                let fault = Error::from(failed).told();
                all.iter().map(|_| Err(Error::Ledger(fault.clone().into()))).collect()
            }
        };
        let mut freed = None;
        for ((mut answer, work), asker) in answers.into_iter().zip(&works).zip(askers) {
            if matches!((&answer, work), (Err(Error::Exceeded { .. }), Work::Move(_))) {
                // What holds on though its time is over may be in the way.
                if freed.is_none() {
                    freed = Some(self.expire().await.is_ok_and(|count| count > 0));
                }
                if freed == Some(true) {
                    answer = self.alone(work).await;
                }
            }
            // Who went away needs none.
            let _ = asker.send(answer);
        }
    }

    /// Does one work in a transaction of its own.
    async fn alone(self: &Arc<Self>, work: &Work) -> Result<i64, Error> {
        let mut attempts = 1..=ATTEMPTS;
        loop {
            match (self.attempt(&[work], None).await, attempts.next()) {
                (Ok(mut answers), _) => return answers.pop().unwrap_or(Err(Error::Busy)),
                (Err(Failed::Refused(fault)), Some(_)) if is_in_the_way(&fault) => {}
                (Err(failed), _) => return Err(failed.into()),
            }
        }
    }

    /// Does works in one transaction; returns an answer each. Who has a turn gives it away as soon as the next may have it.
    async fn attempt(
        self: &Arc<Self>,
        works: &[&Work],
        way: Option<Way>,
    ) -> Result<Vec<Result<i64, Error>>, Failed> {
        let now = self.clock.now_ms();
        let (connection, turn) = match way {
            Some((connection, turn)) => (connection, Some(turn)),
            None => (self.pool.acquire().await, None),
        };
        let mut connection = Lent(Some(connection?));
        let mut plans = Vec::with_capacity(works.len());
        for work in works {
            plans.push((*work, work.moves()));
        }
        let transact = async {
            let db = connection.get()?;
            self.open(db, &plans, now).await?;
            self.transact(db, plans, now, turn).await
        };
        let done = tokio::time::timeout(TRANSACTION, transact).await;
        let done = done.unwrap_or(Err(Failed::Down(sqlx::Error::PoolTimedOut)));
        if !matches!(done, Err(Failed::Down(_))) {
            connection.give_back();
        }
        done
    }

    /// Makes the accounts that are new, before anything is locked.
    async fn open(
        &self,
        db: &mut sqlx::PgConnection,
        plans: &Plans<'_>,
        now: i64,
    ) -> Result<(), Failed> {
        let new: BTreeSet<AccountKey> = {
            let known = lock(&self.known);
            let moves = plans.iter().flat_map(|(_, moves)| moves.iter().flatten());
            moves.flat_map(Move::accounts).filter(|key| !known.contains(key)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        // They promise nothing; what is done with them is behind them on the disk.
        sqlx::raw_sql(BEGIN).execute(&mut *db).await?;
        let opened = moves::open(db, &new, &self.rules, now).await;
        let end = if opened.is_ok() { "COMMIT" } else { "ROLLBACK" };
        sqlx::raw_sql(end).execute(db).await.map_err(Failed::Down)?;
        opened?;
        let mut known = lock(&self.known);
        if known.len() > REMEMBERED {
            known.clear();
        }
        known.extend(new);
        Ok(())
    }

    async fn transact(
        &self,
        db: &mut sqlx::PgConnection,
        plans: Plans<'_>,
        now: i64,
        turn: Option<Turn>,
    ) -> Result<Vec<Result<i64, Error>>, Failed> {
        sqlx::raw_sql(BEGIN).execute(&mut *db).await?;
        let done = self.within(db, plans, now, turn).await;
        let end = if done.is_ok() { COMMIT } else { "ROLLBACK" };
        // Nobody knows what was committed.
        sqlx::raw_sql(end).execute(db).await.map_err(Failed::Down)?;
        done
    }

    /// Does works in the open transaction.
    async fn within(
        &self,
        db: &mut sqlx::PgConnection,
        plans: Plans<'_>,
        now: i64,
        turn: Option<Turn>,
    ) -> Result<Vec<Result<i64, Error>>, Failed> {
        let mut book = Book::new(&self.rules, now);
        let moves = || plans.iter().flat_map(|(_, moves)| moves.iter().flatten());
        moves::find(db, moves().filter_map(Move::reservation).collect(), &mut book).await?;
        let _moving = match turn {
            Some(_) => Some(self.moving.lock().await),
            None => None,
        };
        drop(turn);
        let needed: BTreeSet<AccountKey> = moves().flat_map(|one| book.needs(one)).collect();
        moves::load(db, &needed, &mut book).await?;
        if needed.iter().any(|key| !book.knows(key)) {
            // It is another database than it was.
            lock(&self.known).clear();
            return Err(Failed::Refused(sqlx::Error::RowNotFound));
        }
        let (mut answers, mut rows) = (Vec::with_capacity(plans.len()), Vec::new());
        for (work, moves) in plans {
            answers.push(match (work, moves) {
                (_, Err(fault)) => Err(fault),
                (Work::Move(_), Ok(moves)) => moves.iter().try_fold(0, |_, one| book.run(one)),
                (Work::Record(usages), Ok(moves)) => {
                    rows.extend(usages);
                    // What ended otherwise stays as it is.
                    let settled = moves.iter().map(|one| book.run(one)).filter(|done| {
                        !matches!(done, Err(Error::Unknown(_) | Error::Conflict { .. }))
                    });
                    settled.collect::<Result<Vec<_>, _>>().map(|_| 0)
                }
            });
        }
        moves::keep(db, &book, now).await?;
        crate::usage::postgres::keep(db, &rows).await?;
        Ok(answers)
    }
}

type Plans<'a> = Vec<(&'a Work, Result<Vec<Move>, Error>)>;

/// A connection that may be in a transaction: whoever drops it, by going away or by a panic, closes it, for nobody
/// else may find themselves in there.
struct Lent(Option<PoolConnection<sqlx::Postgres>>);

impl Lent {
    fn get(&mut self) -> Result<&mut sqlx::PgConnection, Failed> {
        self.0.as_deref_mut().ok_or(Failed::Down(sqlx::Error::PoolClosed))
    }

    /// It is in no transaction.
    fn give_back(mut self) {
        self.0.take();
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Why a transaction was not committed.
pub(super) enum Failed {
    /// The server took exception to what was asked.
    Refused(sqlx::Error),
    /// The server is not there, or nobody knows what it did.
    Down(sqlx::Error),
    /// What the store holds is malformed.
    Malformed(Error),
}

impl From<sqlx::Error> for Failed {
    fn from(fault: sqlx::Error) -> Self {
        match &fault {
            sqlx::Error::Database(_) if !postgres_link::is_passing(&fault) => Self::Refused(fault),
            // The server goes down or comes up, or has no connection left, or nothing is heard of it.
            _ => Self::Down(fault),
        }
    }
}

impl From<Error> for Failed {
    fn from(fault: Error) -> Self {
        Self::Malformed(fault)
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(fault) | Failed::Down(fault) => fault.into(),
            Failed::Malformed(fault) => fault,
        }
    }
}

/// Tells whether others were in the way: of the same id, the same rows, or with a database that is new.
fn is_in_the_way(fault: &sqlx::Error) -> bool {
    const CODES: [&str; 3] = ["23505", "40001", "40P01"];
    match fault {
        sqlx::Error::RowNotFound => true,
        sqlx::Error::Database(told) => told.code().is_some_and(|code| CODES.contains(&&*code)),
        _ => false,
    }
}

/// Whoever takes away what waits, until nothing does.
struct Leader {
    queue: Arc<Queue>,
    begun: bool,
}

impl Leader {
    fn new(queue: &Arc<Queue>) -> Self {
        Self { queue: Arc::clone(queue), begun: false }
    }

    async fn lead(mut self) {
        self.begun = true;
        loop {
            if lock(&self.queue.waiting).asked.is_empty() {
                return;
            }
            // First: where there is none, nobody else waits for that.
            let connection = self.queue.pool.acquire().await;
            let turn = Arc::clone(&self.queue.finding).lock_owned().await;
            // Those who are about to ask come along.
            runtime::repoll::others_first().await;
            let asked: Vec<Asked> = {
                let mut waiting = lock(&self.queue.waiting);
                let count = waiting.asked.len().min(TOGETHER);
                if count == 0 {
                    return;
                }
                waiting.asked.drain(..count).collect()
            };
            // Who went away wants nothing any more.
            let asked = asked.into_iter().filter(|one| !one.asker.is_closed()).collect();
            self.queue.serve(asked, (connection, turn)).await;
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let mut waiting = lock(&self.queue.waiting);
        waiting.leaders -= 1;
        if !self.begun {
            // The runtime ends: nobody leads any more, and nobody waits.
            waiting.asked.clear();
        }
        if !waiting.asked.is_empty() && waiting.leaders == 0 {
            waiting.leaders += 1;
            drop(waiting);
            tokio::spawn(Self::new(&self.queue).lead());
        }
    }
}

/// Waits for what is read, no longer than for a transaction: a server that froze says nothing.
pub(super) async fn timed<T>(read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(TRANSACTION, read).await {
        Ok(done) => done,
        Err(_) => Err(Error::Ledger("it did not answer in time".into())),
    }
}

fn lock<T>(one: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is whole between any two statements.
    one.lock().unwrap_or_else(PoisonError::into_inner)
}
