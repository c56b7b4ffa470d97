use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use runtime::probes::{self, Health};
use serde_json::{Value, json};

/// Tells whether the gateway takes traffic; asks nobody else, so that it always answers.
#[utoipa::path(get, path = "/health", tag = "health",
    responses((status = 200, description = "Takes traffic"), (status = 503, description = "Starting or draining")))]
pub(crate) async fn health(State(health): State<Health>) -> (StatusCode, Json<Value>) {
    let (status, word) = match health.is_ready() {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    (status, Json(json!({ "status": word, "version": env!("CARGO_PKG_VERSION") })))
}

/// Says that the process is not stuck.
#[utoipa::path(get, path = "/health/live", tag = "health", responses((status = 200, description = "Alive")))]
pub(crate) async fn live() -> &'static str {
    probes::live().await
}

/// Says whether new traffic is welcome.
#[utoipa::path(get, path = "/health/ready", tag = "health",
    responses((status = 200, description = "Ready"), (status = 503, description = "Not ready")))]
pub(crate) async fn ready(health: State<Health>) -> (StatusCode, &'static str) {
    probes::ready(health).await
}

/// Says whether the process has started.
#[utoipa::path(get, path = "/health/startup", tag = "health",
    responses((status = 200, description = "Started"), (status = 503, description = "Starting")))]
pub(crate) async fn startup(health: State<Health>) -> (StatusCode, &'static str) {
    probes::startup(health).await
}
