//! Measures what a rate limit adds to a request. Run it by `scripts/bench.sh limits`.
//!
//! The request is one that the gateway answers without asking any service; so the difference between
//! the rows is the decision.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, header};
use journeys::measure::{connect, cpu};
use journeys::{Shape, System};
use testkit::Redis;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse::<u64>())?;
    let time = Duration::from_secs(seconds);
    let redis = Redis::start()?;
    let shared = format!("[gateway.limits]\nredis = '{}'\n", redis.url());
    let (none, some) = ("requests = 0\n", "requests = 100000000\n");
    println!("\n| limits | connections | decisions/s | p50 ms | p99 ms | gateway's CPU µs |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, server, user) in
        [("none", "", none), ("in memory", "", some), ("in Redis", shared.as_str(), some)]
    {
        let settings = format!("[telemetry]\nlog = 'warn'\n{server}[gateway.limits.user]\n{user}");
        let system = System::start(Shape::One, &settings).await?;
        for connections in [1, 16, 64] {
            load(&system.url, connections, time / 10).await?;
            let before = cpu(&system)?;
            let (mut times, elapsed) = load(&system.url, connections, time).await?;
            let spent = cpu(&system)?.saturating_sub(before).as_secs_f64() * 1e6;
            times.sort();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64();
            let count = times.len() as f64;
            println!(
                "| {name} | {connections} | {:.0} | {:.3} | {:.3} | {:.0} |",
                count / elapsed.as_secs_f64(),
                at(0.5) * 1e3,
                at(0.99) * 1e3,
                spent / count,
            );
        }
    }
    Ok(())
}

/// Asks over and over on each of `connections` for `time`; returns how long each took.
async fn load(
    url: &str,
    connections: usize,
    time: Duration,
) -> anyhow::Result<(Vec<Duration>, Duration)> {
    let (address, started) = (url.trim_start_matches("http://").to_owned(), Instant::now());
    let workers = (0..connections).map(|_| {
        let address = address.clone();
        tokio::spawn(async move {
            let (mut connection, mut times) = (connect(&address).await?, Vec::new());
            while started.elapsed() < time {
                let request = Request::get("/api/v1/maintenance").header(header::HOST, &address);
                let request = request.body(Full::new(Bytes::new()))?;
                let asked = Instant::now();
                connection.ready().await?;
                let response = connection.send_request(request).await?;
                let status = response.status();
                response.into_body().collect().await?;
                times.push(asked.elapsed());
                ensure!(status.is_success(), "{status}");
            }
            Ok(times)
        })
    });
    let mut times = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        times.extend(worker.await??);
    }
    ensure!(!times.is_empty(), "nothing was answered");
    Ok((times, started.elapsed()))
}
