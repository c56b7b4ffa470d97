//! What every store of kept answers does, and what becomes of a call when it does not.

use std::time::Instant;

use proto::router::Dialect;
use serde_json::json;
use types::{TenantId, UserId};

use super::*;

const LARGEST: usize = 1_000;

/// Calls do not wait longer for Redis.
const WAIT: Duration = Duration::from_millis(50);

/// A test's machine may be slow; what is late must be told from what is never.
const SLOW: Duration = Duration::from_secs(30);

/// Replicas of a cache; in one store, or it is one replica.
struct Replicas {
    one: Cache,
    other: Cache,
}

impl Replicas {
    fn in_memory(ttl: Duration) -> Self {
        let one = open(ttl, None);
        Self { other: one.clone(), one }
    }

    async fn in_redis(redis: &testkit::Redis, ttl: Duration) -> Self {
        let replica = async || {
            let link = Arc::new(
                Link::open(crate::shared::PURPOSE, &redis.url().into(), WAIT, &[]).unwrap(),
            );
            link.up().await;
            open(ttl, Some(link))
        };
        Self { one: replica().await, other: replica().await }
    }

    /// Returns the store that both see.
    fn store(&self) -> &dyn Store {
        let cache = &*self.one.0;
        cache.redis.as_ref().map_or(&cache.memory, |redis| redis as &dyn Store)
    }
}

fn open(ttl: Duration, link: Option<Arc<Link>>) -> Cache {
    let config = CacheConfig {
        mode: CacheMode::Always,
        ttl_ms: u64::try_from(ttl.as_millis()).unwrap(),
        max_entry_bytes: LARGEST,
        ..CacheConfig::default()
    };
    Cache::open(&config, link, &Metrics::default()).unwrap()
}

/// Returns where a tenant's answer to a question is.
fn place(cache: &Cache, tenant: &str, privacy: Privacy, question: &str) -> Place {
    let tenant = TenantId::new(tenant).unwrap();
    let context = CallContext { privacy, ..CallContext::new(tenant, UserId::new("u").unwrap()) };
    let body = json!({ "model": "m", "messages": [{ "role": "user", "content": question }] });
    let (body, candidate) = (body.as_object().unwrap(), std::iter::once(("p", "m")));
    let scope = key::scope(&context, Dialect::ChatCompletions, body, &[], candidate);
    Place { cache: cache.clone(), scope, privacy, question: None }
}

