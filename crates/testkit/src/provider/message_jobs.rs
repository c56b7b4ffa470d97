//! Anthropic's message batches: a state machine that the test drives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Json, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::{Counts, Provider, Trouble};

#[derive(Debug, Default)]
pub(super) struct MessageJobs(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    trouble: Trouble,
    /// The oldest first, each with its requests.
    batches: Vec<(Value, Vec<Value>)>,
    looks: usize,
    listings: usize,
}

impl MessageJobs {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Provider {
    /// Puts the API for message batches out of order, or in order again.
    pub fn message_batches_have(&self, trouble: Trouble) {
        self.state.message_jobs.lock().trouble = trouble;
    }

    /// Returns the message batches that were made, as they stand, the oldest first.
    #[must_use]
    pub fn message_batches(&self) -> Vec<Value> {
        self.state.message_jobs.lock().batches.iter().map(|one| one.0.clone()).collect()
    }

    /// Returns how often somebody looked how a message batch stands.
    #[must_use]
    pub fn message_looks(&self) -> usize {
        self.state.message_jobs.lock().looks
    }

    /// Returns how often somebody looked which message batches there are.
    #[must_use]
    pub fn message_listings(&self) -> usize {
        self.state.message_jobs.lock().listings
    }

    /// Ends every message batch that does not run for ever. What a request's last message says
    /// decides what becomes of it: `refuse` is an invalid request, `fail` an error of the API, `missing`
    /// has expired; every other one is answered with `pong`, but every other one of a batch that was
    /// cancelled is not.
    pub fn message_batches_end(&self) {
        let jobs = &mut self.state.message_jobs.lock().batches;
        for (batch, _) in jobs.iter_mut().filter(|one| !one.1.is_empty()) {
            batch["processing_status"] = "ended".into();
        }
    }

    /// Makes a message batch of somebody else's, in so many seconds and with so many requests. It has
    /// ended, or runs for ever.
    pub fn another_has_a_message_batch(&self, later: u64, requests: usize, has_ended: bool) {
        let mut jobs = self.state.message_jobs.lock();
        let mut batch = batch(jobs.batches.len(), later, requests);
        let request = |number| json!({ "custom_id": format!("theirs_{number}"), "params": {} });
        let requests = match has_ended {
            true => (0..requests).map(request).collect(),
            false => Vec::new(),
        };
        if has_ended {
            batch["processing_status"] = "ended".into();
        }
        jobs.batches.push((batch, requests));
    }
}

pub(super) fn routes() -> Router<Arc<Counts>> {
    Router::new()
        .route("/v1/messages/batches", post(create).get(list))
        .route("/v1/messages/batches/{id}", get(look))
        .route("/v1/messages/batches/{id}/cancel", post(cancel))
        .route("/v1/messages/batches/{id}/results", get(results))
}

fn wrong(status: StatusCode, kind: &str) -> Response {
    let error = json!({ "type": "error", "error": { "type": kind, "message": "no" } });
    (status, Json(error)).into_response()
}

async fn create(State(state): State<Arc<Counts>>, Json(wanted): Json<Value>) -> Response {
    let (batch, trouble) = {
        let mut jobs = state.message_jobs.lock();
        if jobs.trouble == Trouble::Down {
            return wrong(StatusCode::SERVICE_UNAVAILABLE, "api_error");
        }
        let requests = wanted["requests"].as_array().cloned().unwrap_or_default();
        let is_id = |id: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            (1..=64).contains(&id.len()) && id.bytes().all(good)
        };
        let good = |one: &Value| {
            one["custom_id"].as_str().is_some_and(is_id)
                && one["params"]["max_tokens"].is_u64()
                && one["params"].get("stream").is_none()
        };
        if requests.is_empty() || !requests.iter().all(good) {
            return wrong(StatusCode::BAD_REQUEST, "invalid_request_error");
        }
        let batch = batch(jobs.batches.len(), 0, requests.len());
        jobs.batches.push((batch.clone(), requests));
        (batch, jobs.trouble)
    };
    match trouble {
        Trouble::HangsAtCreation => std::future::pending().await,
        Trouble::LosesCreation => wrong(StatusCode::INTERNAL_SERVER_ERROR, "api_error"),
        _ => Json(batch).into_response(),
    }
}

