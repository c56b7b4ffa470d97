use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use proto::router::Dialect;
use types::CallContext;

use super::chat;
use crate::{App, Error};

/// Answers an input: OpenAI's Responses.
///
/// Nothing is stored: the conversation is the client's to send, and `previous_response_id` is a 400.
#[utoipa::path(post, operation_id = "create_response", path = "/v1/responses", tag = "models",
    request_body(content = Object, description = "OpenAI's Responses request; `model` names a route or a model"),
    responses((status = 200, description = "OpenAI's response, or its events as server-sent events"),
        (status = 400, description = "A malformed request or an unknown model"),
        (status = 402, description = "The budget does not cover it"), (status = 503, description = "Nobody could answer")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    chat::answer(app, &context, body, Dialect::Responses).await
}
