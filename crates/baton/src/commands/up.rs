//! `baton up`: every service in this process until Ctrl-C.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use runtime::metrics::Metrics;
use runtime::probes::{self, Health};
use runtime::process::bind;
use runtime::reload::Reload;
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
    let reload = Reload::new(common.config.as_deref(), None)?;
    let mut config = configuration(&common)?;
    config.listen = listen.unwrap_or(config.listen);
    config.operations = operations.or(config.operations);
    if common.print_config {
        println!("{}", runtime::config::to_text(&config)?);
        return Ok(());
    }
    let _flush = runtime::telemetry::init("baton", &config.telemetry)?;
    Ok(serve(config, common, reload).await?)
}

async fn serve(mut config: Config, common: Common, reload: Reload) -> anyhow::Result<()> {
    let stop = runtime::shutdown::on_signal()?;
    // Bound before anything is opened: a port in use is the commonest fault.
    let http = bind(config.listen).await?;
    let address = http.local_addr()?;
    let keys = Arc::new(gateway::check(&config.gateway, address)?);
    let operations = match config.operations {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let (health, metrics) = (Health::default(), Metrics::default());
    discover::local_servers(&mut config);
    let node = tokio::select! {
        node = Node::start(&config, &metrics) => node?,
        // It waits for its databases, and serves nobody.
        () = stop.cancelled() => return Ok(()),
    };
    let found = discover::told(&config, &node.router.found());
    let url = format!("http://{}", http.local_addr()?);
    let operations_url = match &operations {
        Some(listener) => Some(format!("http://{}", listener.local_addr()?)),
        None => None,
    };
    if common.json {
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
    let (router, held) = (node.router.clone(), Arc::clone(&keys));
    let (files, data) = (router.files(), common.data);
    let again = move |file: Option<&Path>| {
        let mut config = Config::load(file, data.as_deref())?;
        discover::local_servers(&mut config);
        // The keys are checked first, and hold only if the router's section is good too.
        let keys = gateway::check(&config.gateway, address)?;
        held.allow(&keys)?;
        router.apply(config.router)?;
        held.replace(&keys);
        Ok(router.files())
    };
    let holds = [&router::RELOADED[..], &gateway::RELOADED, &["local_models"]].concat();
    tokio::spawn(reload.run(metrics.clone(), holds, files, again));
    let door = gateway::Door { listener: http, keys };
    let result = node.serve(config, door, health, &metrics, stop).await;
    ended.cancel();
    if let Some(probes) = probes {
        probes.await?;
    }
    result
}