async fn keep(place: &Place, form: Form, chunks: &[&'static str]) {
    let mut recording = place.record(form);
    chunks.iter().for_each(|chunk| recording.push(&Bytes::from_static(chunk.as_bytes())));
    let receipt = Receipt { provider: "p".to_owned(), cost_nanos: 7, ..Receipt::default() };
    recording.keep(&receipt).await;
}

/// Waits until a store has, or has no longer, what is at `key`.
async fn until(store: &dyn Store, key: &Key, has: bool) {
    let seen = async {
        while store.find(key).await.is_some() != has {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SLOW, seen).await.unwrap();
}

async fn contract(replicas: &Replicas) {
    let Replicas { one, other } = replicas;
    let store = replicas.store();
    let question = |cache| place(cache, "t", Privacy::Public, "q");

    // What one keeps all have, as it was, for nothing.
    assert_eq!(question(other).find(Form::Whole).await, None);
    keep(&question(one), Form::Whole, &["one", "two"]).await;
    until(store, &Form::Whole.key(&question(one).scope), true).await;
    for cache in [one, other, other] {
        let found = question(cache).find(Form::Whole).await.unwrap();
        assert_eq!(found.chunks, ["one", "two"]);
        assert_eq!((found.receipt.provider.as_str(), found.receipt.cost_nanos), ("p", 0));
        assert_eq!(found.receipt.kept(), Kept::Hit);
    }

    // Nobody else has it: no other form, tenant, privacy, question.
    assert_eq!(question(other).find(Form::Pieces).await, None);
    for (tenant, privacy, asked) in
        [("s", Privacy::Public, "q"), ("t", Privacy::Private, "q"), ("t", Privacy::Public, "r")]
    {
        let found = place(other, tenant, privacy, asked).find(Form::Whole).await;
        assert_eq!(found, None, "{tenant} {privacy:?} {asked}");
    }

    // A private call's answer is shared where that is here.
    let private = |cache| place(cache, "t", Privacy::Private, "q");
    keep(&private(one), Form::Whole, &["private"]).await;
    until(store, &Form::Whole.key(&private(one).scope), true).await;
    assert_eq!(private(other).find(Form::Whole).await.unwrap().chunks, ["private"]);
    assert_eq!(question(other).find(Form::Whole).await.unwrap().chunks, ["one", "two"]);

    // What is too long, or has nothing, is not kept; what comes behind it is, in its place.
    let long = place(one, "t", Privacy::Public, "long");
    let most = "x".repeat(LARGEST - 8).leak();
    keep(&long, Form::Whole, &[most, "x"]).await;
    keep(&long, Form::Whole, &[]).await;
    keep(&long, Form::Pieces, &[most]).await;
    until(store, &Form::Pieces.key(&long.scope), true).await;
    assert_eq!(long.find(Form::Whole).await, None);

    // What is broken, or not ours, is a miss.
    let whole = Entry { receipt: Receipt::default(), chunks: vec!["a".into(), "b".into()] };
    let whole = whole.to_bytes(i64::MAX);
    let too_large = Bytes::from(vec![b'x'; LARGEST * 3]);
    let cut = whole.slice(..whole.len() - 1);
    for (at, broken) in
        [Bytes::new(), "no entry at all".into(), cut, too_large].into_iter().enumerate()
    {
        let place = place(other, "t", Privacy::Public, &format!("broken {at}"));
        store.keep(Form::Whole.key(&place.scope), broken).await;
        assert_eq!(place.find(Form::Whole).await, None, "{at}");
        keep(&place, Form::Whole, &["mended"]).await;
        assert_eq!(place.find(Form::Whole).await.unwrap().chunks, ["mended"]);
    }
}

/// Their time is short: what is kept is gone, from the store as well.
async fn expires(replicas: &Replicas) {
    let place = place(&replicas.one, "t", Privacy::Public, "q");
    keep(&place, Form::Whole, &["one"]).await;
    until(replicas.store(), &Form::Whole.key(&place.scope), false).await;
    assert_eq!(place.find(Form::Whole).await, None);
}

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(20);

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(&Replicas::in_memory(LONG)).await;
    expires(&Replicas::in_memory(SHORT)).await;
}

#[tokio::test]
async fn redis_keeps_the_contract() {
    let redis = testkit::Redis::start().unwrap();
    contract(&Replicas::in_redis(&redis, LONG).await).await;
    expires(&Replicas::in_redis(&redis, SHORT).await).await;
}

#[tokio::test]
async fn a_redis_that_is_frozen_or_gone_is_a_miss_in_time() {
    let mut redis = testkit::Redis::start().unwrap();
    let replicas = Replicas::in_redis(&redis, LONG).await;
    let here = place(&replicas.one, "t", Privacy::Public, "q");
    keep(&here, Form::Whole, &["one"]).await;
    until(replicas.store(), &Form::Whole.key(&here.scope), true).await;
    for kill in [false, true] {
        match kill {
            false => redis.freeze().unwrap(),
            true => redis.kill().unwrap(),
        }
        let there = place(&replicas.other, "t", Privacy::Public, "q");
        let asked_at = Instant::now();
        for _ in 0..100 {
            assert_eq!(there.find(Form::Whole).await, None);
        }
        // One waits, and those behind it do not; a hundred that do would take five seconds.
        let waited = asked_at.elapsed();
        assert!(waited < WAIT * 40, "{waited:?}");
        assert!(here.find(Form::Whole).await.is_some(), "what is in memory is there");
        let new = place(&replicas.other, "t", Privacy::Public, &format!("new {kill}"));
        keep(&new, Form::Whole, &["new"]).await;
        assert!(new.find(Form::Whole).await.is_some(), "and what is kept meanwhile");
    }
}
