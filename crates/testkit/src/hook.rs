//! Somebody who takes webhooks.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Taken {
    /// With these headers.
    pub headers: HeaderMap,
    /// With this body.
    pub body: String,
}

/// A server that keeps what it is sent, and refuses the first of it.
#[derive(Debug)]
pub struct Hook {
    /// Where it takes requests.
    pub url: String,
    kept: Kept,
    server: JoinHandle<()>,
}

type Kept = Arc<Mutex<(usize, Vec<Taken>)>>;

impl Hook {
    /// Starts a server that answers the first `refusals` requests with status 500.
    ///
    /// # Errors
    /// If there is no port.
    pub async fn start(refusals: usize) -> anyhow::Result<Self> {
        let kept: Kept = Arc::new(Mutex::new((refusals, Vec::new())));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let router = Router::new().route("/hook", post(take)).with_state(Arc::clone(&kept));
        let server = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, kept, server })
    }

    /// Returns what came, the refused too.
    #[must_use]
    pub fn taken(&self) -> Vec<Taken> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(kept): State<Kept>, headers: HeaderMap, body: String) -> StatusCode {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.1.push(Taken { headers, body });
    if kept.1.len() > kept.0 { StatusCode::NO_CONTENT } else { StatusCode::INTERNAL_SERVER_ERROR }
}
