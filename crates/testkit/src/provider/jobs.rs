//! OpenAI's files and batches: a state machine that the test drives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Json, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{Counts, Provider};

/// How the batch API is out of order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trouble {
    /// It is not.
    #[default]
    None,
    /// Status 503, whatever it is asked.
    Down,
    /// An upload is taken, and never answered.
    HangsAtUpload,
    /// A batch is made, and nobody is told.
    HangsAtCreation,
    /// A batch is made, and the answer is status 500.
    LosesCreation,
}

#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    trouble: Trouble,
    files: BTreeMap<String, String>,
    /// The oldest first.
    batches: Vec<Value>,
    looks: usize,
}

impl Jobs {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider {
    /// Puts the batch API out of order, or in order again.
    pub fn batches_have(&self, trouble: Trouble) {
        self.state.jobs.lock().trouble = trouble;
    }

    /// Returns the batches that were made, as they stand, the oldest first.
    #[must_use]
    pub fn batches(&self) -> Vec<Value> {
        self.state.jobs.lock().batches.clone()
    }

    /// Returns how many files it has of purpose `batch`.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.state.jobs.lock().files.keys().filter(|id| id.starts_with("file-in")).count()
    }

    /// Returns how often somebody looked how a batch stands.
    #[must_use]
    pub fn looks(&self) -> usize {
        self.state.jobs.lock().looks
    }

    /// Lets every batch that has not ended stand so; an end comes with its files. What a line's last
    /// message says decides what becomes of it: `refuse` is status 400, `fail` status 500, `missing`
    /// is in no file; every other one is answered with `pong`, unless the batch ends otherwise than
    /// `completed`: then every other line is `batch_expired`.
    pub fn batches_become(&self, status: &str) {
        let mut jobs = self.state.jobs.lock();
        let mut batches = std::mem::take(&mut jobs.batches);
        for batch in batches.iter_mut().filter(|batch| !is_over(batch)) {
            batch["status"] = status.into();
            if status == "failed" {
                batch["errors"] =
                    json!({ "data": [{ "message": "too many tokens are enqueued" }] });
            } else if is_over(batch) {
                end(&mut jobs, batch, status == "completed");
            }
        }
        jobs.batches = batches;
    }
}

fn is_over(batch: &Value) -> bool {
    ["completed", "failed", "expired", "cancelled"].iter().any(|end| batch["status"] == *end)
}

