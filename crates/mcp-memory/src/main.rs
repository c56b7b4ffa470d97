//! The memory server, alone.

use mcp_memory::{Config, Memory};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    mcp_server::run("mcp-memory", |_: &Config| Ok(Memory), |config| config.access).await
}
