//! MCP for clients that the gateway knows: the bridge answers.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::Response;
use tower::Service as _;
use types::CallContext;

use crate::{App, Error};

/// What of a request's headers the bridge is told: what the protocol knows, and no credential.
const PASSED: [HeaderName; 5] = [
    header::ACCEPT,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    HeaderName::from_static("last-event-id"),
];

/// What all headers of the protocol begin with.
const PROTOCOL: &str = "mcp-";

/// Answers a message of an MCP client: tools, resources and prompts of every server, as one.
#[utoipa::path(post, operation_id = "mcp", path = "/mcp", tag = "tools",
    request_body(content = Object, description = "A JSON-RPC message of the Model Context Protocol"),
    responses((status = 200, description = "The answer, as JSON or as a stream of events")))]
pub(crate) async fn post(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    request: Request,
) -> Result<Response, Error> {
    pass(&app, &context, request).await
}

/// Streams what belongs to no request of a session of before revision 2026-07-28.
#[utoipa::path(get, operation_id = "mcp_events", path = "/mcp", tag = "tools",
    responses((status = 200, description = "A stream of events")))]
pub(crate) async fn get(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    request: Request,
) -> Result<Response, Error> {
    pass(&app, &context, request).await
}

/// Ends a session of before revision 2026-07-28.
#[utoipa::path(delete, operation_id = "mcp_end", path = "/mcp", tag = "tools",
    responses((status = 202, description = "It has ended")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    request: Request,
) -> Result<Response, Error> {
    pass(&app, &context, request).await
}

/// Answers a message of an MCP client: one server, by its own names.
#[utoipa::path(post, operation_id = "mcp_server", path = "/mcp/{server}", tag = "tools",
    params(("server" = String, Path, description = "Which server")),
    request_body(content = Object, description = "A JSON-RPC message of the Model Context Protocol"),
    responses((status = 200, description = "The answer, as JSON or as a stream of events"),
        (status = 404, description = "There is no such server")))]
pub(crate) async fn post_server(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    request: Request,
) -> Result<Response, Error> {
    pass(&app, &context, request).await
}

/// Streams what belongs to no request of a session with one server.
#[utoipa::path(get, operation_id = "mcp_server_events", path = "/mcp/{server}", tag = "tools",
    params(("server" = String, Path, description = "Which server")),
    responses((status = 200, description = "A stream of events"),
        (status = 404, description = "There is no such server")))]
pub(crate) async fn get_server(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    request: Request,
) -> Result<Response, Error> {
    pass(&app, &context, request).await
}

/// Ends a session with one server.
#[utoipa::path(delete, operation_id = "mcp_server_end", path = "/mcp/{server}", tag = "tools",
    params(("server" = String, Path, description = "Which server")),
    responses((status = 202, description = "It has ended"),
        (status = 404, description = "There is no such server")))]
pub(crate) async fn delete_server(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    request: Request,
) -> Result<Response, Error> {
    pass(&app, &context, request).await
}

/// Has the bridge answer. Bodies stream both ways, and a client that goes away ends the work there.
async fn pass(app: &App, context: &CallContext, request: Request) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let mut asked = axum::http::Request::new(tonic::body::Body::new(body));
    *asked.method_mut() = parts.method;
    *asked.uri_mut() = parts.uri.path().parse().map_err(|_| Error::invalid("the path"))?;
    *asked.headers_mut() = passed(&parts.headers);
    runtime::context::attach(context, &mut asked);
    let answer = app.peers.bridge.clone().call(asked).await?;
    Ok(answer.map(Body::new))
}

fn passed(headers: &HeaderMap) -> HeaderMap {
    let known = |name: &HeaderName| PASSED.contains(name) || name.as_str().starts_with(PROTOCOL);
    let passed = headers.iter().filter(|(name, _)| known(name));
    passed.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_credential_goes_no_further() {
        let sent = [
            ("accept", "text/event-stream"),
            ("mcp-session-id", "s"),
            ("mcp-param-region", "r"),
            ("authorization", "Bearer secret"),
            ("x-api-key", "secret"),
            ("cookie", "secret"),
            ("baton-tenant-bin", "b3RoZXI"),
        ];
        let sent = sent
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let passed = passed(&sent.into_iter().collect());
        let mut names: Vec<_> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "mcp-param-region", "mcp-session-id"]);
    }
}
