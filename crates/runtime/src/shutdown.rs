//! When to stop.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::probes::Health;

/// Returns a token that is cancelled by Ctrl-C or SIGTERM.
#[must_use]
pub fn on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            match signal(SignalKind::terminate()) {
                Ok(mut terminate) => tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                },
                Err(_) => drop(tokio::signal::ctrl_c().await),
            }
        }
        #[cfg(not(unix))]
        drop(tokio::signal::ctrl_c().await);
        token.cancel();
    });
    stop
}

/// Waits for `stop`, says "not ready" for `delay`, so that nobody sends more, and then closes.
pub async fn drain(
    stop: CancellationToken,
    health: Health,
    delay: Duration,
    closing: CancellationToken,
) {
    stop.cancelled().await;
    health.draining();
    tokio::time::sleep(delay).await;
    closing.cancel();
}
