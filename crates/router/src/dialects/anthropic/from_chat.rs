//! A chat completions request, as Anthropic takes it; Anthropic's answer, as chat completions give it.

use serde_json::{Map, Value, json};

use super::ENDS;
use crate::dialects::{Fields, Refused, calls, thought};

/// Writes a chat completions request for `model` as a Messages request.
///
/// # Errors
/// A JSON pointer to what Messages cannot say.
pub(crate) fn request(
    chat: &Map<String, Value>,
    model: &str,
    max_tokens: u64,
    stream: bool,
) -> Result<Value, Refused> {
    let chat = Value::Object(chat.clone());
    let mut fields = Fields::of(String::new(), &chat)?;
    for name in ["model", "stream", "stream_options", "max_tokens", "max_completion_tokens"] {
        fields.take(name);
    }
    fields.labels();
    let mut wire = json!({ "model": model, "max_tokens": max_tokens, "stream": stream });
    if fields.take("n").is_some_and(|n| n != 1) {
        return Err("/n: only one answer can be had from a provider that speaks Messages".into());
    }
    let (system, messages) = messages(fields.list("messages")?)?;
    if !system.is_empty() {
        wire["system"] = system.into();
    }
    wire["messages"] = messages.into();
    match fields.take("service_tier").map(|tier| (tier, tier.as_str())) {
        None => {}
        Some((_, Some("auto"))) => wire["service_tier"] = "auto".into(),
        Some((_, Some("default"))) => wire["service_tier"] = "standard_only".into(),
        Some((tier, _)) => return Err(format!("/service_tier: Messages has no {tier}")),
    }
    for name in ["temperature", "top_p", "top_k", "thinking"] {
        if let Some(value) = fields.take(name) {
            wire[name] = value.clone();
        }
    }
    if let Some(stops) = fields.stops()? {
        wire["stop_sequences"] = stops;
    }
    if let Some(user) = fields.take("user") {
        wire["metadata"] = json!({ "user_id": user });
    }
    let tools = fields.list("tools")?.iter().enumerate();
    let tools = tools.map(|(index, one)| tool(&format!("/tools/{index}"), one));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    let one_at_a_time = fields.take("parallel_tool_calls") == Some(&Value::Bool(false));
    let choice = fields.take("tool_choice").map(tool_choice).transpose()?;
    if !tools.is_empty() {
        wire["tools"] = tools.into();
        let mut choice = choice.unwrap_or_else(|| json!({ "type": "auto" }));
        if one_at_a_time && choice["type"] != "none" {
            choice["disable_parallel_tool_use"] = true.into();
        }
        wire["tool_choice"] = choice;
    } else if choice.is_some_and(|choice| choice["type"] == "any" || choice["type"] == "tool") {
        return Err("/tool_choice: there are no tools to choose from".to_owned());
    }
    if let Some(format) = fields.take("response_format") {
        match format["type"].as_str() {
            Some("text") => {}
            Some("json_schema") => {
                let schema = format["json_schema"].get("schema").filter(|s| s.is_object());
                let schema = schema.ok_or("/response_format/json_schema/schema: is required")?;
                wire["output_config"] =
                    json!({ "format": { "type": "json_schema", "schema": schema } });
            }
            _ => return Err("/response_format/type: Messages takes text or json_schema".into()),
        }
    }
    match fields.take("reasoning_effort").map(|effort| (effort, effort.as_str())) {
        None => {}
        Some((_, Some("none"))) if wire.get("thinking").is_none() => {
            wire["thinking"] = json!({ "type": "disabled" });
        }
        Some((_, Some("minimal"))) => wire["output_config"]["effort"] = "low".into(),
        Some((effort, Some("low" | "medium" | "high" | "xhigh" | "max"))) => {
            wire["output_config"]["effort"] = effort.clone();
        }
        Some((effort, _)) => return Err(format!("/reasoning_effort: Messages has no {effort}")),
    }
    fields.done("Messages")?;
    Ok(wire)
}

