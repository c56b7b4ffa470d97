//! An MCP server for a knowledge graph that agents remember by. It starts and says who it is; it lists no tools yet.

use mcp_server::Access;
use rmcp::ServerHandler;
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use serde::{Deserialize, Serialize};

/// What the server needs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who may reach it over HTTP.
    pub access: Access,
}

/// The server.
#[derive(Debug, Clone, Default)]
pub struct Memory;

impl ServerHandler for Memory {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(name)
    }
}
