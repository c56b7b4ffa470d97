//! The budget service, alone.

use budget::Config;
use runtime::process::Node;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::run("budget", |config: Config, node: Node| async move {
        let server = budget::server(config, &node.metrics).await?;
        runtime::grpc::serve(server, node.listener, node.health, node.stop, node.drain).await
    })
    .await
}
