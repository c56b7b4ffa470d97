//! A Responses request, as chat completions take it.

use serde_json::{Value, json};

use crate::dialects::{Fields, Refused, thought};

/// Writes a Responses request as a chat completions request that continues the items of `history`.
///
/// # Errors
/// A JSON pointer to what is wrong, or what chat completions cannot say.
pub(crate) fn request(wire: &Value, history: &[Value]) -> Result<Value, Refused> {
    let mut fields = Fields::of(String::new(), wire)?;
    let mut chat = json!({ "model": fields.text("model")? });
    let mut messages = Vec::new();
    if let Some(instructions) = fields.take("instructions") {
        messages.push(json!({ "role": "system", "content": instructions }));
    }
    for one in history {
        item("/previous_response_id", one, &mut messages)?;
    }
    match fields.take("input") {
        Some(Value::String(text)) => messages.push(json!({ "role": "user", "content": text })),
        Some(Value::Array(items)) => {
            for (index, one) in items.iter().enumerate() {
                item(&format!("/input/{index}"), one, &mut messages)?;
            }
        }
        _ => return Err("/input: a string or a list is required".to_owned()),
    }
    chat["messages"] = messages.into();
    for (theirs, ours) in [
        ("stream", "stream"),
        ("temperature", "temperature"),
        ("top_p", "top_p"),
        ("user", "user"),
        ("service_tier", "service_tier"),
        ("parallel_tool_calls", "parallel_tool_calls"),
        ("max_output_tokens", "max_tokens"),
    ] {
        if let Some(value) = fields.take(theirs) {
            chat[ours] = value.clone();
        }
    }
    if let Some(reasoning) = fields.take("reasoning") {
        // A summary is told when there is one to tell.
        if let Some(effort) = reasoning.get("effort").filter(|effort| !effort.is_null()) {
            chat["reasoning_effort"] = effort.clone();
        }
    }
    if let Some(text) = fields.take("text") {
        let mut inner = Fields::of("/text".to_owned(), text)?;
        if let Some(verbosity) = inner.take("verbosity") {
            chat["verbosity"] = verbosity.clone();
        }
        if let Some(format) = inner.take("format") {
            chat["response_format"] = match format["type"].as_str() {
                Some("json_schema") => {
                    let schema = json!({
                        "name": format["name"], "schema": format["schema"],
                        "strict": format.get("strict").cloned().unwrap_or(true.into()),
                    });
                    json!({ "type": "json_schema", "json_schema": schema })
                }
                Some("text" | "json_object") => format.clone(),
                _ => return Err("/text/format/type: text, json_object or json_schema".to_owned()),
            };
        }
        inner.done("chat completions")?;
    }
    let tools = fields.list("tools")?.iter().enumerate();
    let tools = tools.map(|(index, one)| tool(&format!("/tools/{index}"), one));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    if !tools.is_empty() {
        chat["tools"] = tools.into();
    }
    if let Some(choice) = fields.take("tool_choice") {
        chat["tool_choice"] = match (choice, choice["name"].as_str()) {
            (Value::String(_), _) => choice.clone(),
            (_, Some(name)) if choice["type"] == "function" => {
                json!({ "type": "function", "function": { "name": name } })
            }
            _ => return Err("/tool_choice: auto, none, required or a function".to_owned()),
        };
    }
    if fields.take("truncation").is_some_and(|truncation| truncation != "disabled") {
        return Err("/truncation: only disabled".to_owned());
    }
    // Hints and labels that change no answer, and what has been seen to.
    fields.labels();
    for hint in ["include", "previous_response_id", "stream_options"] {
        fields.take(hint);
    }
    fields.done("chat completions")?;
    Ok(chat)
}

