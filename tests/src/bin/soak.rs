//! Tells whether memory grows under a constant load. Run it by `scripts/bench.sh soak [MINUTES]`.
//!
//! Answers, streams, clients that go away in the middle of one, providers that fail and requests that
//! are wrong: 500 in a second in turn, for ten minutes if nothing else is said. Resident memory is read
//! each second; behind the first fifth of the time a line is laid through it (least squares), and its
//! slope is to be less than 1 MB a minute.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use journeys::measure::{self, connect, cpu, mock_provider, request, resident};
use journeys::{Shape, conversation};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

/// How many clients there are, and how often each sends.
const CLIENTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(16);

/// In MB a minute.
const MOST: f64 = 1.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let minutes = std::env::args().nth(1).map_or(Ok(10.0), |text| text.parse::<f64>())?;
    let time = Duration::from_secs_f64(minutes * 60.0);
    let (_provider, direct) = mock_provider().await?;
    let system = measure::start(Shape::One, &direct).await?;
    let address = system.url.trim_start_matches("http://").to_owned();
    let (before, started) = (cpu(&system)?, Instant::now());
    let sent = std::sync::Arc::new(AtomicUsize::new(0));
    let clients = (0..CLIENTS).map(|_| {
        let (address, sent) = (address.clone(), sent.clone());
        tokio::spawn(async move { client(&address, started + time, &sent).await })
    });
    let clients: Vec<_> = clients.collect();
    let (mut samples, mut ticks) = (Vec::new(), interval(Duration::from_secs(1)));
    while started.elapsed() < time {
        ticks.tick().await;
        samples.push((started.elapsed().as_secs_f64() / 60.0, resident(&system)?));
    }
    for client in clients {
        client.await??;
    }
    let warm = &samples[samples.len() / 5..];
    let (slope, sent) = (slope(warm), sent.load(Ordering::Relaxed));
    let spent = (cpu(&system)?.saturating_sub(before)).as_secs_f64() * 1e6 / sent as f64;
    let most = samples.iter().map(|(_, megabytes)| *megabytes).fold(0.0, f64::max);
    let (first, last) = (warm[0].1, warm[warm.len() - 1].1);
    println!("{sent} requests in {minutes} minutes, {spent:.0} µs CPU a request");
    println!("resident: {first:.1} MB when warm, {last:.1} at the end, {most:.1} at most");
    println!("slope: {slope:.2} MB a minute");
    ensure!(slope < MOST, "memory grows by more than {MOST} MB a minute");
    Ok(())
}

/// Sends one kind of request after another, on a connection for as long as it lasts.
async fn client(address: &str, until: Instant, sent: &AtomicUsize) -> anyhow::Result<()> {
    let body = |body: serde_json::Value| Bytes::from(body.to_string());
    let (plain, streamed) = (conversation("ping", false), conversation("chunks 20", true));
    let long = body(conversation("chunks 500", true));
    let mut refused = conversation("refuse", false);
    refused["model"] = "n".into();
    let wrong = json!({ "model": "m", "messages": [] });
    let [plain, streamed, refused, wrong] = [plain, streamed, refused, wrong].map(body);
    let turn = [
        (&plain, StatusCode::OK),
        (&streamed, StatusCode::OK),
        (&plain, StatusCode::OK),
        (&long, StatusCode::OK),
        (&plain, StatusCode::OK),
        (&refused, StatusCode::SERVICE_UNAVAILABLE),
        (&streamed, StatusCode::OK),
        (&wrong, StatusCode::BAD_REQUEST),
    ];
    let mut connection = connect(address).await?;
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for (body, wanted) in turn.iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        ticks.tick().await;
        connection.ready().await?;
        let response = connection.send_request(request(address, (*body).clone())?).await?;
        sent.fetch_add(1, Ordering::Relaxed);
        let status = response.status();
        let mut answer = response.into_body();
        if std::ptr::eq(*body, &long) {
            // Goes away behind the first piece.
            answer.frame().await.transpose()?;
            drop(answer);
            connection = connect(address).await?;
            continue;
        }
        let answer = answer.collect().await?.to_bytes();
        ensure!(status == *wanted, "{status}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// Returns the slope of the line through `samples` with the least squares.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let mean =
        |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / samples.len() as f64;
    let (x, y) = (mean(|(x, _)| *x), mean(|(_, y)| *y));
    let along = samples.iter().map(|(at, _)| (at - x).powi(2)).sum::<f64>();
    samples.iter().map(|(at, is)| (at - x) * (is - y)).sum::<f64>() / along
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_line() {
        let line: Vec<_> = (0..10).map(|at| (f64::from(at), 3.0 + 2.0 * f64::from(at))).collect();
        assert!((slope(&line) - 2.0).abs() < 1e-9);
    }
}
