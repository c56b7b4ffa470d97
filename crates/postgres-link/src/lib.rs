//! Connections to PostgreSQL, which is waited for when it is not there yet.
//!
//! ```no_run
//! # async fn open() -> anyhow::Result<()> {
//! use postgres_link::Pool;
//!
//! let pool = Pool { connections: 8, acquire: std::time::Duration::from_secs(2) };
//! let settings = [("statement_timeout", "5000")];
//! let pool = postgres_link::connect("postgres://db/baton", "baton-notes", &settings, pool).await?;
//! # Ok(())
//! # }
//! ```

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::PgPool;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

/// How long a server is waited for that is not there at the start.
const START: Duration = Duration::from_secs(60);
/// How long between two looks: twice as long each time, …
const AGAIN: Duration = Duration::from_millis(200);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(2);

/// How large a pool is, and how long a call waits for one of it.
#[derive(Debug, Clone, Copy)]
pub struct Pool {
    /// Connections at most.
    pub connections: u32,
    /// How long a call waits for one.
    pub acquire: Duration,
}

/// Makes a pool of connections to `url` (`postgres://user:password@host/database`), and waits up to a minute for a
/// server that is not there yet. `service` and `settings` are as of [`options`].
///
/// # Errors
/// If `url` is malformed, or the server refuses or does not answer for a minute.
pub async fn connect(
    url: &str,
    service: &str,
    settings: &[(&str, &str)],
    size: Pool,
) -> anyhow::Result<PgPool> {
    let pool = pool(options(url, service, settings)?, size);
    connected(&pool).await?;
    Ok(pool)
}

/// Reads an address; connections say that they are of `service`, and begin with `settings`, pairs of name and value.
/// A commit waits for the disk unless these say otherwise, whatever the server's own configuration says.
///
/// # Errors
/// If `url` is malformed. It is not repeated: it may hold a password.
pub fn options(
    url: &str,
    service: &str,
    settings: &[(&str, &str)],
) -> anyhow::Result<PgConnectOptions> {
    let options: PgConnectOptions = url.parse().context("a malformed address")?;
    // What is said last holds.
    Ok(options
        .application_name(service)
        .options([("synchronous_commit", "on")])
        .options(settings.iter().copied()))
}

/// Makes a pool, whose connections are made when they are needed.
#[must_use]
pub fn pool(options: PgConnectOptions, size: Pool) -> PgPool {
    PgPoolOptions::new()
        .max_connections(size.connections)
        .acquire_timeout(size.acquire)
        .connect_lazy_with(options)
}

/// Waits until a server takes connections that may be about to start, up to a minute.
///
/// # Errors
/// What it said last, or at once if trying again cannot help.
pub async fn connected(pool: &PgPool) -> sqlx::Result<()> {
    let mut patience = Patience::new();
    while let Err(fault) = pool.acquire().await {
        let passes = is_passing(&fault);
        patience.after(fault, passes).await?;
    }
    Ok(())
}

/// Brings a database up to date, and tries again for up to a minute where that can help: others may be at it, or take
/// all that the server has. What was done stands in `table`, of which each service of a database has its own.
///
/// # Errors
/// What went wrong last, or at once if trying again cannot help.
pub async fn migrate(
    pool: &PgPool,
    mut migrations: Migrator,
    table: &'static str,
) -> Result<(), MigrateError> {
    migrations.dangerous_set_table_name(table);
    let mut patience = Patience::new();
    while let Err(fault) = migrations.run(pool).await {
        let passes = match &fault {
            MigrateError::Execute(fault) | MigrateError::ExecuteMigration(fault, _) => {
                is_passing(fault)
            }
            _ => false,
        };
        patience.after(fault, passes).await?;
    }
    Ok(())
}

/// How long something is tried again.
struct Patience {
    started: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Self {
        Self { started: Instant::now(), pause: AGAIN }
    }

    /// Waits before the next attempt, or returns what went wrong if it stays so or has done so for long enough.
    async fn after<E: std::fmt::Display>(&mut self, fault: E, passes: bool) -> Result<(), E> {
        if !passes || self.started.elapsed() >= START {
            return Err(fault);
        }
        // Once.
        if self.pause == AGAIN {
            tracing::warn!(%fault, "the database is not there yet, and is waited for");
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST);
        Ok(())
    }
}

