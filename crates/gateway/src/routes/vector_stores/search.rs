//! The search in a vector store.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use proto::retriever::{Hit, SearchRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use types::CallContext;

use super::super::{Json, Path, filter};
use super::files::named;
use crate::auth::Grant;
use crate::{App, Error};

/// So many questions are asked at once.
const MOST_QUERIES: usize = 8;
/// So many passages are wanted at most.
const MOST_RESULTS: u32 = 50;

/// A search.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoreSearch {
    /// What is asked, 1 to 8192 bytes, or a list of at most 8
    #[schema(value_type = Asked)]
    query: Value,
    /// Which files are looked at: {"type": "eq", "key": "year", "value": 2024}; other types are ne, in, nin, gt, gte, lt
    /// and lte; and, or with "filters"
    #[schema(value_type = Option<Object>)]
    filters: Option<Value>,
    /// 1 to 50, 10 when absent
    max_num_results: Option<u32>,
    /// How passages are ranked
    ranking_options: Option<Ranking>,
    /// Whether a model words the query differently and these wordings are searched, too; when absent, as configured
    rewrite_query: Option<bool>,
}

/// What is asked, as the OpenAPI document describes it.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "described, not read: what is wrong with it is told with its place")]
pub(crate) enum Asked {
    One(String),
    Some(Vec<String>),
}

/// How passages are ranked.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ranking {
    /// `none`: no reranker; `auto` or `default-2024-11-15`: where one is configured
    ranker: Option<String>,
    /// Only passages of this score or more; none is left out when absent
    score_threshold: Option<f64>,
}

/// Finds the passages of a vector store that answer a query best.
#[utoipa::path(post, operation_id = "search_vector_store", path = "/v1/vector_stores/{id}/search", tag = "vector stores",
    params(("id" = String, Path, description = "The store")), request_body = StoreSearch,
    responses((status = 200, description = "A page of OpenAI's search results, best first"),
        (status = 400, description = "An empty query, an unknown field or operator"), (status = 404, description = "There is no such store"),
        (status = 409, description = "It has another model's vectors")))]
pub(crate) async fn search(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
    Json(search): Json<StoreSearch>,
) -> Result<axum::Json<Value>, Error> {
    let collection = grant.collection(Some(id))?;
    let queries = queries(search.query)?;
    let top_k = match search.max_num_results.unwrap_or(10) {
        most @ 1..=MOST_RESULTS => most,
        other => {
            let fault = format!("/max_num_results: {other} is not 1 to {MOST_RESULTS}");
            return Err(Error::invalid(fault));
        }
    };
    let (rerank, least) = match search.ranking_options {
        None => (None, None),
        Some(options) => (rerank(options.ranker)?, options.score_threshold),
    };
    let filter = filter::read(search.filters.as_ref(), "/filters")?;
    let mut rankings = Vec::with_capacity(queries.len());
    for query in &queries {
        let request = SearchRequest {
            query: query.clone(),
            top_k,
            collection: collection.clone(),
            filter: filter.clone(),
            rerank,
            rewrite: search.rewrite_query,
            ..SearchRequest::default()
        };
        let request = runtime::context::request(&context, request);
        let reply = app.retriever().search(request).await.map_err(renamed)?;
        rankings.push(reply.into_inner().hits);
    }
    let mut hits = best(rankings, least);
    hits.truncate(top_k as usize);
    Ok(axum::Json(json!({
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": hits.into_iter().filter_map(shown).collect::<Vec<_>>(),
        "has_more": false,
        "next_page": null,
    })))
}

/// Reads what is asked: a text, or some.
fn queries(query: Value) -> Result<Vec<String>, Error> {
    let some = match query {
        Value::Array(some) => some,
        one => vec![one],
    };
    if some.is_empty() || some.len() > MOST_QUERIES {
        let fault = format!("/query: has {} texts, 1 to {MOST_QUERIES} are allowed", some.len());
        return Err(Error::invalid(fault));
    }
    let text = |one: Value| match one {
        Value::String(text) => Ok(text),
        _ => Err(Error::invalid("/query: is neither a text nor a list of texts")),
    };
    some.into_iter().map(text).collect()
}

