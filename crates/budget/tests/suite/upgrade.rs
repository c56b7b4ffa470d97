//! A ledger of before scopes is one of scopes, with everything that it held.

use std::borrow::Cow;
use std::sync::Arc;

use budget::{Ledger, Period, Postgres, Rules, Sqlite};
use sqlx::migrate::Migrator;
use types::{Clock, NanoUsd};

use super::{Hands, NOON, POOL, id, state, tenant, user};

/// What a ledger of before did: one held yesterday and settled today, one held, one that expired and was
/// settled then, one released, and a mark.
const MOVES: [&str; 8] = [
    "INSERT INTO limits VALUES ('t', 'a', 'daily', 100)",
    "INSERT INTO reservations VALUES ('t', 'r1', 'a', 9, NULL, 'held', '[[\"daily\", 1795392000000], [\"weekly\", 1795392000000], [\"monthly\", 1793491200000], [\"total\", 0]]', 1795435200000, 1999999999999, NULL)",
    "UPDATE reservations SET state = 'settled', settled = 7, ended_at = 1795521600000 WHERE id = 'r1'",
    "INSERT INTO reservations VALUES ('t', 'r2', 'a', 20, NULL, 'held', '[[\"daily\", 1795478400000], [\"weekly\", 1795392000000], [\"monthly\", 1793491200000], [\"total\", 0]]', 1795521600000, 1999999999999, NULL)",
    "INSERT INTO reservations VALUES ('t', 'r3', 'a', 5, NULL, 'held', '[[\"daily\", 1795478400000], [\"weekly\", 1795392000000], [\"monthly\", 1793491200000], [\"total\", 0]]', 1795521600000, 1795521600001, NULL)",
    "UPDATE reservations SET state = 'expired', ended_at = 1795521600002 WHERE id = 'r3'",
    "UPDATE reservations SET state = 'settled', settled = 4, ended_at = 1795521600003 WHERE id = 'r3'",
    "INSERT INTO reservations VALUES ('t', 'r4', 'b', 0, NULL, 'released', '[]', 1795521600000, 1795521600000, 1795521600000)",
];

/// Returns the migrations that there were.
fn before(all: &Migrator) -> Migrator {
    let first = all.iter().filter(|one| one.version <= 2).cloned().collect();
    Migrator { migrations: Cow::Owned(first), ..Migrator::DEFAULT }
}

async fn all_is_there(ledger: &dyn Ledger) {
    assert_eq!(state(ledger, "a", Period::Daily).await, (4, 20));
    assert_eq!(state(ledger, "a", Period::Weekly).await, (11, 20));
    assert_eq!(state(ledger, "a", Period::Total).await, (11, 20));
    let limit = ledger.statement(&tenant(), &user("a"), Period::Daily).await.unwrap().limit;
    assert_eq!(limit, Some(NanoUsd::new(100)));
    assert_eq!(ledger.verify(&tenant()).await.unwrap(), Vec::<String>::new());
    ledger.settle(&tenant(), &id("r2"), NanoUsd::new(1)).await.unwrap();
    assert_eq!(state(ledger, "a", Period::Daily).await, (5, 0));
    assert!(ledger.reserve(&super::hold("r4", "b", 1)).await.is_err(), "it was marked");
    assert_eq!(ledger.verify(&tenant()).await.unwrap(), Vec::<String>::new());
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(Hands(NOON.into()))
}

#[tokio::test]
async fn sqlite_takes_over_what_was() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ledger.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    before(&sqlx::migrate!("migrations/sqlite")).run(&pool).await.unwrap();
    for one in MOVES {
        sqlx::query(one).execute(&pool).await.unwrap();
    }
    pool.close().await;
    all_is_there(&Sqlite::open(&file, Rules::default(), clock()).await.unwrap()).await;
}

#[tokio::test]
async fn postgres_takes_over_what_was() {
    let server = testkit::Postgres::start().unwrap();
    let pool = sqlx::PgPool::connect(&server.url()).await.unwrap();
    before(&sqlx::migrate!("migrations/postgres")).run(&pool).await.unwrap();
    for one in MOVES {
        sqlx::query(one).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let url = server.url();
    let ledger = Postgres::open(&url, None, POOL, Rules::default(), clock()).await.unwrap();
    all_is_there(&ledger).await;
}
