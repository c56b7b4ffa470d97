//! A translated request as every server of chat completions takes it: without the words that travel
//! in the middle only for those who know them.

use serde_json::{Map, Value};

use super::{Refused, thought};

/// Says in chat completions' own words what a translation has put into others.
///
/// # Errors
/// A JSON pointer to what has none.
pub(crate) fn tell(chat: &mut Map<String, Value>) -> Result<(), Refused> {
    let messages = chat.get_mut("messages").and_then(Value::as_array_mut);
    for (index, message) in messages.into_iter().flatten().enumerate() {
        if let Value::Object(message) = message {
            tell_message(&format!("/messages/{index}"), message)?;
        }
    }
    let tools = chat.get_mut("tools").and_then(Value::as_array_mut);
    tools.into_iter().flatten().for_each(forget_cache);
    if let Some(thinking) = chat.remove("thinking") {
        let effort = effort(&thinking)?;
        if let (Some(effort), None) = (effort, chat.get("reasoning_effort")) {
            chat.insert("reasoning_effort".to_owned(), effort.into());
        }
    }
    Ok(())
}

fn tell_message(at: &str, message: &mut Map<String, Value>) -> Result<(), Refused> {
    // What another model thought, and signed.
    message.remove("thinking_blocks");
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
        call.remove(thought::PLACE);
    }
    let failed = message.remove("is_error").is_some_and(|failed| failed == true);
    let is_result = message.get("role").is_some_and(|role| role == "tool");
    match message.get_mut("content") {
        Some(Value::Array(parts)) => {
            for (index, part) in parts.iter_mut().enumerate() {
                forget_cache(part);
                if is_result && part["type"] != "text" {
                    return Err(format!("{at}/content/{index}: a result of a tool is text here"));
                }
            }
            if failed {
                parts.insert(0, serde_json::json!({ "type": "text", "text": FAILED }));
            }
        }
        Some(Value::String(text)) if failed => text.insert_str(0, FAILED),
        _ => {}
    }
    Ok(())
}

/// Stands before the result of a tool that failed: chat completions have no field for it.
const FAILED: &str = "Error: ";

/// Where to cache is a hint, and most servers refuse fields that they do not know.
fn forget_cache(part: &mut Value) {
    if let Value::Object(part) = part {
        part.remove("cache_control");
    }
}

/// Returns the effort that is nearest to as many tokens of thought.
fn effort(thinking: &Value) -> Result<Option<&'static str>, Refused> {
    match (thinking["type"].as_str(), thinking["budget_tokens"].as_u64()) {
        // How much is the model's to say, or told beside.
        (Some("adaptive" | "disabled"), _) => Ok(None),
        (Some("enabled"), Some(..=2_048)) => Ok(Some("low")),
        (Some("enabled"), Some(..=8_192)) => Ok(Some("medium")),
        (Some("enabled"), Some(_)) => Ok(Some("high")),
        (Some("enabled"), None) => Err("/thinking/budget_tokens: a number is required".to_owned()),
        _ => Err("/thinking/type: enabled, adaptive or disabled".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_words_of_others_are_told_or_left_out() {
        let mut chat = json!({
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "a", "cache_control": { "type": "ephemeral" } } ] },
                { "role": "assistant", "content": "b", "thinking_blocks": [{}] },
                { "role": "tool", "tool_call_id": "c", "content": "no", "is_error": true },
            ],
            "tools": [{ "type": "function", "function": {}, "cache_control": {} }],
            "thinking": { "type": "enabled", "budget_tokens": 4096 },
        });
        tell(chat.as_object_mut().unwrap()).unwrap();
        let wanted = json!({
            "messages": [
                { "role": "user", "content": [{ "type": "text", "text": "a" }] },
                { "role": "assistant", "content": "b" },
                { "role": "tool", "tool_call_id": "c", "content": "Error: no" },
            ],
            "tools": [{ "type": "function", "function": {} }],
            "reasoning_effort": "medium",
        });
        assert_eq!(chat, wanted);
        let picture = json!([{ "type": "image_url", "image_url": {} }]);
        let mut chat = json!({ "messages": [{ "role": "tool", "content": picture }] });
        let told = tell(chat.as_object_mut().unwrap()).unwrap_err();
        assert!(told.starts_with("/messages/0/content/0"), "{told}");
    }
}
