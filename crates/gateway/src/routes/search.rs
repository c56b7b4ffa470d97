use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use proto::retriever::{Facet, Hit, SearchRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use types::CallContext;

use super::{Json, filter};
use crate::auth::Grant;
use crate::{App, Error};

/// A search.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// 1 to 8192 bytes
    query: String,
    /// 1 to 100, 10 when absent
    top_k: Option<u32>,
    /// Whose documents, `default` when absent
    collection: Option<String>,
    /// Which of them: {"type": "eq", "key": "year", "value": 2024}; other types are ne, in, nin, gt, gte, lt and
    /// lte; and, or with "filters"; not with "filter"
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// Fields of which to count the values over the documents that the filter leaves, at most 10
    #[serde(default)]
    facets: Vec<String>,
    /// Only the best passage of a document
    #[serde(default)]
    one_per_document: bool,
    /// Whether a reranker orders the best passages; when absent, where one is configured
    rerank: Option<bool>,
    /// Whether a model words the query differently and these wordings are searched, too; when absent, as configured
    rewrite: Option<bool>,
    /// Tells what each score is made of
    #[serde(default)]
    explain: bool,
}

/// Finds the passages that answer a query best.
#[utoipa::path(post, path = "/api/v1/search", tag = "documents", request_body = Search,
    responses((status = 200, description = "Passages, best first"),
        (status = 400, description = "An empty query, an impossible top_k, an unknown field or operator"),
        (status = 404, description = "There is no such collection"), (status = 409, description = "It has another model's vectors")))]
pub(crate) async fn search(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Json(search): Json<Search>,
) -> Result<axum::Json<Value>, Error> {
    if search.top_k == Some(0) {
        return Err(Error::invalid("/top_k: must be 1 to 100"));
    }
    let request = SearchRequest {
        query: search.query,
        top_k: search.top_k.unwrap_or_default(),
        collection: grant.collection(search.collection)?,
        filter: filter::read(search.filter.as_ref(), "/filter")?,
        facets: search.facets,
        one_per_document: search.one_per_document,
        rerank: search.rerank,
        rewrite: search.rewrite,
    };
    let request = runtime::context::request(&context, request);
    let reply = app.retriever().search(request).await?.into_inner();
    let hits = reply.hits.into_iter().filter_map(|hit| shown(hit, search.explain));
    let mut body = json!({ "results": hits.collect::<Vec<_>>() });
    if !reply.facets.is_empty() {
        body["facets"] = reply.facets.iter().map(counted).collect::<Map<_, _>>().into();
    }
    if !reply.wordings.is_empty() {
        body["wordings"] = reply.wordings.into();
    }
    if !reply.warnings.is_empty() {
        body["warnings"] = reply.warnings.into();
    }
    Ok(axum::Json(body))
}

/// The older name of `/api/v1/search`.
#[utoipa::path(post, operation_id = "search_alias", path = "/api/search", tag = "documents", request_body = Search,
    responses((status = 200, description = "As /api/v1/search")))]
pub(crate) async fn alias(
    app: State<App>,
    context: Extension<CallContext>,
    grant: Extension<Arc<Grant>>,
    body: Json<Search>,
) -> Result<axum::Json<Value>, Error> {
    search(app, context, grant, body).await
}

/// Shows a page; files that have none have null.
pub(super) fn page(number: u32) -> Option<u32> {
    (number > 0).then_some(number)
}

fn shown(hit: Hit, explain: bool) -> Option<Value> {
    let passage = hit.passage?;
    let mut shown = json!({
        "passage_id": passage.id,
        "document_id": passage.document_id,
        "source": passage.source,
        "headings": passage.headings,
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "start_line": passage.start_line,
        "end_line": passage.end_line,
        "start_page": page(passage.start_page),
        "end_page": page(passage.end_page),
        "privacy": if passage.private { "private" } else { "public" },
        "attributes": filter::shown(&passage.attributes),
        "score": hit.score,
    });
    if let Some(why) = hit.explanation.filter(|_| explain) {
        shown["explanation"] = json!({
            "keyword": why.keyword,
            "dense": why.dense,
            "fused": why.fused,
            "document": why.document,
            "rerank": why.rerank,
            "wordings": why.wordings,
        });
    }
    Some(shown)
}

fn counted(facet: &Facet) -> (String, Value) {
    let values = facet.values.iter().map(|one| {
        let value = one.value.as_ref().map(filter::shown_value);
        json!({ "value": value, "documents": one.documents })
    });
    (facet.field.clone(), values.collect())
}
