//! `baton`: the whole system in one process, and the command line to it.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    retriever::parse_worker(std::env::args_os())
        .or_else(|| mcp_bridge::launch_tool(std::env::args_os()))
        .unwrap_or_else(run)
}

#[tokio::main]
async fn run() -> ExitCode {
    baton::cli::run(baton::cli::Cli::parse()).await
}
