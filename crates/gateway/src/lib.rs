//! The HTTP front: authentication, errors in OpenAI's shape, the routes, OpenAPI.
//!
//! Everything behind it is reached through [`Peers`]; nothing here decides about money or models.

mod auth;
mod config;
mod error;
mod openapi;
mod request;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use runtime::metrics::Metrics;
use runtime::probes::{self, Health};
use runtime::transport::Peer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use config::{Config, PeerAddresses};
pub use error::Error;

/// The services behind the gateway.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a peer has nothing to show")]
pub struct Peers {
    /// Models.
    pub router: Peer,
    /// Documents.
    pub retriever: Peer,
    /// Money.
    pub budget: Peer,
    /// Runs.
    pub orchestrator: Peer,
}

impl Peers {
    /// Reaches the peers over TCP.
    ///
    /// # Errors
    /// If an address is malformed.
    pub fn remote(addresses: &PeerAddresses) -> anyhow::Result<Self> {
        let remote = runtime::transport::remote;
        Ok(Self {
            router: remote(&addresses.router)?,
            retriever: remote(&addresses.retriever)?,
            budget: remote(&addresses.budget)?,
            orchestrator: remote(&addresses.orchestrator)?,
        })
    }
}

/// What every handler sees.
#[derive(Clone)]
struct App {
    peers: Peers,
    config: Arc<Config>,
    keys: Arc<auth::Keys>,
}

/// Serves HTTP until `stop`, says "not ready" for `drain`, and finishes what is in flight.
///
/// # Errors
/// If the address is open to others and no key is configured, or the listener fails.
pub async fn serve(
    config: Config,
    peers: Peers,
    listener: TcpListener,
    health: Health,
    metrics: &Metrics,
    stop: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let keys = auth::Keys::new(&config.keys)?;
    if keys.is_empty() && !address.ip().is_loopback() {
        anyhow::bail!(
            "{address} is open to others and no key is configured: set gateway.keys, or listen on 127.0.0.1"
        );
    }
    let total = Duration::from_millis(config.shutdown_ms);
    let router = router(config, peers, keys, health.clone(), metrics);
    health.started();
    let closing = CancellationToken::new();
    let close = closing.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        health.draining();
        tokio::time::sleep(drain).await;
        close.cancel();
    });
    runtime::http::serve(router, listener, closing, total).await?;
    Ok(())
}

fn router(
    config: Config,
    peers: Peers,
    keys: auth::Keys,
    health: Health,
    metrics: &Metrics,
) -> Router {
    let limit = DefaultBodyLimit::max(config.max_body_bytes);
    let app = App { peers, config: Arc::new(config), keys: Arc::new(keys) };
    let counted = request::Counters::new(metrics);
    let api = Router::new()
        .route("/v1/chat/completions", post(routes::chat::completions))
        .route("/v1/models", get(routes::chat::models))
        .route("/api/v1/ask", post(routes::ask::ask))
        .route("/api/v1/search", post(routes::search::search))
        .route("/api/search", post(routes::search::search))
        .route("/api/v1/documents", post(routes::documents::put).get(routes::documents::list))
        .route(
            "/api/v1/documents/{id}",
            get(routes::documents::read).delete(routes::documents::delete),
        )
        .route("/api/v1/runs/{id}/events", get(routes::ask::events))
        .route("/api/v1/budget/user/{id}", get(routes::budget::user))
        .route("/api/v1/budget/limit", post(routes::budget::set_limit))
        .route("/api/v1/budget/top-spenders/{period}", get(routes::budget::top_spenders))
        .layer(axum::middleware::from_fn_with_state(app.clone(), auth::require))
        .with_state(app.clone());
    let open = Router::new()
        .route("/health", get(routes::health::health))
        .with_state(health.clone())
        .merge(probes::probes(health))
        .merge(openapi::router());
    api.merge(open)
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(app, auth::same_site))
        .layer(limit)
        .layer(axum::middleware::from_fn_with_state(counted, request::observe))
}
