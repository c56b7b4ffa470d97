//! What every store of responses does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use router::{Error, Postgres, Sqlite, Store, Stored, Terms};
use types::{Clock, Privacy, TenantId};

const DAY_MS: i64 = 24 * 3_600_000;
const TERMS: Terms = Terms { lifetime: Duration::from_secs(30 * 24 * 3600), tenant_bytes: 10_000 };

/// A clock that stands until it is moved.
struct Hands(AtomicI64);

impl Hands {
    fn start() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_700_000_000_000)))
    }

    fn move_days(&self, days: i64) {
        self.0.fetch_add(days * DAY_MS, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn response(id: &str, previous: Option<&str>) -> Stored {
    Stored {
        id: id.to_owned(),
        previous: previous.map(str::to_owned),
        privacy: Privacy::Public,
        input: r#"[{"text":"ü \u0000"}]"#.to_owned(),
        response: format!(r#"{{"id":"{id}"}}"#),
    }
}

async fn ids(store: &dyn Store, tenant: &TenantId, id: &str) -> Vec<String> {
    let turns = store.turns(tenant, id, 100).await.unwrap();
    turns.into_iter().map(|turn| turn.id).collect()
}

async fn contract(store: Arc<dyn Store>, clock: &Hands) {
    let s = store.as_ref();
    let (a, b) = (tenant("a"), tenant("b"));

    // A conversation, newest first; what is kept comes back as it was.
    let private = Stored { privacy: Privacy::Private, ..response("2", Some("1")) };
    for one in [response("1", None), private.clone(), response("3", Some("2"))] {
        s.keep(&a, &one).await.unwrap();
    }
    assert_eq!(ids(s, &a, "3").await, ["3", "2", "1"]);
    let turns = s.turns(&a, "3", 2).await.unwrap();
    assert_eq!(turns.len(), 2);
    assert_eq!((turns[1].privacy, turns[1].previous.as_deref()), (Privacy::Private, Some("1")));
    assert_eq!(turns[1].bytes, private.bytes());
    let read = s.read(&a, &["2".to_owned(), "none".to_owned()]).await.unwrap();
    assert_eq!(read, [private]);

    // Another tenant sees nothing of it, has its own of the same name, and continues its own alone.
    assert!(ids(s, &b, "3").await.is_empty());
    assert!(s.read(&b, &["1".to_owned()]).await.unwrap().is_empty());
    assert!(!s.delete(&b, "1").await.unwrap());
    s.keep(&b, &response("1", None)).await.unwrap();
    s.keep(&b, &response("4", Some("3"))).await.unwrap();
    assert_eq!(ids(s, &b, "4").await, ["4"]);

    // Removed is gone, once, and with it the conversation's beginning.
    assert!(s.delete(&a, "2").await.unwrap());
    assert!(!s.delete(&a, "2").await.unwrap());
    assert_eq!(ids(s, &a, "3").await, ["3"]);

    // A repeat changes nothing.
    assert!(s.keep(&a, &response("3", None)).await.is_err());
    assert_eq!(s.turns(&a, "3", 1).await.unwrap()[0].previous.as_deref(), Some("2"));

    // What expires is gone at once; what is continued lives on.
    s.keep(&a, &response("old", None)).await.unwrap();
    s.keep(&a, &response("root", None)).await.unwrap();
    clock.move_days(29);
    s.keep(&a, &response("leaf", Some("root"))).await.unwrap();
    clock.move_days(1);
    assert!(ids(s, &a, "old").await.is_empty());
    assert!(s.read(&a, &["old".to_owned()]).await.unwrap().is_empty());
    assert!(!s.delete(&a, "old").await.unwrap());
    assert_eq!(ids(s, &a, "leaf").await, ["leaf", "root"]);
    assert_eq!(s.expire().await.unwrap(), 5, "1, 3 and old; 1 and 4 of the other tenant");
    assert_eq!(s.expire().await.unwrap(), 0);
    clock.move_days(29);
    assert!(ids(s, &a, "leaf").await.is_empty());

    // A tenant's share is its own; what is gone makes room.
    let long = |id: &str| Stored { response: "x".repeat(4_000), ..response(id, None) };
    let c = tenant("c");
    s.keep(&c, &long("1")).await.unwrap();
    s.keep(&c, &long("2")).await.unwrap();
    let full = s.keep(&c, &long("3")).await;
    assert!(matches!(full, Err(Error::Full { most: 10_000 })), "{full:?}");
    s.keep(&b, &long("3")).await.unwrap();
    assert!(s.delete(&c, "1").await.unwrap());
    s.keep(&c, &long("3")).await.unwrap();
    clock.move_days(31);
    assert!(s.keep(&c, &long("4")).await.is_err(), "not swept yet");
    s.expire().await.unwrap();
    s.keep(&c, &long("4")).await.unwrap();

    // Many at once continue the same, while others sweep.
    clock.move_days(31);
    let d = tenant("d");
    s.keep(&d, &response("0", None)).await.unwrap();
    s.keep(&d, &response("1", Some("0"))).await.unwrap();
    clock.move_days(2);
    let many = (0..20).map(|n| {
        let (store, d) = (Arc::clone(&store), d.clone());
        tokio::spawn(async move {
            store.keep(&d, &response(&format!("n{n}"), Some("1"))).await.unwrap();
            store.expire().await.unwrap();
        })
    });
    for one in many.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    clock.move_days(29);
    assert_eq!(ids(s, &d, "n19").await, ["n19", "1", "0"]);
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Hands::start();
    let store = Sqlite::open(directory.path().join("deep/r.db"), TERMS, clock.clone()).await;
    contract(Arc::new(store.unwrap()), &clock).await;
}

#[tokio::test]
async fn postgres_keeps_the_contract_beside_others() {
    let server = testkit::Postgres::start().unwrap();
    let clock = Hands::start();
    // A second replica finds everything made.
    for _ in 0..2 {
        Postgres::open(&server.url(), 1, TERMS, clock.clone()).await.unwrap();
    }
    let store = Postgres::open(&server.url(), 8, TERMS, clock.clone()).await.unwrap();
    contract(Arc::new(store), &clock).await;
}

#[tokio::test]
async fn a_store_remembers_and_a_killed_database_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, a) = (Hands::start(), tenant("a"));
    let file = directory.path().join("r.db");
    let store = Sqlite::open(&file, TERMS, clock.clone()).await.unwrap();
    store.keep(&a, &response("1", None)).await.unwrap();
    drop(store);
    let store = Sqlite::open(&file, TERMS, clock.clone()).await.unwrap();
    assert_eq!(ids(&store, &a, "1").await, ["1"]);

    let mut server = testkit::Postgres::start().unwrap();
    let store = Postgres::open(&server.url(), 1, TERMS, clock).await.unwrap();
    store.keep(&a, &response("1", None)).await.unwrap();
    server.crash().unwrap();
    // A pooled connection may be told only now that it is dead; the next one is fresh.
    let mut found = Vec::new();
    for _ in 0..3 {
        found.push(store.turns(&a, "1", 1).await.map(|turns| turns.len()));
    }
    assert!(matches!(found.last(), Some(Ok(1))), "{found:?}");
}
