//! Measures what the bridge adds to a call of an MCP server on this machine, and how long a list of ten servers
//! takes of which one is silent. Run it by `scripts/bench.sh mcp`.
//!
//! The server is the one of `testkit`, in this process; Baton is one process with everything on. Calls begin at a
//! fixed rate, whatever became of those before, so that a queue shows.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures::future::try_join_all;
use journeys::{Shape, System, measure};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval};

/// Calls a second.
const RATE: u32 = 500;
/// How often a list that is kept is asked for.
const LISTS: usize = 500;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(10), |text| text.parse::<u32>())?;
    let server = testkit::mcp::judged().await?;

    println!("\n| {RATE} calls a second | p50 ms | p99 ms | CPU ms a call |");
    println!("|---|---:|---:|---:|");
    let settings = format!("[mcp_bridge.servers.one]\nurl = '{}'\n", server.url);
    let system = System::start(Shape::One, &settings).await?;
    let through = format!("{}/mcp/one", system.url);
    // Once, for the connections and what is found out at first.
    for url in [&server.url, &through] {
        ask(&system, url, "tools/call").await?;
    }
    for name in ["direct", "through the gateway and the bridge"].repeat(2) {
        let url = if name == "direct" { &server.url } else { &through };
        let before = measure::cpu(&system)?;
        let taken = calls(&system, url, RATE * seconds).await?;
        let used = measure::cpu(&system)?.saturating_sub(before).as_secs_f64() * 1e3;
        let each = used / f64::from(RATE * seconds);
        println!("| {name} | {:.2} | {:.2} | {each:.2} |", at(&taken, 50), at(&taken, 99));
    }
    drop(system);

    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let mut settings =
        format!("[mcp_bridge.servers.silent]\nurl = 'http://{}/mcp'\n", silent.local_addr()?);
    for number in 1..10 {
        settings += &format!("[mcp_bridge.servers.s{number}]\nurl = '{}'\n", server.url);
    }
    let system = System::start(Shape::One, &settings).await?;
    let url = format!("{}/mcp", system.url);
    let (tools, cold, taken) = tokio::task::spawn_blocking(move || lists(&url)).await??;
    println!(
        "\n{tools} tools of 9 servers, a tenth says nothing: cold {:.0} ms,",
        cold.as_secs_f64() * 1e3
    );
    println!(
        "kept p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms",
        at(&taken, 50),
        at(&taken, 99),
        at(&taken, 100)
    );
    Ok(())
}

/// Calls a tool so many times, each at its time, and returns how long each took, sorted.
async fn calls(system: &System, url: &str, count: u32) -> anyhow::Result<Vec<Duration>> {
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut all = Vec::new();
    for _ in 0..count {
        let due = ticks.tick().await;
        let request = request(system.client(), url, "tools/call");
        all.push(tokio::spawn(async move {
            answer(request).await?;
            anyhow::Ok(due.elapsed())
        }));
    }
    let mut taken = try_join_all(all).await?.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    taken.sort_unstable();
    Ok(taken)
}

/// Lists tools and returns how many there are, how long it took at first, and how long each time after that, sorted. It
/// asks on one thread: threads of the client's own that wake each other are not what is measured.
fn lists(url: &str) -> anyhow::Result<(usize, Duration, Vec<Duration>)> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        #[expect(clippy::disallowed_methods, reason = "a client from outside")]
        let client = Client::builder().timeout(Duration::from_secs(60)).no_proxy().build()?;
        let (tools, cold) = listed(&client, url).await?;
        ensure!(tools == 250, "{tools} tools are listed");
        let mut taken = Vec::new();
        for _ in 0..LISTS {
            let (same, time) = listed(&client, url).await?;
            ensure!(same == tools, "a list is not as it was");
            taken.push(time);
        }
        taken.sort_unstable();
        Ok((tools, cold, taken))
    })
}

/// Returns how many tools are listed, and how long it took until the list was there.
async fn listed(client: &Client, url: &str) -> anyhow::Result<(usize, Duration)> {
    let begun = Instant::now();
    let text = text(request(client, url, "tools/list")).await?;
    let taken = begun.elapsed();
    let list = read(&text)?;
    Ok((list["result"]["tools"].as_array().map_or(0, Vec::len), taken))
}

async fn ask(system: &System, url: &str, method: &str) -> anyhow::Result<Value> {
    answer(request(system.client(), url, method)).await
}

/// Makes a request of revision 2026-07-28.
fn request(client: &Client, url: &str, method: &str) -> RequestBuilder {
    let mut params = json!({ "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    } });
    let mut request = client
        .post(url)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", method);
    if method == "tools/call" {
        params["name"] = json!("test_simple_text");
        request = request.header("mcp-name", "test_simple_text");
    }
    request.json(&json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
}

/// Waits for an answer and reads it.
async fn answer(request: RequestBuilder) -> anyhow::Result<Value> {
    read(&text(request).await?)
}

async fn text(request: RequestBuilder) -> anyhow::Result<String> {
    Ok(request.send().await?.error_for_status()?.text().await?)
}

/// Reads an answer, as JSON or as the one event of a stream.
fn read(text: &str) -> anyhow::Result<Value> {
    let line = text.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or(text);
    let answer: Value = serde_json::from_str(line)?;
    ensure!(answer.get("result").is_some(), "{answer}");
    Ok(answer)
}

/// Returns what so many of a hundred took no longer than, in milliseconds.
fn at(taken: &[Duration], part: usize) -> f64 {
    taken[(taken.len() * part / 100).min(taken.len() - 1)].as_secs_f64() * 1e3
}
