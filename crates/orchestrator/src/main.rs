//! The orchestrator, alone.

use orchestrator::{Config, Peers};
use runtime::process::Node;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::run("orchestrator", |config: Config, node: Node| async move {
        let peers = Peers::remote(&config.peers)?;
        orchestrator::serve(config, peers, node).await
    })
    .await
}
