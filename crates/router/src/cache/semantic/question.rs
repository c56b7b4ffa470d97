//! The one text of a call that may be worded differently. Pure.

use proto::router::Dialect;
use serde_json::{Map, Value};

use super::words;

/// What a body offers that its answer may do instead of saying something.
const TOOLS: [&str; 3] = ["tools", "functions", "mcp_servers"];

/// Returns the text that is the whole last message of a body, if a user wrote that, of at most
/// `longest` bytes; and the body without it. Nothing of a call that offers tools: one that is called
/// does what the other question said.
pub(super) fn take(
    dialect: Dialect,
    body: &Map<String, Value>,
    longest: usize,
) -> Option<(String, Map<String, Value>)> {
    let offers = |name: &&str| body.get(*name).is_some_and(|tools| !is_nothing(tools));
    if TOOLS.iter().any(offers) {
        return None;
    }
    let mut rest = body.clone();
    let place = match dialect {
        Dialect::Embeddings => return None,
        Dialect::Responses => match rest.get_mut("input")? {
            input @ Value::String(_) => input,
            input => last(input)?,
        },
        Dialect::ChatCompletions | Dialect::Messages | Dialect::Unspecified => {
            last(rest.get_mut("messages")?)?
        }
    };
    let Value::String(text) = place.take() else { return None };
    let is_good = text.len() <= longest && words::can_be_read(&text) && !text.trim().is_empty();
    is_good.then_some((text, rest))
}

/// Returns the text of the last of some messages, if it is one's of a user and has nothing else.
fn last(messages: &mut Value) -> Option<&mut Value> {
    let message = messages.as_array_mut()?.last_mut()?;
    let is_message = message.get("type").is_none_or(|kind| kind == "message");
    if !is_message || message["role"] != "user" {
        return None;
    }
    match message.get_mut("content")? {
        text @ Value::String(_) => Some(text),
        Value::Array(parts) => match parts.as_mut_slice() {
            [part] if ["text", "input_text"].iter().any(|kind| part["type"] == *kind) => {
                part.get_mut("text")
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_nothing(json: &Value) -> bool {
    json.is_null() || json.as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn taken(dialect: Dialect, body: &Value) -> Option<(String, Value)> {
        let (text, rest) = take(dialect, body.as_object().unwrap(), 20)?;
        Some((text, Value::Object(rest)))
    }

    #[test]
    fn the_question_is_the_last_message_of_a_user_that_has_one_text_alone() {
        let system = json!({ "role": "system", "content": "s" });
        let user = |content: Value| json!({ "role": "user", "content": content });
        for (dialect, body, path) in [
            (
                Dialect::ChatCompletions,
                json!({ "messages": [system, user(json!("q"))], "tools": [] }),
                "/messages/1/content",
            ),
            (
                Dialect::Messages,
                json!({ "messages": [user(json!([{ "type": "text", "text": "q", "cache_control": {} }]))] }),
                "/messages/0/content/0/text",
            ),
            (Dialect::Responses, json!({ "input": "q" }), "/input"),
            (
                Dialect::Responses,
                json!({ "input": [user(json!([{ "type": "input_text", "text": "q" }]))] }),
                "/input/0/content/0/text",
            ),
        ] {
            let (text, rest) = taken(dialect, &body).unwrap();
            assert_eq!(text, "q");
            let mut wanted = body;
            *wanted.pointer_mut(path).unwrap() = Value::Null;
            assert_eq!(rest, wanted, "all but the text stays");
        }
    }

    #[test]
    fn what_is_no_plain_question_has_none() {
        let text = json!({ "type": "text", "text": "q" });
        let picture = json!({ "type": "image_url", "image_url": { "url": "data:," } });
        let result = json!({ "type": "tool_result", "tool_use_id": "1", "content": "q" });
        let with = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
        let tools = json!([{ "type": "function" }]);
        for (dialect, body) in [
            (Dialect::Embeddings, json!({ "input": "q" })),
            (Dialect::ChatCompletions, with(json!([text, picture]))),
            (Dialect::ChatCompletions, with(json!([picture]))),
            (Dialect::ChatCompletions, with(json!([text, text]))),
            (Dialect::ChatCompletions, with(json!("   "))),
            (Dialect::ChatCompletions, with(json!("a text that is too long for it"))),
            (Dialect::ChatCompletions, with(json!("東京"))),
            (Dialect::ChatCompletions, with(Value::Null)),
            (Dialect::ChatCompletions, json!({ "messages": [{ "role": "tool", "content": "q" }] })),
            (
                Dialect::ChatCompletions,
                json!({ "messages": [{ "role": "assistant", "content": "q" }] }),
            ),
            (
                Dialect::ChatCompletions,
                json!({ "messages": [{ "role": "user", "content": "q" }], "tools": tools }),
            ),
            (Dialect::Messages, with(json!([result]))),
            (Dialect::Messages, with(json!([result, text]))),
            (
                Dialect::Responses,
                json!({ "input": [{ "type": "function_call_output", "output": "q" }] }),
            ),
            (Dialect::Responses, json!({ "input": [] })),
            (Dialect::Responses, json!({ "input": "q", "tools": tools })),
        ] {
            assert_eq!(taken(dialect, &body), None, "{body}");
        }
    }
}
