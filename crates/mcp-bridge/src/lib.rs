//! The way to tools: MCP servers behind one list.
//!
//! A tool is called `server__tool`. A server that is dead, slow or broken is named with its fault and
//! never empties the list of the others. Services of ours call by gRPC, MCP clients over HTTP.

mod address;
mod bridge;
mod catalog;
mod config;
mod error;
mod gate;
mod hub;
mod sandbox;
mod seal;
mod served;
mod service;
mod upstream;

pub use bridge::{Bridge, PATHS};
pub use config::{Client, Clients, Config, Server};
pub use error::Error;
pub use sandbox::{Landlock, Sandbox, launch_tool};

/// Checks the configuration and returns the service; servers are started when they are first needed.
///
/// # Errors
/// If a server's name or place is malformed, or MCP clients cannot be served where they are to be; the
/// message says which.
pub async fn server(config: Config) -> anyhow::Result<Bridge> {
    runtime::http::use_ring();
    Bridge::open(&config).await
}
