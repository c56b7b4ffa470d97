//! `baton`: the whole system in one process, and the command line to it.

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main]
async fn main() -> ExitCode {
    baton::cli::run(baton::cli::Cli::parse()).await
}
