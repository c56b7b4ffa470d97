//! What a chat completion or a piece of one says, in whichever of its fields a server puts it.

use std::borrow::Cow;

use serde_json::Value;

/// What a message or a delta says; empty where it says nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said<'a> {
    pub(crate) thought: Cow<'a, str>,
    pub(crate) text: Cow<'a, str>,
    pub(crate) refusal: &'a str,
}

impl<'a> Said<'a> {
    pub(crate) fn of(message: &'a Value) -> Self {
        let text = |name: &str| message[name].as_str().filter(|text| !text.is_empty());
        let content = &message["content"];
        // DeepSeek's name and most others'; Mistral puts its thoughts into the content.
        let thought = text("reasoning_content").or_else(|| text("reasoning"));
        Self {
            thought: thought.map_or_else(|| parts(content, "thinking"), Cow::Borrowed),
            text: parts(content, "text"),
            refusal: text("refusal").unwrap_or_default(),
        }
    }
}

/// Returns the choice that a client gets whose dialect knows no other.
pub(crate) fn first_choice(chat: &Value) -> Option<&Value> {
    let is_first = |choice: &&Value| choice["index"].as_u64().unwrap_or_default() == 0;
    chat["choices"].as_array()?.iter().find(is_first)
}

/// Returns the parts of one kind as one text; content that is a string is text.
fn parts<'a>(content: &'a Value, kind: &str) -> Cow<'a, str> {
    match content {
        Value::String(text) if kind == "text" => Cow::Borrowed(text),
        Value::Array(parts) => {
            let mut all = String::new();
            for part in parts.iter().filter(|part| part["type"] == kind) {
                match &part[kind] {
                    Value::String(text) => all.push_str(text),
                    // Thoughts are a list of texts.
                    Value::Array(texts) => {
                        all.extend(texts.iter().filter_map(|text| text["text"].as_str()));
                    }
                    _ => {}
                }
            }
            Cow::Owned(all)
        }
        _ => Cow::Borrowed(""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_found_wherever_it_stands() {
        let said = |message: Value| {
            let said = Said::of(&message);
            format!("{}|{}|{}", said.thought, said.text, said.refusal)
        };
        let thinking = json!([{ "type": "text", "text": "hm" }]);
        for (message, wanted) in [
            (json!({ "content": "a", "refusal": null }), "|a|"),
            (json!({ "content": null, "refusal": "no" }), "||no"),
            (json!({ "content": "a", "reasoning_content": "hm", "reasoning": "other" }), "hm|a|"),
            (json!({ "content": "", "reasoning": "hm", "reasoning_content": "" }), "hm||"),
            (
                json!({ "content": [
                    { "type": "thinking", "thinking": thinking },
                    { "type": "text", "text": "a" }, { "type": "image" }, { "type": "text", "text": "b" },
                ] }),
                "hm|ab|",
            ),
            (Value::Null, "||"),
        ] {
            assert_eq!(said(message), wanted);
        }
    }
}