/// Parts the system's words from the conversation, in which the roles take turns.
fn messages(chat: &[Value]) -> Result<(Vec<Value>, Vec<Value>), Refused> {
    let (mut system, mut turns) = (Vec::new(), Vec::<Value>::new());
    for (index, message) in chat.iter().enumerate() {
        let at = format!("/messages/{index}");
        let mut fields = Fields::of(at.clone(), message)?;
        fields.take("name");
        let (role, blocks) = match fields.text("role")? {
            "system" | "developer" if turns.is_empty() => {
                system.extend(content(&at, fields.take("content"))?);
                continue;
            }
            "system" | "developer" => {
                return Err(format!(
                    "{at}/role: Messages takes the system's words first or not at all"
                ));
            }
            "user" => ("user", content(&at, fields.take("content"))?),
            "tool" => {
                let id = fields.text("tool_call_id")?;
                let result = content(&at, fields.take("content"))?;
                let mut block =
                    json!({ "type": "tool_result", "tool_use_id": id, "content": result });
                if let Some(failed) = fields.take("is_error") {
                    block["is_error"] = failed.clone();
                }
                ("user", vec![block])
            }
            "assistant" => ("assistant", assistant(&at, &mut fields)?),
            role => return Err(format!("{at}/role: {role:?} is unknown")),
        };
        fields.done("Messages")?;
        match turns.last_mut().filter(|turn| turn["role"] == role) {
            Some(Value::Object(turn)) => {
                if let Some(Value::Array(before)) = turn.get_mut("content") {
                    before.extend(blocks);
                }
            }
            _ => turns.push(json!({ "role": role, "content": blocks })),
        }
    }
    Ok((system, turns))
}

/// Takes thoughts without a signature, and Google's, out of a Messages request: they are another
/// model's, which this client was told as thoughts, and no provider of Messages takes them back.
pub(crate) fn forget_unsigned(wire: &mut Map<String, Value>) {
    let messages = wire.get_mut("messages").and_then(Value::as_array_mut);
    for message in messages.into_iter().flatten() {
        if let Some(blocks) = message.get_mut("content").and_then(Value::as_array_mut) {
            blocks.retain(|block| {
                let unsigned = block["type"] == "thinking" && block["signature"] == "";
                !unsigned && thought::of_block(block).is_none()
            });
        }
    }
}

fn assistant(at: &str, fields: &mut Fields<'_>) -> Result<Vec<Value>, Refused> {
    // The signature of a thought is checked, so its blocks come back as they were, and first.
    let mut blocks = fields.list("thinking_blocks")?.to_vec();
    // A client that put a stream together has it in two fields.
    let pieces = (fields.take("reasoning_content"), fields.take("reasoning_signature"));
    if let (true, (Some(thinking), Some(signature))) = (blocks.is_empty(), pieces) {
        blocks.push(json!({ "type": "thinking", "thinking": thinking, "signature": signature }));
    }
    for told_elsewhere in ["reasoning", "annotations", "audio"] {
        fields.take(told_elsewhere);
    }
    blocks.extend(content(at, fields.take("content"))?);
    blocks.extend(content(&format!("{at}/refusal"), fields.take("refusal"))?);
    for (index, call) in fields.list("tool_calls")?.iter().enumerate() {
        let (id, name, input) = calls::made(&format!("{at}/tool_calls/{index}"), call)?;
        blocks.push(json!({ "type": "tool_use", "id": id, "name": name, "input": input }));
    }
    Ok(blocks)
}

/// Writes a message's content as blocks; a text of no characters is no block.
fn content(at: &str, content: Option<&Value>) -> Result<Vec<Value>, Refused> {
    match content {
        None => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![json!({ "type": "text", "text": text })]),
        Some(Value::Array(parts)) => {
            let parts = parts.iter().enumerate();
            parts.map(|(index, part)| block(&format!("{at}/content/{index}"), part)).collect()
        }
        Some(_) => Err(format!("{at}/content: a string or a list is required")),
    }
}

fn block(at: &str, part: &Value) -> Result<Value, Refused> {
    let mut fields = Fields::of(at.to_owned(), part)?;
    let mut block = match fields.text("type")? {
        "text" => json!({ "type": "text", "text": fields.text("text")? }),
        "refusal" => json!({ "type": "text", "text": fields.text("refusal")? }),
        "image_url" => {
            let url = fields.take("image_url").and_then(|image| image["url"].as_str());
            let url = url.ok_or_else(|| format!("{at}/image_url/url: a string is required"))?;
            json!({ "type": "image", "source": source(at, url)? })
        }
        kind => return Err(format!("{at}/type: {kind:?} cannot be told to Messages")),
    };
    if let Some(cache) = fields.take("cache_control") {
        block["cache_control"] = cache.clone();
    }
    fields.done("Messages")?;
    Ok(block)
}

fn source(at: &str, url: &str) -> Result<Value, Refused> {
    let Some(data) = url.strip_prefix("data:") else {
        return Ok(json!({ "type": "url", "url": url }));
    };
    let (media_type, data) = data
        .split_once(";base64,")
        .ok_or_else(|| format!("{at}/image_url/url: a data address must be in base64"))?;
    Ok(json!({ "type": "base64", "media_type": media_type, "data": data }))
}

