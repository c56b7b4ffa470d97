//! A response's input as it is kept and listed: items that each have an id and a type.

use serde_json::{Map, Value, json};

/// Returns the items of `input`, made for the response `id`.
pub(crate) fn items(input: Value, id: &str) -> Vec<Value> {
    let id = id.trim_start_matches("resp_");
    match input {
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(index, one)| item(one, id, index)).collect()
        }
        Value::Null => Vec::new(),
        text => vec![item(json!({ "role": "user", "content": text }), id, 0)],
    }
}

fn item(item: Value, id: &str, index: usize) -> Value {
    let Value::Object(mut item) = item else { return item };
    let text = |item: &Map<String, Value>, name: &str| {
        item.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let kind = text(&item, "type").unwrap_or_else(|| "message".to_owned());
    let prefix = match kind.as_str() {
        "message" => "msg",
        "function_call" => "fc",
        "function_call_output" => "fco",
        "reasoning" => "rs",
        "mcp_call" => "mcp",
        "mcp_approval_response" => "mcpa",
        _ => "item",
    };
    // One that was an output before has an id already.
    if text(&item, "id").is_none() {
        item.insert("id".to_owned(), format!("{prefix}_{id}_in_{index}").into());
    }
    if kind == "message" {
        let part = match text(&item, "role").as_deref() {
            Some("assistant") => "output_text",
            _ => "input_text",
        };
        if let Some(text) = text(&item, "content") {
            item.insert("content".to_owned(), json!([{ "type": part, "text": text }]));
        }
        item.insert("type".to_owned(), kind.into());
        item.insert("status".to_owned(), "completed".into());
    }
    Value::Object(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_has_an_id_and_a_type_and_stays_what_it_was() {
        let text = items("hello".into(), "resp_1");
        let part = json!([{ "type": "input_text", "text": "hello" }]);
        assert_eq!(
            text,
            [json!({ "role": "user", "content": part, "id": "msg_1_in_0", "type": "message",
                "status": "completed" })]
        );
        let given = json!([
            { "role": "assistant", "content": "hi", "id": "msg_0" },
            { "type": "function_call_output", "call_id": "c", "output": "3" },
        ]);
        let told = items(given, "resp_1");
        assert_eq!((&told[0]["id"], &told[1]["id"]), (&json!("msg_0"), &json!("fco_1_in_1")));
        assert_eq!(told[0]["content"][0]["type"], "output_text");
        assert_eq!(told[1]["output"], "3");
        assert_eq!(items(json!(told), "resp_2"), told, "what was kept is kept as it is");
    }
}
