//! A Messages request, as chat completions take it.

use serde_json::{Value, json};

use crate::dialects::{Fields, Refused, thought};

/// Writes a Messages request as a chat completions request.
///
/// # Errors
/// A JSON pointer to what is wrong, or what chat completions cannot say.
pub(crate) fn request(wire: &Value) -> Result<Value, Refused> {
    let mut fields = Fields::of(String::new(), wire)?;
    let mut chat = json!({ "model": fields.text("model")? });
    let most = fields.take("max_tokens").ok_or("/max_tokens: a number is required")?;
    chat["max_tokens"] = most.clone();
    let mut messages = Vec::new();
    if let Some(system) = fields.take("system") {
        let content = parts("/system", system)?;
        messages.push(json!({ "role": "system", "content": content }));
    }
    for (index, message) in fields.list("messages")?.iter().enumerate() {
        turn(&format!("/messages/{index}"), message, &mut messages)?;
    }
    chat["messages"] = messages.into();
    for name in ["stream", "temperature", "top_p", "top_k", "thinking"] {
        if let Some(value) = fields.take(name) {
            chat[name] = value.clone();
        }
    }
    if let Some(tier) = fields.take("service_tier") {
        chat["service_tier"] = match tier.as_str() {
            Some("auto") => "auto".into(),
            Some("standard_only") => "default".into(),
            _ => return Err("/service_tier: auto or standard_only".to_owned()),
        };
    }
    // Where to cache is a hint.
    fields.take("cache_control");
    if let Some(stop) = fields.take("stop_sequences") {
        chat["stop"] = stop.clone();
    }
    if let Some(user) = fields.take("metadata").and_then(|metadata| metadata.get("user_id")) {
        chat["user"] = user.clone();
    }
    let tools = fields.list("tools")?.iter().enumerate();
    let tools = tools.map(|(index, one)| tool(&format!("/tools/{index}"), one));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    if !tools.is_empty() {
        chat["tools"] = tools.into();
    }
    if let Some(choice) = fields.take("tool_choice") {
        chat["tool_choice"] = match choice["type"].as_str() {
            Some("any") => "required".into(),
            Some(word @ ("auto" | "none")) => word.into(),
            Some("tool") => json!({ "type": "function", "function": { "name": choice["name"] } }),
            _ => return Err("/tool_choice/type: auto, any, tool or none".to_owned()),
        };
        if choice["disable_parallel_tool_use"] == true {
            chat["parallel_tool_calls"] = false.into();
        }
    }
    if let Some(config) = fields.take("output_config") {
        let mut inner = Fields::of("/output_config".to_owned(), config)?;
        if let Some(format) = inner.take("format") {
            let schema = format.get("schema").filter(|schema| schema.is_object());
            let schema = schema.ok_or("/output_config/format/schema: is required")?;
            let schema = json!({ "name": "answer", "schema": schema, "strict": true });
            chat["response_format"] = json!({ "type": "json_schema", "json_schema": schema });
        }
        if let Some(effort) = inner.take("effort") {
            chat["reasoning_effort"] = effort.clone();
        }
        inner.done("chat completions")?;
    }
    fields.done("chat completions")?;
    Ok(chat)
}

/// Writes one turn; results of tools become messages of their own, before what the user says.
fn turn(at: &str, message: &Value, chat: &mut Vec<Value>) -> Result<(), Refused> {
    let mut fields = Fields::of(at.to_owned(), message)?;
    let role = fields.text("role")?;
    let content = fields.take("content").ok_or_else(|| format!("{at}/content: is required"))?;
    fields.done("chat completions")?;
    if !matches!(role, "user" | "assistant") {
        return Err(format!("{at}/role: {role:?} is neither user nor assistant"));
    }
    if let Value::String(text) = content {
        chat.push(json!({ "role": role, "content": text }));
        return Ok(());
    }
    let blocks = content.as_array().ok_or_else(|| format!("{at}/content: a string or a list"))?;
    match role {
        "assistant" => chat.push(assistant(at, blocks)?),
        _ => {
            let mut said = Vec::new();
            for (index, block) in blocks.iter().enumerate() {
                let at = format!("{at}/content/{index}");
                if block["type"] != "tool_result" {
                    said.push(part(&at, block)?);
                    continue;
                }
                let content = match block.get("content") {
                    None => Value::String(String::new()),
                    Some(content) => parts(&format!("{at}/content"), content)?,
                };
                let mut result = json!({
                    "role": "tool", "tool_call_id": block["tool_use_id"], "content": content,
                });
                if block["is_error"] == true {
                    result["is_error"] = true.into();
                }
                chat.push(result);
            }
            if !said.is_empty() {
                chat.push(json!({ "role": "user", "content": plainly(said) }));
            }
        }
    }
    Ok(())
}