/// Reads whether a reranker is to order the passages; none: where one is configured.
fn rerank(ranker: Option<String>) -> Result<Option<bool>, Error> {
    match ranker.as_deref() {
        None | Some("auto" | "default-2024-11-15") => Ok(None),
        Some("none") => Ok(Some(false)),
        Some(other) => {
            let known = "none, auto, default-2024-11-15";
            let fault = format!("/ranking_options/ranker: {other:?} is none of {known}");
            Err(Error::invalid(fault))
        }
    }
}

/// Says what is wrong by the names that are used here.
fn renamed(status: tonic::Status) -> Error {
    let (kind, message) = runtime::error::told(&status);
    for (ours, theirs) in [("/rewrite:", "/rewrite_query:"), ("/filter", "/filters")] {
        if let Some(rest) = message.strip_prefix(ours) {
            return Error::new(kind, format!("{theirs}{rest}"));
        }
    }
    status.into()
}

/// Returns every passage once, by the best score that it has for one of the questions, best first; only those that have
/// at `least` so much, if that is given.
fn best(rankings: Vec<Vec<Hit>>, least: Option<f64>) -> Vec<Hit> {
    let mut best: Vec<Hit> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for hit in rankings.into_iter().flatten() {
        let id = hit.passage.as_ref().map(|passage| passage.id.clone()).unwrap_or_default();
        match places.get(&id) {
            Some(&at) if best[at].score >= hit.score => {}
            Some(&at) => best[at] = hit,
            None => {
                places.insert(id, best.len());
                best.push(hit);
            }
        }
    }
    best.retain(|hit| least.is_none_or(|least| hit.score >= least));
    // Equal ones stay in the order in which they were found.
    best.sort_by(|one, other| other.score.total_cmp(&one.score));
    best
}

fn shown(hit: Hit) -> Option<Value> {
    let passage = hit.passage?;
    let (file_id, filename) = named(&passage.source, &passage.document_id);
    Some(json!({
        "file_id": file_id,
        "filename": filename,
        "score": hit.score,
        "attributes": filter::shown(&passage.attributes),
        "content": [{ "type": "text", "text": passage.text }],
    }))
}

#[cfg(test)]
mod tests {
    use proto::retriever::Passage;

    use super::*;

    fn hit(id: &str, score: f64) -> Hit {
        let passage = Some(Passage { id: id.to_owned(), ..Passage::default() });
        Hit { passage, score, explanation: None }
    }

    #[test]
    fn a_passage_that_answers_two_questions_is_told_once() {
        let rankings = vec![
            vec![hit("a", 3.0), hit("b", 2.0), hit("c", 1.0)],
            vec![hit("c", 2.5), hit("b", 0.5)],
        ];
        let best = best(rankings, None);
        let ids: Vec<_> =
            best.iter().map(|hit| hit.passage.as_ref().unwrap().id.as_str()).collect();
        assert_eq!(ids, ["a", "c", "b"]);
        assert_eq!(best[1].score, 2.5);
    }

    #[test]
    fn a_score_is_compared_with_a_threshold_that_is_given() {
        for (least, left) in [(None, 3), (Some(-1.0), 2), (Some(0.0), 1)] {
            let hits = vec![hit("a", 0.0), hit("b", -1.0), hit("c", -2.0)];
            assert_eq!(best(vec![hits], least).len(), left, "{least:?}");
        }
    }

    #[test]
    fn what_is_no_question_is_refused() {
        assert_eq!(queries(json!("a")).unwrap(), ["a"]);
        assert_eq!(queries(json!(["a", "b"])).unwrap(), ["a", "b"]);
        for query in [json!(1), json!([]), json!([1]), json!({}), json!(null), json!(vec!["a"; 9])]
        {
            let fault = queries(query).unwrap_err().to_string();
            assert!(fault.starts_with("/query: "), "{fault}");
        }
    }
}
