//! HTTP/1.1 on a listener, with `TCP_NODELAY` and a shutdown that counts bodies.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::repoll::Repoll;

/// How long a connection may take for the head of its next request, idle time included: longer than load balancers keep
/// one that is idle (600 s), so that none sends a request into one that is being closed.
const HEAD: Duration = Duration::from_secs(620);

/// Serves `router` by HTTP/1.1 until `stop`, then finishes what is in flight, streamed bodies included, but
/// waits no longer than `drain`. A connection whose next request's head is not there whole after ten minutes is
/// closed without an answer. Handlers are told the peer's address.
pub async fn serve(
    router: axum::Router,
    listener: TcpListener,
    stop: CancellationToken,
    drain: Duration,
) {
    let connections = GracefulShutdown::new();
    accept(router, listener, &connections, HEAD, &stop).await;
    if tokio::time::timeout(drain, connections.shutdown()).await.is_err() {
        tracing::warn!("connections were still open after {drain:?}");
    }
}

/// Takes connections until `stop`, each in a task of its own.
async fn accept(
    router: axum::Router,
    mut listener: TcpListener,
    connections: &GracefulShutdown,
    head: Duration,
    stop: &CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head);
    loop {
        // It waits a moment after a fault, such as too many open files.
        let (stream, peer): (TcpStream, SocketAddr) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            () = stop.cancelled() => return,
        };
        without_delay(&stream);
        let router = router.clone();
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().call(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = Repoll::default().run(connections.watch(connection));
        tokio::spawn(async move {
            if let Err(fault) = connection.await {
                tracing::debug!(%fault, %peer, "a connection ended");
            }
        });
    }
}

/// Makes `ring` the process's cryptography for TLS; does nothing when it is already.
pub fn use_ring() {
    // Fails only when one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Sends small writes at once: without it a stream stalls 40 ms at a time.
fn without_delay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_head_that_does_not_end_is_not_waited_for_and_a_body_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, stop) = (GracefulShutdown::new(), CancellationToken::new());
        let asked = async |ConnectInfo(peer): ConnectInfo<SocketAddr>, body: String| {
            format!("{peer} says {body}")
        };
        let router = axum::Router::new().route("/", axum::routing::post(asked));
        let clients = async {
            let mut slow = TcpStream::connect(address).await.unwrap();
            slow.write_all(b"POST / HTTP/1.1\r\nhost:").await.unwrap();
            let mut client = TcpStream::connect(address).await.unwrap();
            let request = b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n";
            let answer = format!("{} says ok", client.local_addr().unwrap());
            for late in [false, true] {
                client.write_all(request).await.unwrap();
                if late {
                    // By then a head would be too late; this is a body.
                    assert_eq!(slow.read_to_end(&mut Vec::new()).await.unwrap(), 0);
                }
                client.write_all(b"ok").await.unwrap();
                let mut text = String::new();
                while !text.ends_with(&answer) {
                    let mut some = [0; 256];
                    let count = client.read(&mut some).await.unwrap();
                    text += std::str::from_utf8(&some[..count]).unwrap();
                    assert!(count > 0, "{text}");
                }
            }
            stop.cancel();
        };
        let head = Duration::from_secs(1);
        tokio::join!(accept(router, listener, &connections, head, &stop), clients);
        connections.shutdown().await;
    }

    #[tokio::test]
    async fn an_accepted_socket_does_not_wait_for_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, accepted) = (client.unwrap(), accepted.unwrap().0);
        without_delay(&accepted);
        assert!(accepted.nodelay().unwrap());
    }
}
