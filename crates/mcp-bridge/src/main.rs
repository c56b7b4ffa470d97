//! The bridge to MCP servers, alone.

use mcp_bridge::Config;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::service("mcp-bridge", |config: Config| mcp_bridge::server(config)).await
}