fn tool(at: &str, tool: &Value) -> Result<Value, Refused> {
    let mut fields = Fields::of(at.to_owned(), tool)?;
    if fields.text("type")? != "function" {
        return Err(format!("{at}/type: Messages takes functions"));
    }
    let function = fields.take("function").unwrap_or(&Value::Null);
    let mut inner = Fields::of(format!("{at}/function"), function)?;
    let mut wire = json!({ "name": inner.text("name")? });
    if let Some(description) = inner.take("description") {
        wire["description"] = description.clone();
    }
    let nothing = json!({ "type": "object", "properties": {} });
    let schema = inner.take("parameters").unwrap_or(&nothing);
    if !schema.is_object() {
        return Err(format!("{at}/function/parameters: an object is required"));
    }
    wire["input_schema"] = schema.clone();
    if let Some(strict) = inner.take("strict") {
        wire["strict"] = strict.clone();
    }
    inner.done("Messages")?;
    if let Some(cache) = fields.take("cache_control") {
        wire["cache_control"] = cache.clone();
    }
    fields.done("Messages")?;
    Ok(wire)
}

fn tool_choice(choice: &Value) -> Result<Value, Refused> {
    match choice.as_str() {
        Some("required") => Ok(json!({ "type": "any" })),
        Some(word @ ("auto" | "none")) => Ok(json!({ "type": word })),
        _ => match choice["function"]["name"].as_str() {
            Some(name) => Ok(json!({ "type": "tool", "name": name })),
            None => Err("/tool_choice: auto, none, required or a function".to_owned()),
        },
    }
}

/// Writes Anthropic's answer, made at `now` (seconds since 1970), as a chat completion.
pub(crate) fn response(message: &Value, now: i64) -> Value {
    let mut said = Said::default();
    for block in message["content"].as_array().into_iter().flatten() {
        said.block(block);
    }
    let mut answer = json!({ "role": "assistant", "content": said.text });
    if !said.calls.is_empty() {
        answer["tool_calls"] = said.calls.into();
    }
    if !said.thoughts.is_empty() {
        answer["reasoning_content"] = said.thought.into();
        answer["thinking_blocks"] = said.thoughts.into();
    }
    json!({
        "id": message["id"],
        "object": "chat.completion",
        "created": now,
        "model": message["model"],
        "choices": [{
            "index": 0,
            "message": answer,
            "finish_reason": finish(&message["stop_reason"]),
        }],
        "usage": usage(&message["usage"]),
    })
}

#[derive(Default)]
struct Said {
    text: Option<String>,
    thought: String,
    thoughts: Vec<Value>,
    calls: Vec<Value>,
}

impl Said {
    fn block(&mut self, block: &Value) {
        match block["type"].as_str() {
            Some("text") => {
                let text = block["text"].as_str().unwrap_or_default();
                self.text.get_or_insert_default().push_str(text);
            }
            Some("tool_use") => self.calls.push(json!({
                "id": block["id"],
                "type": "function",
                "function": { "name": block["name"], "arguments": arguments(&block["input"]) },
            })),
            Some("thinking" | "redacted_thinking") => {
                self.thought.push_str(block["thinking"].as_str().unwrap_or_default());
                self.thoughts.push(block.clone());
            }
            _ => {}
        }
    }
}

/// Writes a call's input as the text that it is in chat completions.
fn arguments(input: &Value) -> String {
    if input.is_null() { "{}".to_owned() } else { input.to_string() }
}

/// Returns why it ended; a reason that is newer than this is an end too.
fn finish(reason: &Value) -> Value {
    let Some(reason) = reason.as_str() else { return Value::Null };
    let known = ENDS.iter().find(|(theirs, _)| *theirs == reason);
    known.map_or("stop", |(_, chat)| *chat).into()
}

/// Counts as chat completions do, where what was cached is part of what was read; null when the
/// provider did not count.
fn usage(usage: &Value) -> Value {
    if !(usage["input_tokens"].is_u64() && usage["output_tokens"].is_u64()) {
        return Value::Null;
    }
    let count = |name: &str| usage[name].as_u64().unwrap_or_default();
    let (read, written) = (count("cache_read_input_tokens"), count("cache_creation_input_tokens"));
    let input = count("input_tokens").saturating_add(read).saturating_add(written);
    let output = count("output_tokens");
    let hour = usage["cache_creation"]["ephemeral_1h_input_tokens"].as_u64();
    let mut details = json!({ "cached_tokens": read, "cache_creation_tokens": written });
    if let Some(hour) = hour.filter(|hour| *hour > 0) {
        details["cache_creation_1h_tokens"] = hour.into();
    }
    json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": details,
    })
}

