//! The retriever, alone.

use std::process::ExitCode;

use retriever::Config;

fn main() -> ExitCode {
    retriever::parse_worker(std::env::args_os()).unwrap_or_else(serve)
}

#[tokio::main]
async fn serve() -> ExitCode {
    let server = |config: Config| retriever::server(config.isolated());
    runtime::process::service("retriever", server).await
}
