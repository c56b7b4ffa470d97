//! Runs: work in steps, each written to a journal before anybody sees it.
//!
//! ```no_run
//! # async fn example(router: runtime::transport::Peer, retriever: runtime::transport::Peer) -> anyhow::Result<()> {
//! let peers = orchestrator::Peers { router, retriever };
//! let server = orchestrator::server(orchestrator::Config::default(), peers).await?;
//! # drop(server); Ok(())
//! # }
//! ```

mod ask;
mod citations;
mod config;
mod error;
mod journal;
mod service;

use std::sync::Arc;

use proto::orchestrator::orchestrator_service_server::OrchestratorServiceServer;
use runtime::transport::Peer;

pub use config::{Config, PeerAddresses};
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
        })
    }
}

/// Opens the journal and returns the service.
///
/// # Errors
/// If the journal cannot be opened.
pub async fn server(
    config: Config,
    peers: Peers,
) -> anyhow::Result<OrchestratorServiceServer<Service>> {
    let journal = journal::Journal::open(&config.journal).await?;
    Ok(OrchestratorServiceServer::new(Service::new(Arc::new(journal), peers)))
}
