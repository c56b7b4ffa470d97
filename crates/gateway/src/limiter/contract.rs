//! What both backends keep.

use std::sync::Arc;
use std::time::Duration;

use redis_link::Link;
use redis_link::fred::prelude::KeysInterface as _;

use super::memory::{Memory, Uptime};
use super::redis::{PURPOSE, Redis};
use super::{Ask, Backend, Lease, Taken, Wanted};

/// A test's machine may be slow; what waits must be right all the same.
const WAIT: Duration = Duration::from_secs(5);
const LONG: u64 = 600_000;

fn window(bucket: &str, limit: u64, cost: u64) -> Wanted {
    Wanted { bucket: bucket.to_owned(), limit, window_ms: LONG, cost, policy: "user" }
}

fn ask(windows: &[Wanted]) -> Ask {
    Ask { windows: windows.to_vec(), ..Ask::default() }
}

fn lease(id: &str, limit: u64) -> Ask {
    let lease = Lease { bucket: "at once".to_owned(), limit, policy: "user" };
    Ask { id: id.to_owned(), leases: vec![lease], windows: vec![window("with lease", 100, 1)] }
}

async fn contract(one: Arc<dyn Backend>, other: Arc<dyn Backend>) {
    // Both count together, exactly, whoever asks at the same time.
    let wanted = ask(&[window("total", 25, 1)]);
    let asked = (0..100).map(|number| {
        let (backend, wanted) = ([&one, &other][number % 2].clone(), wanted.clone());
        tokio::spawn(async move { backend.decide(&wanted).await.unwrap().admitted })
    });
    let mut admitted = 0;
    for asked in asked.collect::<Vec<_>>() {
        admitted += u64::from(asked.await.unwrap());
    }
    assert_eq!(admitted, 25);

    // How it stands is told; a refusal takes nothing and does not last longer.
    let refused = one.decide(&wanted).await.unwrap();
    let seen = refused.windows[0];
    assert_eq!((refused.admitted, seen.left, seen.cost), (false, 0, 1));
    assert!(seen.wait_ms.unwrap() > LONG - 10_000 && seen.wait_ms.unwrap() <= LONG * 21 / 20);
    let again = other.decide(&wanted).await.unwrap().windows[0];
    assert!(again.wait_ms <= seen.wait_ms && again.reset_ms <= seen.reset_ms);

    // All or nothing: the full one refuses, and the other one is as it was.
    let both = ask(&[window("wide", 5, 1), window("total", 25, 1)]);
    let refused = one.decide(&both).await.unwrap();
    assert!(!refused.admitted && refused.windows[0].wait_ms == Some(0));
    let seen = other.decide(&ask(&[window("wide", 5, 1)])).await.unwrap();
    assert_eq!((seen.admitted, seen.windows[0].left), (true, 5));

    // What costs more than the limit takes all of it; what costs nothing goes on.
    let large = one.decide(&ask(&[window("tokens", 1_000, 5_000)])).await.unwrap();
    assert_eq!((large.admitted, large.windows[0].cost), (true, 1_000));
    assert!(!other.decide(&ask(&[window("tokens", 1_000, 1)])).await.unwrap().admitted);
    assert!(other.decide(&ask(&[window("tokens", 1_000, 0)])).await.unwrap().admitted);
    let taken = |bucket| Taken { bucket, window_ms: LONG, at_ms: large.at_ms, is_owed: false };
    one.correct(&taken("tokens"), -600).await;
    let seen = other.decide(&ask(&[window("tokens", 1_000, 100)])).await.unwrap();
    assert_eq!((seen.admitted, seen.windows[0].left), (true, 600));
    one.correct(&taken("tokens"), -5_000).await;
    one.correct(&taken("nobody's"), 5).await;
    assert_eq!(one.decide(&ask(&[window("nobody's", 9, 1)])).await.unwrap().windows[0].left, 9);

    // So many at once; whoever is refused for it takes nothing of the window beside.
    assert_eq!(one.decide(&lease("a", 2)).await.unwrap().free, [2]);
    assert!(other.decide(&lease("b", 2)).await.unwrap().admitted);
    let refused = one.decide(&lease("c", 2)).await.unwrap();
    assert_eq!((refused.admitted, &refused.free[..]), (false, &[0][..]));
    other.end(&lease("a", 2)).await;
    other.end(&lease("a", 2)).await;
    let admitted = one.decide(&lease("d", 2)).await.unwrap();
    assert!(admitted.admitted && admitted.windows[0].left == 98, "{admitted:?}");
    assert!(!one.decide(&lease("e", 2)).await.unwrap().admitted);

    // A window is over after its time and at most a twentieth more.
    let short = Wanted { window_ms: 40, ..window("short", 1, 1) };
    assert!(one.decide(&ask(std::slice::from_ref(&short))).await.unwrap().admitted);
    let over = async {
        while !other.decide(&ask(std::slice::from_ref(&short))).await.unwrap().admitted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), over).await.unwrap();
}

