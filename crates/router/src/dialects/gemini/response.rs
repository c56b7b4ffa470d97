//! Gemini's answer, as chat completions give it.

use serde_json::{Value, json};

use crate::dialects::thought;

/// Writes Gemini's answer, made at `now` (seconds since 1970), as a chat completion with at most so
/// many calls of tools.
pub(crate) fn response(wire: &Value, most_calls: usize, now: i64) -> Value {
    let (mut delta, finish) = said(wire, &mut Calls::up_to(most_calls));
    delta["role"] = "assistant".into();
    if delta.get("content").is_none() {
        delta["content"] = Value::Null;
    }
    let mut chat = frame(wire, "chat.completion", now);
    let choice = json!({ "index": 0, "message": delta, "finish_reason": finish });
    chat["choices"] = json!([choice]);
    chat["usage"] = usage(&wire["usageMetadata"]).unwrap_or_default();
    chat
}

/// Says why an answer or a piece of one is none, if so: another provider may do better.
pub(crate) fn failure(wire: &Value) -> Option<String> {
    let candidate = wire["candidates"].get(0)?;
    let reason = candidate["finishReason"].as_str()?;
    // The model tried to call a tool, and did not get it right.
    let failed = matches!(reason, "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL");
    failed.then(|| match candidate["finishMessage"].as_str() {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}

pub(super) fn frame(wire: &Value, object: &str, now: i64) -> Value {
    let id = wire["responseId"].as_str().unwrap_or_default();
    json!({
        "id": format!("chatcmpl-{id}"), "object": object, "created": now,
        "model": wire["modelVersion"],
    })
}

/// The calls of tools so far, and how many there may be.
#[derive(Debug)]
pub(super) struct Calls {
    count: usize,
    most: usize,
}

impl Calls {
    pub(super) fn up_to(most: usize) -> Self {
        Self { count: 0, most }
    }
}

/// Returns what a piece says, and why it ended, if it did.
pub(super) fn said(wire: &Value, calls: &mut Calls) -> (Value, Value) {
    let candidate = &wire["candidates"][0];
    let (mut text, mut thought, mut called) = (String::new(), String::new(), Vec::new());
    for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
        if let Some(call) = part.get("functionCall").filter(|_| calls.count < calls.most) {
            let index = calls.count;
            let arguments = call.get("args").unwrap_or(&json!({})).to_string();
            let function = json!({ "name": call["name"], "arguments": arguments });
            // Most calls have no ids: they are told apart by their answer and their place in it.
            let id = call["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
            let answer = wire["responseId"].as_str().unwrap_or_default();
            let id = id.unwrap_or_else(|| format!("call_{answer}_{index}"));
            let mut one =
                json!({ "index": index, "id": id, "type": "function", "function": function });
            if let Some(thought) = part["thoughtSignature"].as_str() {
                thought::give(&mut one, thought);
            }
            called.push(one);
            calls.count += 1;
        }
        let piece = part["text"].as_str().unwrap_or_default();
        if part["thought"] == true { thought.push_str(piece) } else { text.push_str(piece) }
    }
    let mut delta = json!({});
    if !text.is_empty() {
        delta["content"] = text.into();
    }
    if !thought.is_empty() {
        delta["reasoning_content"] = thought.into();
    }
    if !called.is_empty() {
        delta["tool_calls"] = called.into();
    }
    let blocked = wire.pointer("/promptFeedback/blockReason").is_some();
    let finish = match candidate["finishReason"].as_str() {
        None if blocked => "content_filter".into(),
        None => Value::Null,
        Some("STOP") if calls.count > 0 => "tool_calls".into(),
        Some("STOP") => "stop".into(),
        Some("MAX_TOKENS") => "length".into(),
        Some(_) => "content_filter".into(),
    };
    (delta, finish)
}

/// Counts as chat completions do: thoughts are part of what was written.
pub(super) fn usage(usage: &Value) -> Option<Value> {
    let count = |name: &str| usage[name].as_u64().unwrap_or_default();
    let input = usage.get("promptTokenCount")?.as_u64()?;
    let input = input.saturating_add(count("toolUsePromptTokenCount"));
    let thought = count("thoughtsTokenCount");
    let output = count("candidatesTokenCount").saturating_add(thought);
    Some(json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": { "cached_tokens": count("cachedContentTokenCount") },
        "completion_tokens_details": { "reasoning_tokens": thought },
    }))
}
