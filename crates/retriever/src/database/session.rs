//! What is said to a database, the same to either.

use std::ops::DerefMut;
use std::time::Duration;

use futures::stream::{BoxStream, try_unfold};
use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{
    AssertSqlSafe, Decode, Encode, PgConnection, Postgres, Row as _, SqlSafeStr, Sqlite,
    SqliteConnection, Transaction, Type,
};

use crate::Error;

/// How long a statement waits that reads or changes a whole collection.
const UNHURRIED: Duration = Duration::from_secs(3600);
/// How often what others were in the way of is tried.
const ATTEMPTS: u32 = 5;

/// A connection or a transaction, and how long it waits for an answer of PostgreSQL.
#[derive(Debug)]
pub(crate) enum Session<S, P> {
    Sqlite(S),
    Postgres(P, Duration),
}

pub(crate) type Connection = Session<PoolConnection<Sqlite>, PoolConnection<Postgres>>;
pub(crate) type Tx = Session<Transaction<'static, Sqlite>, Transaction<'static, Postgres>>;

impl<S, P> Session<S, P>
where
    S: DerefMut<Target = SqliteConnection>,
    P: DerefMut<Target = PgConnection>,
{
    /// Begins a statement.
    pub(crate) fn query(&mut self, sql: impl SqlSafeStr) -> Query<'_> {
        match self {
            Self::Sqlite(db) => Query::Sqlite(db, sqlx::query(sql)),
            Self::Postgres(db, patience) => Query::Postgres(db, sqlx::query(sql), *patience),
        }
    }

    /// As [`Self::query`], of text that is made here for this once; no part of it comes from outside.
    pub(crate) fn made(&mut self, sql: String) -> Query<'_> {
        match self.query(AssertSqlSafe(sql)) {
            Query::Sqlite(db, query) => Query::Sqlite(db, query.persistent(false)),
            Query::Postgres(db, query, patience) => {
                Query::Postgres(db, query.persistent(false), patience)
            }
        }
    }

    /// Returns the words of either database.
    pub(crate) fn either(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(..) => postgres,
        }
    }
}

/// Begins a `SELECT` whose rows nobody else changes until the transaction has ended; in SQLite nobody does anyway.
macro_rules! locked {
    ($tx:expr, $select:literal) => {
        locked!($tx, $select, " FOR NO KEY UPDATE")
    };
    ($tx:expr, $select:literal, $how:literal) => {{
        let select = $tx.either($select, concat!($select, $how));
        $tx.query(select)
    }};
}
pub(crate) use locked;

/// Does work in one transaction, whole or not at all; again if another's was in its way. Gives what the work does, or
/// [`Error::Store`] if the database fails. (An async closure's future is not known to be `Send`.)
macro_rules! transaction {
    ($database:expr, |$tx:ident| $work:block) => {{
        let mut attempt = 1;
        loop {
            let mut begun = $database.begin().await?;
            let done = {
                let $tx = &mut begun;
                $crate::database::outcome(async { $work }).await
            };
            match begun.end(done, attempt).await {
                Some(ended) => break ended,
                None => attempt += 1,
            }
        }
    }};
}
pub(crate) use transaction;

/// Says of work how it may fail.
pub(crate) async fn outcome<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    work.await
}

impl Tx {
    /// Commits what was done, or ends with nothing done if it went wrong; none if others were in its way, and it is to
    /// be done again. For [`transaction`].
    pub(crate) async fn end<T>(
        self,
        done: Result<T, Error>,
        attempt: u32,
    ) -> Option<Result<T, Error>> {
        let ended = match (done, self) {
            (Ok(done), Self::Sqlite(tx)) => tx.commit().await.map(|()| done).map_err(Error::Store),
            (Ok(done), Self::Postgres(tx, patience)) => {
                within(patience, tx.commit()).await.map(|()| done)
            }
            (Err(fault), _) => Err(fault),
        };
        match ended {
            Err(fault) if attempt < ATTEMPTS && is_contended(&fault) => None,
            ended => Some(ended),
        }
    }

    /// Gives the statements of this transaction as long as they need: they are of whole collections.
    pub(crate) async fn unhurried(&mut self) -> Result<(), Error> {
        if let Self::Postgres(tx, patience) = self {
            let unlimited = sqlx::query("SET LOCAL statement_timeout = 0").execute(&mut **tx);
            within(*patience, unlimited).await?;
            *patience = UNHURRIED;
        }
        Ok(())
    }
}

/// A statement with its values.
#[allow(missing_debug_implementations, reason = "the values may be anybody's")]
pub(crate) enum Query<'c> {
    Sqlite(&'c mut SqliteConnection, sqlx::query::Query<'static, Sqlite, SqliteArguments>),
    Postgres(&'c mut PgConnection, sqlx::query::Query<'static, Postgres, PgArguments>, Duration),
}

