//! When to stop.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::probes::Health;

/// Returns a token that is cancelled by Ctrl-C or SIGTERM, from now on.
///
/// # Errors
/// If they cannot be listened for.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let token = stop.clone();
    #[cfg(unix)]
    let asked = {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    };
    #[cfg(not(unix))]
    let asked = async { drop(tokio::signal::ctrl_c().await) };
    tokio::spawn(async move {
        asked.await;
        token.cancel();
    });
    Ok(stop)
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
