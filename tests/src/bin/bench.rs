//! Measures what Baton adds to a call of a language model. Run it by `scripts/bench.sh`.
//!
//! A mock provider in a process of its own answers at once; the same requests go to it directly and
//! through Baton, one after the other, from the same connections that each wait for their answer.
//! Authentication, limits, ledger and log are on.

use std::convert::Infallible;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use journeys::{Shape, System, conversation, priced};
use rustix::process::Pid;
use serde_json::json;
use testkit::process::program;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

const KEY: &str = "a key of twenty characters and more";

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
        let key = format!("[gateway.keys.bench]\nsecret = '{KEY}'\ntenant = 't'\nuser = 'u'\n");
        let system = System::start(shape, &(priced(&direct) + &key)).await?;
        set_limit(&system).await?;
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

/// Starts the provider and returns where it is; it ends with its standard input.
async fn mock_provider() -> anyhow::Result<(Child, String)> {
    let mut command = Command::new(program("mock-provider")?);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let output = child.stdout.take().context("no pipe")?;
    let line = BufReader::new(output).lines().next_line().await?;
    Ok((child, line.context("the provider did not start")?))
}

/// A limit that is checked and never reached.
async fn set_limit(system: &System) -> anyhow::Result<()> {
    let limit = json!({ "user_id": "u", "period": "daily", "limit": 1_000_000 });
    let url = format!("{}/api/v1/budget/limit", system.url);
    let reply = system.client().post(url).bearer_auth(KEY).json(&limit).send().await?;
    ensure!(reply.status().is_success(), "no limit was set: {}", reply.status());
    Ok(())
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
        let request = Request::post("/v1/chat/completions")
            .header(header::HOST, address)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {KEY}"))
            .body(Full::new(body.clone()))?;
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

async fn connect(address: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // It ends with its sender; what went wrong is told there.
        let _: Result<(), _> = connection.await;
        Ok::<_, Infallible>(())
    });
    Ok(sender)
}

/// Returns the processor time that the system's processes have used.
fn cpu(system: &System) -> anyhow::Result<Duration> {
    let used = |pid: Pid| -> anyhow::Result<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()))?;
        // Behind the program's name in parentheses: user and system time are the 12th and 13th.
        let fields = stat.rsplit_once(") ").context("a malformed stat")?.1;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        Ok(ticks.sum::<Result<u64, _>>()?)
    };
    let ticks: u64 =
        system.processes.iter().map(|one| used(one.pid())).sum::<anyhow::Result<u64>>()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Returns the resident memory of the system's processes in megabytes.
fn resident(system: &System) -> anyhow::Result<f64> {
    let of = |pid: Pid| -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("no VmRSS")?.parse::<f64>()? / 1024.0)
    };
    system.processes.iter().map(|one| of(one.pid())).sum()
}
