//! The orchestrator, alone.

use orchestrator::{Config, Peers};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::service("orchestrator", |config: Config| async move {
        let peers = Peers::remote(&config.peers)?;
        orchestrator::server(config, peers).await
    })
    .await
}
