use axum::Extension;
use axum::extract::State;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{CallToolRequest, ListToolsRequest};
use runtime::transport::Peer;
use serde_json::{Map, Value, json};
use types::CallContext;

use super::{Json, Path};
use crate::{App, Error};

/// Lists the tools of every MCP server that answers, names the servers that do not, and says which tools
/// the caller may not use, and why.
#[utoipa::path(get, operation_id = "list_tools", path = "/api/v1/tools", tag = "tools",
    responses((status = 200, description = "Tools, the servers without an answer, and what is refused")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
) -> Result<axum::Json<Value>, Error> {
    let request = runtime::context::request(&context, ListToolsRequest {});
    let reply = bridge(&app).list_tools(request).await?.into_inner();
    let tools = reply.tools.iter().map(|tool| {
        json!({
            "name": tool.name,
            "server": tool.server,
            "own_name": tool.own_name,
            "description": tool.description,
            "input_schema": json_or_null(&tool.input_schema_json),
        })
    });
    let degraded = reply.degraded.iter();
    let degraded = degraded.map(|one| json!({ "server": one.server, "reason": one.reason }));
    let refused = reply.refused.iter();
    let refused =
        refused.map(|one| json!({ "server": one.server, "name": one.name, "reason": one.reason }));
    Ok(axum::Json(json!({
        "tools": tools.collect::<Vec<_>>(),
        "degraded": degraded.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
    })))
}

/// Calls one tool; the body is its arguments.
#[utoipa::path(post, operation_id = "call_tool", path = "/api/v1/tools/{name}", tag = "tools",
    params(("name" = String, Path, description = "`server__tool`")),
    request_body(content = Object, description = "The arguments"),
    responses((status = 200, description = "What the tool answered, also when it says that it failed"),
        (status = 403, description = "The tool is refused: by whom and why"), (status = 404, description = "There is no such tool")))]
pub(crate) async fn call(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(name): Path<String>,
    Json(arguments): Json<Map<String, Value>>,
) -> Result<axum::Json<Value>, Error> {
    let arguments_json = Value::Object(arguments).to_string();
    let request = runtime::context::request(&context, CallToolRequest { name, arguments_json });
    let reply = bridge(&app).call_tool(request).await?.into_inner();
    Ok(axum::Json(json!({
        "content": json_or_null(&reply.content_json),
        "structured": json_or_null(&reply.structured_json),
        "is_error": reply.is_error,
    })))
}

/// Returns the way to the bridge, which bounds lists and results itself.
fn bridge(app: &App) -> BridgeServiceClient<Peer> {
    BridgeServiceClient::new(app.peers.bridge.clone()).max_decoding_message_size(usize::MAX)
}

fn json_or_null(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
