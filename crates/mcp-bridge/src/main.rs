//! The bridge to MCP servers, alone; and the launcher of its servers' programs.

use std::process::ExitCode;

use mcp_bridge::Config;

fn main() -> ExitCode {
    mcp_bridge::launch_tool(std::env::args_os()).unwrap_or_else(serve)
}

#[tokio::main]
async fn serve() -> ExitCode {
    let server = |config: Config| mcp_bridge::server(config.isolated());
    runtime::process::service("mcp-bridge", server).await
}
