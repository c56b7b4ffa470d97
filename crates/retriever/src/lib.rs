//! Documents: parsed, cut into passages, kept in SQLite, found by exact BM25.
//!
//! Everything is reached through one tenant's handle; there is no method without one.

mod chunk;
mod config;
pub mod embed;
mod error;
pub mod evaluate;
mod fuse;
mod index;
mod parse;
mod service;
mod store;
mod tokenize;

use std::sync::Arc;

use proto::retriever::retriever_service_server::RetrieverServiceServer;

pub use config::Config;
pub use error::Error;
pub use parse::is_document;
pub use service::Service;

/// Opens the store, rebuilds the index from it and returns the service.
///
/// # Errors
/// If the store cannot be opened or read.
pub async fn server(config: Config) -> anyhow::Result<RetrieverServiceServer<Service>> {
    let limit = config.max_document_bytes;
    let store = store::Store::open(config).await?;
    // A message is a document and little more.
    let server = RetrieverServiceServer::new(Service::new(Arc::new(store)));
    Ok(server
        .max_decoding_message_size(limit.saturating_add(64 * 1024))
        .max_encoding_message_size(usize::MAX))
}
