//! The `main` of a service that runs alone.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::metrics::Metrics;
use crate::probes::Health;
use crate::reload::Reload;
use crate::telemetry::Telemetry;
use crate::{config, grpc, http, probes, shutdown, telemetry};

/// The command line of every service.
#[derive(Debug, clap::Parser)]
#[command(version, about = "A service of Baton, alone", long_about = None)]
pub struct Arguments {
    /// A TOML file; sections of other services are skipped
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Where to serve
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Where to serve probes and metrics
    #[arg(long)]
    pub operations: Option<SocketAddr>,
    /// Print the configuration without secrets and exit
    #[arg(long)]
    pub print_config: bool,
}

impl Arguments {
    /// Reads the process's own keys and the section of service `name`.
    ///
    /// # Errors
    /// As [`config::load_section`].
    pub fn load<C>(&self, name: &str) -> anyhow::Result<(Process, C)>
    where
        C: Serialize + DeserializeOwned + Default,
    {
        let (mut process, config): (Process, C) =
            config::load_section(&section(name), self.config.as_deref())?;
        process.listen = self.listen.or(process.listen);
        process.operations = self.operations.unwrap_or(process.operations);
        Ok((process, config))
    }
}

/// Where and how a process serves, beside what its service needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Where to serve; the service's own port on the loopback address when absent.
    pub listen: Option<SocketAddr>,
    /// Where to serve probes and metrics.
    pub operations: SocketAddr,
    /// How long to say "not ready" before new connections are refused.
    pub drain_ms: u64,
    /// Logs and traces.
    pub telemetry: Telemetry,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            listen: None,
            operations: SocketAddr::from(([127, 0, 0, 1], 9464)),
            drain_ms: 0,
            telemetry: Telemetry::default(),
        }
    }
}

/// What a process runs with, once it is bound.
#[allow(missing_debug_implementations, reason = "a configuration has secrets")]
pub struct Node {
    /// The traffic.
    pub listener: TcpListener,
    /// What probes say.
    pub health: Health,
    /// What Prometheus reads.
    pub metrics: Metrics,
    /// How the configuration is read again.
    pub reload: Reload,
    /// When to stop.
    pub stop: CancellationToken,
    /// How long to say "not ready" first.
    pub drain: Duration,
}

/// Runs the gRPC server that `build` makes from its configuration. See [`run`].
pub async fn service<C, S, F, Fut>(name: &'static str, build: F) -> ExitCode
where
    C: Serialize + DeserializeOwned + Default,
    F: FnOnce(C) -> Fut,
    Fut: Future<Output = anyhow::Result<S>>,
    S: Service<::http::Request<Body>, Response = ::http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    run(name, |config: C, node: Node| async move {
        let server = build(config).await?;
        grpc::serve(server, node.listener, node.health, node.stop, node.drain).await
    })
    .await
}

/// Reads the command line and the configuration, installs telemetry, binds, runs `serve` until
/// Ctrl-C or SIGTERM, and returns the exit code: 0 done, 1 failed, 2 wrong usage. A signal before it
/// has started ends it at once.
pub async fn run<C, F, Fut>(name: &'static str, serve: F) -> ExitCode
where
    C: Serialize + DeserializeOwned + Default,
    F: FnOnce(C, Node) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    exit(name, serve_with(Arguments::parse(), name, serve).await)
}

/// Says why `name` failed, if it did, and returns its exit code.
pub fn exit(name: &str, result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// As [`run`], with a command line that was read already: it runs `serve` until Ctrl-C or SIGTERM. A signal
/// before it has started ends it at once.
///
/// # Errors
/// If the configuration is wrong, an address is taken, or `serve` fails.
pub async fn serve_with<C, F, Fut>(
    arguments: Arguments,
    name: &'static str,
    serve: F,
) -> anyhow::Result<()>
where
    C: Serialize + DeserializeOwned + Default,
    F: FnOnce(C, Node) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let reload = Reload::new(arguments.config.as_deref(), Some(&section(name)))?;
    let (process, config): (Process, C) = arguments.load(name)?;
    if arguments.print_config {
        let section = BTreeMap::from([(section(name), &config)]);
        println!("{}\n{}", config::to_text(&process)?, config::to_text(&section)?);
        return Ok(());
    }
    let _flush = telemetry::init(name, &process.telemetry)?;
    let stop = shutdown::on_signal()?;
    let own = SocketAddr::from(([127, 0, 0, 1], default_port(name)));
    let listener = bind(process.listen.unwrap_or(own)).await?;
    let operations = bind(process.operations).await?;
    tracing::info!(
        service = name,
        listen = %listener.local_addr()?,
        operations = %operations.local_addr()?,
        "serving"
    );
    let (health, metrics) = (Health::default(), Metrics::default());
    let probes = probes::router(health.clone(), metrics.clone());
    // Probes answer until the very end, so they have a stop of their own.
    let ended = CancellationToken::new();
    let probes =
        tokio::spawn(http::serve(probes, operations, ended.clone(), Duration::from_secs(1)));
    let drain = Duration::from_millis(process.drain_ms);
    // Whoever still waits for a database serves nobody.
    let (started, asked) = (health.clone(), stop.clone());
    let stopped = async move {
        asked.cancelled().await;
        if started.is_started() {
            std::future::pending().await
        }
    };
    let result = tokio::select! {
        result = serve(config, Node { listener, health, metrics, reload, stop, drain }) => result,
        () = stopped => Ok(()),
    };
    ended.cancel();
    probes.await?;
    tracing::info!(service = name, "stopped");
    result
}

/// Binds `address`.
///
/// # Errors
/// If it is taken or not ours; the message names it.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

fn section(name: &str) -> String {
    name.replace('-', "_")
}

fn default_port(name: &str) -> u16 {
    match name {
        "gateway" => 8000,
        "router" => 50051,
        "retriever" => 50052,
        "budget" => 50053,
        "mcp-bridge" => 50054,
        "orchestrator" => 50055,
        "mcp-filesystem" => 3001,
        "mcp-git" => 3002,
        "mcp-memory" => 3003,
        _ => 0,
    }
}
