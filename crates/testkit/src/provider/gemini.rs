//! Google's Gemini.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Counts;

pub(super) async fn answer(
    State(state): State<Arc<Counts>>,
    Path(call): Path<String>,
    Json(body): Json<Value>,
) -> Response {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let turns = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = turns.last();
    let parts = last.and_then(|content| content["parts"].as_array());
    let asked = parts.and_then(|parts| parts.last()).and_then(|part| part["text"].as_str());
    let asked = asked.unwrap_or_default();
    if asked == "refuse" {
        return (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response();
    }
    let call_of = json!({
        "functionCall": { "name": "add", "args": { "a": 1, "b": 2 } }, "thoughtSignature": "s",
    });
    let said = match asked {
        "tool" => vec![call_of],
        "turns" => vec![json!({ "text": format!("{} turns", turns.len()) })],
        _ => super::text(asked).map(|text| json!({ "text": text })).to_vec(),
    };
    if call == "m:generateContent" {
        return Json(piece(&said, Some("STOP"))).into_response();
    }
    let mut pieces: Vec<Value> =
        said.iter().map(|part| piece(std::slice::from_ref(part), None)).collect();
    if asked != "break" {
        pieces.push(piece(&[json!({ "text": "" })], Some("STOP")));
    }
    let stream: String = pieces.iter().map(|piece| format!("data: {piece}\r\n\r\n")).collect();
    ([("content-type", "text/event-stream")], stream).into_response()
}

/// An answer, or a piece of one.
pub(super) fn piece(parts: &[Value], end: Option<&str>) -> Value {
    json!({
        "candidates": [{ "content": { "role": "model", "parts": parts }, "finishReason": end }],
        "usageMetadata": { "promptTokenCount": 1000, "candidatesTokenCount": 600,
            "thoughtsTokenCount": 400 },
        "modelVersion": "m", "responseId": "1",
    })
}
