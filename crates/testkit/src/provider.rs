//! A provider of language models that speaks OpenAI's chat completions, well or badly.

mod calling;
pub mod faulty;
mod gemini;
mod jobs;
mod message_jobs;
mod messages;
pub mod nowhere;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Json, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::jobs::Trouble;

/// A provider on a free port of this machine; it ends with the runtime that it was started on.
///
/// Its one model is called `m`, its answer is `pong`, its usage a thousand tokens in and a thousand
/// out. What the last message says decides how it goes wrong:
///
/// | message | answer |
/// |---|---|
/// | `refuse` | status 500 |
/// | `hang` | nothing, ever |
/// | `break` | half a stream |
/// | `wait` | half a stream, or nothing, and the rest when [`Provider::go_on`] is called |
/// | `chunks N` | `pong` N times, a chunk each |
/// | `tool` | a call of the tool `add` with `{"a": 1, "b": 2}` |
/// | `call NAME {…} & NAME {…}` | calls of these tools, and then `They gave: ` what they gave |
/// | `again NAME {…}` | calls of the tool, however often it has answered |
/// | `json` | `{"a": 1, "b": 2}` as its text |
/// | `status N` | that status, with `Retry-After: 1` when `N` ends in `+` |
/// | `late event` | a piece, and then an error as an event |
/// | `reset` | 200, and the connection is broken off |
/// | `turns` | how many messages it was told: `3 turns`, as a whole answer only |
/// | `flaky N` | `0 1 … 9 `, a chunk each; of model `m`, when N ends in 0 status 500, in 1 a stream without anything, in 2 half of it |
///
/// It has OpenAI's batch API, whose batches go on as the test says.
///
/// It speaks Anthropic's Messages and Gemini too, and there knows `ping`, `refuse`, `tool`, `json`, `turns`
/// and `break`.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its address, without `/v1`.
    pub url: String,
    state: Arc<Counts>,
}

#[derive(Debug)]
struct Counts {
    jobs: jobs::Jobs,
    message_jobs: message_jobs::MessageJobs,
    requests: AtomicUsize,
    /// The last conversation, as it came.
    last: Mutex<Value>,
    gate: Semaphore,
    listings: AtomicUsize,
    /// How texts are embedded; none for those that are never answered.
    vectors: Mutex<HashMap<String, Option<[f64; 2]>>>,
    /// Its models as it lists them; nothing while it does not say.
    listed: Mutex<Option<Vec<String>>>,
}

impl Provider {
    /// Starts one.
    ///
    /// # Errors
    /// If no port is free.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let listed = ["m", "m-embed"].map(str::to_owned).to_vec();
        let state = Arc::new(Counts {
            jobs: jobs::Jobs::default(),
            message_jobs: message_jobs::MessageJobs::default(),
            requests: AtomicUsize::new(0),
            last: Mutex::default(),
            gate: Semaphore::new(0),
            listings: AtomicUsize::new(0),
            vectors: Mutex::default(),
            listed: Mutex::new(Some(listed)),
        });
        let provider = Self { url, state };
        let router = provider.router();
        // Or a stream's second piece would wait 40 ms for the first one's acknowledgement.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(provider)
    }

    /// Returns how many conversations it was asked to go on with.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Returns the last conversation that it was asked to go on with; null before the first.
    #[must_use]
    pub fn last(&self) -> Value {
        self.state.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns how often it was asked for its models.
    #[must_use]
    pub fn listings(&self) -> usize {
        self.state.listings.load(Ordering::SeqCst)
    }

    /// From now on lists these models, or none and says 503.
    pub fn list(&self, models: Option<&[&str]>) {
        let models = models.map(|models| models.iter().map(|&name| name.to_owned()).collect());
        *self.state.listed.lock().unwrap_or_else(PoisonError::into_inner) = models;
    }

    /// From now on embeds a text as this vector, or never answers.
    pub fn embed_as(&self, text: &str, vector: Option<[f64; 2]>) {
        let mut vectors = self.state.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        vectors.insert(text.to_owned(), vector);
    }

    /// Lets one answer go on: to `wait`, after its first chunk, or to `late`, before it.
    pub fn go_on(&self) {
        self.state.gate.add_permits(1);
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/messages", post(messages::answer))
            .route("/v1/models/{call}", post(gemini::answer))
            .route("/v1/embeddings", post(embed))
            .route("/v1/rerank", post(rerank))
            .route("/v1/models", get(models))
            .merge(jobs::routes())
            .merge(message_jobs::routes())
            .with_state(Arc::clone(&self.state))
    }
}

