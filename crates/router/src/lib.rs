//! The only way to a language model: chooses it, reserves and settles the money, calls it.
//!
//! A failure before the first piece of an answer moves on to the next candidate; after it the client
//! gets an honest error.

mod batch;
mod breaker;
mod cache;
mod call;
mod catalog;
mod complexity;
mod config;
mod conversation;
mod dialects;
mod ending;
mod error;
mod extras;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod live;
mod malformed;
mod media;
mod meter;
mod money;
mod outlive;
mod prices;
mod providers;
mod request;
mod retry;
mod service;
mod shared;
mod site;
mod size;
mod split;
mod sse;
mod stats;
mod store;
mod tokens;
mod usage;

use std::sync::Arc;
use std::time::Duration;

use proto::router::router_service_server::RouterServiceServer;
use runtime::metrics::Metrics;
use runtime::transport::Peer;
use tokio_util::task::TaskTracker;

use crate::call::Means;
use crate::ending::Ending;
use crate::live::Live;
use redis_link::Link;

pub use cache::{CacheConfig, CacheMode, SemanticConfig};
pub use config::{
    Config, Kind, Model, OnDisconnect, PeerAddresses, Provider, Retries, TierTimeouts, Timeouts,
    is_passed_on,
};
pub use error::Error;
pub use extras::Extra;
pub use live::{Control, Found, RELOADED};
pub use service::Service;
pub use store::{Postgres, Responses, Sqlite, Store, Stored, Terms, Turn};

/// The services that the router calls.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Peers {
    /// Money.
    pub budget: Peer,
}

impl Peers {
    /// Reaches the peers over TCP.
    ///
    /// # Errors
    /// If an address is malformed.
    pub fn remote(addresses: &PeerAddresses) -> anyhow::Result<Self> {
        Ok(Self { budget: runtime::transport::remote(&addresses.budget)? })
    }
}

/// Checks the configuration and returns the service, and how to give it another one.
///
/// # Errors
/// If a route names what is not configured, a price is missing or malformed, or the spool cannot be
/// written.
pub async fn server(
    config: Config,
    peers: Peers,
    metrics: &Metrics,
) -> anyhow::Result<(RouterServiceServer<Service>, Control)> {
    config.responses.check()?;
    let (spool, spool_bytes, caching) =
        (config.spool.clone(), config.spool_bytes, config.cache.clone());
    let wait = Duration::from_millis(config.redis_wait_ms);
    let link = config
        .redis
        .as_ref()
        .map(|url| Link::open(shared::PURPOSE, url, wait, &config.local_networks));
    let link = link.transpose()?.map(Arc::new);
    let responses = config.responses.clone();
    let at_most = Duration::from_millis(config.shutdown_ms);
    let live = Live::start(config, link.clone()).await?;
    let catalog = live.now();
    caching.check(&catalog)?;
    let meter = meter::Meter::open(&spool, spool_bytes, peers.budget.clone())?;
    let cache = cache::Cache::open(&caching, link, metrics);
    let store = store::open(&responses, Arc::new(types::SystemClock)).await?;
    let conversations = conversation::Conversations::new(store, responses);
    let tokens = tokens::Tokens::start()?;
    let (calls, budget) = (TaskTracker::new(), peers.budget);
    let ending = Ending { calls: calls.clone(), meter: meter.clone(), at_most };
    let control = Control { live: Arc::clone(&live), ending };
    let means = Means { budget, meter, tokens, calls };
    let service = Service::new(live, means, cache, conversations);
    // Bodies are limited where they come in; images and long contexts are large.
    let server = RouterServiceServer::new(service).max_decoding_message_size(64 * 1024 * 1024);
    Ok((server, control))
}
