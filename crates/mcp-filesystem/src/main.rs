//! The filesystem server, alone.

use mcp_filesystem::Filesystem;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    mcp_server::run("mcp-filesystem", Filesystem::open, |config| config.access).await
}
