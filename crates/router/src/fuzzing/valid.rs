//! What makes a request, an answer and a stream ones of their dialects.

use proto::router::Dialect;
use serde_json::Value;

use crate::dialects::Refused;
use crate::dialects::said::{Said, first_choice};

/// Checks what a provider would be sent, or why it is sent nothing.
pub(super) fn told(wire: Result<Value, Refused>, check: impl FnOnce(&Value)) {
    match wire {
        Ok(wire) => check(&wire),
        Err(refused) => refusal(&refused),
    }
}

/// A refusal points at something, unless nothing could be read at all.
pub(super) fn refusal(told: &str) {
    assert!(
        told.starts_with('/') || told.starts_with("the body") || told.starts_with(": an object"),
        "{told}"
    );
}

pub(super) fn chat_request(wire: &Value, limit: u64, stream: bool, translated: bool) {
    assert_eq!((&wire["model"], &wire["stream"]), (&"m".into(), &stream.into()));
    assert!(list(&wire["messages"]).iter().all(|message| message["role"].is_string()));
    let limits = ["max_tokens", "max_completion_tokens"].map(|name| wire[name].as_u64());
    assert!(limits.contains(&Some(limit)), "{wire}");
    if translated {
        for message in list(&wire["messages"]) {
            let other =
                ["thinking_blocks", "is_error"].iter().find(|name| message.get(name).is_some());
            assert_eq!(other, None, "{message}");
        }
        assert!(wire.get("thinking").is_none());
    }
}

pub(super) fn messages_request(wire: &Value, limit: u64, stream: bool, translated: bool) {
    assert_eq!((&wire["model"], &wire["stream"]), (&"m".into(), &stream.into()));
    assert_eq!(wire["max_tokens"].as_u64(), Some(limit));
    if !translated {
        return;
    }
    let turns = list(&wire["messages"]);
    for (turn, next) in turns.iter().zip(turns.iter().skip(1)) {
        assert_ne!(turn["role"], next["role"], "the roles take turns: {wire}");
    }
    for turn in turns {
        assert!(turn["role"] == "user" || turn["role"] == "assistant", "{wire}");
    }
    let system = list(&wire["system"]).iter();
    let blocks = turns.iter().flat_map(|turn| list(&turn["content"]));
    for block in system.chain(blocks) {
        match block["type"].as_str() {
            Some("text") => assert!(block["text"].is_string(), "{block}"),
            Some("image") => assert!(block["source"]["type"].is_string(), "{block}"),
            Some("tool_use") => {
                assert!(block["id"].is_string() && block["name"].is_string(), "{block}");
                assert!(block["input"].is_object(), "{block}");
            }
            Some("tool_result") => assert!(block["tool_use_id"].is_string(), "{block}"),
            // Its own, as they came.
            Some("thinking" | "redacted_thinking") => {}
            _ => unreachable!("no block of Messages: {block}"),
        }
    }
    for tool in list(&wire["tools"]) {
        assert!(tool["name"].is_string() && tool["input_schema"].is_object(), "{tool}");
    }
    let stops = list(&wire["stop_sequences"]);
    assert!(stops.iter().all(Value::is_string), "{stops:?}");
}

pub(super) fn gemini_request(wire: &Value, limit: u64) {
    assert_eq!(wire["generationConfig"]["maxOutputTokens"].as_u64(), Some(limit));
    for (turn, next) in list(&wire["contents"]).iter().zip(list(&wire["contents"]).iter().skip(1)) {
        assert_ne!(turn["role"], next["role"], "the roles take turns: {wire}");
    }
    let system = list(&wire["systemInstruction"]["parts"]).iter();
    let parts = list(&wire["contents"]).iter().flat_map(|turn| list(&turn["parts"]));
    for part in system.chain(parts) {
        let call = &part["functionCall"];
        let response = &part["functionResponse"];
        assert!(
            part["text"].is_string()
                || part["inlineData"]["data"].is_string()
                || (call["name"].is_string() && call["args"].is_object())
                || (response["name"].is_string() && response["response"].is_object()),
            "{part}"
        );
    }
    for tools in list(&wire["tools"]) {
        let functions = list(&tools["functionDeclarations"]);
        assert!(functions.iter().all(|function| function["name"].is_string()), "{tools}");
    }
    let stops = list(&wire["generationConfig"]["stopSequences"]);
    assert!(stops.iter().all(Value::is_string), "{stops:?}");
}

/// What was said over a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    thought: String,
    text: String,
    refusal: String,
}

impl Text {
    pub(super) fn add(&mut self, said: &Said<'_>) {
        self.thought.push_str(&said.thought);
        self.text.push_str(&said.text);
        self.refusal.push_str(said.refusal);
    }
}

