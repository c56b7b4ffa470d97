//! The retriever, alone.

use std::process::ExitCode;

use retriever::{Config, Peers};

fn main() -> ExitCode {
    retriever::parse_worker(std::env::args_os()).unwrap_or_else(serve)
}

#[tokio::main]
async fn serve() -> ExitCode {
    let server = |config: Config| async move {
        let peers = Peers::remote(&config.peers)?;
        retriever::server(config.isolated(), peers).await
    };
    runtime::process::service("retriever", server).await
}
