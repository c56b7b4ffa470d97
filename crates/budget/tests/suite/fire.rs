//! Three replicas on one PostgreSQL, many callers, and everything that can die does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{
    Entry, GetStatementRequest, ListHistoryRequest, Period, ReleaseRequest, ReserveRequest, Scope,
    ScopeKind, SetLimitRequest, SettleRequest, Statement, VerifyRequest,
};
use runtime::transport::Peer;
use testkit::process::Process;
use types::{CallContext, ErrorKind, RunId, TeamId, TenantId, UserId};

const REPLICAS: usize = 3;
const CALLERS: usize = 200;

/// How long a hold lasts that its caller means to end, and one that is left alone.
const LEASE: Duration = Duration::from_secs(12);
const SHORT: Duration = Duration::from_millis(300);

/// How long a caller tries; less than a hold lasts.
const PATIENCE: Duration = Duration::from_secs(8);

/// With so much of grace, in percent.
const GRACE: i64 = 3;

/// How long it burns: `FIRE_SECONDS`, or a quarter of a minute.
#[expect(clippy::disallowed_methods, reason = "a test has no configuration")]
fn burns() -> Duration {
    let asked = std::env::var("FIRE_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(15))
}

/// Where the replicas are now, and what callers were told.
struct Scene {
    peers: RwLock<Vec<Peer>>,
    /// Settlements that were acknowledged, by reservation.
    settled: Mutex<BTreeMap<String, i64>>,
    over: AtomicBool,
}

impl Scene {
    fn any(&self) -> BudgetServiceClient<Peer> {
        let peers = self.peers.read().unwrap();
        BudgetServiceClient::new(peers[fastrand::usize(..peers.len())].clone())
    }
}

fn context() -> CallContext {
    let user = UserId::new(format!("u{}", fastrand::u32(..12))).unwrap();
    let mut context = CallContext::new(TenantId::new("t").unwrap(), user);
    context.team =
        fastrand::bool().then(|| TeamId::new(format!("x{}", fastrand::u32(..3))).unwrap());
    context.run = (fastrand::u32(..3) == 0)
        .then(|| RunId::new(format!("r{}/{}", fastrand::u32(..3), fastrand::u32(..2))).unwrap());
    context
}

/// Scopes with limits, that the load reaches.
fn limited() -> Vec<(Scope, Period, i64)> {
    let scope = |kind: ScopeKind, name: String| Scope { kind: kind.into(), name };
    let mut limits = vec![(scope(ScopeKind::Tenant, String::new()), Period::Total, 4_000_000)];
    limits.extend(
        (0..3).map(|at| (scope(ScopeKind::Team, format!("x{at}")), Period::Daily, 700_000)),
    );
    limits.extend(
        (0..12).map(|at| {
            (scope(ScopeKind::User, format!("u{at}")), Period::Weekly, 30_000 * (at + 1))
        }),
    );
    limits
        .extend((0..3).map(|at| (scope(ScopeKind::Run, format!("r{at}")), Period::Total, 200_000)));
    limits
}

async fn start(ledger: &str, directory: &std::path::Path) -> Process {
    let file = directory.join("budget.toml");
    let settings =
        format!("[budget]\nledger = '{ledger}'\nsweep_ms = 200\ngrace_percent = {GRACE}\n");
    std::fs::write(&file, settings).unwrap();
    let set_up = |command: &mut tokio::process::Command| {
        command.arg("--config").arg(&file);
    };
    Process::service("budget", set_up).await.unwrap()
}

/// Asks some replica until one answers, or it takes too long.
async fn insist<T>(
    scene: &Scene,
    until: Instant,
    mut ask: impl AsyncFnMut(BudgetServiceClient<Peer>) -> tonic::Result<T>,
) -> Option<tonic::Result<T>> {
    while Instant::now() < until {
        match tokio::time::timeout(Duration::from_secs(3), ask(scene.any())).await {
            Ok(Err(status)) if is_passing(&status) => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            Ok(answer) => return Some(answer),
            Err(_) => {}
        }
    }
    None
}

fn is_passing(status: &tonic::Status) -> bool {
    runtime::error::kind_of(status) == ErrorKind::Unavailable
        || matches!(status.code(), tonic::Code::Unknown | tonic::Code::Cancelled)
}

/// Reserves, and settles, releases or leaves it; some of it twice, and some of it late.
async fn call(scene: &Scene) {
    let (context, until) = (context(), Instant::now() + PATIENCE);
    let id = types::ReservationId::generate().to_string();
    let amount = fastrand::i64(1..2_000);
    let leaves = fastrand::u32(..10) == 0;
    let ttl = if leaves { SHORT } else { LEASE };
    let wanted = ReserveRequest {
        reservation_id: id.clone(),
        amount_nanos: amount,
        ttl_ms: u32::try_from(ttl.as_millis()).unwrap(),
    };
    let ask = async |mut budget: BudgetServiceClient<Peer>| {
        budget.reserve(runtime::context::request(&context, wanted.clone())).await
    };
    let held = match fastrand::u32(..8) {
        // The same from two places at once.
        0 => {
            let (first, second) =
                tokio::join!(insist(scene, until, ask), insist(scene, until, ask));
            first.or(second)
        }
        _ => insist(scene, until, ask).await,
    };
    match held {
        Some(Ok(_)) if !leaves => {}
        Some(Err(status)) => {
            let kind = runtime::error::kind_of(&status);
            // One that is asked for again when its short time is over has ended.
            let over = leaves && kind == ErrorKind::Conflict;
            assert!(over || kind == ErrorKind::BudgetExceeded, "{status}");
            return;
        }
        _ => return,
    }
    if fastrand::u32(..6) == 0 {
        let release = ReleaseRequest { reservation_id: id };
        insist(scene, until, async |mut budget: BudgetServiceClient<Peer>| {
            budget.release(runtime::context::request(&context, release.clone())).await
        })
        .await;
        return;
    }
    if fastrand::u32(..10) == 0 {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..1500))).await;
    }
    let spent = fastrand::i64(0..=amount);
    let settle = SettleRequest { reservation_id: id.clone(), amount_nanos: spent };
    for _ in 0..=u32::from(fastrand::u32(..8) == 0) {
        let settled = insist(scene, until, async |mut budget: BudgetServiceClient<Peer>| {
            budget.settle(runtime::context::request(&context, settle.clone())).await
        });
        match settled.await {
            Some(Ok(_)) => drop(scene.settled.lock().unwrap().insert(id.clone(), spent)),
            Some(Err(status)) => panic!("{}", status),
            None => {}
        }
    }
}

