use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use proto::orchestrator::event::Kind;
use proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use proto::orchestrator::{AskRequest, Citation, Completed, Event, ListEventsRequest};
use proto::router::{Dialect, Kept};
use serde::Deserialize;
use serde_json::{Value, json};
use types::{CallContext, ErrorKind, NanoUsd, RunId};

use super::search::page;
use super::{Json, Path, filter};
use crate::auth::Grant;
use crate::limiter::Used;
use crate::{App, Error};

/// A question to the tenant's own documents.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// 1 to 8192 bytes
    question: String,
    /// A route or a model, `auto` when absent
    route: Option<String>,
    /// Passages to answer from, 1 to 50, 8 when absent
    top_k: Option<u32>,
    /// Whose documents, `default` when absent
    collection: Option<String>,
    /// Which of them, as in a search
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
    /// Server-sent events instead of one JSON object
    #[serde(default)]
    stream: bool,
}

/// Answers a question from the tenant's documents, with checked citations.
///
/// With `stream`, sends the run's events as they are journaled: `started`, `retrieved`, `delta`,
/// and `completed` or `failed`.
#[utoipa::path(post, path = "/api/v1/ask", tag = "documents", request_body = Ask,
    responses((status = 200, description = "The answer, or its events"), (status = 400, description = "Not a question"),
        (status = 402, description = "The budget does not cover it"), (status = 503, description = "Nobody could answer")))]
pub(crate) async fn ask(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Json(ask): Json<Ask>,
) -> Result<Response, Error> {
    if ask.top_k == Some(0) {
        return Err(Error::invalid("/top_k: must be 1 to 50"));
    }
    grant.check_model(ask.route.as_deref().unwrap_or("auto"))?;
    let request = AskRequest {
        question: ask.question,
        route: ask.route.unwrap_or_default(),
        top_k: ask.top_k.unwrap_or_default(),
        collection: grant.collection(ask.collection)?,
        filter: filter::read(ask.filter.as_ref(), "/filter")?,
    };
    let request = runtime::context::request(&context, request);
    let reply = OrchestratorServiceClient::new(app.peers.orchestrator.clone()).ask(request).await?;
    let mut events = reply.into_inner();
    if ask.stream {
        let used = Used::default();
        let told = used.clone();
        let events = events.filter_map(move |event| {
            let shown = match event {
                Ok(reply) => reply.event.map(|event| {
                    if let Some(Kind::Completed(done)) = &event.kind {
                        told.say(done.input_tokens, done.output_tokens);
                    }
                    sent(event)
                }),
                Err(status) => {
                    let body = Error::from(status).body(Dialect::ChatCompletions).to_string();
                    Some(Ok(sse::Event::default().event("failed").data(body)))
                }
            };
            std::future::ready(shown)
        });
        let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
        response.extensions_mut().insert(used);
        return Ok(response);
    }
    while let Some(reply) = events.message().await? {
        let Some(event) = reply.event else { continue };
        match event.kind {
            Some(Kind::Completed(done)) => {
                let mut response = axum::Json(answer(&event.run_id, &done)).into_response();
                let used = Used::known(done.input_tokens, done.output_tokens);
                response.extensions_mut().insert(used);
                return Ok(response);
            }
            Some(Kind::Failed(failed)) => {
                return Err(Error::new(kind_named(&failed.code), failed.message));
            }
            _ => {}
        }
    }
    Err(Error::new(ErrorKind::Unavailable, "the run ended early"))
}

/// Tells what a run did, in order.
#[utoipa::path(get, operation_id = "list_run_events", path = "/api/v1/runs/{id}/events", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    responses((status = 200, description = "Its journal"), (status = 404, description = "There is none")))]
pub(crate) async fn events(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let request = ListEventsRequest { run_id: RunId::new(id)?.to_string() };
    let request = runtime::context::request(&context, request);
    let reply =
        OrchestratorServiceClient::new(app.peers.orchestrator.clone()).list_events(request).await?;
    let events = reply.into_inner().events;
    if let Some(Kind::Started(started)) = events.first().and_then(|event| event.kind.as_ref()) {
        // Of an answer's journal one may see what one may ask for.
        grant.collection(Some(started.collection.clone()).filter(|name| !name.is_empty()))?;
    }
    let shown = events.iter().map(|event| {
        let (name, body) = shown(event);
        json!({ "id": event.sequence, "at_ms": event.at_ms, "event": name, "data": body })
    });
    Ok(axum::Json(json!({ "events": shown.collect::<Vec<_>>() })))
}

