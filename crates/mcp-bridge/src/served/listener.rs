//! The bridge's own listener for MCP clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use identity::{Identity, Issuers, Resource};
use ring::digest::{SHA256, digest};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use types::{CallContext, Classify as _, ErrorKind, KeyId, Privacy, Role, TenantId, UserId};

use super::{PATH, Served};
use crate::config::{Client, Clients, Config};

/// How long a shutdown waits for calls in flight.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// Whom a listener lets in.
#[derive(Clone)]
struct Door {
    served: Served,
    clients: Arc<Clients>,
    issuers: Arc<Issuers>,
    /// What is told of who gives tokens.
    resource: Option<Arc<Resource>>,
    port: u16,
}

/// Binds the listener for MCP clients, where there is to be one, serves it until `stop`, and returns
/// where it is.
///
/// # Errors
/// If the address is taken, or reaches beyond this machine and nobody has to say who they are.
pub(crate) async fn serve(
    config: &Config,
    served: Served,
    (issuers, resource): (Issuers, Option<Resource>),
    stop: CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = config.listen else { return Ok(None) };
    if !address.ip().is_loopback() && config.clients.tokens.is_empty() && issuers.is_empty() {
        bail!(
            "mcp_bridge.listen: {address} is open to others, and mcp_bridge.clients has no tokens and no jwt"
        );
    }
    let listener = TcpListener::bind(address);
    let listener = listener.await.with_context(|| format!("mcp_bridge.listen: {address}"))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "MCP clients are served");
    let resource = resource.filter(|_| !issuers.is_empty()).map(Arc::new);
    let (clients, issuers) = (Arc::new(config.clients.clone()), Arc::new(issuers));
    let door = Door { served, clients, issuers, resource, port: address.port() };
    let router = axum::Router::new()
        .route(PATH, axum::routing::any(answer))
        .route(&format!("{PATH}/{{server}}"), axum::routing::any(answer))
        .route(Resource::PATH, axum::routing::get(metadata))
        .with_state(door);
    tokio::spawn(runtime::http::serve(router, listener, stop, SHUTDOWN));
    Ok(Some(address))
}

async fn answer(State(door): State<Door>, request: Request) -> Result<Response, Infallible> {
    let context = match door.admit(request.uri(), request.headers()).await {
        Ok(context) => context,
        Err(refused) => return Ok(refused.into_response()),
    };
    Ok(door.served.answer(context, request).await.into_response())
}

/// Says who gives tokens; whoever asks has none yet.
async fn metadata(State(door): State<Door>, request: Request) -> Response {
    if let Err(refused) = door.comes_from_here(request.uri(), request.headers()) {
        return *refused;
    }
    match &door.resource {
        Some(resource) => axum::Json(resource.metadata()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

impl Door {
    /// Refuses what a web page of another site could send through its visitor's browser.
    fn comes_from_here(&self, uri: &http::Uri, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let text = |name| text(headers, name);
        let host = text(header::HOST).or_else(|| uri.authority().map(|all| all.as_str()));
        if !host.is_some_and(|host| self.is_ours(host)) {
            return Err(refuse(StatusCode::FORBIDDEN, "the Host is none of this server's"));
        }
        if headers.contains_key(header::ORIGIN)
            && !text(header::ORIGIN).is_some_and(|origin| self.is_of_ours(origin))
        {
            return Err(refuse(StatusCode::FORBIDDEN, "the Origin is none of this server's"));
        }
        Ok(())
    }

    /// Returns who calls. What a request says of itself in other headers is not believed.
    async fn admit(
        &self,
        uri: &http::Uri,
        headers: &HeaderMap,
    ) -> Result<CallContext, Box<Response>> {
        self.comes_from_here(uri, headers)?;
        let shown = text(headers, header::AUTHORIZATION).and_then(|it| it.strip_prefix("Bearer "));
        let shown = shown.map(str::trim);
        if self.clients.tokens.is_empty() && self.issuers.is_empty() {
            return named("local", "local");
        }
        // A token of the configuration may look like a provider's.
        let (name, client) = match (shown.and_then(|token| self.client(token)), shown) {
            (Some(found), _) => found,
            (None, Some(token)) if !self.issuers.is_empty() && Issuers::is_one(token) => {
                return self.identified(token).await;
            }
            _ => return Err(self.stranger("a bearer token is missing or wrong")),
        };
        let mut context = named(&client.tenant, &client.user)?;
        // Of one user's tokens each is a caller of its own, as each key is at the gateway.
        context.key = Some(KeyId::new(name).map_err(|_| misconfigured())?);
        if client.private {
            context.privacy = Privacy::Private;
        }
        Ok(context)
    }

    /// Returns the client that shows a token, and its name.
    fn client(&self, token: &str) -> Option<(&str, &Client)> {
        let hash = |text: &str| digest(&SHA256, text.as_bytes()).as_ref().to_vec();
        let shown = hash(token);
        // Of hashes, how long a comparison takes tells nothing of what was hashed.
        let mut all = self.clients.tokens.iter();
        let known = all.find(|(_, one)| hash(one.token.expose_secret()) == shown);
        known.map(|(name, client)| (name.as_str(), client))
    }

    /// Returns whom an identity provider's token stands for, which goes no further.
    async fn identified(&self, token: &str) -> Result<CallContext, Box<Response>> {
        let found = self.issuers.find(token).await.map_err(|fault| match fault.kind() {
            ErrorKind::Unauthenticated => self.stranger(fault.to_string()),
            ErrorKind::Denied => refuse(StatusCode::FORBIDDEN, fault.to_string()),
            _ => refuse(StatusCode::SERVICE_UNAVAILABLE, fault.to_string()),
        })?;
        let Identity { tenant, team, user, role } = found;
        if role < Role::Member {
            let told = format!("role {} may not call tools", role.as_str());
            return Err(refuse(StatusCode::FORBIDDEN, told));
        }
        let mut context = CallContext::new(tenant, user);
        context.team = team;
        Ok(context)
    }

    /// Sends away who is not known, and tells where tokens are given.
    fn stranger(&self, told: impl Into<String>) -> Box<Response> {
        let challenge = self.resource.as_ref().map(|resource| resource.challenge());
        let challenge = challenge.unwrap_or_else(|| "Bearer".to_owned());
        let challenge = [(header::WWW_AUTHENTICATE, challenge)];
        Box::new((StatusCode::UNAUTHORIZED, challenge, told.into()).into_response())
    }

    fn is_ours(&self, host: &str) -> bool {
        let own = ["localhost", "127.0.0.1", "[::1]"];
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.parse() == Ok(self.port) => name,
            _ => host,
        };
        own.contains(&name) || self.clients.hosts.iter().any(|one| one == host || one == name)
    }

    fn is_of_ours(&self, origin: &str) -> bool {
        let own = origin.strip_prefix("http://").and_then(|host| host.rsplit_once(':'));
        own.is_some_and(|(host, port)| {
            ["localhost", "127.0.0.1", "[::1]"].contains(&host) && port.parse() == Ok(self.port)
        }) || self.clients.origins.iter().any(|one| one == origin)
    }
}

fn text(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn named(tenant: &str, user: &str) -> Result<CallContext, Box<Response>> {
    let (tenant, user) = (TenantId::new(tenant), UserId::new(user));
    let (Ok(tenant), Ok(user)) = (tenant, user) else { return Err(misconfigured()) };
    Ok(CallContext::new(tenant, user))
}

fn misconfigured() -> Box<Response> {
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "the client is misconfigured")
}

fn refuse(status: StatusCode, told: impl Into<String>) -> Box<Response> {
    Box::new((status, told.into()).into_response())
}
