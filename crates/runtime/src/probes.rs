//! The operations listener: probes and metrics, apart from the traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
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
    Router::new()
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/startup", get(startup))
        .with_state(health)
        .route("/metrics", get(move || async move { (text, metrics.to_text()) }))
}

/// Answers a liveness probe.
pub async fn live() -> &'static str {
    "live"
}

/// Answers a readiness probe: 200, or 503 while the process starts or drains.
pub async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    match health.is_ready() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    }
}

/// Answers a startup probe: 200, or 503 while the process starts.
pub async fn startup(State(health): State<Health>) -> (StatusCode, &'static str) {
    match health.is_started() {
        true => (StatusCode::OK, "started"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
    }
}
