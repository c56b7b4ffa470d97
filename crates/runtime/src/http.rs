//! HTTP/1.1 on a listener, with `TCP_NODELAY` and a shutdown that counts bodies.

use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Serves `router` until `stop`, then finishes what is in flight, streamed bodies included, but
/// waits no longer than `drain`. Handlers are told the peer's address.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    router: axum::Router,
    listener: TcpListener,
    stop: CancellationToken,
    drain: Duration,
) -> std::io::Result<()> {
    let listener = listener.tap_io(without_delay);
    let stopped = stop.clone();
    let router = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stopped.cancelled().await })
        .into_future();
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        ended = server => ended,
        () = too_late => {
            tracing::warn!("connections were still open after {drain:?}");
            Ok(())
        }
    }
}

/// Makes `ring` the process's cryptography for TLS; does nothing when it is already.
pub fn use_ring() {
    // Fails only when one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Sends small writes at once: without it a stream stalls 40 ms at a time.
fn without_delay(stream: &mut TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_accepted_socket_does_not_wait_for_more() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (_client, mut accepted) = (client.unwrap(), accepted.unwrap().0);
        without_delay(&mut accepted);
        assert!(accepted.nodelay().unwrap());
    }
}
