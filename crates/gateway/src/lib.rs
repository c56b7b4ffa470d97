//! The HTTP front: authentication, errors in OpenAI's shape, the routes, OpenAPI.
//!
//! Everything behind it is reached through [`Peers`]; nothing here decides about money or models.

mod auth;
mod config;
mod error;
mod limit;
mod limiter;
mod maintenance;
mod money;
mod openapi;
mod request;
mod routes;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{DefaultBodyLimit, MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use identity::{Issuers, Resource};
use proto::retriever::retriever_service_client::RetrieverServiceClient;
use runtime::metrics::Metrics;
use runtime::probes::Health;
use runtime::transport::Peer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use auth::Kept;
pub use auth::Keys;
pub use config::{Config, PeerAddresses};
pub use error::Error;
use limiter::Limiter;
pub use limiter::{LimitsConfig, Scope};
pub use routes::ask::answer;
use routes::maintenance as maintenance_routes;
use routes::{
    ask, batches, budget, chat, collections, costs, documents, files, health, ingest, keys, mcp,
    messages, pins, providers, responses, search, tools, vector_stores, well_known,
};

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
    /// Tools.
    pub bridge: Peer,
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
            bridge: remote(&addresses.bridge)?,
        })
    }
}

/// What every handler sees. One thing, because each layer of each request clones it.
#[derive(Clone)]
struct App(Arc<Shared>);

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

struct Shared {
    peers: Peers,
    config: Config,
    keys: Arc<Keys>,
    maintenance: maintenance::Told,
    kept: Kept,
    familiar: auth::Familiar,
    issuers: Issuers,
    /// What is told of who gives tokens, where somebody does and is asked.
    resource: Option<Resource>,
    limiter: Arc<Limiter>,
    counters: request::Counters,
}

impl Shared {
    /// Returns a client of the retriever: documents and what is found in them are as large as they are.
    fn retriever(&self) -> RetrieverServiceClient<Peer> {
        RetrieverServiceClient::new(self.peers.retriever.clone())
            .max_encoding_message_size(usize::MAX)
            .max_decoding_message_size(usize::MAX)
    }

    /// Tells whether nobody has to say who they are.
    fn is_open(&self) -> bool {
        self.keys.is_empty() && self.issuers.is_empty()
    }
}

/// Checks the limits and the keys, and that without any nobody else can reach `address`.
///
/// # Errors
/// If a limit, a key or an issuer is malformed, or the address is open to others and no key is configured.
pub fn check(config: &Config, address: SocketAddr) -> anyhow::Result<Keys> {
    config.limits.check(&config.endpoint_limits)?;
    let (keys, issuers) = (Keys::new(&config.keys)?, Issuers::new(JWT, &config.jwt)?);
    resource(config, &issuers)?;
    let open = keys.is_empty() && issuers.is_empty();
    if open && !address.ip().is_loopback() {
        anyhow::bail!(
            "{address} is open to others and no key is configured: set gateway.keys or gateway.jwt, or listen on 127.0.0.1"
        );
    }
    Ok(keys)
}

/// Describes `/mcp`, where the operator says how it is reached and an identity provider gives tokens.
///
/// # Errors
/// If it cannot be reached so.
fn resource(config: &Config, issuers: &Issuers) -> anyhow::Result<Option<Resource>> {
    let Some(url) = &config.mcp_url else { return Ok(None) };
    let resource = Resource::new(url, issuers).context("gateway.mcp_url")?;
    Ok((!issuers.is_empty()).then_some(resource))
}

/// Where identity providers are configured.
const JWT: &str = "gateway.jwt";

/// What of `[gateway]` holds without a restart: [`Keys::replace`].
pub const RELOADED: [&str; 1] = ["gateway.keys"];

/// Where it serves, and whom: what [`check`] returned.
#[derive(Debug)]
pub struct Door {
    /// The traffic.
    pub listener: TcpListener,
    /// Who may come in.
    pub keys: Arc<Keys>,
}

/// Serves HTTP until `stop`, says "not ready" for `drain`, and finishes what is in flight.
///
/// # Errors
/// If what [`check`] looks at is not as it wants it.
pub async fn serve(
    config: Config,
    peers: Peers,
    Door { listener, keys }: Door,
    health: Health,
    metrics: &Metrics,
    stop: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()> {
    let total = Duration::from_millis(config.shutdown_ms);
    let issuers = Issuers::new(JWT, &config.jwt)?;
    let resource = resource(&config, &issuers)?;
    let limiter = Limiter::open(&config.limits, metrics)?;
    limiter.ready().await;
    let router = router(config, peers, (keys, issuers, resource, limiter), health.clone(), metrics);
    health.started();
    let closing = CancellationToken::new();
    tokio::spawn(runtime::shutdown::drain(stop, health, drain, closing.clone()));
    runtime::http::serve(router, listener, closing, total).await;
    Ok(())
}

fn router(
    config: Config,
    peers: Peers,
    (keys, issuers, resource, limiter): (Arc<Keys>, Issuers, Option<Resource>, Arc<Limiter>),
    health: Health,
    metrics: &Metrics,
) -> Router {
    let maintenance = maintenance::Told::default();
    tokio::spawn(maintenance.clone().watch(peers.budget.clone()));
    let kept = Kept::new(peers.budget.clone());
    let familiar = auth::Familiar::new(auth::FAMILIAR);
    let counters = request::Counters::new(metrics);
    let app = App(Arc::new(Shared {
        peers,
        config,
        keys,
        kept,
        familiar,
        issuers,
        resource,
        maintenance,
        limiter,
        counters,
    }));
    // As few layers as can be: each clones, for every request, what is behind it.
    let api = api()
        .layer(axum::middleware::from_fn_with_state(app.clone(), admit))
        .with_state(app.clone());
    let open = OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::startup))
        .with_state(health);
    let told = OpenApiRouter::new().routes(routes!(well_known::protected)).with_state(app.clone());
    // Whatever is served is described: a route is both, or neither.
    let (served, described) = openapi::describe(api.merge(open).merge(told));
    served
        .merge(openapi::pages(described))
        .fallback(routes::not_found)
        .method_not_allowed_fallback(routes::method_not_allowed)
        .layer(axum::middleware::from_fn_with_state(app, observe))
}