/// Lists its models as every dialect does: OpenAI and Anthropic in `data`, Gemini in `models`.
async fn models(State(state): State<Arc<Counts>>) -> Response {
    state.listings.fetch_add(1, Ordering::SeqCst);
    let listed = state.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(listed) = listed else { return refused("503") };
    let data: Vec<Value> = listed.iter().map(|name| json!({ "id": name })).collect();
    let models = listed.iter().map(|name| json!({ "name": format!("models/{name}") }));
    let models: Vec<Value> = models.collect();
    Json(json!({ "object": "list", "data": data, "models": models })).into_response()
}

/// A vector a text, of its length and a half unless the test says otherwise; a thousand tokens.
async fn embed(State(state): State<Arc<Counts>>, Json(body): Json<Value>) -> Json<Value> {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let one = [body["input"].clone()];
    let inputs = body["input"].as_array().map_or(one.as_slice(), Vec::as_slice);
    let known = state.vectors.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut data = Vec::new();
    for (index, text) in inputs.iter().map(|text| text.as_str().unwrap_or_default()).enumerate() {
        let vector = match known.get(text) {
            Some(Some(vector)) => json!(vector),
            Some(None) => return std::future::pending().await,
            None => json!([text.len(), 0.5]),
        };
        data.push(json!({ "object": "embedding", "index": index, "embedding": vector }));
    }
    let usage = json!({ "prompt_tokens": 1000, "total_tokens": 1000 });
    Json(json!({ "object": "list", "data": data, "model": "m-embed", "usage": usage }))
}

/// Finds the longest documents best; none for `refuse`.
async fn rerank(Json(body): Json<Value>) -> Response {
    if body["query"] == "refuse" {
        return refused("500");
    }
    let documents = body["documents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let score = |(index, text): (usize, &Value)| {
        let length = text.as_str().unwrap_or_default().len();
        json!({ "index": index, "relevance_score": length })
    };
    let results: Vec<Value> = documents.iter().enumerate().map(score).rev().collect();
    Json(json!({ "model": "m-rerank", "results": results })).into_response()
}

async fn answer(State(state): State<Arc<Counts>>, Json(body): Json<Value>) -> Response {
    let number = state.requests.fetch_add(1, Ordering::SeqCst);
    body.clone_into(&mut state.last.lock().unwrap_or_else(PoisonError::into_inner));
    if let Some(answer) = calling::answer(&body) {
        return answer;
    }
    let messages = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let content = messages.last().map(|message| &message["content"]).unwrap_or(&Value::Null);
    let asked = content.as_str().or(content[0]["text"].as_str()).unwrap_or_default().to_owned();
    match asked.as_str() {
        "refuse" => return (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response(),
        "hang" => return std::future::pending().await,
        asked if asked.starts_with("status ") => return refused(&asked[7..]),
        "picky" if body["model"] == "m" => return refused("400"),
        "stumble" if number % 2 == 0 => return refused("503"),
        "reset" => return reset(),
        _ => {}
    }
    let flaw = match asked.strip_prefix("flaky ") {
        Some(number) if body["model"] == "m" => number.chars().last(),
        _ => None,
    };
    match flaw {
        Some('0') => return (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response(),
        Some('1') => return ([("content-type", "text/event-stream")], "").into_response(),
        _ => {}
    }
    if body["stream"] == true {
        return streamed(state, &asked, flaw == Some('2'));
    }
    if matches!(asked.as_str(), "wait" | "late") {
        pass(&state.gate).await;
    }
    let choice = match asked.as_str() {
        "tool" => {
            let message = json!({ "role": "assistant", "content": null, "tool_calls": [call()] });
            json!({ "index": 0, "message": message, "finish_reason": "tool_calls" })
        }
        asked => {
            let text = match asked {
                "turns" => format!("{} turns", messages.len()),
                asked => text(asked).concat(),
            };
            let message = json!({ "role": "assistant", "content": text });
            json!({ "index": 0, "message": message, "finish_reason": "stop" })
        }
    };
    Json(completion(choice)).into_response()
}

fn completion(choice: Value) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [choice], "usage": usage(),
    })
}

