//! What a tool gave, as text for a model. Pure.

use proto::bridge::CallToolResponse;
use serde_json::Value;

/// Returns the text of a result, and says what is there that is no text.
pub(super) fn text(result: &CallToolResponse) -> String {
    let blocks: Vec<Value> = serde_json::from_str(&result.content_json).unwrap_or_default();
    let told: Vec<String> = blocks.iter().map(block).collect();
    match told.is_empty() {
        true => result.structured_json.clone(),
        false => told.join("\n"),
    }
}

fn block(block: &Value) -> String {
    let text = |name: &str| block[name].as_str();
    match (text("type"), text("text"), block.pointer("/resource/text").and_then(Value::as_str)) {
        (Some("text"), Some(text), _) | (Some("resource"), _, Some(text)) => text.to_owned(),
        (Some("resource_link"), ..) => format!("[{}]", text("uri").unwrap_or("a resource")),
        (kind, ..) => {
            let media =
                text("mimeType").or(block.pointer("/resource/mimeType").and_then(Value::as_str));
            format!("[{}: not text, and not shown]", media.or(kind).unwrap_or("something"))
        }
    }
}

/// Cuts a text after about `most` bytes, and says so.
pub(super) fn cut(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}\n[cut after {end} of {} bytes]", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_result_is_text_whatever_it_is() {
        let result = |content: Value, structured: &str| CallToolResponse {
            content_json: content.to_string(),
            structured_json: structured.to_owned(),
            ..CallToolResponse::default()
        };
        for (content, structured, told) in [
            (json!([{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }]), "", "a\nb"),
            (
                json!([{ "type": "image", "mimeType": "image/png", "data": "x" }]),
                "",
                "[image/png: not text, and not shown]",
            ),
            (json!([{ "type": "resource", "resource": { "text": "r" } }]), "", "r"),
            (json!([{ "type": "resource_link", "uri": "file:///x" }]), "", "[file:///x]"),
            (json!([]), r#"{"a":1}"#, r#"{"a":1}"#),
        ] {
            assert_eq!(text(&result(content, structured)), told);
        }
        assert_eq!(cut("añb".to_owned(), 2), "a\n[cut after 1 of 4 bytes]");
        assert_eq!(cut("añb".to_owned(), 4), "añb");
    }
}
