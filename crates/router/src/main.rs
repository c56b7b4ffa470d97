//! The router, alone.

use router::{Config, Peers};
use runtime::process::{Node, Process};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::run("router", |config: Config, node: Node| async move {
        let peers = Peers::remote(&config.peers)?;
        let (server, control) = router::server(config, peers, &node.metrics).await?;
        let (files, ending) = (control.files(), control.clone());
        let again = move |file: Option<&std::path::Path>| {
            let (_, config): (Process, Config) = runtime::config::load_section("router", file)?;
            control.apply(config)?;
            Ok(control.files())
        };
        let Node { listener, health, metrics, reload, stop, drain } = node;
        tokio::spawn(reload.run(metrics, router::RELOADED.to_vec(), files, again));
        runtime::grpc::serve(server, listener, health, stop, drain).await?;
        ending.finish().await;
        Ok(())
    })
    .await
}