fn sent(event: Event) -> Result<sse::Event, Infallible> {
    let (name, body) = shown(&event);
    Ok(sse::Event::default().id(event.sequence.to_string()).event(name).data(body.to_string()))
}

fn shown(event: &Event) -> (&'static str, Value) {
    match &event.kind {
        Some(Kind::Started(started)) => (
            "started",
            json!({ "run_id": event.run_id, "question": started.question, "collection": started.collection }),
        ),
        Some(Kind::Retrieved(found)) => ("retrieved", json!({ "passages": found.passages })),
        Some(Kind::Delta(delta)) => ("delta", json!({ "text": delta.text })),
        Some(Kind::Completed(done)) => ("completed", answer(&event.run_id, done)),
        Some(Kind::Failed(failed)) => {
            let error = Error::new(kind_named(&failed.code), &failed.message);
            ("failed", error.body(Dialect::ChatCompletions))
        }
        Some(Kind::Offered(offered)) => ("offered", json!({ "tools": offered.tools })),
        Some(Kind::Turn(turn)) => (
            "turn",
            json!({
                "number": turn.number,
                "provider": turn.provider,
                "model": turn.model,
                "usage": { "input_tokens": turn.input_tokens, "output_tokens": turn.output_tokens },
                "cost_usd": NanoUsd::new(turn.cost_nanos).to_usd(),
                "calls": turn.calls,
            }),
        ),
        Some(Kind::ToolCalled(call)) => (
            "tool_called",
            json!({ "call_id": call.call_id, "tool": call.tool, "arguments": call.arguments }),
        ),
        Some(Kind::ToolAnswered(answer)) => (
            "tool_answered",
            json!({
                "call_id": answer.call_id,
                "outcome": answer.outcome,
                "message": answer.message,
                "bytes": answer.bytes,
                "took_ms": answer.took_ms,
                "private": answer.private,
            }),
        ),
        None => ("unknown", Value::Null),
    }
}

/// Returns a finished run as the API shows it; `start` and `end` of a citation count characters.
#[must_use]
pub fn answer(run: &str, done: &Completed) -> Value {
    json!({
        "answer": done.answer,
        "citations": done.citations.iter().map(citation).collect::<Vec<_>>(),
        "confidence": done.confidence,
        "abstained": done.abstained,
        "found": done.found.iter().map(citation).collect::<Vec<_>>(),
        "usage": {
            "input_tokens": done.input_tokens,
            "output_tokens": done.output_tokens,
            "estimated": done.estimated,
        },
        "cost_usd": NanoUsd::new(done.cost_nanos).to_usd(),
        "route": done.route,
        "provider": done.provider,
        "model": done.model,
        "failures": done.failures,
        "cache": (!done.cache.is_empty()).then_some(&done.cache),
        "similarity": (done.cache == Kept::Semantic.name()).then_some(done.similarity),
        "run_id": run,
    })
}

fn citation(citation: &Citation) -> Value {
    json!({
        "number": citation.number,
        "source": citation.source,
        "document_id": citation.document_id,
        "passage_id": citation.passage_id,
        "headings": citation.headings,
        "start": citation.start,
        "end": citation.end,
        "start_line": citation.start_line,
        "end_line": citation.end_line,
        "start_page": page(citation.start_page),
        "end_page": page(citation.end_page),
        "quote": citation.quote,
    })
}

fn kind_named(code: &str) -> ErrorKind {
    use ErrorKind::{
        BudgetExceeded, Conflict, Denied, Internal, Invalid, NotFound, RateLimited, Unavailable,
    };
    let kinds =
        [BudgetExceeded, Conflict, Denied, Invalid, NotFound, RateLimited, Unavailable, Internal];
    kinds.into_iter().find(|kind| runtime::error::code(*kind) == code).unwrap_or(Internal)
}
