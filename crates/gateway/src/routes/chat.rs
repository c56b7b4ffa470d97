use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _, stream};
use proto::orchestrator::ConverseRequest;
use proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use proto::router::router_service_client::RouterServiceClient;
use proto::router::stream_complete_response::Event as Piece;
use proto::router::{
    Call, CompleteRequest, Dialect, Kept, ListModelsRequest, Receipt, StreamCompleteRequest,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use types::{CallContext, ErrorKind, NanoUsd, allows};

use super::providers;
use crate::auth::Grant;
use crate::error::COST;
use crate::limiter::Used;
use crate::{App, Error};

/// How many pieces of a stream are written together.
const TOGETHER: usize = 64;

/// Answers a conversation: OpenAI's chat completions.
///
/// The body goes to the router as it is; the gateway reads no more of it than `model`, `stream` and `dry_run`.
/// With `dry_run: true`, here and in the other dialects, it is told who would answer and what that could
/// cost, as by `/api/v1/estimate`, and nobody is asked.
#[utoipa::path(post, operation_id = "create_chat_completion", path = "/v1/chat/completions", tag = "models",
    request_body(content = Object, description = "OpenAI's chat completions request; `model` names a route or a model",
        example = json!({ "model": "auto", "messages": [{ "role": "user", "content": "Hello" }] })),
    responses((status = 200, description = "OpenAI's chat completion, or its chunks as server-sent events"),
        (status = 400, description = "A malformed request or an unknown model"),
        (status = 402, description = "The budget does not cover it"), (status = 503, description = "Nobody could answer")))]
pub(crate) async fn completions(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    answer(app, &context, &grant, body, Dialect::ChatCompletions).await
}

/// Answers a conversation in the client's dialect.
pub(crate) async fn answer(
    app: App,
    context: &CallContext,
    grant: &Grant,
    body: Result<Bytes, BytesRejection>,
    dialect: Dialect,
) -> Result<Response, Error> {
    #[derive(Deserialize)]
    #[serde(expecting = "an object")]
    struct Peek<'a> {
        // What it is besides true is for the router to judge.
        model: Option<Value>,
        stream: Option<Value>,
        dry_run: Option<bool>,
        #[serde(borrow)]
        tools: Option<&'a RawValue>,
    }
    let body = body.map_err(|fault| Error::with_status(fault.status(), fault.body_text()))?;
    let peek: Peek<'_> = serde_json::from_slice(&body)
        .map_err(|fault| Error::invalid(format!("the body is not valid: {fault}")))?;
    // A request without a model is refused where its form is read.
    if let Some(Value::String(model)) = &peek.model {
        grant.check_model(model)?;
    }
    let streams = peek.stream == Some(Value::Bool(true)) && dialect != Dialect::Embeddings;
    let (has_servers, dry_run) = (peek.tools.is_some_and(has_servers), peek.dry_run);
    let body = match dry_run {
        None => body,
        Some(_) => without_dry_run(&body)?,
    };
    if dry_run == Some(true) {
        return Ok(providers::estimated(app, context, body, dialect).await?.into_response());
    }
    if has_servers {
        return conversed(app, context, body, dialect, streams).await;
    }
    let call = Some(Call { body, groundings: Vec::new(), dialect: dialect.into() });
    let mut router = RouterServiceClient::new(app.peers.router.clone())
        .max_decoding_message_size(64 * 1024 * 1024)
        .max_encoding_message_size(usize::MAX);
    if streams {
        let request = runtime::context::request(context, StreamCompleteRequest { call });
        let pieces = router.stream_complete(request).await?.into_inner();
        let pieces = pieces.map(|piece| Ok(piece?.event));
        return streamed(pieces, dialect).await;
    }
    let request = runtime::context::request(context, CompleteRequest { call });
    let reply = router.complete(request).await?.into_inner();
    Ok(whole(reply.body, &reply.receipt.unwrap_or_default()))
}

/// Answers whole, and says at what cost.
fn whole(body: Bytes, receipt: &Receipt) -> Response {
    let mut response = json(body);
    let used = Used::known(receipt.input_tokens, receipt.output_tokens);
    response.extensions_mut().insert(used);
    let headers = response.headers_mut();
    say_who(headers, receipt);
    let besides = NanoUsd::new(receipt.spent_besides_nanos);
    let cost = NanoUsd::new(receipt.cost_nanos).checked_add(besides);
    say(headers, COST, &cost.unwrap_or(NanoUsd::new(i64::MAX)).to_string());
    response
}

/// Whether a list of tools has one of type "mcp". What is wrong with the list is for others to say.
fn has_servers(tools: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type", default)]
        kind: Value,
    }
    let kinds: Result<Vec<Kind>, _> = serde_json::from_str(tools.get());
    kinds.is_ok_and(|kinds| kinds.iter().any(|one| one.kind == "mcp"))
}

