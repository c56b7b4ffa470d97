//! The bridge to MCP servers, alone; and the launcher of its servers' programs.

use std::process::ExitCode;

use mcp_bridge::Config;
use runtime::process::Node;

fn main() -> ExitCode {
    mcp_bridge::launch_tool(std::env::args_os()).unwrap_or_else(serve)
}

#[tokio::main]
async fn serve() -> ExitCode {
    let serve = |config: Config, node: Node| async move {
        let Node { listener, health, metrics, stop, drain, .. } = node;
        let bridge = mcp_bridge::server(config.isolated(), &metrics).await?;
        let (paths, calls) = (mcp_bridge::PATHS, bridge.clone());
        runtime::grpc::serve_with(calls, paths, listener, health, stop, drain).await?;
        bridge.finish().await;
        Ok(())
    };
    runtime::process::run("mcp-bridge", serve).await
}
