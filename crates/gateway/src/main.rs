//! The gateway, alone.

use gateway::{Config, Peers};
use runtime::process::Node;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::run("gateway", |config: Config, node: Node| async move {
        let peers = Peers::remote(&config.peers)?;
        let Node { listener, health, metrics, stop, drain } = node;
        gateway::serve(config, peers, listener, health, &metrics, stop, drain).await
    })
    .await
}