fn end(jobs: &mut Inner, batch: &mut Value, all: bool) {
    let input = jobs.files[batch["input_file_id"].as_str().unwrap_or_default()].clone();
    // A line of somebody else's, and what is no line.
    let mut output = vec![json!({ "custom_id": "none", "response": null }).to_string()];
    let (mut errors, mut first) = (vec!["{ pong".to_owned()], None);
    for (number, line) in input.lines().enumerate() {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        let messages = line["body"]["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        let asked = messages.last().and_then(|last| last["content"].as_str()).unwrap_or_default();
        let said = |status: u16, body: Value| {
            let response = json!({ "status_code": status, "request_id": "r", "body": body });
            json!({ "id": "x", "custom_id": line["custom_id"], "response": response, "error": null })
                .to_string()
        };
        let wrong = |message: &str| json!({ "error": { "message": message } });
        match asked {
            "missing" => {}
            "refuse" => errors.push(said(400, wrong("nobody asks that"))),
            "fail" => errors.push(said(500, wrong("a mishap"))),
            _ if !all && number % 2 == 1 => {
                let error = json!({ "code": "batch_expired", "message": "too late" });
                let line =
                    json!({ "custom_id": line["custom_id"], "response": null, "error": error });
                errors.push(line.to_string());
            }
            _ => {
                let message = json!({ "role": "assistant", "content": "pong" });
                let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
                let answer = json!({
                    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
                    "choices": [choice], "usage": super::usage(),
                });
                let line = said(200, answer);
                first.get_or_insert(line.clone());
                output.push(line);
            }
        }
    }
    // Out of order, and one of them twice.
    output.reverse();
    output.extend(first);
    for (name, lines) in [("output_file_id", output), ("error_file_id", errors)] {
        let id = format!("file-out{}", jobs.files.len());
        jobs.files.insert(id.clone(), lines.join("\n"));
        batch[name] = id.into();
    }
}

pub(super) fn routes() -> Router<Arc<Counts>> {
    Router::new()
        .route("/v1/files", post(upload))
        .route("/v1/files/{id}/content", get(content))
        .route("/v1/batches", post(create).get(list))
        .route("/v1/batches/{id}", get(look))
        .route("/v1/batches/{id}/cancel", post(cancel))
}

fn down(jobs: &Inner) -> Option<Response> {
    let error = json!({ "error": { "message": "down" } });
    let response = (StatusCode::SERVICE_UNAVAILABLE, Json(error));
    (jobs.trouble == Trouble::Down).then(|| response.into_response())
}

fn nothing() -> Response {
    let error = json!({ "error": { "message": "there is none" } });
    (StatusCode::NOT_FOUND, Json(error)).into_response()
}

async fn upload(State(state): State<Arc<Counts>>, body: Bytes) -> Response {
    let hangs = {
        let mut jobs = state.jobs.lock();
        if let Some(down) = down(&jobs) {
            return down;
        }
        let text = String::from_utf8_lossy(&body);
        // The lines are what is JSON.
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
        let id = format!("file-in{}", jobs.files.len());
        jobs.files.insert(id.clone(), lines.join("\n"));
        match jobs.trouble == Trouble::HangsAtUpload {
            true => None,
            false => Some(json!({ "id": id, "object": "file", "purpose": "batch" })),
        }
    };
    match hangs {
        Some(file) => Json(file).into_response(),
        None => std::future::pending().await,
    }
}

async fn create(State(state): State<Arc<Counts>>, Json(wanted): Json<Value>) -> Response {
    let (batch, trouble) = {
        let mut jobs = state.jobs.lock();
        if let Some(down) = down(&jobs) {
            return down;
        }
        if !jobs.files.contains_key(wanted["input_file_id"].as_str().unwrap_or_default()) {
            return (StatusCode::BAD_REQUEST, "no such file").into_response();
        }
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let batch = json!({
            "id": format!("batch_{}", jobs.batches.len()), "object": "batch",
            "status": "validating", "input_file_id": wanted["input_file_id"],
            "endpoint": wanted["endpoint"], "completion_window": wanted["completion_window"],
            "metadata": wanted["metadata"], "output_file_id": null, "error_file_id": null,
            "created_at": now.unwrap_or_default().as_secs(),
        });
        jobs.batches.push(batch.clone());
        (batch, jobs.trouble)
    };
    match trouble {
        Trouble::HangsAtCreation => std::future::pending().await,
        Trouble::LosesCreation => (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response(),
        _ => Json(batch).into_response(),
    }
}

async fn list(
    State(state): State<Arc<Counts>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let jobs = state.jobs.lock();
    if let Some(down) = down(&jobs) {
        return down;
    }
    // Two a page, so that whoever looks turns pages.
    let newest = jobs.batches.iter().rev();
    let after = query.get("after");
    let rest: Vec<&Value> = match after {
        None => newest.collect(),
        Some(after) => newest.skip_while(|batch| batch["id"] != **after).skip(1).collect(),
    };
    let page: Vec<&Value> = rest.iter().take(2).copied().collect();
    Json(json!({ "object": "list", "data": page, "has_more": rest.len() > 2 })).into_response()
}

async fn look(State(state): State<Arc<Counts>>, Path(id): Path<String>) -> Response {
    let mut jobs = state.jobs.lock();
    jobs.looks += 1;
    if let Some(down) = down(&jobs) {
        return down;
    }
    let found = jobs.batches.iter().find(|batch| batch["id"] == *id);
    found.map_or_else(nothing, |batch| Json(batch.clone()).into_response())
}

async fn cancel(State(state): State<Arc<Counts>>, Path(id): Path<String>) -> Response {
    let mut jobs = state.jobs.lock();
    if let Some(down) = down(&jobs) {
        return down;
    }
    match jobs.batches.iter_mut().find(|batch| batch["id"] == *id) {
        None => nothing(),
        Some(batch) if is_over(batch) => (StatusCode::CONFLICT, "too late").into_response(),
        Some(batch) => {
            batch["status"] = "cancelling".into();
            Json(batch.clone()).into_response()
        }
    }
}

async fn content(State(state): State<Arc<Counts>>, Path(id): Path<String>) -> Response {
    let jobs = state.jobs.lock();
    if let Some(down) = down(&jobs) {
        return down;
    }
    jobs.files.get(&id).map_or_else(nothing, |text| text.clone().into_response())
}
