use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use proto::router::router_service_client::RouterServiceClient;
use proto::router::{Call, CountTokensRequest, Dialect};
use serde::Serialize;
use types::CallContext;

use super::chat;
use crate::auth::Grant;
use crate::{App, Error};

/// Answers a conversation: Anthropic's Messages.
///
/// A provider of the same dialect gets the body as it is; for others it is translated, and what has no
/// translation is a 400 that points at it.
#[utoipa::path(post, operation_id = "create_message", path = "/v1/messages", tag = "models",
    request_body(content = Object, description = "Anthropic's Messages request; `model` names a route or a model",
        example = json!({ "model": "auto", "max_tokens": 100, "messages": [{ "role": "user", "content": "Hello" }] })),
    responses((status = 200, description = "Anthropic's message, or its events as server-sent events"),
        (status = 400, description = "A malformed request or an unknown model"),
        (status = 402, description = "The budget does not cover it"), (status = 503, description = "Nobody could answer")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    chat::answer(app, &context, &grant, body, Dialect::Messages).await
}

/// How many tokens a request has about.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Counted {
    /// Everything that a model would read of it.
    input_tokens: u64,
}

/// Counts the tokens of a conversation: Anthropic's Messages.
///
/// An estimate: whatever the model, they are counted here, with `o200k_base`, and nobody is asked.
/// Pictures and files count by their kind. Takes what `/v1/messages` takes, and no `max_tokens`.
#[utoipa::path(post, operation_id = "count_message_tokens", path = "/v1/messages/count_tokens", tag = "models",
    request_body(content = Object, description = "Anthropic's request to count tokens; `model` names a route or a model",
        example = json!({ "model": "auto", "messages": [{ "role": "user", "content": "Hello" }] })),
    responses((status = 200, description = "About how many tokens the input has", body = Counted),
        (status = 400, description = "A malformed request or an unknown model")))]
pub(crate) async fn count_tokens(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    body: Result<Bytes, BytesRejection>,
) -> Result<axum::Json<Counted>, Error> {
    let body = body.map_err(|fault| Error::with_status(fault.status(), fault.body_text()))?;
    let call = Some(Call { body, groundings: Vec::new(), dialect: Dialect::Messages.into() });
    let request = runtime::context::request(&context, CountTokensRequest { call });
    let mut router =
        RouterServiceClient::new(app.peers.router.clone()).max_encoding_message_size(usize::MAX);
    let counted = router.count_tokens(request).await?.into_inner();
    Ok(axum::Json(Counted { input_tokens: counted.tokens }))
}