impl<'c> Query<'c> {
    /// Gives the next value.
    pub(crate) fn bind<'t, T>(self, value: T) -> Self
    where
        T: Encode<'t, Sqlite> + Type<Sqlite> + Encode<'t, Postgres> + Type<Postgres>,
    {
        match self {
            Self::Sqlite(db, query) => Self::Sqlite(db, query.bind(value)),
            Self::Postgres(db, query, patience) => Self::Postgres(db, query.bind(value), patience),
        }
    }

    /// Returns how many rows it changed.
    pub(crate) async fn execute(self) -> Result<u64, Error> {
        Ok(match self {
            Self::Sqlite(db, query) => query.execute(db).await?.rows_affected(),
            Self::Postgres(db, query, patience) => {
                within(patience, query.execute(db)).await?.rows_affected()
            }
        })
    }

    /// Returns its row, if there is one.
    pub(crate) async fn optional(self) -> Result<Option<Row>, Error> {
        Ok(match self {
            Self::Sqlite(db, query) => query.fetch_optional(db).await?.map(Row::Sqlite),
            Self::Postgres(db, query, patience) => {
                within(patience, query.fetch_optional(db)).await?.map(Row::Postgres)
            }
        })
    }

    /// Returns all of its rows.
    pub(crate) async fn all(self) -> Result<Vec<Row>, Error> {
        Ok(match self {
            Self::Sqlite(db, query) => {
                query.fetch_all(db).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(db, query, patience) => {
                let rows = within(patience, query.fetch_all(db)).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// Returns its rows as they come; each is waited for as long as an answer is.
    pub(crate) fn stream(self) -> BoxStream<'c, Result<Row, Error>> {
        match self {
            Self::Sqlite(db, query) => query.fetch(db).map(|row| Ok(row.map(Row::Sqlite)?)).boxed(),
            Self::Postgres(db, query, patience) => {
                try_unfold(query.fetch(db), move |mut rows| async move {
                    let row = within(patience, rows.try_next()).await;
                    row.map(|row| row.map(|row| (Row::Postgres(row), rows)))
                })
                .boxed()
            }
        }
    }
}

/// What a statement finds.
#[allow(missing_debug_implementations, reason = "the values may be anybody's")]
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// Returns a column's value.
    ///
    /// # Errors
    /// If it is of another type.
    pub(crate) fn get<'r, T>(&'r self, at: usize) -> Result<T, Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(at)?,
            Self::Postgres(row) => row.try_get(at)?,
        })
    }

    /// Returns a column's value, which is 0 to 2³² - 1.
    ///
    /// # Errors
    /// If it is not.
    pub(crate) fn number(&self, at: usize) -> Result<u32, Error> {
        self.get::<i64>(at)?.try_into().map_err(|fault| Error::Broken(Box::new(fault)))
    }

    /// Returns a column's value, which is not negative.
    ///
    /// # Errors
    /// If it is.
    pub(crate) fn count(&self, at: usize) -> Result<u64, Error> {
        self.get::<i64>(at)?.try_into().map_err(|fault| Error::Broken(Box::new(fault)))
    }
}

/// Returns places for the values of `rows` behind the `after` first: `($2, $3), ($4, $5)`.
pub(crate) fn places(after: usize, rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let first = after + row * columns + 1;
        let places: Vec<String> =
            (first..first + columns).map(|place| format!("${place}")).collect();
        format!("({})", places.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Waits so long for an answer of PostgreSQL.
pub(super) async fn within<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(patience, work.map_err(told)).await {
        Ok(done) => done,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()),
    }
}

/// PostgreSQL takes no text with a NUL: no text of ours has one, so it is the caller's.
fn told(fault: sqlx::Error) -> Error {
    match code(&fault).as_deref() {
        Some("22021") => Error::Invalid("a NUL is in no id and no token of a page".to_owned()),
        _ => Error::Store(fault),
    }
}

/// Tells whether others' transactions were in the way of one, which changed nothing.
fn is_contended(fault: &Error) -> bool {
    let Error::Store(fault) = fault else { return false };
    matches!(code(fault).as_deref(), Some("40001" | "40P01"))
}

/// Returns what a database calls a fault.
fn code(fault: &sqlx::Error) -> Option<String> {
    Some(fault.as_database_error()?.code()?.into_owned())
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    #[test]
    fn places_are_numbered_row_by_row() {
        assert_eq!(places(1, 2, 2), "($2, $3), ($4, $5)");
        assert_eq!(places(0, 1, 1), "($1)");
    }

    #[tokio::test]
    async fn a_row_that_does_not_come_is_not_waited_for() {
        let server = testkit::Postgres::start().unwrap();
        let mut connection = PgConnection::connect(&server.url()).await.unwrap();
        let slow = sqlx::query("SELECT CAST(pg_sleep(3600) AS TEXT)");
        let patience = Duration::from_millis(100);
        let late = Query::Postgres(&mut connection, slow, patience).stream().try_next().await;
        assert!(matches!(late, Err(Error::Store(sqlx::Error::Io(_)))));
    }
}
