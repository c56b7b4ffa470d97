//! The bridge's own listener for MCP clients.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, header};
use ring::digest::{SHA256, digest};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use types::{CallContext, KeyId, Privacy, TenantId, UserId};

use super::{PATH, Served};
use crate::config::{Clients, Config};

/// How long a shutdown waits for calls in flight.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// Whom a listener lets in.
#[derive(Clone)]
struct Door {
    served: Served,
    clients: Clients,
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
    stop: CancellationToken,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(address) = config.listen else { return Ok(None) };
    if !address.ip().is_loopback() && config.clients.tokens.is_empty() {
        bail!(
            "mcp_bridge.listen: {address} is open to others, and mcp_bridge.clients has no tokens"
        );
    }
    let listener = TcpListener::bind(address);
    let listener = listener.await.with_context(|| format!("mcp_bridge.listen: {address}"))?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "MCP clients are served");
    let door = Door { served, clients: config.clients.clone(), port: address.port() };
    let router = axum::Router::new()
        .route(PATH, axum::routing::any(answer))
        .route(&format!("{PATH}/{{server}}"), axum::routing::any(answer))
        .with_state(door);
    tokio::spawn(async move {
        if let Err(fault) = runtime::http::serve(router, listener, stop, SHUTDOWN).await {
            tracing::error!(%fault, "MCP clients are served no more");
        }
    });
    Ok(Some(address))
}

async fn answer(State(door): State<Door>, request: Request) -> Result<Response, Infallible> {
    let context = match door.admit(request.uri(), request.headers()) {
        Ok(context) => context,
        Err(refused) => return Ok(refused.into_response()),
    };
    Ok(door.served.answer(context, request).await.into_response())
}

impl Door {
    /// Returns who calls. What a request says of itself in other headers is not believed.
    fn admit(&self, uri: &http::Uri, headers: &HeaderMap) -> Result<CallContext, Box<Response>> {
        let refuse =
            |status: StatusCode, text: &'static str| Box::new((status, text).into_response());
        let text =
            |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let host = text(header::HOST).or_else(|| uri.authority().map(|all| all.as_str()));
        if !host.is_some_and(|host| self.is_ours(host)) {
            return Err(refuse(StatusCode::FORBIDDEN, "the Host is none of this server's"));
        }
        if headers.contains_key(header::ORIGIN)
            && !text(header::ORIGIN).is_some_and(|origin| self.is_of_ours(origin))
        {
            return Err(refuse(StatusCode::FORBIDDEN, "the Origin is none of this server's"));
        }
        let client = match self.clients.tokens.is_empty() {
            true => None,
            false => {
                let shown = text(header::AUTHORIZATION).and_then(|it| it.strip_prefix("Bearer "));
                let hash = |text: &str| digest(&SHA256, text.as_bytes()).as_ref().to_vec();
                let shown = shown.map(hash);
                // Of hashes, how long a comparison takes tells nothing of what was hashed.
                let mut all = self.clients.tokens.iter();
                let known = all.find(|(_, one)| Some(hash(one.token.expose_secret())) == shown);
                Some(known.ok_or_else(|| {
                    let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                    let fault = "a bearer token is missing or wrong";
                    Box::new((StatusCode::UNAUTHORIZED, challenge, fault).into_response())
                })?)
            }
        };
        let (tenant, user) = match client {
            Some((_, client)) => (client.tenant.as_str(), client.user.as_str()),
            None => ("local", "local"),
        };
        let malformed =
            |_| refuse(StatusCode::INTERNAL_SERVER_ERROR, "the client is misconfigured");
        let tenant = TenantId::new(tenant).map_err(malformed)?;
        let mut context = CallContext::new(tenant, UserId::new(user).map_err(malformed)?);
        if let Some((name, client)) = client {
            // Of one user's tokens each is a caller of its own, as each key is at the gateway.
            context.key = Some(KeyId::new(name.as_str()).map_err(malformed)?);
            if client.private {
                context.privacy = Privacy::Private;
            }
        }
        Ok(context)
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
