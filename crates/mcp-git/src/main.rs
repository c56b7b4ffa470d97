//! The git server, alone.

use mcp_git::{Config, Git};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    mcp_server::run("mcp-git", |_: &Config| Ok(Git), |config| config.access).await
}
