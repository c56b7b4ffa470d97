use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use proto::router::Dialect;
use types::CallContext;

use super::chat;
use crate::{App, Error};

/// Answers a conversation: Anthropic's Messages.
///
/// A provider of the same dialect gets the body as it is; for others it is translated, and what has no
/// translation is a 400 that points at it.
#[utoipa::path(post, operation_id = "create_message", path = "/v1/messages", tag = "models",
    request_body(content = Object, description = "Anthropic's Messages request; `model` names a route or a model"),
    responses((status = 200, description = "Anthropic's message, or its events as server-sent events"),
        (status = 400, description = "A malformed request or an unknown model"),
        (status = 402, description = "The budget does not cover it"), (status = 503, description = "Nobody could answer")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    chat::answer(app, &context, body, Dialect::Messages).await
}
