//! The memory server, alone.

use mcp_memory::{Config, Memory};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    if mcp_memory::is_command() {
        return mcp_memory::run_command().await;
    }
    let open = async |config: &Config| Memory::open(config).await;
    mcp_server::run_async("mcp-memory", open, |config| config.access).await
}
