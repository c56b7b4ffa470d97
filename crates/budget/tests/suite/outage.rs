//! PostgreSQL is down, frozen, slow, full, back again, and elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use budget::{Error, Ledger, Period, Pool, Postgres, Rules};
use sqlx::{Connection as _, PgConnection};
use types::{Clock, NanoUsd};

use super::{Hands, NOON, hold, id, state, tenant};

async fn ledger(url: &str) -> Postgres {
    let clock: Arc<dyn Clock> = Arc::new(Hands(NOON.into()));
    let pool = Pool { connections: 4, acquire: Duration::from_millis(500) };
    Postgres::open(url, None, pool, Rules::default(), clock).await.unwrap()
}

/// Reserves, again while the store is not there, and returns how often it was not.
async fn insist(ledger: &Postgres, name: &str) -> usize {
    for failures in 0.. {
        match ledger.reserve(&hold(name, "a", 1)).await {
            Ok(_) => return failures,
            Err(Error::Ledger(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(fault) => panic!("{}", fault),
        }
    }
    0
}

fn is_down<T>(done: &Result<T, Error>) -> bool {
    matches!(done, Err(Error::Ledger(_)))
}

#[tokio::test]
async fn a_frozen_server_is_not_waited_for_for_ever_and_nothing_is_held_twice() {
    let server = testkit::Postgres::start().unwrap();
    let ledger = ledger(&server.url()).await;
    ledger.reserve(&hold("r1", "a", 5)).await.unwrap();
    server.freeze().unwrap();
    let (tenant, held, wanted) = (tenant(), id("r1"), hold("r2", "a", 7));
    let (first, second) =
        tokio::join!(ledger.reserve(&wanted), ledger.settle(&tenant, &held, NanoUsd::new(3)));
    assert!(is_down(&first) && second.is_err());
    server.thaw().unwrap();
    // Whoever asks again gets it, once, whether it was done before or not.
    insist(&ledger, "r3").await;
    ledger.reserve(&wanted).await.unwrap();
    ledger.settle(&tenant, &held, NanoUsd::new(3)).await.unwrap();
    assert_eq!(state(&ledger, "a", Period::Daily).await, (3, 7 + 1));
    assert_eq!(ledger.verify(&tenant).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_without_a_connection_left_is_used_again_when_it_has_one() {
    let server = testkit::Postgres::start_with(&["max_connections=12"]).unwrap();
    let url = server.url();
    let ledger = ledger(&url).await;
    // Whoever is in the way of the ledger's next connection; those of before are ended.
    let mut others = Vec::new();
    while let Ok(other) = PgConnection::connect(&url).await {
        others.push(other);
    }
    let mut admin = others.pop().unwrap();
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE application_name = 'baton-budget'";
    let ended: i64 = sqlx::query_scalar(kill).fetch_one(&mut admin).await.unwrap();
    // What was told to end takes a moment to make room.
    let all = others.len() + usize::try_from(ended).unwrap();
    while others.len() < all {
        match PgConnection::connect(&url).await {
            Ok(other) => others.push(other),
            Err(_) => tokio::task::yield_now().await,
        }
    }
    assert!(is_down(&ledger.reserve(&hold("r", "a", 1)).await));
    others.clear();
    insist(&ledger, "r").await;
    assert_eq!(state(&ledger, "a", Period::Daily).await, (0, 1));
}

#[tokio::test]
async fn who_keeps_a_row_locked_is_in_the_way_of_its_owner_for_a_while_alone() {
    let server = testkit::Postgres::start().unwrap();
    let ledger = ledger(&server.url()).await;
    ledger.reserve(&hold("r1", "a", 1)).await.unwrap();
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let mut locked = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM accounts WHERE name = 'a' FOR UPDATE")
        .execute(&mut *locked)
        .await
        .unwrap();
    assert!(is_down(&ledger.reserve(&hold("r2", "a", 1)).await));
    locked.rollback().await.unwrap();
    insist(&ledger, "r2").await;
    assert_eq!(state(&ledger, "a", Period::Daily).await, (0, 2));
}

/// Whoever goes away in the middle of a transaction leaves none behind that is nobody's.
#[tokio::test]
async fn who_goes_away_takes_the_transaction_along() {
    let server = testkit::Postgres::start().unwrap();
    let hands = Arc::new(Hands(NOON.into()));
    let clock: Arc<dyn Clock> = hands.clone();
    let pool = Pool { connections: 1, acquire: Duration::from_millis(500) };
    let ledger = Postgres::open(&server.url(), None, pool, Rules::default(), clock).await.unwrap();
    ledger.reserve(&hold("r1", "a", 1)).await.unwrap();
    hands.0.fetch_add(10_000, Ordering::SeqCst);
    let mut other = PgConnection::connect(&server.url()).await.unwrap();
    let mut locked = other.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM accounts WHERE name = 'a' FOR UPDATE")
        .execute(&mut *locked)
        .await
        .unwrap();
    // It has the reservation, waits for the account, and is given up.
    let waits = async {
        let mut looking = PgConnection::connect(&server.url()).await.unwrap();
        let waiting =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'baton-budget'
                       AND wait_event_type = 'Lock'";
        while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut looking).await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = ledger.expire() => panic!("{done:?}"),
        () = waits => {}
    }
    locked.rollback().await.unwrap();
    let free = async {
        let mut other = PgConnection::connect(&server.url()).await.unwrap();
        let text = "SELECT 1 FROM reservations FOR UPDATE NOWAIT";
        while sqlx::query(text).execute(&mut other).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), free).await.unwrap();
    assert_eq!(ledger.expire().await.unwrap(), 1);
    assert_eq!(state(&ledger, "a", Period::Daily).await, (0, 0));
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let mut server = testkit::Postgres::start().unwrap();
    server.stop().unwrap();
    let url = server.url();
    let opened = tokio::spawn(async move { ledger(&url).await });
    let server = tokio::task::spawn_blocking(move || {
        server.restart().unwrap();
        server
    });
    let _server = server.await.unwrap();
    insist(&opened.await.unwrap(), "r").await;
}

#[tokio::test]
async fn a_server_that_moves_is_found_where_its_name_leads() {
    let mut server = testkit::Postgres::start().unwrap();
    // A name of its place, as a service's is of an address.
    let names = tempfile::tempdir().unwrap();
    let name = names.path().join("database");
    std::os::unix::fs::symlink(server.place(), &name).unwrap();
    let url =
        format!("postgres://baton@{}/postgres", name.display().to_string().replace('/', "%2F"));
    let ledger = ledger(&url).await;
    insist(&ledger, "r1").await;
    let place = tokio::task::spawn_blocking(move || {
        server.stop().unwrap();
        server.move_and_restart().unwrap();
        server
    });
    let server = place.await.unwrap();
    assert!(is_down(&ledger.reserve(&hold("r2", "a", 1)).await), "nobody is there");
    std::fs::remove_file(&name).unwrap();
    std::os::unix::fs::symlink(server.place(), &name).unwrap();
    insist(&ledger, "r2").await;
    assert_eq!(state(&ledger, "a", Period::Daily).await, (0, 2));
}

#[tokio::test]
async fn a_process_that_waits_for_its_server_is_told_to_stop_and_does() {
    let mut server = testkit::Postgres::start().unwrap();
    server.stop().unwrap();
    let url = server.url();
    let set_up = |command: &mut tokio::process::Command| {
        command.env("BATON_BUDGET__LEDGER", url);
    };
    let process = testkit::Process::service("budget", set_up).await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(20), process.stop()).await;
    let (status, log) = stopped.unwrap().unwrap();
    assert!(status.success(), "{log}");
}