/// A chat client gets every word.
pub(super) fn chunks(told: &[Value], wanted: &Text, provider: Dialect) {
    if provider == Dialect::Messages && told.iter().any(|event| event.get("choices").is_none()) {
        // A client of Messages, which got the events themselves.
        return;
    }
    let mut said = Text::default();
    for chunk in told {
        if let Some(choice) = first_choice(chunk) {
            said.add(&Said::of(&choice["delta"]));
        }
    }
    assert_eq!(&said, wanted);
}

pub(super) fn message(told: &Value, said: &Said<'_>) {
    assert!(told["id"].is_string() && told["stop_reason"].is_string(), "{told}");
    let text = joined(list(&told["content"]), "text", "text");
    assert_eq!(text, format!("{}{}", said.text, said.refusal));
    for block in list(&told["content"]) {
        assert!(block["type"] != "tool_use" || block["input"].is_object(), "{block}");
        assert!(block["type"] != "tool_use" || block["id"].is_string(), "{block}");
    }
}

/// A stream of Messages: one start, blocks that begin in order, are written while open and all end, and
/// one end.
pub(super) fn message_events(told: &[Value], wanted: &Text) {
    let kinds: Vec<_> =
        told.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds.first(), Some(&"message_start"));
    assert_eq!(kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
    assert!(told[told.len() - 2]["delta"]["stop_reason"].is_string());
    let (mut begun, mut open, mut said) = (0, Vec::new(), Text::default());
    for event in &told[1..told.len() - 2] {
        let index = event["index"].as_u64();
        match event["type"].as_str() {
            Some("content_block_start") => {
                assert_eq!(index, Some(begun), "{told:?}");
                open.push(begun);
                begun += 1;
                let block = &event["content_block"];
                assert!(block["type"] != "tool_use" || block["id"].is_string(), "{block}");
            }
            Some("content_block_delta") => {
                assert!(index.is_some_and(|index| open.contains(&index)), "{told:?}");
                let text = |name: &str| event["delta"][name].as_str().unwrap_or_default();
                said.text.push_str(text("text"));
                said.thought.push_str(text("thinking"));
            }
            Some("content_block_stop") => {
                let before = open.len();
                open.retain(|one| Some(*one) != index);
                assert_eq!(open.len() + 1, before, "{told:?}");
            }
            _ => unreachable!("no event of a message: {event}"),
        }
    }
    assert!(open.is_empty(), "{told:?}");
    assert_eq!(said.thought, wanted.thought);
    // A refusal is text here, in its place.
    assert_eq!(said.text.len(), wanted.text.len() + wanted.refusal.len());
}

pub(super) fn response(told: &Value, said: &Said<'_>) {
    assert!(told["status"].is_string() && told["output"].is_array(), "{told}");
    let items = list(&told["output"]).iter().flat_map(|item| list(&item["content"]));
    let parts: Vec<Value> = items.cloned().collect();
    assert_eq!(joined(&parts, "output_text", "text"), said.text);
    assert_eq!(joined(&parts, "refusal", "refusal"), said.refusal);
}

/// A stream of Responses: numbered, items that begin in order and all end, and a last event that holds
/// what the pieces before it said.
pub(super) fn response_events(told: &[Value], wanted: &Text) {
    for (number, event) in told.iter().enumerate() {
        assert_eq!(event["sequence_number"].as_u64(), Some(number as u64), "{told:?}");
    }
    let last = told.last().map_or(&Value::Null, |event| &event["response"]);
    let output = list(&last["output"]);
    let mut arguments = vec![String::new(); output.len()];
    let (mut added, mut done, mut said) = (0, vec![false; output.len()], Text::default());
    for event in told {
        let index = event["output_index"].as_u64().unwrap_or_default();
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let delta = event["delta"].as_str().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "response.output_item.added" => {
                assert_eq!(place, added);
                added += 1;
            }
            "response.output_item.done" => {
                assert_eq!(event["item"], output[place]);
                assert!(!std::mem::replace(&mut done[place], true), "{told:?}");
            }
            "response.output_text.delta" => said.text.push_str(delta),
            "response.reasoning_summary_text.delta" => said.thought.push_str(delta),
            "response.refusal.delta" => said.refusal.push_str(delta),
            "response.function_call_arguments.delta" => arguments[place].push_str(delta),
            _ => {}
        }
    }
    assert_eq!(&said, wanted);
    assert!(added == output.len() && done.iter().all(|done| *done), "{told:?}");
    for (item, arguments) in output.iter().zip(arguments) {
        assert!(item["type"] != "function_call" || item["arguments"] == arguments, "{told:?}");
        assert!(item["type"] != "function_call" || item["call_id"].is_string(), "{told:?}");
    }
}

fn joined(parts: &[Value], kind: &str, name: &str) -> String {
    parts
        .iter()
        .filter(|part| part["type"] == kind)
        .filter_map(|part| part[name].as_str())
        .collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
