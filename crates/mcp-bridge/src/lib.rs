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
mod records;
mod sandbox;
mod seal;
mod served;
mod service;
mod store;
mod upstream;

use runtime::metrics::Metrics;

pub use bridge::{Bridge, PATHS};
pub use config::{Client, Clients, Config, Server};
pub use error::Error;
pub use gate::{
    Action, Auditing, Digest, FirstSight, Otherwise, Pinning, Rate, RuleConfig, Scan, WithoutStore,
};
pub use sandbox::{Landlock, Sandbox, launch_tool};
pub use store::{Call, Decider, Known, Pin, Postgres, Seen, Sqlite, State, Store, WAITING};

/// Checks the configuration, opens the store and returns the service; servers are started when they are
/// first needed.
///
/// # Errors
/// If a server's name or place or a rule is malformed, the store cannot be opened, or MCP clients cannot
/// be served where they are to be; the message says which.
pub async fn server(config: Config, metrics: &Metrics) -> anyhow::Result<Bridge> {
    runtime::http::use_ring();
    Bridge::open(&config, metrics).await
}
