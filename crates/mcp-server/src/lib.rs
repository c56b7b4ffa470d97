//! How our MCP servers are served: over HTTP at `/mcp`, or over standard input and output.
//!
//! Revision 2026-07-28 and the older ones, without sessions: replicas need share nothing.

mod arguments;
mod blocking;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use rmcp::ServerHandler;
use rmcp::ServiceExt as _;
use rmcp::transport::io::stdio;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use runtime::process::{self, Node};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use arguments::{Parameters, call, read, unknown};
pub use blocking::{Blocking, Deadline, Unfinished};

/// The largest message that is read, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;

/// How long a shutdown waits for calls in flight.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// The command line of every MCP server.
#[derive(Debug, clap::Parser)]
#[command(version, about = "An MCP server", long_about = None)]
#[group(skip)]
struct Arguments {
    /// Speak over standard input and output instead of HTTP
    #[arg(long)]
    stdio: bool,
    #[command(flatten)]
    process: process::Arguments,
}

/// Who may reach a server over HTTP.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Host names, with or without port, besides loopback ones.
    pub hosts: Vec<String>,
    /// Origins of web pages, such as `https://app.example.com:443`, besides the server's own.
    pub origins: Vec<String>,
}

/// Reads the command line and the configuration, and serves what `build` makes of it until Ctrl-C,
/// SIGTERM or the end of standard input. Returns the exit code: 0 done, 1 failed, 2 wrong usage.
pub async fn run<C, H>(
    name: &'static str,
    build: impl FnOnce(&C) -> anyhow::Result<H>,
    access: impl FnOnce(C) -> Access,
) -> ExitCode
where
    C: Serialize + DeserializeOwned + Default,
    H: ServerHandler + Clone,
{
    run_async(name, async |config: &C| build(config), access).await
}

/// As [`run`], where `build` waits for something.
pub async fn run_async<C, H>(
    name: &'static str,
    build: impl AsyncFnOnce(&C) -> anyhow::Result<H>,
    access: impl FnOnce(C) -> Access,
) -> ExitCode
where
    C: Serialize + DeserializeOwned + Default,
    H: ServerHandler + Clone,
{
    let arguments = Arguments::parse();
    let served = match arguments.stdio {
        true => serve_stdio(&arguments.process, name, build).await,
        false => {
            let serve = |config: C, node: Node| async move {
                let handler = build(&config).await?;
                node.health.started();
                let Node { listener, health, stop, drain, .. } = node;
                let closing = CancellationToken::new();
                tokio::spawn(runtime::shutdown::drain(stop, health, drain, closing.clone()));
                serve(handler, access(config), listener, closing).await
            };
            process::serve_with(arguments.process, name, serve).await
        }
    };
    process::exit(name, served)
}

/// Serves `handler` over HTTP at `/mcp` until `stop`, then finishes the calls in flight.
///
/// # Errors
/// If the listener has no address.
pub async fn serve<H: ServerHandler + Clone>(
    handler: H,
    access: Access,
    listener: TcpListener,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    // A page of this very address is none of another's.
    let port = listener.local_addr()?.port();
    let own = ["localhost", "127.0.0.1", "[::1]"].map(|host| format!("http://{host}:{port}"));
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(LARGEST)
        .with_allowed_hosts(loopback.into_iter().chain(access.hosts))
        .with_allowed_origins(own.into_iter().chain(access.origins))
        .enforce_origin_validation();
    let service = StreamableHttpService::new(
        move || Ok(handler.clone()),
        NeverSessionManager::default().into(),
        config,
    );
    let router = axum::Router::new().route_service("/mcp", service);
    runtime::http::serve(router, listener, stop, SHUTDOWN).await;
    Ok(())
}

async fn serve_stdio<C, H>(
    arguments: &process::Arguments,
    name: &'static str,
    build: impl AsyncFnOnce(&C) -> anyhow::Result<H>,
) -> anyhow::Result<()>
where
    C: Serialize + DeserializeOwned + Default,
    H: ServerHandler,
{
    let (process, config): (process::Process, C) = arguments.load(name)?;
    let _flush = runtime::telemetry::init(name, &process.telemetry)?;
    build(&config).await?.serve(stdio()).await?.waiting().await?;
    Ok(())
}