async fn statement(scene: &Scene, scope: &Scope, period: Period) -> Option<Statement> {
    let until = Instant::now() + PATIENCE;
    let request = GetStatementRequest { scope: Some(scope.clone()), period: period.into() };
    let context = context();
    let reply = insist(scene, until, async |mut budget: BudgetServiceClient<Peer>| {
        budget.get_statement(runtime::context::request(&context, request.clone())).await
    });
    reply.await.map(|reply| reply.unwrap().into_inner().statement.unwrap())
}

fn check(statement: &Statement) {
    let used = statement.spent_nanos + statement.held_nanos;
    let limit = statement.limit_nanos.unwrap();
    assert!(used <= limit + limit * GRACE / 100, "{statement:?}");
    assert!(statement.held_nanos >= 0 && statement.spent_nanos >= 0, "{statement:?}");
}

async fn history(scene: &Scene) -> Vec<Entry> {
    let (mut after, mut entries) = (0, Vec::<Entry>::new());
    loop {
        let request =
            runtime::context::request(&context(), ListHistoryRequest { after, limit: 5000 });
        let mut budget = scene.any().max_decoding_message_size(usize::MAX);
        let page = budget.list_history(request).await.unwrap().into_inner().entries;
        let Some(last) = page.last() else { return entries };
        after = last.number;
        entries.extend(page);
    }
}

#[tokio::test]
async fn no_budget_is_overspent_whatever_dies() {
    tokio::task::LocalSet::new().run_until(burn()).await;
}

async fn burn() {
    let mut server = testkit::Postgres::start().unwrap();
    let (url, directory) = (server.url(), tempfile::tempdir().unwrap());
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(start(&url, directory.path()).await);
    }
    let peer = |replica: &Process| runtime::transport::remote(&replica.url).unwrap();
    let scene = Arc::new(Scene {
        peers: RwLock::new(replicas.iter().map(peer).collect()),
        settled: Mutex::default(),
        over: AtomicBool::new(false),
    });
    for (scope, period, limit) in limited() {
        let (scope, limit_nanos) = (Some(scope), Some(limit));
        let request = SetLimitRequest { scope, period: period.into(), limit_nanos };
        scene.any().set_limit(runtime::context::request(&context(), request)).await.unwrap();
    }
    let callers = (0..CALLERS).map(|_| {
        let scene = Arc::clone(&scene);
        tokio::task::spawn_local(async move {
            while !scene.over.load(Ordering::Relaxed) {
                call(&scene).await;
            }
        })
    });
    let callers: Vec<_> = callers.collect();
    let watched = {
        let scene = Arc::clone(&scene);
        tokio::task::spawn_local(async move {
            while !scene.over.load(Ordering::Relaxed) {
                for (scope, period, _) in limited() {
                    statement(&scene, &scope, period).await.iter().for_each(check);
                }
            }
        })
    };

    // What dies, until it is over: now a replica, now the database.
    let end = Instant::now() + burns();
    for turn in 0.. {
        let pause = Duration::from_millis(fastrand::u64(200..1200));
        tokio::time::sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
        if Instant::now() >= end {
            break;
        }
        if turn % 4 == 3 {
            let restarted = tokio::task::spawn_blocking(move || {
                server.restart_at_once().unwrap();
                server
            });
            server = restarted.await.unwrap();
        } else {
            let at = fastrand::usize(..REPLICAS);
            // Its successor is there before it: it is killed in the midst of its work all the same.
            let next = start(&url, directory.path()).await;
            scene.peers.write().unwrap()[at] = peer(&next);
            drop(std::mem::replace(&mut replicas[at], next));
        }
    }
    scene.over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    watched.await.unwrap();

    // No hold outlives its lease.
    let until = Instant::now() + LEASE + PATIENCE;
    for (scope, period, _) in limited() {
        loop {
            let state = statement(&scene, &scope, period).await.unwrap();
            check(&state);
            if state.held_nanos == 0 {
                break;
            }
            assert!(Instant::now() < until, "{state:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // Whatever was acknowledged is there, once; and what is kept is the sum.
    let mut lines = BTreeMap::<String, Vec<i64>>::new();
    for entry in history(&scene).await.into_iter().filter(|entry| entry.kind == "settle") {
        lines.entry(entry.reservation_id).or_default().push(entry.spent_nanos);
    }
    let settled = std::mem::take(&mut *scene.settled.lock().unwrap());
    for (id, amount) in &settled {
        assert_eq!(lines.get(id), Some(&vec![*amount]), "{id}");
    }
    let verify = runtime::context::request(&context(), VerifyRequest {});
    let differences = scene.any().verify(verify).await.unwrap().into_inner().differences;
    assert_eq!(differences, Vec::<String>::new());
    assert!(settled.len() > 100, "{} were settled", settled.len());
    println!(
        "{} settlements were acknowledged, and {} lines are theirs",
        settled.len(),
        lines.len()
    );
}
