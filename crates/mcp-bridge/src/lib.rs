//! The way to tools: MCP servers behind one list.
//!
//! A tool is called `server__tool`. A server that is dead, slow or broken is named with its fault and
//! never empties the list of the others.

mod catalog;
mod config;
mod error;
mod gate;
mod hub;
mod sandbox;
mod service;
mod upstream;

use proto::bridge::bridge_service_server::BridgeServiceServer;

pub use config::{Config, Server};
pub use error::Error;
pub use sandbox::{Landlock, Sandbox, launch_tool};
pub use service::Service;

/// Checks the configuration and returns the service; servers are started when they are first needed.
///
/// # Errors
/// If a server's name or place is malformed; the message names it.
pub async fn server(config: Config) -> anyhow::Result<BridgeServiceServer<Service>> {
    runtime::http::use_ring();
    Ok(BridgeServiceServer::new(Service::new(&config)?))
}
