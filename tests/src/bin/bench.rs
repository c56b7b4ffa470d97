//! Measures what Baton adds to a call of a language model. Run it by `scripts/bench.sh`.
//!
//! A mock provider in a process of its own answers at once; the same requests go to it directly and
//! through Baton, one after the other, from the same connections that each wait for their answer.
//! Authentication, limits, ledger and log are on.

use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use journeys::measure::{self, connect, cpu, mock_provider, request, resident};
use journeys::{Shape, conversation};

/// What one measurement gave; times in milliseconds.
struct Measured {
    per_second: f64,
    p50: f64,
    p99: f64,
    requests: usize,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(5), |text| text.parse::<u64>())?;
    let time = Duration::from_secs(seconds);
    let (_provider, direct) = mock_provider().await?;
    for shape in Shape::ALL {
        let system = measure::start(shape, &direct).await?;
        println!("\n{}\n", title(shape));
        println!(
            "| request | connections | direct req/s | Baton req/s | direct p50 ms | p99 ms | \
             added p50 ms | added p99 ms | CPU µs a request | resident MB |"
        );
        println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
        for (name, stream) in [("plain", false), ("20-chunk stream", true)] {
            for connections in [1, 16] {
                let body = Bytes::from(conversation("chunks 20", stream).to_string());
                // Warm both; then measure both.
                load(&direct, &body, connections, time / 10).await?;
                load(&system.url, &body, connections, time / 10).await?;
                let plain = load(&direct, &body, connections, time).await?;
                let before = cpu(&system)?;
                let baton = load(&system.url, &body, connections, time).await?;
                let spent = cpu(&system)?.saturating_sub(before);
                println!(
                    "| {name} | {connections} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} |",
                    plain.per_second,
                    baton.per_second,
                    plain.p50,
                    plain.p99,
                    baton.p50 - plain.p50,
                    baton.p99 - plain.p99,
                    spent.as_secs_f64() * 1e6 / baton.requests as f64,
                    resident(&system)?,
                );
            }
        }
    }
    Ok(())
}

fn title(shape: Shape) -> &'static str {
    match shape {
        Shape::One => "### One process, SQLite ledger",
        Shape::Separate => "### Separate processes, SQLite ledger (CPU and memory: the sum)",
    }
}

/// Sends `body` over and over from each of `connections` for `time`.
async fn load(
    url: &str,
    body: &Bytes,
    connections: usize,
    time: Duration,
) -> anyhow::Result<Measured> {
    let address = url.trim_start_matches("http://").to_owned();
    let started = Instant::now();
    let workers = (0..connections).map(|_| {
        let (address, body) = (address.clone(), body.clone());
        tokio::spawn(async move { work(&address, &body, started + time).await })
    });
    let workers: Vec<_> = workers.collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await??);
    }
    let elapsed = started.elapsed();
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    ensure!(!times.is_empty(), "nothing was answered");
    Ok(Measured {
        per_second: times.len() as f64 / elapsed.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
        requests: times.len(),
    })
}

async fn work(address: &str, body: &Bytes, until: Instant) -> anyhow::Result<Vec<Duration>> {
    let mut connection = connect(address).await?;
    let mut times = Vec::new();
    while Instant::now() < until {
        let request = request(address, body.clone())?;
        let started = Instant::now();
        connection.ready().await?;
        let response = connection.send_request(request).await?;
        let status = response.status();
        let answer = response.into_body().collect().await?.to_bytes();
        times.push(started.elapsed());
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&answer));
        ensure!(answer.windows(4).any(|four| four == b"pong"), "no answer in {answer:?}");
    }
    Ok(times)
}
