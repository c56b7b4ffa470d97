//! Measures the ledger: how many reservations are made and settled a second, and how long a caller
//! waits. Run it by `scripts/bench.sh ledger`.
//!
//! PostgreSQL runs beside it with synchronous commits, on the disk of the temporary directory. What one
//! commit alone takes there is measured in the same run: no ledger that loses nothing is faster for one
//! caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use budget::{Kind, Ledger, Period, Pool, Postgres, Reservation, Rules, Scope, Sqlite};
use sqlx::{Connection as _, PgConnection};
use types::{NanoUsd, ReservationId, SystemClock, TenantId};

/// Callers at once, and the users whom they call for.
const CALLERS: usize = 256;
const USERS: usize = 1000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |text| text.parse::<u64>())?;
    let time = Duration::from_secs(seconds);
    println!(
        "| ledger | callers | who pays | pairs/s | reserve p50 ms | p99 ms | one commit p50 ms |"
    );
    println!("|---|---:|---|---:|---:|---:|---:|");

    let settings = ["fsync=on", "shared_buffers=256MB", "max_wal_size=4GB"];
    let server = testkit::Postgres::start_with(&settings)?;
    let commit = one_commit(&server.url()).await?;
    let pool = Pool { connections: 8, acquire: Duration::from_secs(2) };
    let clock = Arc::new(SystemClock);
    let ledger = Postgres::open(&server.url(), None, pool, Rules::default(), clock).await?;
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    for callers in [1, 16, CALLERS] {
        for users in [USERS, 1] {
            measure("PostgreSQL", &ledger, callers, users, time, Some(commit)).await?;
        }
    }
    drop(server);

    let directory = tempfile::tempdir()?;
    let file = directory.path().join("ledger.db");
    let ledger = Sqlite::open(file, Rules::default(), Arc::new(SystemClock)).await?;
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    for callers in [1, 16, CALLERS] {
        measure("SQLite", &ledger, callers, USERS, time, None).await?;
    }
    Ok(())
}

/// Returns what half of single commits take at most.
async fn one_commit(url: &str) -> anyhow::Result<Duration> {
    let mut db = PgConnection::connect(url).await?;
    sqlx::query("CREATE TABLE single (number BIGINT)").execute(&mut db).await?;
    let mut times = Vec::new();
    for number in 0..500_i64 {
        let started = Instant::now();
        sqlx::query("INSERT INTO single VALUES ($1)").bind(number).execute(&mut db).await?;
        times.push(started.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

async fn measure(
    name: &str,
    ledger: &Arc<dyn Ledger>,
    callers: usize,
    users: usize,
    time: Duration,
    commit: Option<Duration>,
) -> anyhow::Result<()> {
    let tenant = TenantId::new(format!("t{callers}-{users}"))?;
    // Limits that are looked at and never reached.
    for scope in [Scope::tenant(), Scope::new(Kind::User, "u0")?] {
        let limit = Some(NanoUsd::new(i64::MAX / 2));
        ledger.set_limit(&tenant, &scope, Period::Daily, limit).await?;
    }
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let work = |_| {
        let (ledger, next, tenant) = (Arc::clone(ledger), Arc::clone(&next), tenant.clone());
        tokio::spawn(
            async move { work(ledger.as_ref(), &next, &tenant, users, started + time).await },
        )
    };
    let mut times = Vec::new();
    for one in (0..callers).map(work).collect::<Vec<_>>() {
        times.extend(one.await??);
    }
    let elapsed = started.elapsed();
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let at = |share: f64| ms(times[((times.len() - 1) as f64 * share) as usize]);
    let who = if users == 1 { "one user".to_owned() } else { format!("{users} users") };
    let commit = commit.map_or(String::new(), |commit| format!("{:.2}", ms(commit)));
    println!(
        "| {name} | {callers} | {who} | {:.0} | {:.3} | {:.3} | {commit} |",
        times.len() as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
    );
    Ok(())
}

/// Reserves and settles in turn, and returns how long each reservation took.
async fn work(
    ledger: &dyn Ledger,
    next: &AtomicUsize,
    tenant: &TenantId,
    users: usize,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut times = Vec::new();
    while Instant::now() < until {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let wanted = Reservation {
            id: ReservationId::generate(),
            tenant: tenant.clone(),
            scopes: vec![Scope::tenant(), Scope::new(Kind::User, format!("u{}", number % users))?],
            amount: NanoUsd::new(1000),
            ttl_ms: 60_000,
        };
        let started = Instant::now();
        ledger.reserve(&wanted).await?;
        times.push(started.elapsed());
        ledger.settle(tenant, &wanted.id, NanoUsd::new(700)).await?;
    }
    Ok(times)
}
