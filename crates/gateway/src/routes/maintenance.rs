use axum::Extension;
use axum::extract::State;
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{Maintenance, SetMaintenanceRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use types::CallContext;

use super::Json;
use crate::{App, Error};

/// What is to hold.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Whether work is refused
    on: bool,
    /// What clients are told, in 1 to 1000 bytes
    message: Option<String>,
    /// When they may come back, in seconds, 1 to 86400
    retry_after_s: Option<u32>,
}

/// Tells whether work is refused, and why.
#[utoipa::path(get, operation_id = "get_maintenance", path = "/api/v1/maintenance", tag = "operations",
    responses((status = 200, description = "`on`, and while it is `message`, `retry_after_s` and `since_ms`")))]
pub(crate) async fn read(State(app): State<App>) -> axum::Json<Value> {
    axum::Json(shown(app.maintenance.now().as_deref()))
}

/// Refuses work on every replica within a second, or takes it again. Requests under way go on.
///
/// Everything but probes and administration is answered with status 503, `message`, and `Retry-After`.
#[utoipa::path(post, operation_id = "set_maintenance", path = "/api/v1/maintenance", tag = "operations", request_body = Wanted,
    responses((status = 200, description = "What holds now"), (status = 400, description = "A message or a time that is none"),
        (status = 403, description = "It is no key of the configuration, of role operator or admin")))]
pub(crate) async fn set(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Json(wanted): Json<Wanted>,
) -> Result<axum::Json<Value>, Error> {
    let maintenance = wanted.on.then(|| Maintenance {
        message: wanted.message.unwrap_or_else(|| "under maintenance".to_owned()),
        retry_after_s: wanted.retry_after_s.unwrap_or(60),
        since_ms: 0,
    });
    let request = runtime::context::request(&context, SetMaintenanceRequest { maintenance });
    let reply = BudgetServiceClient::new(app.peers.budget.clone()).set_maintenance(request).await?;
    let holds = reply.into_inner().maintenance;
    let shown = shown(holds.as_ref());
    app.maintenance.set(holds);
    Ok(axum::Json(shown))
}

fn shown(maintenance: Option<&Maintenance>) -> Value {
    match maintenance {
        None => json!({ "on": false }),
        Some(Maintenance { message, retry_after_s, since_ms }) => json!({
            "on": true, "message": message, "retry_after_s": retry_after_s, "since_ms": since_ms,
        }),
    }
}
