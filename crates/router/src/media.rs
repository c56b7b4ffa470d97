//! What a request holds besides text, and how much that can be. Pure.

use serde_json::Value;

/// The most tokens of a picture: providers cut larger ones down.
const IMAGE: u64 = 5_000;

/// The most tokens of a document or recording that stands elsewhere: nobody here knows its length.
const ELSEWHERE: u64 = 200_000;

/// What a part of a message is, if it is not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    Image,
    File,
}

impl Media {
    fn of(part: &Value) -> Option<Self> {
        match part["type"].as_str()? {
            "image_url" | "input_image" | "image" => Some(Self::Image),
            "file" | "input_file" | "document" | "input_audio" | "audio" | "video_url" => {
                Some(Self::File)
            }
            _ => None,
        }
    }
}

/// Returns the JSON pointer of the first image in messages that stand at `place`, if there is one.
pub(crate) fn image(place: &str, messages: &[Value]) -> Option<String> {
    parts(messages)
        .find(|(.., part)| Media::of(part) == Some(Media::Image))
        .map(|(message, index, _)| format!("{place}/{message}/content/{index}"))
}

/// Returns the JSON pointer of the first part that has only the address of what it is, also within the
/// result of a tool.
pub(crate) fn elsewhere(place: &str, messages: &[Value]) -> Option<String> {
    let has = |part: &Value| Media::of(part).is_some() && has_address(part);
    let within = |part: &Value| {
        let inner = part["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        has(part) || inner.iter().any(has)
    };
    parts(messages)
        .find(|(.., part)| within(part))
        .map(|(message, index, _)| format!("{place}/{message}/content/{index}"))
}

fn has_address(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let start = text.trim_start().get(..8).unwrap_or(text).to_ascii_lowercase();
            start.contains("://") || start.starts_with("//")
        }
        Value::Array(list) => list.iter().any(has_address),
        Value::Object(fields) => fields.values().any(has_address),
        _ => false,
    }
}

/// Returns how many tokens a body of `bytes` with these messages has at most, about: text has three
/// bytes a token or more, a picture counts by its kind, and a file by its length where it has one here.
pub(crate) fn most_tokens(messages: &[Value], bytes: usize) -> u64 {
    let (mut text, mut tokens) = (bytes, 0_u64);
    for (.., part) in parts(messages) {
        match Media::of(part) {
            Some(Media::Image) => {
                text = text.saturating_sub(longest(part));
                tokens = tokens.saturating_add(IMAGE);
            }
            // What is here is counted as text.
            Some(Media::File) if longest(part) > 4_096 => {}
            Some(Media::File) => tokens = tokens.saturating_add(ELSEWHERE),
            None => {}
        }
    }
    tokens.saturating_add((text as u64).div_ceil(3))
}

fn parts(messages: &[Value]) -> impl Iterator<Item = (usize, usize, &Value)> {
    messages.iter().enumerate().flat_map(|(at, message)| {
        let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        parts.iter().enumerate().map(move |(index, part)| (at, index, part))
    })
}

/// Returns the length of the longest text within, which is where data stands.
fn longest(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(longest).max().unwrap_or_default(),
        Value::Object(fields) => fields.values().map(longest).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_picture_counts_by_its_kind_and_a_file_by_what_is_known_of_it() {
        let ask = |part: Value| {
            let messages = [json!({ "role": "user", "content": [part] })];
            let bytes = json!(messages).to_string().len();
            (most_tokens(&messages, bytes), image("/messages", &messages))
        };
        let data = format!("data:image/png;base64,{}", "A".repeat(3_000_000));
        let (tokens, at) = ask(json!({ "type": "image_url", "image_url": { "url": data } }));
        assert!((IMAGE..IMAGE + 100).contains(&tokens), "{tokens}");
        assert_eq!(at.as_deref(), Some("/messages/0/content/0"));
        let far = json!({ "type": "document", "source": { "type": "url", "url": "https://a/b" } });
        let at = |part: &Value| elsewhere("/messages", &[json!({ "content": [part] })]);
        assert_eq!(at(&far).as_deref(), Some("/messages/0/content/0"));
        let result = json!({ "type": "tool_result", "content": [far] });
        assert_eq!(at(&result).as_deref(), Some("/messages/0/content/0"));
        let image =
            json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA" } });
        assert_eq!(at(&image), None);
        assert_eq!(at(&json!({ "type": "text", "text": "https://a/b" })), None);
        assert!(ask(far).0 >= ELSEWHERE);
        let here = json!({ "type": "file", "file": { "file_data": "A".repeat(30_000) } });
        assert!((10_000..10_100).contains(&ask(here).0));
        assert!(ask(json!({ "type": "text", "text": "hello" })).0 < 50);
    }
}
