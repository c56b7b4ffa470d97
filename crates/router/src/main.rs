//! The router, alone.

use router::{Config, Peers};
use runtime::grpc;
use runtime::process::Node;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::run("router", |config: Config, node: Node| async move {
        let peers = Peers::remote(&config.peers)?;
        let server = router::server(config, peers, &node.metrics).await?;
        grpc::serve(server, node.listener, node.health, node.stop, node.drain).await
    })
    .await
}
