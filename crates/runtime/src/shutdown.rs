//! When to stop.

use tokio_util::sync::CancellationToken;

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
