//! What the measuring programs share: a system with everything on, and how much it takes.

use std::convert::Infallible;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustix::process::Pid;
use serde_json::json;
use testkit::process::program;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{Shape, System, priced};

const KEY: &str = "a key of twenty characters and more";

/// Starts a system with a key, a limit and the log as it is by default, in front of a provider. Its
/// model `n` is the same as `m`, for what goes wrong.
///
/// # Errors
/// As [`System::start`], or if the limit is not taken.
pub async fn start(shape: Shape, provider: &str) -> anyhow::Result<System> {
    let second = priced(provider).replace(".mock]", ".second]").replace("'m'", "'n'");
    let key = format!("[gateway.keys.bench]\nsecret = '{KEY}'\ntenant = 't'\nuser = 'u'\n");
    let log = "[telemetry]\nlog = 'info'\n";
    let system = System::start(shape, &(priced(provider) + &second + &key + log)).await?;
    set_limit(&system).await?;
    Ok(system)
}

/// Returns a request for a completion.
///
/// # Errors
/// If `address` is none.
pub fn request(address: &str, body: Bytes) -> anyhow::Result<Request<Full<Bytes>>> {
    let request = Request::post("/v1/chat/completions")
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {KEY}"));
    Ok(request.body(Full::new(body))?)
}

/// Starts the provider and returns where it is; it ends with its standard input.
///
/// # Errors
/// If it is not built.
pub async fn mock_provider() -> anyhow::Result<(Child, String)> {
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

/// Connects to `address`.
///
/// # Errors
/// If nobody listens there.
pub async fn connect(address: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
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
///
/// # Errors
/// If one has ended.
pub fn cpu(system: &System) -> anyhow::Result<Duration> {
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
///
/// # Errors
/// If one has ended.
pub fn resident(system: &System) -> anyhow::Result<f64> {
    let of = |pid: Pid| -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.context("no VmRSS")?.parse::<f64>()? / 1024.0)
    };
    system.processes.iter().map(|one| of(one.pid())).sum()
}