fn assistant(at: &str, blocks: &[Value]) -> Result<Value, Refused> {
    let (mut said, mut calls, mut thoughts) = (Vec::new(), Vec::new(), Vec::new());
    let mut behind = None;
    for (index, block) in blocks.iter().enumerate() {
        match block["type"].as_str() {
            Some("tool_use") => {
                let mut fields = Fields::of(format!("{at}/content/{index}"), block)?;
                let input = fields.take("input").map_or_else(|| "{}".to_owned(), Value::to_string);
                let mut call = json!({
                    "id": fields.text("id")?,
                    "type": "function",
                    "function": { "name": fields.text("name")?, "arguments": input },
                });
                if let Some(thought) = behind.take() {
                    thought::give(&mut call, thought);
                }
                calls.push(call);
            }
            _ if thought::of_block(block).is_some() => behind = thought::of_block(block),
            Some("thinking" | "redacted_thinking") => thoughts.push(block.clone()),
            _ => said.push(part(&format!("{at}/content/{index}"), block)?),
        }
    }
    let mut message = json!({ "role": "assistant", "content": null });
    if !said.is_empty() {
        message["content"] = plainly(said);
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    if !thoughts.is_empty() {
        message["thinking_blocks"] = thoughts.into();
    }
    Ok(message)
}

fn parts(at: &str, content: &Value) -> Result<Value, Refused> {
    match content {
        Value::String(_) => Ok(content.clone()),
        Value::Array(blocks) => {
            let blocks = blocks.iter().enumerate();
            let parts = blocks.map(|(index, block)| part(&format!("{at}/{index}"), block));
            Ok(plainly(parts.collect::<Result<_, _>>()?))
        }
        _ => Err(format!("{at}: a string or a list is required")),
    }
}

/// Says one text as a string: not every server takes a list.
fn plainly(parts: Vec<Value>) -> Value {
    match parts.as_slice() {
        [part] if part["type"] == "text" && part.get("cache_control").is_none() => {
            part["text"].clone()
        }
        _ => parts.into(),
    }
}

fn part(at: &str, block: &Value) -> Result<Value, Refused> {
    let mut fields = Fields::of(at.to_owned(), block)?;
    let mut part = match fields.text("type")? {
        "text" => json!({ "type": "text", "text": fields.text("text")? }),
        "image" => {
            let source = fields.take("source").unwrap_or(&Value::Null);
            let text = |name: &str| source[name].as_str();
            let url = match (text("type"), text("url"), text("media_type"), text("data")) {
                (Some("url"), Some(url), ..) => url.to_owned(),
                (Some("base64"), _, Some(kind), Some(data)) => format!("data:{kind};base64,{data}"),
                _ => return Err(format!("{at}/source: neither base64 nor url")),
            };
            json!({ "type": "image_url", "image_url": { "url": url } })
        }
        kind => return Err(format!("{at}/type: {kind:?} has no translation")),
    };
    if let Some(cache) = fields.take("cache_control") {
        part["cache_control"] = cache.clone();
    }
    fields.take("citations");
    fields.done("chat completions")?;
    Ok(part)
}

fn tool(at: &str, tool: &Value) -> Result<Value, Refused> {
    let mut fields = Fields::of(at.to_owned(), tool)?;
    if fields.take("type").is_some_and(|kind| kind != "custom") {
        return Err(format!("{at}/type: a tool of the provider's own has no translation"));
    }
    let mut function = json!({ "name": fields.text("name")? });
    if let Some(description) = fields.take("description") {
        function["description"] = description.clone();
    }
    function["parameters"] = fields
        .take("input_schema")
        .cloned()
        .ok_or_else(|| format!("{at}/input_schema: is required"))?;
    if let Some(strict) = fields.take("strict") {
        function["strict"] = strict.clone();
    }
    let mut chat = json!({ "type": "function", "function": function });
    if let Some(cache) = fields.take("cache_control") {
        chat["cache_control"] = cache.clone();
    }
    fields.done("chat completions")?;
    Ok(chat)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::anthropic::events::{Events, response};
    use crate::dialects::anthropic::from_chat;

    /// Everything that both dialects can say, as Messages says it.
    fn whole() -> Value {
        json!({
            "model": "m",
            "max_tokens": 100,
            "stream": false,
            "system": [{ "type": "text", "text": "Be brief.", "cache_control": { "type": "ephemeral" } }],
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "What is this?" },
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": "aGk=" } },
                    { "type": "image", "source": { "type": "url", "url": "https://example.com/a.png" } },
                ] },
                { "role": "assistant", "content": [
                    { "type": "thinking", "thinking": "hm", "signature": "s" },
                    { "type": "text", "text": "I look." },
                    { "type": "tool_use", "id": "t1", "name": "look", "input": { "at": "it" } },
                ] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "t1",
                      "content": [{ "type": "text", "text": "a cat" }], "is_error": true },
                    { "type": "text", "text": "Well?" },
                ] },
            ],
            "temperature": 0.5,
            "top_k": 5,
            "thinking": { "type": "enabled", "budget_tokens": 50 },
            "stop_sequences": ["END"],
            "metadata": { "user_id": "u" },
            "tools": [{ "name": "look", "description": "Looks", "input_schema": { "type": "object" } }],
            "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
            "output_config": {
                "format": { "type": "json_schema", "schema": { "type": "object" } }, "effort": "low",
            },
        })
    }

    #[test]
    fn a_request_comes_back_as_it_went() {
        let chat = request(&whole()).unwrap();
        let roles: Vec<_> =
            chat["messages"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
        assert_eq!(chat["messages"][2]["tool_calls"][0]["function"]["arguments"], r#"{"at":"it"}"#);
        let again = from_chat::request(chat.as_object().unwrap(), "m", 100, false).unwrap();
        assert_eq!(again, whole());
    }

    #[test]
    fn what_has_no_translation_is_pointed_at() {
        let with = |at: &str, value: Value| {
            let mut request = whole();
            *request.pointer_mut(at).unwrap() = value;
            request
        };
        let document = json!({ "type": "document", "source": {} });
        for (wire, fault) in [
            (with("/max_tokens", Value::Null), "/max_tokens"),
            (with("/messages/0/content/0", document), "/messages/0/content/0/type"),
            (with("/messages/0/role", "system".into()), "/messages/0/role"),
            (
                with("/tools/0", json!({ "type": "web_search_20250305", "name": "w" })),
                "/tools/0/type",
            ),
            (with("/metadata", json!({})), ""),
        ] {
            match request(&wire) {
                Ok(_) => assert_eq!(fault, ""),
                Err(told) => assert!(!fault.is_empty() && told.starts_with(fault), "{told}"),
            }
        }
        let mut unknown = whole();
        unknown["mcp_servers"] = json!([{}]);
        assert!(request(&unknown).unwrap_err().starts_with("/mcp_servers"));
        for (chat, fault) in [
            (json!({ "messages": [], "n": 2 }), "/n"),
            (json!({ "messages": [], "logprobs": true }), "/logprobs"),
            (
                json!({ "messages": [{ "role": "user", "content": "a" }, { "role": "system", "content": "b" }] }),
                "/messages/1/role",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": [{ "type": "input_audio" }] }] }),
                "/messages/0/content/0/type",
            ),
            (
                json!({ "messages": [], "response_format": { "type": "json_object" } }),
                "/response_format",
            ),
        ] {
            let told = from_chat::request(chat.as_object().unwrap(), "m", 1, false).unwrap_err();
            assert!(told.starts_with(fault), "{told}");
        }
    }

    #[test]
    fn what_stays_in_the_cache_for_an_hour_is_counted_apart() {
        let usage = json!({ "input_tokens": 6, "cache_creation_input_tokens": 5, "output_tokens": 1,
            "cache_creation": { "ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3 } });
        let counted = |chat: &Value| {
            let details = &chat["usage"]["prompt_tokens_details"];
            (details["cache_creation_tokens"].clone(), details["cache_creation_1h_tokens"].clone())
        };
        let whole = from_chat::response(&json!({ "id": "1", "content": [], "usage": usage }), 7);
        assert_eq!(counted(&whole), (5.into(), 3.into()));
        let mut chunks = from_chat::Chunks::new(7);
        chunks.push(&json!({ "type": "message_start", "message": { "id": "1", "usage": usage } }));
        let end = json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" },
            "usage": { "output_tokens": 9 } });
        chunks.push(&end);
        let last = chunks.push(&json!({ "type": "message_stop" })).unwrap();
        assert_eq!(counted(&last), (5.into(), 3.into()));
    }

    #[test]
    fn an_answer_and_its_stream_come_back_as_they_went() {
        let answer = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [
                { "type": "thinking", "thinking": "hm", "signature": "s" },
                { "type": "text", "text": "pong" },
                { "type": "tool_use", "id": "t1", "name": "add", "input": { "a": 1 } },
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": { "input_tokens": 6, "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 1, "output_tokens": 2 },
        });
        let chat = from_chat::response(&answer, 7);
        assert_eq!(chat["created"], 7);
        assert_eq!(chat["usage"]["prompt_tokens"], 10);
        assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls");
        let mut again = response(&chat);
        assert_eq!(again["id"], "msg_msg_1");
        again["id"] = "msg_1".into();
        assert_eq!(again, answer);

        let start = |index: u64, block: Value| json!({ "type": "content_block_start", "index": index, "content_block": block });
        let delta = |index: u64, delta: Value| json!({ "type": "content_block_delta", "index": index, "delta": delta });
        let stop = |index: u64| json!({ "type": "content_block_stop", "index": index });
        let events = [
            json!({ "type": "message_start", "message": { "id": "1", "model": "m",
                "usage": { "input_tokens": 7, "output_tokens": 1 } } }),
            start(0, json!({ "type": "thinking", "thinking": "", "signature": "" })),
            delta(0, json!({ "type": "thinking_delta", "thinking": "hm" })),
            delta(0, json!({ "type": "signature_delta", "signature": "s" })),
            stop(0),
            start(1, json!({ "type": "text", "text": "" })),
            delta(1, json!({ "type": "text_delta", "text": "pong" })),
            stop(1),
            start(2, json!({ "type": "tool_use", "id": "t1", "name": "add", "input": {} })),
            delta(2, json!({ "type": "input_json_delta", "partial_json": "{}" })),
            stop(2),
            start(3, json!({ "type": "tool_use", "id": "t2", "name": "add", "input": {} })),
            // A call of nothing says so, in chat.
            delta(3, json!({ "type": "input_json_delta", "partial_json": "{}" })),
            stop(3),
            json!({ "type": "message_delta", "delta": { "stop_reason": "tool_use", "stop_sequence": null },
                "usage": { "output_tokens": 9 } }),
            json!({ "type": "message_stop" }),
        ];
        const BARE: usize = 12;
        let (mut reader, mut writer) = (from_chat::Chunks::new(7), Events::default());
        let said = events.iter().enumerate().filter(|(index, _)| *index != BARE);
        let chunks: Vec<Value> = said.filter_map(|(_, event)| reader.push(event)).collect();
        let mut told: Vec<Value> = chunks.iter().flat_map(|chunk| writer.push(chunk)).collect();
        told.extend(writer.finish());
        assert_eq!(told[1..told.len() - 2], events[1..events.len() - 2]);
        let end = &told[told.len() - 2];
        assert_eq!(end["delta"], events[events.len() - 2]["delta"]);
        assert_eq!(
            (&end["usage"]["input_tokens"], &end["usage"]["output_tokens"]),
            (&7.into(), &9.into())
        );
    }
}
