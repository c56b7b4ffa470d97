//! What MCP clients are told of who gives tokens for the gateway.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::Value;
use types::ErrorKind;

use crate::{App, Error};

/// Says which identity providers' tokens are taken at `/mcp`, where the operator says how it is reached.
#[utoipa::path(get, operation_id = "mcp_authorization",
    path = "/.well-known/oauth-protected-resource/mcp", tag = "tools",
    responses((status = 200, description = "Metadata of a protected resource, as RFC 9728 has it"),
        (status = 404, description = "No tokens are taken, or gateway.mcp_url is not set")))]
pub(crate) async fn protected(State(app): State<App>) -> Result<Json<Value>, Error> {
    let none = || Error::new(ErrorKind::NotFound, "no identity provider's tokens are taken");
    Ok(Json(app.resource.as_ref().ok_or_else(none)?.metadata()))
}

/// Tells a client that is not let in at `/mcp` where it learns who gives tokens.
pub(crate) fn challenge(app: &App, path: &str, mut response: Response) -> Response {
    let mcp = path == "/mcp" || path.starts_with("/mcp/");
    if mcp
        && response.status() == StatusCode::UNAUTHORIZED
        && let Some(resource) = &app.resource
        && let Ok(value) = HeaderValue::from_str(&resource.challenge())
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}