/// Tells whether trying again can help: the server is not reached, goes down or comes up, or has nothing left to give.
#[must_use]
pub fn is_passing(fault: &sqlx::Error) -> bool {
    match fault {
        sqlx::Error::Database(told) => {
            told.code().is_some_and(|code| code.starts_with("57") || code.starts_with("53"))
        }
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: Pool = Pool { connections: 2, acquire: Duration::from_millis(500) };

    #[test]
    fn a_commit_waits_for_the_disk_unless_settings_say_otherwise() {
        for (settings, wanted) in [
            (&[][..], "-c synchronous_commit=on"),
            (
                &[("statement_timeout", "5000")],
                "-c synchronous_commit=on -c statement_timeout=5000",
            ),
            (
                &[("synchronous_commit", "off")],
                "-c synchronous_commit=on -c synchronous_commit=off",
            ),
        ] {
            let options = options("postgres://baton@db/baton", "baton-test", settings).unwrap();
            assert_eq!(options.get_application_name(), Some("baton-test"));
            // The environment's may come before them.
            let said = options.get_options().unwrap();
            assert!(said.ends_with(wanted), "{said}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_and_not_repeated() {
        for url in ["secret", "postgres://baton:secret@db:port/baton"] {
            let fault = options(url, "baton-test", &[]).unwrap_err();
            assert!(!format!("{fault:#} {fault:?}").contains("secret"), "{fault:?}");
        }
    }

    #[tokio::test]
    async fn a_fault_passes_or_it_does_not() {
        let server = testkit::Postgres::start().unwrap();
        let settings = [("synchronous_commit", "off")];
        let pool = connect(&server.url(), "baton-test", &settings, POOL).await.unwrap();
        let commit: String =
            sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&pool).await.unwrap();
        assert_eq!(commit, "off");
        for (code, wanted) in [
            ("57P01", true),
            ("57P03", true),
            ("57014", true),
            ("53300", true),
            ("53100", true),
            ("28P01", false),
            ("3D000", false),
            ("40001", false),
            ("42601", false),
            ("23505", false),
        ] {
            let raise = format!("DO $$ BEGIN RAISE SQLSTATE '{code}'; END $$");
            let raised = sqlx::query(sqlx::AssertSqlSafe(raise)).execute(&pool).await;
            let fault = raised.unwrap_err();
            let told = fault.as_database_error().and_then(|told| told.code());
            assert_eq!(told.as_deref(), Some(code));
            assert_eq!(is_passing(&fault), wanted, "{code}");
        }
        for (fault, wanted) in [
            (sqlx::Error::Io(std::io::ErrorKind::ConnectionRefused.into()), true),
            (sqlx::Error::PoolTimedOut, true),
            (sqlx::Error::PoolClosed, false),
            (sqlx::Error::RowNotFound, false),
            (sqlx::Error::Protocol("nonsense".into()), false),
        ] {
            assert_eq!(is_passing(&fault), wanted, "{fault}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_yet_is_waited_for_and_one_that_refuses_is_not() {
        let mut server = testkit::Postgres::start().unwrap();
        server.stop().unwrap();
        let url = server.url();
        let connected = tokio::spawn(async move { connect(&url, "baton-test", &[], POOL).await });
        let restarted = tokio::task::spawn_blocking(move || {
            server.restart().unwrap();
            server
        });
        let server = restarted.await.unwrap();
        let pool = connected.await.unwrap().unwrap();
        sqlx::query("SELECT 1").execute(&pool).await.unwrap();

        let nowhere = format!("{}_nowhere", server.url());
        let started = Instant::now();
        assert!(connect(&nowhere, "baton-test", &[], POOL).await.is_err());
        assert!(started.elapsed() < START);
    }

    #[tokio::test]
    async fn migrations_wait_for_a_connection_and_for_nothing_that_stays_wrong() {
        let server = testkit::Postgres::start().unwrap();
        let size = Pool { connections: 1, ..POOL };
        let pool = connect(&server.url(), "baton-test", &[], size).await.unwrap();
        let held = pool.acquire().await.unwrap();
        let behind = async {
            // Twice as long as it waits for one.
            for _ in 0..2 {
                assert!(matches!(pool.acquire().await, Err(sqlx::Error::PoolTimedOut)));
            }
            drop(held);
        };
        let migrated = migrate(&pool, Migrator::DEFAULT, "test_migrations");
        let (migrated, ()) = tokio::join!(migrated, behind);
        migrated.unwrap();
        sqlx::query("SELECT * FROM test_migrations").execute(&pool).await.unwrap();

        let started = Instant::now();
        let refused = migrate(&pool, Migrator::DEFAULT, "no\"table").await;
        assert!(refused.is_err() && started.elapsed() < START);
    }
}
