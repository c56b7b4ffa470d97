//! The gateway, alone.

use std::sync::Arc;

use gateway::{Config, Door, Peers};
use runtime::process::{Node, Process};

#[tokio::main]
async fn main() -> std::process::ExitCode {
    runtime::process::run("gateway", |config: Config, node: Node| async move {
        let peers = Peers::remote(&config.peers)?;
        let Node { listener, health, metrics, reload, stop, drain } = node;
        let address = listener.local_addr()?;
        let keys = Arc::new(gateway::check(&config, address)?);
        let held = Arc::clone(&keys);
        let again = move |file: Option<&std::path::Path>| {
            let (_, config): (Process, Config) = runtime::config::load_section("gateway", file)?;
            let keys = gateway::check(&config, address)?;
            held.allow(&keys)?;
            held.replace(&keys);
            Ok(Vec::new())
        };
        let holds = gateway::RELOADED.to_vec();
        tokio::spawn(reload.run(metrics.clone(), holds, Vec::new(), again));
        gateway::serve(config, peers, Door { listener, keys }, health, &metrics, stop, drain).await
    })
    .await
}