/// Answers a conversation whose tools are in part those of MCP servers: a run of the orchestrator.
async fn conversed(
    app: App,
    context: &CallContext,
    body: Bytes,
    dialect: Dialect,
    streams: bool,
) -> Result<Response, Error> {
    let early = || Error::new(ErrorKind::Unavailable, "the answer ended early");
    let call = Some(Call { body, groundings: Vec::new(), dialect: dialect.into() });
    let request = runtime::context::request(context, ConverseRequest { call });
    let mut orchestrator = OrchestratorServiceClient::new(app.peers.orchestrator.clone())
        .max_decoding_message_size(64 * 1024 * 1024)
        .max_encoding_message_size(usize::MAX);
    let mut replies = orchestrator.converse(request).await?.into_inner();
    let first = replies.message().await?.ok_or_else(early)?;
    let run = first.run_id.clone();
    let pieces = stream::iter([Ok(first)]).chain(replies);
    let mut pieces = pieces.map(|reply| Ok(reply?.piece.and_then(|piece| piece.event)));
    let mut response = if streams {
        streamed(pieces, dialect).await?
    } else {
        let mut answer = None;
        let receipt = loop {
            let piece: tonic::Result<Option<Piece>> = pieces.next().await.ok_or_else(early)?;
            match piece? {
                Some(Piece::Chunk(body)) => answer = Some(body),
                Some(Piece::Finished(receipt)) => break receipt,
                _ => {}
            }
        };
        whole(answer.ok_or_else(early)?, &receipt)
    };
    say(response.headers_mut(), "x-baton-run", &run);
    Ok(response)
}

/// Takes out what is ours alone: no provider knows the word.
fn without_dry_run(body: &[u8]) -> Result<Bytes, Error> {
    let mut body: serde_json::Map<String, Value> = serde_json::from_slice(body)
        .map_err(|fault| Error::invalid(format!("the body is not valid: {fault}")))?;
    body.remove("dry_run");
    Ok(Value::Object(body).to_string().into())
}

/// Passes on what is JSON already.
pub(crate) fn json(body: Bytes) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], body).into_response()
}

/// Waits for the first piece, so that a failure before it is a status and not a broken stream.
async fn streamed(
    mut pieces: impl Stream<Item = tonic::Result<Option<Piece>>> + Send + Unpin + 'static,
    dialect: Dialect,
) -> Result<Response, Error> {
    let early = || Error::new(ErrorKind::Unavailable, "the answer ended early");
    let first = pieces.next().await.transpose()?.flatten().ok_or_else(early)?;
    let Piece::Started(receipt) = first else { return Err(early()) };
    let used = Used::default();
    // Pieces that come together are written together; none of them waits for others.
    let pieces = pieces.map(|piece| piece.map_err(Error::from)).ready_chunks(TOGETHER);
    let (state, told) = ((pieces, used.clone()), used);
    let frames = stream::unfold(Some(state), move |state| async move {
        let (mut pieces, used) = state?;
        let (mut frames, mut last) = (Vec::new(), false);
        let come = pieces.next().await.unwrap_or_else(|| vec![Err(early())]);
        for piece in come {
            match piece {
                Ok(Some(Piece::Chunk(chunk))) => frame(dialect, &chunk, &mut frames),
                Ok(Some(Piece::Started(_)) | None) => {}
                Ok(Some(Piece::Finished(receipt))) => {
                    used.say(receipt.input_tokens, receipt.output_tokens);
                    frames.extend_from_slice(end(dialect));
                    last = true;
                }
                Ok(Some(Piece::Failed(message))) => {
                    let failed = Error::new(ErrorKind::Unavailable, message);
                    failure(dialect, &failed, &mut frames);
                    last = true;
                }
                Err(fault) => {
                    failure(dialect, &fault, &mut frames);
                    last = true;
                }
            }
            if last {
                break;
            }
        }
        let frames = Ok::<_, std::convert::Infallible>(Bytes::from(frames));
        Some((frames, (!last).then_some((pieces, used))))
    });
    let mut response = Body::from_stream(frames).into_response();
    response.extensions_mut().insert(told);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    say_who(headers, &receipt);
    Ok(response)
}

/// Frames a chunk as a server-sent event; events of Messages are named as they name themselves.
fn frame(dialect: Dialect, json: &[u8], frames: &mut Vec<u8>) {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "type")]
        name: String,
    }
    let named: Option<Named> = match dialect {
        Dialect::Messages | Dialect::Responses => serde_json::from_slice(json).ok(),
        Dialect::ChatCompletions | Dialect::Embeddings | Dialect::Unspecified => None,
    };
    let is_word = |name: &str| name.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b));
    if let Some(named) = named.filter(|named| is_word(&named.name)) {
        frames.extend_from_slice(b"event: ");
        frames.extend_from_slice(named.name.as_bytes());
        frames.push(b'\n');
    }
    frames.extend_from_slice(b"data: ");
    let data = frames.len();
    frames.extend_from_slice(json);
    // A line's end within JSON is a space, and would end the data here.
    let mut rest = &mut frames[data..];
    while let Some(end) = memchr::memchr2(b'\n', b'\r', rest) {
        rest[end] = b' ';
        rest = &mut rest[end + 1..];
    }
    frames.extend_from_slice(b"\n\n");
}

