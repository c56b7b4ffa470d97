use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::response::Response;
use proto::router::router_service_client::RouterServiceClient;
use proto::router::{DeleteResponseRequest, Dialect, ListInputItemsRequest, ReadResponseRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use types::{CallContext, ErrorKind, ResponseId};
use utoipa::IntoParams;

use super::{Path, Query, chat};
use crate::auth::Grant;
use crate::{App, Error};

/// Answers an input: OpenAI's Responses.
///
/// The response is kept, unless `store` is false, for `previous_response_id` to name it; it says in
/// `store` whether it was.
#[utoipa::path(post, operation_id = "create_response", path = "/v1/responses", tag = "models",
    request_body(content = Object, description = "OpenAI's Responses request; `model` names a route or a model",
        example = json!({ "model": "auto", "input": "Hello" })),
    responses((status = 200, description = "OpenAI's response, or its events as server-sent events"),
        (status = 400, description = "A malformed request or an unknown model"),
        (status = 402, description = "The budget does not cover it"), (status = 503, description = "Nobody could answer")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    chat::answer(app, &context, &grant, body, Dialect::Responses).await
}

/// How a response is to be read.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct How {
    /// Only false: what is kept is whole.
    stream: Option<bool>,
}

/// Reads a response that is kept.
#[utoipa::path(get, operation_id = "retrieve_response", path = "/v1/responses/{id}", tag = "models",
    params(("id" = String, Path, description = "The response"), How),
    responses((status = 200, description = "OpenAI's response"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
    Query(how): Query<How>,
) -> Result<Response, Error> {
    if how.stream == Some(true) {
        return Err(Error::invalid("stream: what is kept is whole"));
    }
    let request = ReadResponseRequest { id: ResponseId::new(id)?.to_string() };
    let request = runtime::context::request(&context, request);
    let mut router =
        RouterServiceClient::new(app.peers.router.clone()).max_decoding_message_size(usize::MAX);
    let reply = router.read_response(request).await?.into_inner();
    Ok(chat::json(reply.body))
}

/// Removes a response that is kept.
#[utoipa::path(delete, operation_id = "delete_response", path = "/v1/responses/{id}", tag = "models",
    params(("id" = String, Path, description = "The response")),
    responses((status = 200, description = "Removed"), (status = 404, description = "There is none")))]
pub(crate) async fn delete(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let id = ResponseId::new(id)?;
    let request = DeleteResponseRequest { id: id.to_string() };
    let request = runtime::context::request(&context, request);
    RouterServiceClient::new(app.peers.router.clone()).delete_response(request).await?;
    Ok(axum::Json(json!({ "id": id, "object": "response", "deleted": true })))
}

/// Which items are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Items {
    /// Those behind the item of this id.
    after: Option<String>,
    /// At most so many: 1 to 100.
    #[param(default = 20)]
    limit: Option<u32>,
    /// The last or the first of them first: desc or asc.
    #[param(default = "desc")]
    order: Option<String>,
}

/// Lists the items that a response answered; not those of responses before it.
#[utoipa::path(get, operation_id = "list_input_items", path = "/v1/responses/{id}/input_items", tag = "models",
    params(("id" = String, Path, description = "The response"), Items),
    responses((status = 200, description = "A page of OpenAI's items"), (status = 404, description = "There is none")))]
pub(crate) async fn input_items(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
    Query(wanted): Query<Items>,
) -> Result<axum::Json<Value>, Error> {
    let request = ListInputItemsRequest {
        id: ResponseId::new(id)?.to_string(),
        after: wanted.after.unwrap_or_default(),
        limit: super::at_least_one(wanted.limit)?,
        oldest_first: super::oldest_first(wanted.order.as_deref())?,
    };
    let request = runtime::context::request(&context, request);
    let mut router =
        RouterServiceClient::new(app.peers.router.clone()).max_decoding_message_size(usize::MAX);
    let reply = router.list_input_items(request).await?.into_inner();
    let items = reply.items.iter().map(|item| serde_json::from_slice(item));
    let garbled = |_| Error::new(ErrorKind::Internal, "an item is not JSON");
    let items = items.collect::<Result<_, _>>().map_err(garbled)?;
    Ok(axum::Json(super::page(items, reply.has_more)))
}