fn batch(number: usize, later: u64, requests: usize) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    json!({
        "id": format!("msgbatch_{number}"), "type": "message_batch",
        "processing_status": "in_progress", "request_counts": { "processing": requests, "succeeded": 0 },
        "results_url": null, "cancel_initiated_at": null,
        "created_at": rfc3339(now.unwrap_or_default().as_secs() + later),
    })
}

/// Writes a moment of the days since 2020, with years and months by the calendar.
fn rfc3339(seconds: u64) -> String {
    let (mut days, time) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    let (hour, minute, second) = (time / 3600, time / 60 % 60, time % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.5Z", days + 1)
}

async fn list(
    State(state): State<Arc<Counts>>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let mut jobs = state.message_jobs.lock();
    jobs.listings += 1;
    if jobs.trouble == Trouble::Down {
        return wrong(StatusCode::SERVICE_UNAVAILABLE, "api_error");
    }
    // Two a page, so that whoever looks turns pages.
    let newest = jobs.batches.iter().rev().map(|one| &one.0);
    let rest: Vec<&Value> = match query.get("after_id") {
        None => newest.collect(),
        Some(after) => newest.skip_while(|batch| batch["id"] != **after).skip(1).collect(),
    };
    let page: Vec<&Value> = rest.iter().take(2).copied().collect();
    Json(json!({ "data": page, "has_more": rest.len() > 2 })).into_response()
}

async fn look(State(state): State<Arc<Counts>>, Path(id): Path<String>) -> Response {
    let mut jobs = state.message_jobs.lock();
    jobs.looks += 1;
    if jobs.trouble == Trouble::Down {
        return wrong(StatusCode::SERVICE_UNAVAILABLE, "api_error");
    }
    let found = jobs.batches.iter().find(|one| one.0["id"] == *id);
    let none = || wrong(StatusCode::NOT_FOUND, "not_found_error");
    found.map_or_else(none, |one| Json(one.0.clone()).into_response())
}

async fn cancel(State(state): State<Arc<Counts>>, Path(id): Path<String>) -> Response {
    let mut jobs = state.message_jobs.lock();
    match jobs.batches.iter_mut().find(|one| one.0["id"] == *id) {
        None => wrong(StatusCode::NOT_FOUND, "not_found_error"),
        Some((batch, _)) => {
            if batch["processing_status"] == "in_progress" {
                batch["processing_status"] = "canceling".into();
                batch["cancel_initiated_at"] = batch["created_at"].clone();
            }
            Json(batch.clone()).into_response()
        }
    }
}

async fn results(State(state): State<Arc<Counts>>, Path(id): Path<String>) -> Response {
    let jobs = state.message_jobs.lock();
    let found = jobs.batches.iter().find(|one| one.0["id"] == *id);
    let Some((batch, requests)) = found.filter(|one| one.0["processing_status"] == "ended") else {
        return wrong(StatusCode::NOT_FOUND, "not_found_error");
    };
    let is_cancelled = batch["cancel_initiated_at"].is_string();
    let requests = requests.iter().enumerate();
    let mut lines: Vec<String> =
        requests.map(|(at, request)| result(request, is_cancelled && at % 2 == 1)).collect();
    // Out of order, and one of them twice.
    lines.reverse();
    lines.extend(lines.first().cloned());
    lines.join("\n").into_response()
}

fn result(request: &Value, is_cancelled: bool) -> String {
    let messages = request["params"]["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages.last().map(|last| &last["content"]);
    let asked = last.and_then(|content| content.as_str().or(content[0]["text"].as_str()));
    let errored = |kind: &str, message: &str| {
        let error = json!({ "type": "error", "error": { "type": kind, "message": message } });
        json!({ "type": "errored", "error": error })
    };
    let result = match asked.unwrap_or_default() {
        _ if is_cancelled => json!({ "type": "canceled" }),
        "missing" => json!({ "type": "expired" }),
        "refuse" => errored("invalid_request_error", "nobody asks that"),
        "fail" => errored("api_error", "a mishap"),
        _ => json!({ "type": "succeeded", "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [{ "type": "text", "text": "pong" }], "stop_reason": "end_turn",
            "usage": { "input_tokens": 1000, "output_tokens": 1000 },
        } }),
    };
    json!({ "custom_id": request["custom_id"], "result": result }).to_string()
}