/// Returns what is answered to `asked`, in two pieces.
fn text(asked: &str) -> [&'static str; 2] {
    match asked {
        "json" => ["{\"a\": 1", ", \"b\": 2}"],
        _ => ["po", "ng"],
    }
}

fn refused(status: &str) -> Response {
    let (code, comes_back) = (status.trim_end_matches('+'), status.ends_with('+'));
    let code = code.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
    let error = json!({ "error": { "message": "not now", "type": "overloaded_error" } });
    let mut response = (code.unwrap_or(StatusCode::IM_A_TEAPOT), Json(error)).into_response();
    if comes_back {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
    }
    response
}

fn reset() -> Response {
    let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("broken off"))]);
    Body::from_stream(broken).into_response()
}

fn streamed(state: Arc<Counts>, asked: &str, is_half: bool) -> Response {
    let count = asked.strip_prefix("chunks ").and_then(|count| count.parse().ok());
    let mut texts = match count {
        Some(count) => vec!["pong".to_owned(); count],
        None if asked.starts_with("flaky ") => (0..10).map(|at| format!("{at} ")).collect(),
        None => text(asked).map(str::to_owned).to_vec(),
    };
    let fails = asked == "late event";
    let gated = ["late", "wait"].iter().position(|name| *name == asked);
    let whole = asked != "break" && !is_half && !fails;
    if !whole {
        texts.truncate(texts.len() / 2);
    }
    let mut frames: Vec<Bytes> =
        texts.iter().map(|text| chunk(&json!({ "content": text }), None)).collect();
    if asked == "tool" {
        let mut first = call();
        first["function"]["arguments"] = "".into();
        let parts = [r#"{"a": 1"#, r#", "b": 2}"#];
        let parts = parts.map(|part| json!({ "index": 0, "function": { "arguments": part } }));
        let calls = std::iter::once(first).chain(parts);
        frames = calls.map(|one| chunk(&json!({ "tool_calls": [one] }), None)).collect();
        frames.push(chunk(&json!({}), Some("tool_calls")));
    } else if whole {
        frames.push(chunk(&json!({}), Some("stop")));
    }
    if fails {
        let error = json!({ "error": { "message": "overloaded" } });
        frames.push(format!("data: {error}\n\n").into());
    }
    if whole {
        frames.push(format!("data: {}\n\n", last()).into());
        frames.push("data: [DONE]\n\n".into());
    }
    let frames = stream::iter(frames.into_iter().enumerate()).then(move |(index, frame)| {
        let state = Arc::clone(&state);
        async move {
            if gated == Some(index) {
                pass(&state.gate).await;
            }
            Ok::<_, std::convert::Infallible>(frame)
        }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(frames)).into_response()
}

async fn pass(gate: &Semaphore) {
    if let Ok(permit) = gate.acquire().await {
        permit.forget();
    }
}

fn call() -> Value {
    json!({
        "index": 0, "id": "call_1", "type": "function",
        "function": { "name": "add", "arguments": r#"{"a": 1, "b": 2}"# },
    })
}

fn chunk(delta: &Value, end: Option<&str>) -> Bytes {
    // OpenAI says the role once, other servers with every piece; both are put together alike.
    let mut delta = delta.clone();
    delta["role"] = "assistant".into();
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": end }],
    });
    format!("data: {chunk}\r\n\r\n").into()
}

fn last() -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
        "choices": [], "usage": usage(),
    })
}

fn usage() -> Value {
    json!({ "prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000 })
}