/// Ends a stream that is whole; Messages and Responses have said so already.
fn end(dialect: Dialect) -> &'static [u8] {
    match dialect {
        Dialect::Messages | Dialect::Responses => b"",
        Dialect::ChatCompletions | Dialect::Embeddings | Dialect::Unspecified => {
            b"data: [DONE]\n\n"
        }
    }
}

fn failure(dialect: Dialect, error: &Error, frames: &mut Vec<u8>) {
    let mut body = error.body(dialect);
    if dialect == Dialect::Responses {
        // An event of its own kind, with the fields of the error beside it.
        body = body["error"].take();
        body["type"] = "error".into();
    }
    frame(dialect, body.to_string().as_bytes(), frames);
}

fn say_who(headers: &mut HeaderMap, receipt: &Receipt) {
    say(headers, "x-baton-route", &receipt.route);
    say(headers, "x-baton-provider", &receipt.provider);
    say(headers, "x-baton-model", &receipt.model);
    say(headers, "x-baton-reason", &receipt.reason);
    if receipt.kept() != Kept::Unspecified {
        say(headers, "x-baton-cache", receipt.kept().name());
    }
    if receipt.kept() == Kept::Semantic {
        say(headers, "x-baton-similarity", &format!("{:.4}", receipt.similarity));
    }
}

fn say(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Turns texts into vectors: OpenAI's embeddings.
#[utoipa::path(post, operation_id = "create_embeddings", path = "/v1/embeddings", tag = "models",
    request_body(content = Object, description = "OpenAI's embeddings request; `model` names a model that embeds"),
    responses((status = 200, description = "OpenAI's list of embeddings"),
        (status = 400, description = "A malformed request, or a model that embeds nothing"),
        (status = 402, description = "The budget does not cover it"), (status = 503, description = "Nobody could answer")))]
pub(crate) async fn embeddings(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    answer(app, &context, &grant, body, Dialect::Embeddings).await
}

/// Lists routes and models: OpenAI's models.
#[utoipa::path(get, operation_id = "list_models", path = "/v1/models", tag = "models", responses((status = 200, description = "What `model` may name")))]
pub(crate) async fn models(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Extension(grant): Extension<Arc<Grant>>,
) -> Result<axum::Json<Value>, Error> {
    let request = runtime::context::request(&context, ListModelsRequest {});
    let reply =
        RouterServiceClient::new(app.peers.router.clone()).list_models(request).await?.into_inner();
    let model = |model: &proto::router::Model| json!({ "id": model.id, "object": "model", "created": 0, "owned_by": model.owned_by, "tier": model.tier });
    let allowed = reply.models.iter().filter(|one| allows(grant.models.as_deref(), &one.id));
    let models: Vec<Value> = allowed.map(model).collect();
    Ok(axum::Json(json!({ "object": "list", "data": models })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_data_whatever_its_provider_sent() {
        let framed = |dialect, json: &str| {
            let mut frames = Vec::new();
            frame(dialect, json.as_bytes(), &mut frames);
            String::from_utf8(frames).unwrap()
        };
        let split = framed(Dialect::ChatCompletions, "{\"a\":\n1}");
        assert_eq!(split, "data: {\"a\": 1}\n\n");
        let named = framed(Dialect::Messages, r#"{"type":"ping"}"#);
        assert_eq!(named, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
        let evil = framed(Dialect::Messages, r#"{"type":"a\ndata: b"}"#);
        assert!(!evil.contains("event:"), "{evil}");
    }

    #[tokio::test]
    async fn pieces_that_come_together_are_written_together_and_wait_for_no_other() {
        let chunk = |text: &'static str| Ok(Some(Piece::Chunk(text.into())));
        let first = [Ok(Some(Piece::Started(Receipt::default()))), chunk("1"), chunk("2")];
        let later = [chunk("3"), Ok(Some(Piece::Finished(Receipt::default()))), chunk("4")];
        let pause = stream::once(tokio::task::yield_now()).filter_map(|()| async { None });
        let pieces = Box::pin(stream::iter(first).chain(pause).chain(stream::iter(later)));
        let response = streamed(pieces, Dialect::ChatCompletions).await.unwrap();
        let frames: Vec<_> = response.into_body().into_data_stream().collect().await;
        let frames: Vec<_> = frames.into_iter().map(Result::unwrap).collect();
        assert_eq!(frames, ["data: 1\n\ndata: 2\n\n", "data: 3\n\ndata: [DONE]\n\n"]);
    }
}