async fn connect(redis: &testkit::Redis) -> Redis {
    let link = Link::open(PURPOSE, &redis.url().into(), WAIT, &[]).unwrap();
    link.up().await;
    Redis::new(link, WAIT)
}

#[tokio::test]
async fn memory_keeps_the_contract() {
    let memory = Arc::new(Memory::new(Arc::new(Uptime::default())));
    contract(memory.clone(), memory).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let server = testkit::Redis::start().unwrap();
    let (one, other) = (connect(&server).await, connect(&server).await);
    contract(Arc::new(one), Arc::new(other)).await;
}

#[tokio::test]
async fn nothing_in_redis_stays_for_ever() {
    let server = testkit::Redis::start().unwrap();
    let redis = connect(&server).await;
    assert!(redis.decide(&lease("a", 2)).await.unwrap().admitted);
    assert_eq!(redis.replicas().await, Some(1));
    let keys = server.command(&["keys", "*"]).unwrap();
    let link = Link::open(PURPOSE, &server.url().into(), WAIT, &[]).unwrap();
    link.up().await;
    // A bucket's name has lines of its own, so they are told apart by their beginning.
    assert_eq!(keys.matches("baton:limit:").count(), 3, "{keys}");
    for key in ["baton:limit:with lease", "baton:limit:at once", "baton:limit:replicas"] {
        let left: i64 = link.client().pttl(key).await.unwrap();
        assert!(left > 0 && left <= i64::try_from(LONG * 21 / 20).unwrap(), "{key}: {left}");
    }
}

#[tokio::test]
async fn what_was_owed_counts_when_redis_answers_again() {
    let server = testkit::Redis::start().unwrap();
    let (redis, memory) = (connect(&server).await, Memory::new(Arc::new(Uptime::default())));
    let wanted = ask(&[window("b", 40, 1)]);
    server.freeze().unwrap();
    for _ in 0..40 {
        memory.share(&wanted, 4, true);
    }
    server.thaw().unwrap();
    let owed = memory.owed();
    // The answer of the first may have been lost.
    for _ in 0..2 {
        assert!(redis.owe("once", &owed, memory.now_ms()).await);
    }
    memory.told(&owed);
    assert_eq!(redis.decide(&wanted).await.unwrap().windows[0].left, 30, "a quarter was taken");
    assert!(memory.owed().is_empty());
}

#[tokio::test]
async fn a_lease_that_ends_while_it_is_renewed_has_ended() {
    let server = testkit::Redis::start().unwrap();
    let (redis, memory) = (connect(&server).await, Memory::new(Arc::new(Uptime::default())));
    for id in ["ends", "stays"] {
        assert!(redis.decide(&lease(id, 2)).await.unwrap().admitted);
        assert!(memory.share(&lease(id, 2), 1, false).admitted);
    }
    let leases = memory.leases();
    memory.end(&lease("ends", 2)).await;
    redis.end(&lease("ends", 2)).await;
    redis.renew(&leases, |lease| memory.is_out(lease)).await;
    assert_eq!(redis.decide(&lease("new", 2)).await.unwrap().free, [1]);
}
