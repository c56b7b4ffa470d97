//! The thought behind a call of a tool, which only who made it can read, and wants back: Gemini 3
//! refuses a conversation without it (<https://ai.google.dev/gemini-api/docs/thought-signatures>, read
//! November 2026). Pure.
//!
//! Chat completions carry it at the call, as Google's own do. Clients of Responses give a call back as
//! they got it; those of Messages give back what they cannot read before it.

use serde_json::{Value, json};

/// Where a call carries it.
pub(crate) const PLACE: &str = "extra_content";

/// Stands before a thought of Google's among those that cannot be read.
const MARK: &str = "google:";

/// Returns the thought that a call carries.
pub(crate) fn of(call: &Value) -> Option<&str> {
    call.get(PLACE)?["google"]["thought_signature"].as_str()
}

/// Gives a call its thought.
pub(crate) fn give(call: &mut Value, thought: &str) {
    call[PLACE] = json!({ "google": { "thought_signature": thought } });
}

/// Returns the block of Messages that stands before a call, if it carries a thought.
pub(crate) fn block(call: &Value) -> Option<Value> {
    of(call)
        .map(|thought| json!({ "type": "redacted_thinking", "data": format!("{MARK}{thought}") }))
}

/// Returns the thought that a block of Messages is.
pub(crate) fn of_block(block: &Value) -> Option<&str> {
    let redacted = block["type"] == "redacted_thinking";
    block["data"].as_str().filter(|_| redacted)?.strip_prefix(MARK)
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::anthropic::{self, events, from_chat};
    use super::super::responses;
    use super::*;

    #[test]
    fn a_thought_is_what_google_marked() {
        let mut call = json!({ "id": "c" });
        assert_eq!((of(&call), block(&call)), (None, None));
        give(&mut call, "s==");
        assert_eq!(of(&call), Some("s=="));
        assert_eq!(of_block(&block(&call).unwrap()), Some("s=="));
        for theirs in [
            json!({ "type": "redacted_thinking", "data": "s" }),
            json!({ "type": "redacted_thinking" }),
            json!({ "type": "text", "data": "google:s" }),
        ] {
            assert_eq!(of_block(&theirs), None, "{theirs}");
        }
        assert_eq!(of(&json!({ PLACE: "s" })), None);
    }

    #[test]
    fn a_thought_comes_back_from_clients_of_every_dialect() {
        let mut call = json!({ "id": "c", "type": "function",
            "function": { "name": "f", "arguments": "{}" } });
        give(&mut call, "s==");
        let message = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
        let choice = json!({ "message": message, "finish_reason": "tool_calls" });
        let chat = json!({ "id": "1", "model": "m", "choices": [choice] });

        let told = events::response(&chat)["content"].clone();
        let turns =
            json!([{ "role": "user", "content": "a" }, { "role": "assistant", "content": told }]);
        let mut wire = json!({ "model": "m", "max_tokens": 1, "messages": turns });
        let again = anthropic::to_chat::request(&wire).unwrap();
        assert_eq!(again["messages"][1], message);
        from_chat::forget_unsigned(wire.as_object_mut().unwrap());
        let kinds = wire["messages"][1]["content"].as_array().unwrap().iter();
        let kinds: Vec<_> = kinds.map(|block| &block["type"]).collect();
        assert_eq!(kinds, ["tool_use"], "Anthropic is not told what Google thought");
        let mut piece = call.clone();
        piece["index"] = 0.into();
        let chunk = json!({ "id": "1", "choices": [{ "delta": { "tool_calls": [piece] } }] });
        let streamed = events::Events::default().push(&chunk);
        let begun = streamed.iter().filter(|event| event["type"] == "content_block_start");
        let begun: Vec<_> = begun.map(|event| event["content_block"].clone()).collect();
        assert_eq!(Value::from(begun), told);

        let response = responses::from_chat::response(&chat, Map::new(), "resp_1", 7);
        let wire = json!({ "model": "m", "input": response["output"] });
        let again = responses::to_chat::request(&wire, &[]).unwrap();
        assert_eq!(again["messages"][0], message);
    }
}
