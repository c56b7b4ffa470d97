//! Every service in one process, on embedded defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runtime::metrics::Metrics;
use runtime::probes::Health;
use runtime::telemetry::Telemetry;
use runtime::transport::{Peer, in_process};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::discover;

/// What one process needs: where it serves, and every service's own section.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where data lies; sections that name no place of their own lie in it.
    pub data: PathBuf,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// Where probes and metrics are served; nowhere when absent.
    pub operations: Option<SocketAddr>,
    /// How long to say "not ready" before new connections are refused.
    pub drain_ms: u64,
    /// Where to look for local model servers, by name; an empty address is not looked at.
    pub local_models: BTreeMap<String, String>,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// The HTTP front.
    pub gateway: gateway::Config,
    /// Models.
    pub router: router::Config,
    /// Documents.
    pub retriever: retriever::Config,
    /// Money.
    pub budget: budget::Config,
    /// Runs.
    pub orchestrator: orchestrator::Config,
    /// Tools.
    pub mcp_bridge: mcp_bridge::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self::at(Path::new("data"))
    }
}

impl Config {
    /// Returns the defaults, with every embedded store in the directory `data`.
    #[must_use]
    pub fn at(data: &Path) -> Self {
        let sqlite = |file: &str| format!("sqlite:{}", data.join(file).display()).into();
        let (ledger, responses) = (sqlite("ledger.db"), sqlite("responses.db"));
        let tools = sqlite("tools.db");
        Self {
            data: data.to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            operations: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            drain_ms: 0,
            local_models: discover::local(),
            telemetry: Telemetry::default(),
            gateway: gateway::Config::default(),
            router: router::Config {
                spool: data.join("spool"),
                responses: router::Responses { store: responses, ..router::Responses::default() },
                ..router::Config::default()
            },
            retriever: retriever::Config::at(&data.join("documents.db")),
            budget: budget::Config { ledger, ..budget::Config::default() },
            orchestrator: orchestrator::Config {
                journal: data.join("journal.db"),
                ..orchestrator::Config::default()
            },
            mcp_bridge: mcp_bridge::Config {
                store: tools,
                directory: data.join("tools"),
                ..mcp_bridge::Config::default()
            },
        }
    }

    /// Reads the configuration. The stores lie in `data` (the command line's word), or else in what
    /// the file or the environment call `data`, unless they name a place of their own.
    ///
    /// # Errors
    /// As [`runtime::config::load`].
    pub fn load(file: Option<&Path>, data: Option<&Path>) -> anyhow::Result<Self> {
        let data = match data {
            Some(data) => data.to_owned(),
            None => runtime::config::load::<Self>(file)?.data,
        };
        let config = runtime::config::load_over(&Self::at(&data), file)?;
        Ok(Self { data, ..config })
    }
}

/// The services, joined.
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Node {
    /// What the gateway calls.
    pub peers: gateway::Peers,
    /// How the router gets another configuration.
    pub router: router::Control,
    /// How calls of tools end.
    pub tools: mcp_bridge::Bridge,
    /// Who works on batches, while the node serves.
    worker: orchestrator::Worker,
}

impl Node {
    /// Opens every store and joins the services, the called before their callers.
    ///
    /// # Errors
    /// If a section is invalid or a store cannot be opened; the message names it.
    pub async fn start(config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let budget = in_process(budget::server(config.budget.clone(), metrics).await?);
        let peers = router::Peers { budget: Peer::clone(&budget) };
        let (router, control) = router::server(config.router.clone(), peers, metrics).await?;
        let router = in_process(router);
        let documents = config.retriever.clone().isolated();
        let peers = retriever::Peers { router: Peer::clone(&router) };
        let retriever = in_process(retriever::server(documents, peers).await?);
        let tools = config.mcp_bridge.clone().isolated();
        let tools = mcp_bridge::server(tools, metrics).await?;
        let bridge = in_process(tools.clone());
        let peers = orchestrator::Peers {
            router: router.clone(),
            retriever: retriever.clone(),
            bridge: bridge.clone(),
        };
        let (orchestrator, worker) =
            orchestrator::server(config.orchestrator.clone(), peers).await?;
        let orchestrator = in_process(orchestrator);
        let peers = gateway::Peers { router, retriever, budget, orchestrator, bridge };
        Ok(Self { peers, router: control, tools, worker })
    }

    /// Serves HTTP and works on batches until `stop`.
    ///
    /// # Errors
    /// As [`gateway::serve`].
    pub async fn serve(
        self,
        config: Config,
        door: gateway::Door,
        health: Health,
        metrics: &Metrics,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let drain = Duration::from_millis(config.drain_ms);
        let worker = tokio::spawn(self.worker.run(stop.clone()));
        gateway::serve(config.gateway, self.peers, door, health, metrics, stop, drain).await?;
        worker.await?;
        self.router.finish().await;
        self.tools.finish().await;
        Ok(())
    }
}
