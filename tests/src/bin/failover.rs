//! Measures what a first candidate that says nothing adds to a call, with default timeouts. Run it by
//! `scripts/bench.sh failover`.
//!
//! Each request has a first candidate of its own, so that none profits from what another met; the
//! second answers at once. It fails when the 99th percentile is above [`MOST`].

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::future::try_join_all;
use journeys::{Shape, System, conversation, priced};
use testkit::provider::Provider;
use testkit::provider::nowhere::Nowhere;
use tokio::net::TcpListener;

/// What a failover may add.
const MOST: Duration = Duration::from_secs(2);

/// Requests a measurement, all at once.
const REQUESTS: usize = 200;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let good = Provider::start().await?;
    // It accepts, and nobody reads.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent = format!("http://{}", silent.local_addr()?);
    let nowhere = Nowhere::start().await?;
    println!(
        "| first candidate | tier | answer | direct p50 ms | added p50 ms | added p99 ms | most ms |"
    );
    println!("|---|---:|---|---:|---:|---:|---:|");
    let mut worst = Duration::ZERO;
    for (name, url) in [("accepts, says nothing", &silent), ("is not reached", &nowhere.url)] {
        for tier in [0, 1] {
            let system = System::start(Shape::One, &settings(&good.url, url, tier)).await?;
            for stream in [false, true] {
                let direct = measure(&system, stream, |_| "m".to_owned()).await?;
                let over = measure(&system, stream, |at| format!("{stream}-{at}")).await?;
                let usual = at(&direct, 0.5);
                let added = |share| at(&over, share).saturating_sub(usual);
                let ms = |time: Duration| time.as_secs_f64() * 1e3;
                let form = if stream { "streamed" } else { "plain" };
                println!(
                    "| {name} | {tier} | {form} | {:.0} | {:.0} | {:.0} | {:.0} |",
                    ms(usual),
                    ms(added(0.5)),
                    ms(added(0.99)),
                    ms(added(1.0))
                );
                worst = worst.max(added(0.99));
            }
        }
    }
    ensure!(worst <= MOST, "a failover added {worst:?} at the 99th percentile");
    Ok(())
}

/// A route a request: a model of its own at the provider that says nothing, and one that answers.
fn settings(good: &str, silent: &str, tier: u32) -> String {
    let names =
        || [false, true].into_iter().flat_map(|s| (0..REQUESTS).map(move |at| format!("{s}-{at}")));
    let price = "input_usd_per_million = '0', output_usd_per_million = '4'";
    let models: String =
        names().map(|name| format!("{{ name = 'of-{name}', {price} }},")).collect();
    let routes: String =
        names().map(|name| format!("{name} = ['silent/of-{name}', 'mock/m']\n")).collect();
    format!(
        "{}[router.providers.silent]\nkind = 'openai'\nbase_url = '{silent}/v1'\ntier = {tier}\n\
         models = [{models}]\n[router.routes]\n{routes}",
        priced(good)
    )
}

/// Returns how long each request took, sorted.
async fn measure(
    system: &System,
    stream: bool,
    model: impl Fn(usize) -> String,
) -> anyhow::Result<Vec<Duration>> {
    let asked = (0..REQUESTS).map(|at| {
        let mut body = conversation("ping", stream);
        body["model"] = model(at).into();
        async move {
            let started = Instant::now();
            let (status, told) = system.post("/v1/chat/completions", &body).await?;
            ensure!(status.is_success(), "{status}: {told}");
            Ok(started.elapsed())
        }
    });
    let mut times = try_join_all(asked).await?;
    times.sort();
    Ok(times)
}

fn at(times: &[Duration], share: f64) -> Duration {
    let index = ((times.len().saturating_sub(1)) as f64 * share).ceil() as usize;
    times.get(index).copied().unwrap_or_default()
}
