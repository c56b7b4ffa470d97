//! Who works on a PostgreSQL database: any number of retrievers that share an index, or one that has its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::sync::Mutex;

use super::PATIENCE;
use super::session::within;
use crate::Error;

/// How long whoever is about to end is waited for.
const LEAVING: Duration = Duration::from_secs(3);
/// How long between two looks whether it has.
const AGAIN: Duration = Duration::from_millis(200);

const NAME: &str = "retriever presence";

/// A retriever's lock on the database, held by a connection of its own.
pub(crate) struct Presence {
    options: PgConnectOptions,
    shared: bool,
    held: Mutex<Held>,
    /// Somebody else took the database while this connection was gone. That is for good: what they stored, an index in
    /// this process's memory did not hear of.
    lost: AtomicBool,
}

#[derive(Default)]
struct Held {
    /// None while a new one is not there yet.
    connection: Option<PgConnection>,
    /// Whoever may have the lock by our doing: the server may still know sessions that we left because they were silent.
    sessions: Vec<SessionId>,
}

/// A session as its server knows it: a process, and when it began, for numbers of processes come again.
struct SessionId {
    pid: i32,
    began: String,
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold a password.
        f.debug_struct("Presence").field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Presence {
    /// Takes the database, `shared` with others who share it, or for this retriever alone.
    ///
    /// # Errors
    /// If others have it otherwise, or it cannot be reached or says nothing.
    pub(super) async fn take(options: PgConnectOptions, shared: bool) -> anyhow::Result<Self> {
        let mut held = Held::default();
        if !within(PATIENCE, held.hold(&options, shared)).await? {
            match shared {
                true => anyhow::bail!(
                    "a retriever without Qdrant has this database for itself: configure retriever.qdrant for it too"
                ),
                false => anyhow::bail!(
                    "another retriever has this database, and what either of them stores the other's index, which is in \
                     its memory, would not hear of: configure retriever.qdrant for each, or run one"
                ),
            }
        }
        Ok(Self { options, shared, held: Mutex::new(held), lost: AtomicBool::new(false) })
    }

    /// # Errors
    /// [`Error::Taken`] if somebody else has the database by now.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.lost.load(Ordering::Relaxed) {
            true => Err(Error::Taken),
            false => Ok(()),
        }
    }

    /// Takes the database again if the connection that held it is gone.
    ///
    /// # Errors
    /// [`Error::Taken`] if somebody else has it by now, [`Error::Store`] while it is away.
    pub(super) async fn keep(&self) -> Result<(), Error> {
        self.check()?;
        let mut held = self.held.lock().await;
        if let Some(connection) = &mut held.connection
            && within(PATIENCE, connection.ping()).await.is_ok()
        {
            return Ok(());
        }
        held.connection = None;
        if !within(PATIENCE, held.hold(&self.options, self.shared)).await? {
            self.lost.store(true, Ordering::Relaxed);
        }
        self.check()
    }
}

impl Held {
    /// Takes the lock in a new session; former ones, which may have it still, are ended. Tells whether it has it: not if
    /// others do. At the start those may be about to end, and are waited for.
    async fn hold(&mut self, options: &PgConnectOptions, shared: bool) -> sqlx::Result<bool> {
        let (started, is_start) = (Instant::now(), self.sessions.is_empty());
        let mut connection = PgConnection::connect_with(options).await?;
        let own = sqlx::query(
            "SELECT pid, CAST(extract(epoch FROM backend_start) AS TEXT) FROM pg_stat_activity
             WHERE pid = pg_backend_pid()",
        );
        let own = own.fetch_one(&mut connection).await?;
        // Known before it has the lock: this may be given up at any time.
        self.sessions.push(SessionId { pid: own.try_get(0)?, began: own.try_get(1)? });
        let take = match shared {
            true => "SELECT pg_try_advisory_lock_shared(hashtextextended($1, 0))",
            false => "SELECT pg_try_advisory_lock(hashtextextended($1, 0))",
        };
        loop {
            self.end_former(&mut connection).await?;
            let taken = sqlx::query(take).bind(NAME).fetch_one(&mut connection).await?;
            if taken.try_get::<bool, _>(0)? {
                self.connection = Some(connection);
                return Ok(true);
            }
            let is_late = started.elapsed() >= LEAVING;
            match (is_start, self.sessions.len()) {
                (true, _) if is_late => return Ok(false),
                // None of ours is left that may have it.
                (false, 1) => return Ok(false),
                (false, _) if is_late => return Err(sqlx::Error::PoolTimedOut),
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Has all sessions but the last end, and forgets those that have: their locks are free by then.
    async fn end_former(&mut self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let mut at = 0;
        while at + 1 < self.sessions.len() {
            let SessionId { pid, began } = &self.sessions[at];
            let end = sqlx::query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE pid = $1 AND CAST(extract(epoch FROM backend_start) AS TEXT) = $2",
            );
            match end.bind(pid).bind(began).fetch_optional(&mut *connection).await? {
                Some(_) => at += 1,
                None => drop(self.sessions.remove(at)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_silent_session_that_has_the_lock_still_is_ended() {
        let server = testkit::Postgres::start().unwrap();
        let options: PgConnectOptions = server.url().parse().unwrap();
        let presence = Presence::take(options.clone(), false).await.unwrap();
        // As if it had not answered: it lives on.
        let mut silent = presence.held.lock().await.connection.take().unwrap();
        silent.ping().await.unwrap();
        presence.keep().await.unwrap();
        assert!(silent.ping().await.is_err());
        presence.keep().await.unwrap();

        // Another's is not.
        drop(presence.held.lock().await.connection.take());
        let mut other = Held::default();
        assert!(other.hold(&options, false).await.unwrap());
        assert!(matches!(presence.keep().await, Err(Error::Taken)));
        other.connection.unwrap().ping().await.unwrap();
    }
}
