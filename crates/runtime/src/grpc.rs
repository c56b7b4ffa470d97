//! gRPC on a listener, with health, reflection and an orderly end.

use std::convert::Infallible;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::{Service, ServiceExt as _};

use crate::context::Traced;
use crate::probes::Health;

/// How many bytes of metadata a call may have: a key may name 200 tools of 256 bytes.
const HEADERS: u32 = 256 * 1024;

/// Serves `server` beside the standard health and reflection services until `stop`, then takes no
/// new calls, says so for `drain`, and finishes what is in flight.
///
/// # Errors
/// If the listener fails.
pub async fn serve<S>(
    server: S,
    listener: TcpListener,
    health: Health,
    stop: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()>
where
    S: Service<::http::Request<Body>, Response = ::http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    serve_with(server, &[], listener, health, stop, drain).await
}

/// As [`serve`], where `server` also answers what comes to `paths`, written as axum's routes are.
///
/// # Errors
/// As there.
pub async fn serve_with<S>(
    server: S,
    paths: &[&str],
    listener: TcpListener,
    health: Health,
    stop: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()>
where
    S: Service<::http::Request<Body>, Response = ::http::Response<Body>, Error = Infallible>,
    S: NamedService + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let (reporter, health_server) = tonic_health::server::health_reporter();
    reporter.set_serving::<S>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    health.started();
    let stopped = async move {
        stop.cancelled().await;
        health.draining();
        reporter.set_not_serving::<S>().await;
        tokio::time::sleep(drain).await;
    };
    let server = Traced::new(server, S::NAME);
    let routes = Routes::new(server.clone()).add_service(health_server).add_service(reflection);
    let server = server.map_request(|request: ::http::Request<_>| request.map(Body::new));
    let router = paths.iter().fold(routes.prepare().into_axum_router(), |router, path| {
        router.route_service(path, server.clone())
    });
    Server::builder()
        .http2_max_header_list_size(HEADERS)
        // A connection ends after a while, so that new replicas get their share.
        .max_connection_age(Duration::from_secs(300))
        .max_connection_age_grace(Duration::from_secs(600))
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stopped)
        .await?;
    Ok(())
}
