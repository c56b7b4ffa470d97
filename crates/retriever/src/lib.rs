//! Documents: parsed, cut into passages, kept in SQLite or PostgreSQL, found by their words and their vectors.
//!
//! Everything is reached through one tenant's handle; there is no method without one.

mod attributes;
mod chunk;
mod config;
mod database;
pub mod embed;
mod error;
pub mod evaluate;
mod fetch;
mod filter;
mod fuse;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod index;
mod isolate;
mod jobs;
mod parse;
pub mod rerank;
mod rewrite;
mod rows;
mod service;
mod store;

use std::sync::Arc;
use std::time::Duration;

use proto::retriever::retriever_service_server::RetrieverServiceServer;
use runtime::transport::Peer;
use secrecy::ExposeSecret;

use crate::embed::Embedder;
use crate::rerank::Reranker;

pub use config::{
    Config, Embedding, Endpoint, Fetch, Fusion, Method, Parsing, PeerAddresses, Qdrant, Rerank,
    Rewriting,
};
pub use error::Error;
pub use isolate::parse_worker;
pub use parse::is_document;
pub use service::Service;

/// A list of addresses has at most so many bytes, with what each of their documents is filtered by.
const MOST_ADDRESSES: usize = 4 * 1024 * 1024;

/// The services that the retriever calls.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Peers {
    /// Models.
    pub router: Peer,
}

impl Peers {
    /// Reaches the peers over TCP.
    ///
    /// # Errors
    /// If an address is malformed.
    pub fn remote(addresses: &PeerAddresses) -> anyhow::Result<Self> {
        Ok(Self { router: runtime::transport::remote(&addresses.router)? })
    }
}

/// Opens the model and the store, fills an index that is in memory from it, and returns the service.
///
/// # Errors
/// If the configuration is invalid, or the model or the store cannot be opened or read.
pub async fn server(
    config: Config,
    peers: Peers,
) -> anyhow::Result<RetrieverServiceServer<Service>> {
    let limit = config.max_document_bytes;
    config.check()?;
    let embedder = match config.embedding.clone() {
        Some(embedding) => Some(open(embedding, peers.router.clone()).await?),
        None => None,
    };
    let indexes: Arc<dyn index::Indexes> = match &config.qdrant {
        Some(config::Qdrant { url, api_key }) => {
            let key = api_key.as_ref().map(ExposeSecret::expose_secret);
            Arc::new(index::Qdrant::new(url, key)?)
        }
        None => Arc::new(index::Memory::default()),
    };
    let mut former = Vec::new();
    for embedding in &config.former_embeddings {
        former.push(open(embedding.clone(), peers.router.clone()).await?);
    }
    let reranker = match config.rerank.clone() {
        Some(rerank) => Some(open_reranker(rerank).await?),
        None => None,
    };
    let rewriter = config.rewriting.clone();
    let rewriter = rewriter.map(|config| rewrite::Rewriter::new(peers.router, config));
    let models = store::Models { embedder, former, reranker, rewriter };
    let store = Arc::new(store::Store::open(&config, indexes, models).await?);
    let workers = jobs::Workers::start(&store, config.ingest_workers);
    // A message is a document, or a list of addresses, and little more.
    let server = RetrieverServiceServer::new(Service::new(store, workers));
    Ok(server
        .max_decoding_message_size(limit.saturating_add(64 * 1024).max(MOST_ADDRESSES))
        .max_encoding_message_size(usize::MAX))
}

async fn open_reranker(rerank: Rerank) -> anyhow::Result<Arc<dyn Reranker>> {
    let Rerank { model, onnxruntime, threads, endpoint, deadline_ms, .. } = rerank;
    if let Some(endpoint) = endpoint {
        let patience = Duration::from_millis(deadline_ms);
        return Ok(Arc::new(rerank::Remote::new(&endpoint, patience)?));
    }
    let directory = model.unwrap_or_default();
    let open = move || rerank::Local::open(&directory, onnxruntime.as_deref(), threads);
    Ok(Arc::new(tokio::task::spawn_blocking(open).await??))
}

async fn open(embedding: Embedding, router: Peer) -> anyhow::Result<Arc<dyn Embedder>> {
    let Embedding { model, onnxruntime, threads, route, batch } = embedding;
    let model: Arc<dyn Embedder> = match (model, route) {
        (Some(directory), _) => {
            let open = move || embed::Local::open(&directory, onnxruntime.as_deref(), threads);
            Arc::new(tokio::task::spawn_blocking(open).await??)
        }
        (None, route) => Arc::new(embed::Remote::new(router, route.unwrap_or_default(), batch)),
    };
    Ok(Arc::new(embed::Together::new(model)))
}
