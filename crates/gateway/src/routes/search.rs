use axum::Extension;
use axum::extract::State;
use proto::retriever::retriever_service_client::RetrieverServiceClient;
use proto::retriever::{Hit, SearchRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use types::CallContext;

use super::Json;
use crate::{App, Error};

/// A search.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// 1 to 8192 bytes
    query: String,
    /// 1 to 100, 10 when absent
    top_k: Option<u32>,
}

/// Finds the passages that answer a query best.
#[utoipa::path(post, path = "/api/v1/search", tag = "documents", request_body = Search,
    responses((status = 200, description = "Passages, best first"), (status = 400, description = "An empty query or an impossible top_k")))]
pub(crate) async fn search(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Json(search): Json<Search>,
) -> Result<axum::Json<Value>, Error> {
    if search.top_k == Some(0) {
        return Err(Error::invalid("/top_k: must be 1 to 100"));
    }
    let request = SearchRequest { query: search.query, top_k: search.top_k.unwrap_or_default() };
    let request = runtime::context::request(&context, request);
    let reply = RetrieverServiceClient::new(app.peers.retriever.clone()).search(request).await?;
    let hits: Vec<Value> = reply.into_inner().hits.into_iter().filter_map(shown).collect();
    Ok(axum::Json(json!({ "results": hits })))
}

/// The older name of `/api/v1/search`.
#[utoipa::path(post, operation_id = "search_alias", path = "/api/search", tag = "documents", request_body = Search,
    responses((status = 200, description = "As /api/v1/search")))]
pub(crate) async fn alias(
    app: State<App>,
    context: Extension<CallContext>,
    body: Json<Search>,
) -> Result<axum::Json<Value>, Error> {
    search(app, context, body).await
}

fn shown(hit: Hit) -> Option<Value> {
    let passage = hit.passage?;
    Some(json!({
        "passage_id": passage.id,
        "document_id": passage.document_id,
        "source": passage.source,
        "headings": passage.headings,
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "start_line": passage.start_line,
        "end_line": passage.end_line,
        "score": hit.score,
    }))
}
