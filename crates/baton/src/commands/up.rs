//! `baton up`: every service in this process until Ctrl-C.

use std::net::SocketAddr;
use std::time::Duration;

use runtime::metrics::Metrics;
use runtime::probes::{self, Health};
use runtime::process::bind;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::{Common, Failure};
use crate::commands::configuration;
use crate::discover;
use crate::node::{Config, Node};

pub(crate) async fn run(
    common: Common,
    listen: Option<SocketAddr>,
    operations: Option<SocketAddr>,
) -> Result<(), Failure> {
    let mut config = configuration(&common)?;
    config.listen = listen.unwrap_or(config.listen);
    config.operations = operations.or(config.operations);
    if common.print_config {
        println!("{}", runtime::config::to_text(&config)?);
        return Ok(());
    }
    let _flush = runtime::telemetry::init("baton", &config.telemetry)?;
    Ok(serve(config, common.json).await?)
}

async fn serve(mut config: Config, json: bool) -> anyhow::Result<()> {
    let stop = runtime::shutdown::on_signal();
    // Bound before anything is opened: a port in use is the commonest fault.
    let http = bind(config.listen).await?;
    gateway::check(&config.gateway, http.local_addr()?)?;
    let operations = match config.operations {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let found = discover::models(&mut config).await;
    let (health, metrics) = (Health::default(), Metrics::default());
    let node = Node::start(&config, &metrics).await?;
    let url = format!("http://{}", http.local_addr()?);
    let operations_url = match &operations {
        Some(listener) => Some(format!("http://{}", listener.local_addr()?)),
        None => None,
    };
    if json {
        let line = json!({
            "url": url,
            "operations": operations_url,
            "data": config.data.display().to_string(),
            "found": found,
        });
        println!("{line}");
    } else {
        println!("Baton {} is up", env!("CARGO_PKG_VERSION"));
        println!("  API         {url}");
        println!("  pages       {url}/docs");
        println!("  operations  {}", operations_url.as_deref().unwrap_or("off"));
        println!("  data        {}", config.data.display());
        match found.as_slice() {
            [] => println!("  models      none: the built-in extractive provider answers"),
            [first, rest @ ..] => {
                println!("  models      {first}");
                rest.iter().for_each(|one| println!("              {one}"));
            }
        }
        println!("Stop with Ctrl-C.");
    }
    let ended = CancellationToken::new();
    let probes = operations.map(|listener| {
        let router = probes::router(health.clone(), metrics.clone());
        let (ended, drain) = (ended.clone(), Duration::from_secs(1));
        tokio::spawn(runtime::http::serve(router, listener, ended, drain))
    });
    let result = node.serve(config, http, health, &metrics, stop).await;
    ended.cancel();
    if let Some(probes) = probes {
        probes.await??;
    }
    result
}
