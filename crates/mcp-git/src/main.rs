//! The git server, alone; and, as `mcp-git worker`, the process that does one call's work.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(first) if first == "worker" => mcp_git::work(),
        _ => serve(),
    }
}

#[tokio::main]
async fn serve() -> ExitCode {
    mcp_server::run("mcp-git", mcp_git::Git::open, |config| config.access).await
}
