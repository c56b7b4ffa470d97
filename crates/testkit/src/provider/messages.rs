//! Anthropic's Messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::Counts;

pub(super) async fn answer(State(state): State<Arc<Counts>>, Json(body): Json<Value>) -> Response {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let turns = body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = turns.last();
    let content = last.map(|message| &message["content"]).unwrap_or(&Value::Null);
    let asked = content.as_str().or(content[0]["text"].as_str()).unwrap_or_default();
    if body["max_tokens"].as_u64().is_none() {
        let error = json!({ "type": "invalid_request_error", "message": "max_tokens: required" });
        let error = json!({ "type": "error", "error": error });
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    if asked == "refuse" {
        return (StatusCode::INTERNAL_SERVER_ERROR, "no").into_response();
    }
    let thought = json!({ "type": "thinking", "thinking": "hm", "signature": "s" });
    let call =
        json!({ "type": "tool_use", "id": "toolu_1", "name": "add", "input": { "a": 1, "b": 2 } });
    let (content, stop) = match asked {
        "tool" => (vec![thought, call], "tool_use"),
        "turns" => {
            let text = format!("{} turns", turns.len());
            (vec![json!({ "type": "text", "text": text })], "end_turn")
        }
        _ => (
            vec![thought, json!({ "type": "text", "text": super::text(asked).concat() })],
            "end_turn",
        ),
    };
    if body["stream"] == true {
        let frames = frames(&content, stop, asked).concat();
        return ([("content-type", "text/event-stream")], frames).into_response();
    }
    Json(whole(content, stop)).into_response()
}

/// An answer that is not streamed.
pub(super) fn whole(content: Vec<Value>, stop: &str) -> Value {
    let mut message = message();
    message["content"] = content.into();
    message["stop_reason"] = stop.into();
    message["usage"]["output_tokens"] = 1000.into();
    message
}

/// A thousand tokens read, of which 300 from a cache and 100 into it.
fn message() -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {
            "input_tokens": 600, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 100,
            "output_tokens": 1,
        },
    })
}

/// A stream's events, framed.
pub(super) fn frames(content: &[Value], stop: &str, asked: &str) -> Vec<String> {
    let mut events = vec![json!({ "type": "message_start", "message": message() })];
    events.push(json!({ "type": "ping" }));
    for (index, block) in content.iter().enumerate() {
        let (start, deltas) = match block["type"].as_str() {
            Some("text") => (
                json!({ "type": "text", "text": "" }),
                super::text(asked)
                    .map(|text| json!({ "type": "text_delta", "text": text }))
                    .to_vec(),
            ),
            Some("thinking") => (
                json!({ "type": "thinking", "thinking": "", "signature": "" }),
                vec![
                    json!({ "type": "thinking_delta", "thinking": "hm" }),
                    json!({ "type": "signature_delta", "signature": "s" }),
                ],
            ),
            _ => (
                json!({ "type": "tool_use", "id": "toolu_1", "name": "add", "input": {} }),
                vec![
                    json!({ "type": "input_json_delta", "partial_json": "{\"a\": 1" }),
                    json!({ "type": "input_json_delta", "partial_json": ", \"b\": 2}" }),
                ],
            ),
        };
        events
            .push(json!({ "type": "content_block_start", "index": index, "content_block": start }));
        for delta in deltas {
            events.push(json!({ "type": "content_block_delta", "index": index, "delta": delta }));
        }
        events.push(json!({ "type": "content_block_stop", "index": index }));
    }
    let delta = json!({ "stop_reason": stop, "stop_sequence": null });
    let mut usage = message()["usage"].take();
    usage["output_tokens"] = 1000.into();
    events.push(json!({ "type": "message_delta", "delta": delta, "usage": usage }));
    events.push(json!({ "type": "message_stop" }));
    if asked == "break" {
        events.truncate(4);
    }
    let frame = |event: &Value| {
        format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
    };
    events.iter().map(frame).collect()
}
