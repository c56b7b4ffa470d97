//! The operations listener: probes and metrics, apart from the traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;

use crate::metrics::Metrics;

/// What probes say. It is told, it asks nobody: a probe never waits on a pool or calls a model.
#[derive(Clone, Debug, Default)]
pub struct Health {
    started: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
}

impl Health {
    /// From now on the process takes traffic.
    pub fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// From now on the process wants no new traffic.
    pub fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Returns whether the process has started.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// Returns whether the process takes traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_started() && !self.draining.load(Ordering::Relaxed)
    }
}

/// Returns `/health/live`, `/health/ready`, `/health/startup` and `/metrics`.
pub fn router(health: Health, metrics: Metrics) -> Router {
    let text =
        [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    probes(health).route("/metrics", get(move || async move { (text, metrics.to_text()) }))
}

/// Returns `/health/live`, `/health/ready` and `/health/startup`.
pub fn probes(health: Health) -> Router {
    let answer = |good: bool, word: &'static str| match good {
        true => (StatusCode::OK, word),
        false => (StatusCode::SERVICE_UNAVAILABLE, word),
    };
    let (startup, ready) = (health.clone(), health);
    Router::new()
        .route("/health/live", get(|| async { "live" }))
        .route(
            "/health/ready",
            get(move || async move {
                let good = ready.is_ready();
                answer(good, if good { "ready" } else { "not ready" })
            }),
        )
        .route(
            "/health/startup",
            get(move || async move {
                let good = startup.is_started();
                answer(good, if good { "started" } else { "starting" })
            }),
        )
}