fn item(at: &str, item: &Value, messages: &mut Vec<Value>) -> Result<(), Refused> {
    let mut fields = Fields::of(at.to_owned(), item)?;
    for label in ["id", "status"] {
        fields.take(label);
    }
    match fields.take("type").and_then(Value::as_str).unwrap_or("message") {
        "message" => {
            let role = fields.text("role")?;
            let content = match fields.take("content") {
                Some(Value::Array(parts)) => {
                    let parts = parts.iter().enumerate();
                    parts
                        .map(|(index, one)| part(&format!("{at}/content/{index}"), one))
                        .collect::<Result<Value, _>>()?
                }
                Some(text @ Value::String(_)) => text.clone(),
                _ => return Err(format!("{at}/content: a string or a list is required")),
            };
            messages.push(json!({ "role": role, "content": content }));
        }
        "function_call" => {
            let function =
                json!({ "name": fields.text("name")?, "arguments": fields.text("arguments")? });
            let mut call =
                json!({ "id": fields.text("call_id")?, "type": "function", "function": function });
            fields.take(thought::PLACE);
            if let Some(thought) = thought::of(item) {
                thought::give(&mut call, thought);
            }
            // Calls of one turn are one message.
            match messages.last_mut().filter(|message| message.get("tool_calls").is_some()) {
                Some(message) => {
                    if let Some(Value::Array(calls)) = message.get_mut("tool_calls") {
                        calls.push(call);
                    }
                }
                None => messages
                    .push(json!({ "role": "assistant", "content": null, "tool_calls": [call] })),
            }
        }
        "function_call_output" => {
            let id = fields.text("call_id")?;
            let output = match fields.take("output") {
                Some(Value::Array(parts)) => {
                    let parts = parts.iter().enumerate();
                    parts
                        .map(|(index, one)| part(&format!("{at}/output/{index}"), one))
                        .collect::<Result<Value, _>>()?
                }
                Some(Value::String(text)) => text.as_str().into(),
                Some(_) => return Err(format!("{at}/output: a string or a list is required")),
                None => "".into(),
            };
            messages.push(json!({ "role": "tool", "tool_call_id": id, "content": output }));
        }
        "mcp_call" => return called(&mut fields, item, messages),
        // What was thought helps the model that thought it; others must not be told. What MCP servers
        // offered, and what a user was asked, is over.
        "reasoning" | "mcp_list_tools" | "mcp_approval_request" | "mcp_approval_response" => {
            return Ok(());
        }
        kind => return Err(format!("{at}/type: {kind:?} has no translation")),
    }
    fields.done("chat completions")
}

/// Writes a call of an MCP server's tool that is over: what was asked for, and what came of it.
fn called(fields: &mut Fields<'_>, item: &Value, messages: &mut Vec<Value>) -> Result<(), Refused> {
    let id = fields.text("id")?;
    let (label, name) = (fields.text("server_label")?, fields.text("name")?);
    let arguments = fields.text("arguments")?;
    // As the model was offered it.
    let name = types::function_name(&types::tool_name(label, name));
    let mut call = json!({
        "id": id, "type": "function", "function": { "name": name, "arguments": arguments },
    });
    if let Some(thought) = thought::of(item) {
        thought::give(&mut call, thought);
    }
    let gave = match (item["output"].as_str(), item["error"].as_str()) {
        (Some(output), None) => Ok(output),
        (output, error) => Err(error.or(output).unwrap_or("the tool gave nothing")),
    };
    messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] }));
    messages.push(json!({
        "role": "tool", "tool_call_id": id, "content": types::tool_result(gave),
    }));
    Ok(())
}

fn part(at: &str, part: &Value) -> Result<Value, Refused> {
    match part["type"].as_str() {
        Some("input_text" | "output_text") => Ok(json!({ "type": "text", "text": part["text"] })),
        Some("refusal") => Ok(json!({ "type": "refusal", "refusal": part["refusal"] })),
        Some("input_image") if part["image_url"].is_string() => {
            let mut image = json!({ "url": part["image_url"] });
            if let Some(detail) = part.get("detail").filter(|detail| !detail.is_null()) {
                image["detail"] = detail.clone();
            }
            Ok(json!({ "type": "image_url", "image_url": image }))
        }
        _ => Err(format!("{at}/type: {} has no translation", part["type"])),
    }
}

