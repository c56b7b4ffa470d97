//! Where a service is reached.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures::future::BoxFuture;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::Endpoint;
use tower::{Service, ServiceExt as _};

use crate::context::{self, Traced};

/// A channel to another process, or the server in this one.
///
/// Clients are generated once, over `Peer`; they cannot tell the two apart. Protobuf and middleware
/// are the same; HTTP/2, the socket and the writing of the context are missing in one process.
/// Clones share one service: what holds peers is cloned many times for a request.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a service has nothing to show")]
pub struct Peer(Arc<dyn Reach>);

impl Peer {
    fn new(service: impl Reach + 'static) -> Self {
        Self(Arc::new(service))
    }
}

impl Service<Request> for Peer {
    type Response = Response;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response, Status>>;

    /// Is always ready: the service is asked once there is a request for it.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.0.reach(request)
    }
}

type Request = ::http::Request<Body>;
type Response = ::http::Response<Body>;

/// A service that is called through what is shared.
trait Reach: Send + Sync {
    fn reach(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>>;
}

impl<S> Reach for S
where
    S: Service<Request, Response = Response, Error = Status> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    fn reach(&self, request: Request) -> BoxFuture<'static, Result<Response, Status>> {
        Box::pin(self.clone().oneshot(request))
    }
}

/// Returns a peer that calls `server` in this process.
pub fn in_process<S>(server: S) -> Peer
where
    S: Service<Request, Response = Response, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Peer::new(Traced::new(server, S::NAME).map_err(|never| match never {}))
}

/// Returns a peer that reaches `url` (`http://host:port`) over TCP. It connects at the first call
/// and again whenever the connection was lost.
///
/// # Errors
/// If `url` is not an address.
pub fn remote(url: &str) -> anyhow::Result<Peer> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("{url:?} is not an address such as http://127.0.0.1:50053"))?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(2))
        // A peer that froze is noticed without a call having to time out first.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    let channel = endpoint.connect_lazy();
    let channel = channel.map_request(context::to_wire);
    Ok(Peer::new(channel.map_err(|error| Status::from_error(Box::new(error)))))
}
