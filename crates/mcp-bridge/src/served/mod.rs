//! MCP over HTTP: `/mcp`, all servers as one, and `/mcp/{server}`, each by its own names.
//!
//! Revision 2026-07-28 without sessions, and the older ones with: both at one address.

mod fault;
mod handler;
mod listener;
mod page;
mod ready;
mod session;
mod talk;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use moka::sync::Cache;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio_util::sync::{CancellationToken, DropGuard};
use types::CallContext;

use crate::Error;
use crate::hub::Hub;
use handler::Handler;
use ready::Ready;
use session::Places;

pub(crate) use listener::serve;

/// The path that everything here is under.
pub(crate) const PATH: &str = "/mcp";

/// The largest request that is read, in bytes.
const LARGEST: usize = 4 * 1024 * 1024;

/// How many callers have sessions, and for how long after their last request.
const CALLERS: u64 = 10_000;
const KEPT: Duration = Duration::from_secs(3_600);

/// What names a session of before 2026-07-28.
const SESSION: &str = "mcp-session-id";

type Answer = Response<BoxBody<Bytes, Infallible>>;

type Endpoint = Arc<StreamableHttpService<Handler, LocalSessionManager>>;

/// What is served, to whom it may concern.
#[derive(Clone)]
pub(crate) struct Served {
    hub: Arc<Hub>,
    /// How many sessions one caller has at one address.
    sessions: usize,
    /// A caller's own sessions at one address: nobody finds another's.
    endpoints: Cache<(String, Option<Arc<str>>), Endpoint>,
    closing: CancellationToken,
    _close: Arc<DropGuard>,
}

impl Served {
    pub(crate) fn new(hub: Arc<Hub>, sessions: usize) -> Self {
        let endpoints = Cache::builder().max_capacity(CALLERS).time_to_idle(KEPT).build();
        let closing = CancellationToken::new();
        let close = Arc::new(closing.clone().drop_guard());
        Self { hub, sessions, endpoints, closing, _close: close }
    }

    /// Answers a request of a caller who is known. Hosts and origins were looked at before.
    pub(crate) async fn answer<B>(&self, context: CallContext, mut request: Request<B>) -> Answer
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: std::fmt::Display,
    {
        let server = match request.uri().path().strip_prefix(PATH) {
            Some("" | "/") => None,
            Some(rest) if rest.starts_with('/') => Some(Arc::from(&rest[1..])),
            _ => return plain(StatusCode::NOT_FOUND, "there is nothing here".to_owned()),
        };
        if let Some(server) = &server
            && let Err(error) = self.hub.upstream(&context, server)
        {
            let status = match error {
                Error::Unknown { .. } => StatusCode::NOT_FOUND,
                _ => StatusCode::FORBIDDEN,
            };
            return plain(status, error.to_string());
        }
        let endpoint = self.endpoint(&context, server);
        request.extensions_mut().insert(context);
        let ready = Ready::default();
        // What a session's client has missed it may ask for again: that is kept as rmcp writes it.
        if !request.headers().contains_key(SESSION) {
            request.extensions_mut().insert(ready.clone());
        }
        ready.put_into(endpoint.handle(request).await).await
    }

    fn endpoint(&self, context: &CallContext, server: Option<Arc<str>>) -> Endpoint {
        // Who calls: nobody else has the same three.
        let key = context.key.as_ref().map(types::KeyId::as_str);
        let who = format!("{:?}", (context.tenant.as_str(), context.user.as_str(), key));
        let hub = Arc::clone(&self.hub);
        let make = |server: Option<Arc<str>>| {
            let config = StreamableHttpServerConfig::default()
                // An answer comes whole, when its handler is done: `Ready` puts items into it.
                .with_json_response(true)
                .with_max_request_body_bytes(LARGEST)
                .disable_allowed_hosts()
                .disable_allowed_origins()
                .with_cancellation_token(self.closing.child_token());
            let places = Places::new(self.sessions);
            let handler =
                move || Ok(Handler::new(Arc::clone(&hub), server.clone(), places.clone()));
            let sessions = LocalSessionManager::default().into();
            Arc::new(StreamableHttpService::new(handler, sessions, config))
        };
        self.endpoints.get_with((who, server.clone()), || make(server))
    }
}

fn plain(status: StatusCode, text: String) -> Answer {
    let mut response = Response::new(Full::from(text).boxed());
    *response.status_mut() = status;
    response
}
