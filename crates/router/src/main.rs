//! The router, alone.

use router::{Config, Peers};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::service("router", |config: Config| async move {
        let peers = Peers::remote(&config.peers)?;
        router::server(config, peers).await
    })
    .await
}
