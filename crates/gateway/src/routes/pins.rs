use axum::Extension;
use axum::extract::State;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{DecidePinRequest, ListCallsRequest, ListPinsRequest, Pin, PinState, ToolCall};
use runtime::transport::Peer;
use serde::Deserialize;
use serde_json::{Value, json};
use types::CallContext;

use super::{Json, Path, Query, at_least_one};
use crate::{App, Error};

/// Every pin of the bridge may be in one answer.
const MOST_BYTES: usize = 64 * 1024 * 1024;

const STATES: [(&str, PinState); 4] = [
    ("waiting", PinState::Waiting),
    ("approved", PinState::Approved),
    ("rejected", PinState::Rejected),
    ("replaced", PinState::Replaced),
];

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// `waiting`, `approved`, `rejected` or `replaced`; all when absent
    state: Option<String>,
}

/// Which definition is meant.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    /// Its SHA-256, as 64 hexadecimal digits: what was looked at is what is decided on
    pin: String,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// The last number of the page before
    before: Option<i64>,
    /// 1 to 1000, 100 when absent
    limit: Option<u32>,
}

/// Lists the definitions of tools that are remembered, with what was decided about each.
#[utoipa::path(get, operation_id = "list_tool_pins", path = "/api/v1/tools/pins", tag = "tools", params(Which),
    responses((status = 200, description = "Pins, without the definitions"), (status = 403, description = "Who asks does not run the system")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Query(which): Query<Which>,
) -> Result<axum::Json<Value>, Error> {
    let state = match which.state.as_deref() {
        None => PinState::Unspecified,
        Some(word) => {
            let known = STATES.iter().find(|(known, _)| *known == word);
            let unknown = || {
                Error::invalid(format!(
                    "state: {word:?} is not waiting, approved, rejected or replaced"
                ))
            };
            known.ok_or_else(unknown)?.1
        }
    };
    pins(&app, &context, ListPinsRequest { name: String::new(), state: state.into() }).await
}

/// Shows the definitions of one tool, and how each differs from the approved one.
#[utoipa::path(get, operation_id = "get_tool_pins", path = "/api/v1/tools/pins/{name}", tag = "tools",
    params(("name" = String, Path, description = "`server__tool`, whole")),
    responses((status = 200, description = "Its pins with definitions and differences"), (status = 404, description = "No such tool was seen")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(name): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    pins(&app, &context, ListPinsRequest { name, state: PinState::Unspecified.into() }).await
}

/// Approves a definition: from now on it is the one that may be used.
#[utoipa::path(post, operation_id = "approve_tool_pin", path = "/api/v1/tools/pins/{name}/approve", tag = "tools",
    params(("name" = String, Path, description = "`server__tool`, whole")), request_body = Decision,
    responses((status = 200, description = "It is approved"), (status = 404, description = "There is no such definition")))]
pub(crate) async fn approve(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(name): Path<String>,
    Json(decision): Json<Decision>,
) -> Result<axum::Json<Value>, Error> {
    decide(&app, &context, name, decision.pin, true).await
}

/// Rejects a definition, also one that was approved: it may not be used.
#[utoipa::path(post, operation_id = "reject_tool_pin", path = "/api/v1/tools/pins/{name}/reject", tag = "tools",
    params(("name" = String, Path, description = "`server__tool`, whole")), request_body = Decision,
    responses((status = 200, description = "It is rejected"), (status = 404, description = "There is no such definition")))]
pub(crate) async fn reject(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(name): Path<String>,
    Json(decision): Json<Decision>,
) -> Result<axum::Json<Value>, Error> {
    decide(&app, &context, name, decision.pin, false).await
}

/// Lists the tenant's calls of tools, the newest first, with what decided about each.
#[utoipa::path(get, operation_id = "list_tool_calls", path = "/api/v1/tools/calls", tag = "tools", params(Page),
    responses((status = 200, description = "A page of calls")))]
pub(crate) async fn calls(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let request = ListCallsRequest { before: page.before, limit: at_least_one(page.limit)? };
    let request = runtime::context::request(&context, request);
    let reply = bridge(&app).list_calls(request).await?.into_inner();
    let calls: Vec<Value> = reply.calls.into_iter().map(shown_call).collect();
    Ok(axum::Json(json!({ "calls": calls })))
}

fn bridge(app: &App) -> BridgeServiceClient<Peer> {
    BridgeServiceClient::new(app.peers.bridge.clone()).max_decoding_message_size(MOST_BYTES)
}

async fn pins(
    app: &App,
    context: &CallContext,
    request: ListPinsRequest,
) -> Result<axum::Json<Value>, Error> {
    let request = runtime::context::request(context, request);
    let reply = bridge(app).list_pins(request).await?.into_inner();
    let pins: Vec<Value> = reply.pins.into_iter().map(shown).collect();
    Ok(axum::Json(json!({ "pins": pins })))
}

async fn decide(
    app: &App,
    context: &CallContext,
    name: String,
    pin: String,
    approve: bool,
) -> Result<axum::Json<Value>, Error> {
    let request = DecidePinRequest { name: name.clone(), pin: pin.clone(), approve };
    bridge(app).decide_pin(runtime::context::request(context, request)).await?;
    let state = if approve { "approved" } else { "rejected" };
    Ok(axum::Json(json!({ "name": name, "pin": pin, "state": state })))
}

fn shown(pin: Pin) -> Value {
    let state = STATES.iter().find(|(_, state)| *state == pin.state());
    let changes = pin.changes.iter().map(|change| {
        json!({
            "at": change.at,
            "before": change.before_json.as_deref().map(read_json),
            "after": change.after_json.as_deref().map(read_json),
        })
    });
    let by = pin.decided_by_user.as_ref().map(
        |user| json!({ "tenant": pin.decided_by_tenant, "user": user, "key": pin.decided_by_key }),
    );
    json!({
        "name": pin.name,
        "server": pin.server,
        "pin": pin.pin,
        "state": state.map(|(word, _)| word),
        "findings": pin.findings,
        "seen_at_ms": pin.seen_at_ms,
        "decided_at_ms": pin.decided_at_ms,
        "decided_by": by,
        "definition": read_json(&pin.definition_json),
        "changes": changes.collect::<Vec<_>>(),
    })
}

fn read_json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn shown_call(call: ToolCall) -> Value {
    json!({
        "number": call.number,
        "at_ms": call.at_ms,
        "team": call.team,
        "user": call.user,
        "key": call.key,
        "run": call.run,
        "privacy": call.privacy,
        "server": call.server,
        "tool": call.tool,
        "pin": call.pin,
        "arguments_hash": call.arguments_hash,
        "decision": call.decision,
        "rule": call.rule,
        "outcome": call.outcome,
        "micros": call.micros,
        "trace_id": call.trace,
        "request_id": call.request,
    })
}
