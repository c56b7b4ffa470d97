//! Runs: work in steps, each written to a journal before anybody sees it; among them conversations whose
//! model calls tools. Batches: many model calls
//! that nobody waits for.
//!
//! ```no_run
//! # use runtime::transport::Peer;
//! # async fn example(router: Peer, retriever: Peer, bridge: Peer) -> anyhow::Result<()> {
//! let peers = orchestrator::Peers { router, retriever, bridge };
//! let (server, worker) = orchestrator::server(orchestrator::Config::default(), peers).await?;
//! # drop((server, worker)); Ok(())
//! # }
//! ```

mod ask;
mod batch;
mod citations;
mod config;
mod context;
mod database;
mod error;
mod journal;
mod service;
mod tools;

use std::sync::Arc;

use proto::orchestrator::orchestrator_service_server::OrchestratorServiceServer;
use runtime::grpc;
use runtime::process::Node;
use runtime::transport::Peer;
use tokio::sync::Notify;
use types::{Clock, SystemClock};

use crate::batch::files::Files;
use crate::batch::store::Store;
use crate::journal::Journal;

pub use batch::worker::Worker;
pub use config::{Answers, Batch, Config, PeerAddresses, Tools};
pub use error::Error;
pub use service::Service;

/// The services that runs call.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Peers {
    /// Models.
    pub router: Peer,
    /// Documents.
    pub retriever: Peer,
    /// Tools.
    pub bridge: Peer,
}

impl Peers {
    /// Reaches the peers over TCP.
    ///
    /// # Errors
    /// If an address is malformed.
    pub fn remote(addresses: &PeerAddresses) -> anyhow::Result<Self> {
        Ok(Self {
            router: runtime::transport::remote(&addresses.router)?,
            retriever: runtime::transport::remote(&addresses.retriever)?,
            bridge: runtime::transport::remote(&addresses.bridge)?,
        })
    }
}

/// Opens the database and returns the service, and who works on its batches.
///
/// # Errors
/// If the configuration is wrong or the database cannot be opened.
pub async fn server(
    config: Config,
    peers: Peers,
) -> anyhow::Result<(OrchestratorServiceServer<Service>, Worker)> {
    server_at(config, peers, Arc::new(SystemClock)).await
}

/// As [`server`], by a clock of one's own.
///
/// # Errors
/// As [`server`].
pub async fn server_at(
    config: Config,
    peers: Peers,
    clock: Arc<dyn Clock>,
) -> anyhow::Result<(OrchestratorServiceServer<Service>, Worker)> {
    config.answers.check()?;
    config.batch.check()?;
    config.tools.check()?;
    let pool = database::open(&config.journal).await?;
    let Batch { files_expire_days: days, tenant_bytes, .. } = config.batch;
    let files = Files::new(pool.clone(), Arc::clone(&clock), days, tenant_bytes);
    let batches = Store::new(pool.clone(), clock);
    let wake = Arc::new(Notify::new());
    let (router, woken) = (peers.router.clone(), Arc::clone(&wake));
    let worker = Worker::new(batches.clone(), files.clone(), router, config.batch, woken);
    let journal = Arc::new(Journal::new(pool));
    let Config { answers, tools, .. } = config;
    let service = Service { answers, journal, files, batches, wake, peers, tools };
    Ok((OrchestratorServiceServer::new(service), worker))
}

/// Serves gRPC and works on batches until the node is to stop.
///
/// # Errors
/// As [`server`], or if the listener fails.
pub async fn serve(config: Config, peers: Peers, node: Node) -> anyhow::Result<()> {
    let (server, worker) = server(config, peers).await?;
    let worker = tokio::spawn(worker.run(node.stop.clone()));
    grpc::serve(server, node.listener, node.health, node.stop, node.drain).await?;
    Ok(worker.await?)
}