/// Tells of every request, whether it is let through or not.
async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    request::observe(&app.counters, request, async |request| pass(&app, request, next).await).await
}

/// Lets through what may come in, whoever sends it.
async fn pass(app: &App, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let dialect = error::dialect(&path);
    let passed = async {
        let mut request = limit::body(app.config.max_body_bytes, request).await?;
        DefaultBodyLimit::max(app.config.max_body_bytes).apply(&mut request);
        auth::same_site(app, request.headers())?;
        maintenance::refuse(&app.maintenance, request.uri().path())?;
        Ok::<_, Error>(next.run(request).await)
    };
    let response = error::in_dialect(dialect, passed.await.into_response());
    well_known::challenge(app, &path, response)
}

/// Lets through whoever is known, may do what is asked for, and has not asked too often.
async fn admit(
    State(app): State<App>,
    route: MatchedPath,
    named: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let request = auth::require(&app, route.as_str(), named.ok(), request).await?;
    limiter::admit(&app, route.as_str(), request, next).await
}

/// Returns the routes that whoever calls them has to be known for; `auth` says who may.
fn api() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(chat::completions))
        .routes(routes!(messages::create))
        .routes(routes!(messages::count_tokens))
        .routes(routes!(providers::list))
        .routes(routes!(providers::probe))
        .routes(routes!(providers::estimate))
        .routes(routes!(responses::create))
        .routes(routes!(responses::read, responses::delete))
        .routes(routes!(responses::input_items))
        .routes(routes!(chat::models))
        .routes(routes!(chat::embeddings))
        .routes(routes!(files::create, files::list))
        .routes(routes!(files::read, files::delete))
        .routes(routes!(files::content))
        .routes(routes!(batches::create, batches::list))
        .routes(routes!(batches::read))
        .routes(routes!(batches::cancel))
        .routes(routes!(vector_stores::create, vector_stores::list))
        .routes(routes!(vector_stores::read, vector_stores::change, vector_stores::delete))
        .routes(routes!(vector_stores::search::search))
        .routes(routes!(vector_stores::files::create, vector_stores::files::list))
        .routes(routes!(
            vector_stores::files::read,
            vector_stores::files::change,
            vector_stores::files::delete
        ))
        .routes(routes!(vector_stores::files::content))
        .routes(routes!(vector_stores::batches::create))
        .routes(routes!(vector_stores::batches::read))
        .routes(routes!(vector_stores::batches::files))
        .routes(routes!(vector_stores::batches::cancel))
        .routes(routes!(ask::ask))
        .routes(routes!(ask::events))
        .routes(routes!(search::search))
        .routes(routes!(search::alias))
        .routes(routes!(collections::create, collections::list))
        .routes(routes!(collections::delete))
        .routes(routes!(collections::reindex))
        .routes(routes!(documents::put, documents::list))
        .routes(routes!(documents::read, documents::delete))
        .routes(routes!(ingest::create, ingest::list))
        .routes(routes!(ingest::read, ingest::delete))
        .routes(routes!(ingest::add))
        .routes(routes!(ingest::retry))
        .routes(routes!(tools::list))
        .routes(routes!(tools::call))
        .routes(routes!(mcp::post, mcp::get, mcp::delete))
        .routes(routes!(mcp::post_server, mcp::get_server, mcp::delete_server))
        .routes(routes!(pins::list))
        .routes(routes!(pins::read))
        .routes(routes!(pins::approve))
        .routes(routes!(pins::reject))
        .routes(routes!(pins::calls))
        .routes(routes!(budget::statements::user))
        .routes(routes!(budget::statements::team))
        .routes(routes!(budget::statements::key))
        .routes(routes!(budget::statements::tenant))
        .routes(routes!(budget::statements::spend))
        .routes(routes!(budget::limits::set))
        .routes(routes!(budget::limits::list, budget::limits::remove_all))
        .routes(routes!(budget::limits::read, budget::limits::remove))
        .routes(routes!(budget::reports::top_spenders))
        .routes(routes!(budget::reports::utilization))
        .routes(routes!(budget::reports::tier_costs))
        .routes(routes!(budget::history::list))
        .routes(routes!(budget::history::verify))
        .routes(routes!(budget::corrections::create))
        .routes(routes!(maintenance_routes::read, maintenance_routes::set))
        .routes(routes!(costs::list))
        .routes(routes!(costs::audit))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::read, keys::change, keys::revoke))
        .routes(routes!(keys::rotate))
}
