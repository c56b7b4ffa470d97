//! A model that calls tools as its user says, and tells what they gave.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};

use super::{chunk, completion, last};

/// Returns the answer to a conversation whose last user message begins with `call` or `again`, each with
/// tools and their arguments: `call NAME {…} & NAME {…}`.
pub(super) fn answer(body: &Value) -> Option<Response> {
    let messages = body["messages"].as_array()?;
    let asked = messages.iter().rev().find(|message| message["role"] == "user")?;
    let asked = asked["content"].as_str().or(asked["content"][0]["text"].as_str())?;
    let again = asked.strip_prefix("again ");
    let calls = calls(again.or_else(|| asked.strip_prefix("call "))?);
    // A call that is told alone is one without a word.
    let given = messages.iter().rev().take_while(|message| {
        message["role"] == "tool"
            || message["tool_calls"].is_array() && message["content"].is_null()
    });
    let given = given.filter(|message| message["role"] == "tool");
    let given: Vec<_> = given.filter_map(|message| message["content"].as_str()).collect();
    let message = match given.is_empty() || again.is_some() {
        true => json!({ "role": "assistant", "content": "Let me see.", "tool_calls": calls }),
        false => {
            let given: Vec<_> = given.into_iter().rev().collect();
            json!({ "role": "assistant", "content": format!("They gave: {}", given.join(" | ")) })
        }
    };
    let end = if message["tool_calls"].is_null() { "stop" } else { "tool_calls" };
    if body["stream"] != true {
        let choice = json!({ "index": 0, "message": message, "finish_reason": end });
        return Some(axum::Json(completion(choice)).into_response());
    }
    let mut frames = vec![chunk(&json!({ "content": message["content"] }), None)];
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        // In pieces, as models write.
        let mut first = call.clone();
        let arguments = first["function"]["arguments"].take();
        first["function"]["arguments"] = "".into();
        let (one, two) = halves(arguments.as_str().unwrap_or_default());
        let more =
            |part: &str| json!({ "index": call["index"], "function": { "arguments": part } });
        for call in [first, more(one), more(two)] {
            frames.push(chunk(&json!({ "tool_calls": [call] }), None));
        }
    }
    frames.push(chunk(&json!({}), Some(end)));
    frames.push(format!("data: {}\n\n", last()).into());
    frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
    let frames = stream::iter(frames.into_iter().map(Ok::<_, std::convert::Infallible>));
    Some(([("content-type", "text/event-stream")], Body::from_stream(frames)).into_response())
}

fn calls(text: &str) -> Vec<Value> {
    let calls = text.split(" & ").enumerate().map(|(index, call)| {
        let (name, arguments) = call.split_once(' ').unwrap_or((call, "{}"));
        json!({
            "index": index, "id": format!("call_{index}"), "type": "function",
            "function": { "name": name, "arguments": arguments },
        })
    });
    calls.collect()
}

fn halves(text: &str) -> (&str, &str) {
    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at));
    text.split_at(middle.unwrap_or(0))
}
