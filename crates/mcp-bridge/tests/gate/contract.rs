//! What every store does.

use std::sync::Arc;

use mcp_bridge::{Call, Decider, Digest, Known, Postgres, Seen, Sqlite, State, Store, WAITING};
use types::TenantId;

fn seen(tool: &str, definition: &str, trusted: bool) -> Seen {
    Seen {
        tool: tool.to_owned(),
        digest: Digest::of(definition),
        definition: definition.to_owned(),
        findings: vec!["odd".to_owned()],
        trusted,
    }
}

fn known(tool: &str, definition: &str, state: State) -> Known {
    let digest = Digest::of(definition);
    Known { server: "s".to_owned(), tool: tool.to_owned(), digest, state }
}

fn call(tenant: &str, at: i64, tool: &str) -> Call {
    Call {
        at,
        tenant: tenant.to_owned(),
        team: None,
        user: "ada".to_owned(),
        key: Some("key_1".to_owned()),
        run: None,
        privacy: "private".to_owned(),
        server: "s".to_owned(),
        tool: tool.to_owned(),
        pin: Some(Digest::of("1")),
        arguments: Digest::of("2"),
        decision: "allowed".to_owned(),
        rule: "default".to_owned(),
        outcome: "ok".to_owned(),
        micros: 7,
        trace: "0".repeat(32),
        request: "r".to_owned(),
    }
}

/// Returns what is known of a tool, approved first, then by what was decided.
async fn states(store: &dyn Store, tool: &str) -> Vec<Known> {
    let mut all = store.known().await.unwrap();
    all.retain(|one| one.tool == tool);
    all.sort_by_key(|one| (one.state != State::Approved, one.state.as_str()));
    all
}

async fn contract(store: Arc<dyn Store>, other: Arc<dyn Store>) {
    let (s, by) = (
        store.as_ref(),
        Decider { tenant: "t".to_owned(), user: "ada".to_owned(), key: Some("key_1".to_owned()) },
    );

    // The first sight of a tool is approved where it is trusted; what comes later waits.
    let before = s.revision().await.unwrap();
    s.see(1, "s", &[seen("a", "1", true), seen("b", "1", false)]).await.unwrap();
    s.see(2, "s", &[seen("a", "2", true), seen("b", "2", true), seen("a", "1", true)])
        .await
        .unwrap();
    assert!(s.revision().await.unwrap() > before);
    let (one, two) = (known("a", "1", State::Approved), known("a", "2", State::Waiting));
    assert_eq!(states(s, "a").await, [one.clone(), two.clone()]);
    assert!(states(s, "b").await.iter().all(|one| one.state == State::Waiting));

    // An approval takes the place of the one before, is told with its decider, and seen by replicas.
    let revision = other.revision().await.unwrap();
    let approve = known("a", "2", State::Approved);
    assert!(s.decide(3, &approve, &by).await.unwrap());
    assert!(other.revision().await.unwrap() > revision);
    assert_eq!(
        states(other.as_ref(), "a").await,
        [approve.clone(), known("a", "1", State::Replaced)]
    );
    let pins = other.pins(Some("s"), Some("a")).await.unwrap();
    assert_eq!(pins.len(), 2);
    assert_eq!((pins[0].known.digest, pins[0].seen_at), (Digest::of("2"), 2));
    assert_eq!((pins[0].decided_at, pins[0].decided_by.as_ref()), (Some(3), Some(&by)));
    assert_eq!((pins[1].decided_at, pins[1].decided_by.as_ref()), (Some(1), None));
    assert_eq!(pins[0].findings, ["odd"]);
    assert!(s.decide(4, &known("a", "2", State::Rejected), &by).await.unwrap());
    assert!(states(s, "a").await.iter().all(|one| one.state != State::Approved));
    // What is not known is not decided on, and nothing else changes.
    let revision = s.revision().await.unwrap();
    assert!(!s.decide(5, &known("a", "3", State::Approved), &by).await.unwrap());
    assert_eq!(s.revision().await.unwrap(), revision);

    // Of many that wait the newest are kept, and what was decided.
    for at in 0..WAITING + 5 {
        s.see(10 + at, "s", &[seen("a", &format!("new {at}"), true)]).await.unwrap();
    }
    let all = states(s, "a").await;
    let waiting: Vec<_> = all.iter().filter(|one| one.state == State::Waiting).collect();
    assert_eq!((waiting.len() as i64, all.len() as i64), (WAITING, WAITING + 2));
    let newest = Digest::of(&format!("new {}", WAITING + 4));
    assert!(waiting.iter().any(|one| one.digest == newest));

    // Of replicas that see a tool first at once, one is first.
    for at in 0..10 {
        let tool = format!("race {at}");
        let (left, right) = ([seen(&tool, "left", true)], [seen(&tool, "right", true)]);
        let (one, two) = tokio::join!(s.see(1, "s", &left), other.see(1, "s", &right));
        one.and(two).unwrap();
        let states: Vec<_> = states(s, &tool).await.into_iter().map(|one| one.state).collect();
        assert_eq!(states, [State::Approved, State::Waiting]);
    }

    // A tenant sees its own calls, the newest first, page by page.
    let tenant = |name: &str| TenantId::new(name).unwrap();
    let mut calls: Vec<Call> = (0..1200).map(|at| call("t", at, &format!("tool {at}"))).collect();
    calls.push(call("u", 5, "other"));
    s.record(&calls).await.unwrap();
    let page = s.calls(&tenant("t"), None, 2).await.unwrap();
    assert_eq!((&page[0].1, &page[1].1), (&calls[1199], &calls[1198]));
    let next = s.calls(&tenant("t"), Some(page[1].0), 1).await.unwrap();
    assert_eq!(next[0].1, calls[1197]);
    assert_eq!(s.calls(&tenant("u"), None, 10).await.unwrap().len(), 1);
    assert_eq!(s.forget(1199).await.unwrap(), 1200);
    assert_eq!(s.calls(&tenant("t"), None, 10).await.unwrap().len(), 1);

    // A secret is made once.
    assert_eq!(s.secret("x", b"first").await.unwrap(), b"first");
    assert_eq!(other.secret("x", b"second").await.unwrap(), b"first");
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("tools.db");
    let open = async || Arc::new(Sqlite::open(&file).await.unwrap()) as Arc<dyn Store>;
    contract(open().await, open().await).await;
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let server = testkit::Postgres::start().unwrap();
    let url = server.url();
    let open = async || Arc::new(Postgres::open(&url, 4).await.unwrap()) as Arc<dyn Store>;
    contract(open().await, open().await).await;
}
