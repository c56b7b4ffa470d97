//! One contract for every ledger.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

mod contract;
mod fire;
mod keys;
mod model;
mod outage;
mod upgrade;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use budget::{Kind, Ledger, Period, Pool, Postgres, Reservation, Rules, Scope, Sqlite};
use types::{Clock, NanoUsd, ReservationId, TenantId};

/// 2026-11-24T12:00:00Z.
const NOON: i64 = 1_795_521_600_000;

struct Hands(AtomicI64);

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn tenant() -> TenantId {
    TenantId::new("t").unwrap()
}

fn user(name: &str) -> Scope {
    Scope::new(Kind::User, name).unwrap()
}

fn id(name: &str) -> ReservationId {
    ReservationId::new(name).unwrap()
}

fn hold(name: &str, who: &str, nanos: i64) -> Reservation {
    Reservation {
        id: id(name),
        tenant: tenant(),
        scopes: vec![Scope::tenant(), user(who)],
        amount: NanoUsd::new(nanos),
        ttl_ms: 1000,
    }
}

async fn state(ledger: &dyn Ledger, who: &str, period: Period) -> (i64, i64) {
    let state = ledger.statement(&tenant(), &user(who), period).await.unwrap();
    (state.spent.nanos(), state.held.nanos())
}

fn rules() -> Rules {
    let defaults = [((Kind::Key, Period::Daily), NanoUsd::new(1000))].into();
    Rules { defaults, grace: 5, alerts: vec![80, 90, 95] }
}

const POOL: Pool = Pool { connections: 8, acquire: Duration::from_secs(2) };

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Arc::new(Hands(AtomicI64::new(NOON)));
    let shared: Arc<dyn Clock> = clock.clone();
    let ledger = Sqlite::open(directory.path().join("ledger.db"), rules(), shared).await.unwrap();
    contract::contract(Arc::new(ledger), &clock).await;
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let server = testkit::Postgres::start().unwrap();
    let clock = Arc::new(Hands(AtomicI64::new(NOON)));
    let shared: Arc<dyn Clock> = clock.clone();
    let ledger = Postgres::open(&server.url(), None, POOL, rules(), shared).await.unwrap();
    contract::contract(Arc::new(ledger), &clock).await;
}

#[tokio::test]
async fn postgres_loses_nothing_when_it_is_killed_and_the_ledger_recovers() {
    let mut server = testkit::Postgres::start().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(Hands(AtomicI64::new(NOON)));
    let ledger =
        Postgres::open(&server.url(), None, POOL, rules(), Arc::clone(&clock)).await.unwrap();
    ledger.reserve(&hold("r", "a", 7)).await.unwrap();
    server.crash().unwrap();
    // A pooled connection may be told only now that it is dead; the next one is fresh.
    let mut states = Vec::new();
    for _ in 0..3 {
        states.push(ledger.statement(&tenant(), &user("a"), Period::Daily).await.map(|s| s.held));
    }
    assert!(matches!(states.last(), Some(Ok(held)) if held.nanos() == 7), "{states:?}");
}

/// Reserves and settles in the current directory, many at once, and says what was acknowledged; see
/// the test below.
#[tokio::test]
#[ignore = "it goes on until it is killed"]
async fn moves_money_without_end() {
    let clock: Arc<dyn Clock> = Arc::new(Hands(AtomicI64::new(NOON)));
    let ledger = Arc::new(Sqlite::open("killed.db", rules(), clock).await.unwrap());
    let workers = (0..16).map(|worker| {
        let ledger = Arc::clone(&ledger);
        tokio::spawn(async move {
            for n in 0.. {
                let one = format!("w{worker}-{n}");
                ledger.reserve(&hold(&one, "a", 9)).await.unwrap();
                ledger.settle(&tenant(), &id(&one), NanoUsd::new(3)).await.unwrap();
                println!("settled {one}");
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("killed.db");
    let mut killed = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "moves_money_without_end", "--ignored", "--nocapture"])
        .current_dir(&directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(killed.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    for line in lines {
        told.extend(line.unwrap().strip_prefix("settled ").map(str::to_owned));
        if told.len() == 200 {
            killed.kill().unwrap();
        }
    }
    killed.wait().unwrap();
    assert!(told.len() >= 200);

    let clock: Arc<dyn Clock> = Arc::new(Hands(AtomicI64::new(NOON)));
    let ledger = Sqlite::open(&file, rules(), clock).await.unwrap();
    let (spent, held) = state(&ledger, "a", Period::Daily).await;
    for one in &told {
        // A repeat changes nothing; had it been lost, this would find nothing or book it now.
        ledger.settle(&tenant(), &id(one), NanoUsd::new(3)).await.unwrap();
    }
    assert_eq!(state(&ledger, "a", Period::Daily).await, (spent, held));
    // What is more was done, and its answer was on the way.
    let more = spent / 3 - i64::try_from(told.len()).unwrap();
    assert!((0..=16).contains(&more) && held % 9 == 0, "{more} more, {held} held");
}

#[tokio::test]
async fn a_ledger_remembers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ledger.db");
    let clock: Arc<dyn Clock> = Arc::new(Hands(AtomicI64::new(NOON)));
    let ledger = Sqlite::open(&file, rules(), Arc::clone(&clock)).await.unwrap();
    ledger.reserve(&hold("r", "a", 7)).await.unwrap();
    drop(ledger);
    let ledger = Sqlite::open(&file, rules(), clock).await.unwrap();
    assert_eq!(state(&ledger, "a", Period::Daily).await, (0, 7));
}