fn tool(at: &str, tool: &Value) -> Result<Value, Refused> {
    let mut fields = Fields::of(at.to_owned(), tool)?;
    if fields.text("type")? != "function" {
        return Err(format!("{at}/type: a tool of the provider's own has no translation"));
    }
    let mut function = json!({ "name": fields.text("name")? });
    for name in ["description", "parameters", "strict"] {
        if let Some(value) = fields.take(name) {
            function[name] = value.clone();
        }
    }
    fields.done("chat completions")?;
    Ok(json!({ "type": "function", "function": function }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tools_of_long_names_are_called_what_the_model_was_offered() {
        let own = |last: &str| format!("{}{last}", "read.".repeat(20));
        let call = |last: &str| {
            json!({ "type": "mcp_call", "id": last, "server_label": "files", "name": own(last),
                "arguments": "{}", "output": "", "error": null })
        };
        let wire = json!({ "model": "m", "input": [call("one"), call("two")] });
        let chat = request(&wire, &[]).unwrap();
        let name = |at: usize| &chat["messages"][at]["tool_calls"][0]["function"]["name"];
        for (at, last) in [(0, "one"), (2, "two")] {
            let offered = types::function_name(&types::tool_name("files", &own(last)));
            assert_eq!(*name(at), offered.as_str());
        }
        assert_ne!(name(0), name(2));
    }

    #[test]
    fn a_request_is_told_or_pointed_at() {
        let wire = json!({
            "model": "m", "instructions": "Be brief.", "max_output_tokens": 5, "store": true,
            "input": [
                { "role": "user", "content": [
                    { "type": "input_text", "text": "Look." },
                    { "type": "input_image", "image_url": "https://a/b.png", "detail": "low" } ] },
                { "type": "reasoning", "id": "r", "summary": [] },
                { "type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}" },
                { "type": "function_call", "call_id": "c2", "name": "look", "arguments": "{}" },
                { "type": "function_call_output", "call_id": "c1", "output": "a cat" },
                { "type": "mcp_list_tools", "id": "l", "server_label": "files", "tools": [] },
                { "type": "mcp_call", "id": "m1", "server_label": "files", "name": "read.all",
                  "arguments": "{}", "output": null, "error": "gone" },
            ],
            "tools": [{ "type": "function", "name": "look", "parameters": { "type": "object" }, "strict": true }],
            "tool_choice": { "type": "function", "name": "look" },
            "text": { "format": { "type": "json_schema", "name": "n", "schema": {} } },
            "reasoning": { "effort": "low" },
        });
        let chat = request(&wire, &[]).unwrap();
        let roles: Vec<_> =
            chat["messages"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "tool"]);
        assert_eq!(chat["messages"][4]["tool_calls"][0]["function"]["name"], "files__read_all");
        assert_eq!(chat["messages"][5]["content"], types::tool_result(Err("gone")));
        assert_eq!(chat["messages"][2]["tool_calls"].as_array().unwrap().len(), 2);
        assert_eq!(chat["tool_choice"]["function"]["name"], "look");
        assert_eq!((&chat["max_tokens"], &chat["reasoning_effort"]), (&5.into(), &"low".into()));
        for (wire, fault) in [
            (json!({ "model": "m" }), "/input"),
            (json!({ "model": "m", "input": "x", "conversation": "c" }), "/conversation"),
            (json!({ "model": "m", "input": "x", "background": true }), "/background"),
            (
                json!({ "model": "m", "input": "x", "tools": [{ "type": "web_search" }] }),
                "/tools/0/type",
            ),
            (
                json!({ "model": "m", "input": [{ "type": "item_reference", "id": "x" }] }),
                "/input/0/type",
            ),
        ] {
            let told = request(&wire, &[]).unwrap_err();
            assert!(told.starts_with(fault), "{told}");
        }
    }
}
