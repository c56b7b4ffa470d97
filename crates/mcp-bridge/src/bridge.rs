//! What other services of ours reach: gRPC, and MCP for clients that the gateway knows.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use proto::bridge::bridge_service_server::BridgeServiceServer;
use runtime::metrics::Metrics;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::server::NamedService;

use crate::config::Config;
use crate::hub::Hub;
use crate::served::{self, PATH, Served};
use crate::service::Service;

/// The paths beside gRPC's own, as axum's routes are written.
pub const PATHS: &[&str] = &["/mcp", "/mcp/{server}"];

/// How long the end waits for the store.
const FINISH: Duration = Duration::from_secs(5);

/// The bridge, as services of ours call it: who calls stands in the metadata of each request.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a connection has nothing to show")]
pub struct Bridge {
    calls: BridgeServiceServer<Service>,
    served: Served,
    hub: Arc<Hub>,
    listening: Option<SocketAddr>,
    /// Ends the listener for MCP clients, also with the bridge.
    stop: CancellationToken,
    _stop: Arc<DropGuard>,
}

impl Bridge {
    pub(crate) async fn open(config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let (issuers, resource) = config.clients.check()?;
        let hub = Hub::open(config, metrics).await?;
        let served = Served::new(Arc::clone(&hub), config.sessions);
        let stop = CancellationToken::new();
        let listening =
            served::serve(config, served.clone(), (issuers, resource), stop.clone()).await?;
        let calls = BridgeServiceServer::new(Service::new(Arc::clone(&hub)));
        let guard = Arc::new(stop.clone().drop_guard());
        Ok(Self { calls, served, hub, listening, stop, _stop: guard })
    }

    /// Returns where MCP clients reach it without the gateway.
    #[must_use]
    pub fn listening(&self) -> Option<SocketAddr> {
        self.listening
    }

    /// Takes no more MCP clients of its own, and waits until the audit of the calls until now is written,
    /// at most a few seconds.
    pub async fn finish(&self) {
        self.stop.cancel();
        if tokio::time::timeout(FINISH, self.hub.gate().flush()).await.is_err() {
            tracing::error!("the audit of the last calls was not written in time");
        }
    }
}

impl NamedService for Bridge {
    const NAME: &'static str = <BridgeServiceServer<Service> as NamedService>::NAME;
}

impl tower::Service<Request<Body>> for Bridge {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower::Service::<Request<Body>>::poll_ready(&mut self.calls, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !request.uri().path().starts_with(PATH) {
            return self.calls.call(request);
        }
        let served = self.served.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let context = match runtime::context::read_http(&parts) {
                Ok(context) => context,
                Err(refused) => {
                    let mut answer = Response::new(Body::new(refused.message().to_owned()));
                    *answer.status_mut() = StatusCode::BAD_REQUEST;
                    return Ok(answer);
                }
            };
            let answer = served.answer(context, Request::from_parts(parts, body)).await;
            Ok(answer.map(Body::new))
        })
    }
}