/// Writes the events of a stream as chat completion chunks.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    now: i64,
    id: Value,
    model: Value,
    usage: Map<String, Value>,
    calls: u64,
    /// A call is being written that has no arguments yet.
    is_bare: bool,
    /// The last event has come.
    pub(crate) is_stopped: bool,
}

impl Chunks {
    /// Begins a stream at `now` (seconds since 1970).
    pub(crate) fn new(now: i64) -> Self {
        Self { now, ..Self::default() }
    }

    /// Takes one event and returns the chunk that it makes, if any.
    pub(crate) fn push(&mut self, event: &Value) -> Option<Value> {
        match event["type"].as_str()? {
            "message_start" => {
                let message = &event["message"];
                (self.id, self.model) = (message["id"].clone(), message["model"].clone());
                self.count(&message["usage"]);
                Some(self.chunk(json!({ "role": "assistant", "content": "" }), Value::Null))
            }
            "content_block_start" => {
                let block = &event["content_block"];
                match block["type"].as_str() {
                    Some("tool_use") => {
                        self.calls += 1;
                        // Most begin with no input, and then write it.
                        let input = Some(&block["input"]);
                        let input = input.filter(|i| i.as_object().is_some_and(|i| !i.is_empty()));
                        self.is_bare = input.is_none();
                        let arguments = input.map(arguments).unwrap_or_default();
                        let function = json!({ "name": block["name"], "arguments": arguments });
                        let call = json!({
                            "index": self.calls - 1, "id": block["id"], "type": "function",
                            "function": function,
                        });
                        Some(self.chunk(json!({ "tool_calls": [call] }), Value::Null))
                    }
                    Some("redacted_thinking") => {
                        Some(self.chunk(json!({ "thinking_blocks": [block] }), Value::Null))
                    }
                    Some("text") if block["text"].as_str().is_some_and(|t| !t.is_empty()) => {
                        Some(self.chunk(json!({ "content": block["text"] }), Value::Null))
                    }
                    Some("thinking")
                        if block["thinking"].as_str().is_some_and(|t| !t.is_empty()) =>
                    {
                        let thought = json!({ "reasoning_content": block["thinking"] });
                        Some(self.chunk(thought, Value::Null))
                    }
                    _ => None,
                }
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                let told = match delta["type"].as_str()? {
                    "text_delta" => json!({ "content": delta["text"] }),
                    "thinking_delta" => json!({ "reasoning_content": delta["thinking"] }),
                    "signature_delta" => json!({ "reasoning_signature": delta["signature"] }),
                    "input_json_delta" => match delta["partial_json"].as_str() {
                        None | Some("") => return None,
                        Some(part) => {
                            self.is_bare = false;
                            self.arguments(part)
                        }
                    },
                    _ => return None,
                };
                Some(self.chunk(told, Value::Null))
            }
            // Chat completions have no call without arguments: its readers would find no JSON.
            "content_block_stop" if std::mem::take(&mut self.is_bare) => {
                let nothing = self.arguments("{}");
                Some(self.chunk(nothing, Value::Null))
            }
            "message_delta" => {
                self.count(&event["usage"]);
                let end = finish(&event["delta"]["stop_reason"]);
                (!end.is_null()).then(|| self.chunk(json!({}), end))
            }
            "message_stop" => {
                self.is_stopped = true;
                let mut last = self.chunk(json!({}), Value::Null);
                last["choices"] = json!([]);
                last["usage"] = usage(&Value::Object(self.usage.clone()));
                Some(last)
            }
            _ => None,
        }
    }

    /// Returns the last event of a stream, as Anthropic says it.
    pub(crate) fn end(&self) -> Value {
        json!({ "type": "message_stop" })
    }

    fn arguments(&self, part: &str) -> Value {
        let index = self.calls.saturating_sub(1);
        json!({ "tool_calls": [{ "index": index, "function": { "arguments": part } }] })
    }

    /// Counts are cumulative: a later one takes the place of an earlier one.
    fn count(&mut self, usage: &Value) {
        let is_count = |n: &Value| n.is_u64() || n.is_object();
        let counts = usage.as_object().into_iter().flatten().filter(|(_, n)| is_count(n));
        self.usage.extend(counts.map(|(name, n)| (name.clone(), n.clone())));
    }

    fn chunk(&self, delta: Value, end: Value) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.now, "model": self.model,
            "choices": [{ "index": 0, "delta": delta, "finish_reason": end }],
        })
    }
}
