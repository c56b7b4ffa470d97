//! Google's Gemini API, `generateContent`, v1beta
//! (<https://ai.google.dev/api/generate-content>, read November 2026). Providers only: no client of
//! Baton speaks it.

use serde_json::{Map, Value, json};

use super::{Fields, Refused, calls};

/// Generation settings: in chat completions, and here.
const SETTINGS: [(&str, &str); 6] = [
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("seed", "seed"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
];

/// Writes a chat completions request as Gemini takes it.
///
/// # Errors
/// A JSON pointer to what Gemini cannot say.
pub(crate) fn request(chat: &Map<String, Value>, max_tokens: u64) -> Result<Value, Refused> {
    let chat = Value::Object(chat.clone());
    let mut fields = Fields::of(String::new(), &chat)?;
    // The model stands in the address. Who the user is, Gemini has no place for, and no use.
    for told_elsewhere in
        ["model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "user"]
    {
        fields.take(told_elsewhere);
    }
    fields.labels();
    // Gemini cannot be told to call one at a time; of what it calls then, the first is passed on.
    fields.take("parallel_tool_calls");
    if fields.take("n").is_some_and(|n| n != 1) {
        return Err("/n: only one answer can be had from Gemini".to_owned());
    }
    let (system, contents) = messages(fields.list("messages")?)?;
    let mut wire = json!({ "contents": contents });
    if !system.is_empty() {
        wire["systemInstruction"] = json!({ "parts": system });
    }
    let mut settings = json!({ "maxOutputTokens": max_tokens });
    for (theirs, ours) in SETTINGS {
        if let Some(value) = fields.take(theirs) {
            settings[ours] = value.clone();
        }
    }
    if let Some(stops) = fields.stops()? {
        settings["stopSequences"] = stops;
    }
    if let Some(format) = fields.take("response_format") {
        match format["type"].as_str() {
            Some("text") => {}
            Some("json_object") => settings["responseMimeType"] = "application/json".into(),
            Some("json_schema") => {
                settings["responseMimeType"] = "application/json".into();
                let schema = format["json_schema"].get("schema").filter(|s| s.is_object());
                let schema = schema.ok_or("/response_format/json_schema/schema: is required")?;
                settings["responseJsonSchema"] = schema.clone();
            }
            _ => return Err("/response_format/type: text, json_object or json_schema".to_owned()),
        }
    }
    let thinking = thinking(fields.take("reasoning_effort"), fields.take("thinking"))?;
    if let Some(thinking) = thinking {
        settings["thinkingConfig"] = thinking;
    }
    wire["generationConfig"] = settings;
    let tools = fields.list("tools")?.iter().enumerate();
    let tools = tools.map(|(index, one)| tool(&format!("/tools/{index}"), one));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    let choice = fields.take("tool_choice").map(tool_choice).transpose()?;
    let demands = choice.as_ref().is_some_and(|choice| choice["mode"] == "ANY");
    if tools.is_empty() && demands {
        return Err("/tool_choice: there are no tools to choose from".to_owned());
    }
    if !tools.is_empty() {
        wire["tools"] = json!([{ "functionDeclarations": tools }]);
        if let Some(choice) = choice {
            wire["toolConfig"] = json!({ "functionCallingConfig": choice });
        }
    }
    fields.done("Gemini")?;
    Ok(wire)
}

/// Says how much to think: chat completions have a word for it, Messages a number of tokens.
fn thinking(effort: Option<&Value>, thinking: Option<&Value>) -> Result<Option<Value>, Refused> {
    if let Some(thinking) = thinking {
        return match (thinking["type"].as_str(), thinking["budget_tokens"].as_u64()) {
            (Some("disabled"), _) => Ok(Some(json!({ "thinkingBudget": 0 }))),
            (Some("enabled"), Some(most)) => {
                Ok(Some(json!({ "thinkingBudget": most, "includeThoughts": true })))
            }
            (Some("adaptive"), _) => {
                let mut told = self::thinking(effort, None)?.unwrap_or_else(|| json!({}));
                told["includeThoughts"] = true.into();
                Ok(Some(told))
            }
            _ => Err("/thinking/type: enabled with budget_tokens, adaptive or disabled".to_owned()),
        };
    }
    match effort.map(|effort| (effort, effort.as_str())) {
        None => Ok(None),
        Some((_, Some("none"))) => Ok(Some(json!({ "thinkingBudget": 0 }))),
        Some((level, Some("minimal" | "low" | "medium" | "high"))) => {
            Ok(Some(json!({ "thinkingLevel": level })))
        }
        Some((level, _)) => Err(format!("/reasoning_effort: Gemini has no {level}")),
    }
}

fn messages(chat: &[Value]) -> Result<(Vec<Value>, Vec<Value>), Refused> {
    let (mut system, mut contents) = (Vec::new(), Vec::<Value>::new());
    // A result names its function, and chat completions its call.
    let mut called: Vec<(&Value, &Value)> = Vec::new();
    for (index, message) in chat.iter().enumerate() {
        let at = format!("/messages/{index}");
        let mut fields = Fields::of(at.clone(), message)?;
        fields.take("name");
        let role = fields.text("role")?;
        let said = parts(&at, fields.take("content"))?;
        let (role, said) = match role {
            "system" | "developer" if contents.is_empty() => {
                system.extend(said);
                continue;
            }
            "user" => ("user", said),
            "tool" => {
                let id = fields.text("tool_call_id")?;
                // Ids may come again in a later turn.
                let name = called.iter().rfind(|(known, _)| *known == id).map(|(_, name)| *name);
                let name =
                    name.ok_or_else(|| format!("{at}/tool_call_id: {id:?} was not called"))?;
                if let Some(index) = said.iter().position(|part| part.get("text").is_none()) {
                    return Err(format!(
                        "{at}/content/{index}: Gemini takes a tool's result as text"
                    ));
                }
                let text: String = said.iter().filter_map(|part| part["text"].as_str()).collect();
                let failed = fields.take("is_error") == Some(&Value::Bool(true));
                // A result is an object; what is none is one under a name.
                let result = serde_json::from_str(&text).ok().filter(Value::is_object);
                let result = match result {
                    _ if failed => json!({ "error": text }),
                    Some(result) => result,
                    None => json!({ "result": text }),
                };
                let response = json!({ "name": name, "response": result });
                ("user", vec![json!({ "functionResponse": response })])
            }
            "assistant" => {
                for told_elsewhere in [
                    "reasoning_content",
                    "reasoning_signature",
                    "reasoning",
                    "thinking_blocks",
                    "annotations",
                    "audio",
                ] {
                    fields.take(told_elsewhere);
                }
                let mut said = said;
                said.extend(parts(&format!("{at}/refusal"), fields.take("refusal"))?);
                for (index, call) in fields.list("tool_calls")?.iter().enumerate() {
                    called.push((&call["id"], &call["function"]["name"]));
                    said.push(function_call(&format!("{at}/tool_calls/{index}"), call)?);
                }
                ("model", said)
            }
            role => return Err(format!("{at}/role: {role:?} has no place here for Gemini")),
        };
        fields.done("Gemini")?;
        match contents.last_mut().filter(|turn| turn["role"] == role) {
            Some(Value::Object(turn)) => {
                if let Some(Value::Array(before)) = turn.get_mut("parts") {
                    before.extend(said);
                }
            }
            _ => contents.push(json!({ "role": role, "parts": said })),
        }
    }
    Ok((system, contents))
}

fn function_call(at: &str, call: &Value) -> Result<Value, Refused> {
    let (_, name, arguments) = calls::made(at, call)?;
    let mut part = json!({ "functionCall": { "name": name, "args": arguments } });
    if let Some(signature) = call.pointer("/extra_content/google/thought_signature") {
        part["thoughtSignature"] = signature.clone();
    }
    Ok(part)
}

fn parts(at: &str, content: Option<&Value>) -> Result<Vec<Value>, Refused> {
    let parts = match content {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => return Ok(Vec::new()),
        Some(Value::String(text)) => return Ok(vec![json!({ "text": text })]),
        Some(Value::Array(parts)) => parts,
        Some(_) => return Err(format!("{at}/content: a string or a list is required")),
    };
    let part = |(index, part): (usize, &Value)| {
        let at = format!("{at}/content/{index}");
        match part["type"].as_str() {
            Some(kind @ ("text" | "refusal")) => match part[kind].as_str() {
                Some(text) => Ok(json!({ "text": text })),
                None => Err(format!("{at}/{kind}: a string is required")),
            },
            Some("image_url") => {
                let url = part["image_url"]["url"].as_str().unwrap_or_default();
                let data = url.strip_prefix("data:").and_then(|url| url.split_once(";base64,"));
                let (kind, data) = data.ok_or_else(|| {
                    format!("{at}/image_url/url: Gemini takes images as data in base64")
                })?;
                Ok(json!({ "inlineData": { "mimeType": kind, "data": data } }))
            }
            _ => Err(format!("{at}/type: {} cannot be told to Gemini", part["type"])),
        }
    };
    parts.iter().enumerate().map(part).collect()
}

/// Writes a function; that it be called `strict`ly to its schema is not Gemini's to promise, nor to
/// refuse: it keeps to schemas as well as it does.
fn tool(at: &str, tool: &Value) -> Result<Value, Refused> {
    if tool["type"] != "function" {
        return Err(format!("{at}/type: Gemini takes functions"));
    }
    let function = &tool["function"];
    let name = function["name"].as_str();
    let name = name.ok_or_else(|| format!("{at}/function/name: a string is required"))?;
    let mut wire = json!({ "name": name });
    for (theirs, ours) in [("description", "description"), ("parameters", "parametersJsonSchema")] {
        if let Some(value) = function.get(theirs).filter(|value| !value.is_null()) {
            wire[ours] = value.clone();
        }
    }
    Ok(wire)
}

fn tool_choice(choice: &Value) -> Result<Value, Refused> {
    match (choice.as_str(), choice["function"]["name"].as_str()) {
        (Some("auto"), _) => Ok(json!({ "mode": "AUTO" })),
        (Some("none"), _) => Ok(json!({ "mode": "NONE" })),
        (Some("required"), _) => Ok(json!({ "mode": "ANY" })),
        (_, Some(name)) => Ok(json!({ "mode": "ANY", "allowedFunctionNames": [name] })),
        _ => Err("/tool_choice: auto, none, required or a function".to_owned()),
    }
}

/// Writes Gemini's answer as a chat completion, with at most so many calls of tools.
pub(crate) fn response(wire: &Value, most_calls: usize) -> Value {
    let (mut delta, finish) = said(wire, &mut Calls::up_to(most_calls));
    delta["role"] = "assistant".into();
    if delta.get("content").is_none() {
        delta["content"] = Value::Null;
    }
    let mut chat = frame(wire, "chat.completion");
    let choice = json!({ "index": 0, "message": delta, "finish_reason": finish });
    chat["choices"] = json!([choice]);
    chat["usage"] = usage(&wire["usageMetadata"]).unwrap_or_default();
    chat
}

/// Says why an answer or a piece of one is none, if so: another provider may do better.
pub(crate) fn failure(wire: &Value) -> Option<String> {
    let candidate = wire["candidates"].get(0)?;
    let reason = candidate["finishReason"].as_str()?;
    // The model tried to call a tool, and did not get it right.
    let failed = matches!(reason, "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL");
    failed.then(|| match candidate["finishMessage"].as_str() {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    })
}

/// Writes the pieces of a stream as chat completion chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    calls: Calls,
    /// A reason to end was given: the end of the connection is the end of the stream.
    pub(crate) is_whole: bool,
    begun: bool,
    /// The last chunk, without its choices.
    frame: Value,
    usage: Option<Value>,
}

impl Chunks {
    /// Begins a stream with at most so many calls of tools.
    pub(crate) fn new(most_calls: usize) -> Self {
        let calls = Calls::up_to(most_calls);
        Self { calls, is_whole: false, begun: false, frame: Value::Null, usage: None }
    }

    /// Returns the chunk that a piece makes, if it says anything.
    pub(crate) fn push(&mut self, wire: &Value) -> Option<Value> {
        let (mut delta, finish) = said(wire, &mut self.calls);
        self.is_whole |= !finish.is_null();
        if let Some(usage) = usage(&wire["usageMetadata"]) {
            self.usage = Some(usage);
        }
        let is_empty = delta.as_object().is_none_or(Map::is_empty) && finish.is_null();
        if is_empty {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            delta["role"] = "assistant".into();
        }
        let mut chunk = frame(wire, "chat.completion.chunk");
        self.frame = chunk.clone();
        chunk["choices"] = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        Some(chunk)
    }

    /// Returns the last chunk of a stream that has begun: Gemini counts on with every piece, and chat
    /// completions count once.
    pub(crate) fn counted(&mut self) -> Option<Value> {
        let mut chunk = self.begun.then(|| self.frame.take())?;
        chunk["choices"] = json!([]);
        chunk["usage"] = self.usage.take()?;
        Some(chunk)
    }
}

fn frame(wire: &Value, object: &str) -> Value {
    let id = wire["responseId"].as_str().unwrap_or_default();
    json!({
        "id": format!("chatcmpl-{id}"), "object": object, "created": 0,
        "model": wire["modelVersion"],
    })
}

/// The calls of tools so far, and how many there may be.
#[derive(Debug)]
struct Calls {
    count: usize,
    most: usize,
}

impl Calls {
    fn up_to(most: usize) -> Self {
        Self { count: 0, most }
    }
}

/// Returns what a piece says, and why it ended, if it did.
fn said(wire: &Value, calls: &mut Calls) -> (Value, Value) {
    let candidate = &wire["candidates"][0];
    let (mut text, mut thought, mut called) = (String::new(), String::new(), Vec::new());
    for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
        if let Some(call) = part.get("functionCall").filter(|_| calls.count < calls.most) {
            let index = calls.count;
            let arguments = call.get("args").unwrap_or(&json!({})).to_string();
            let function = json!({ "name": call["name"], "arguments": arguments });
            // Most calls have no ids: they are told apart by their answer and their place in it.
            let id = call["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
            let answer = wire["responseId"].as_str().unwrap_or_default();
            let id = id.unwrap_or_else(|| format!("call_{answer}_{index}"));
            let mut one =
                json!({ "index": index, "id": id, "type": "function", "function": function });
            if let Some(signature) = part.get("thoughtSignature") {
                one["extra_content"] = json!({ "google": { "thought_signature": signature } });
            }
            called.push(one);
            calls.count += 1;
        }
        let piece = part["text"].as_str().unwrap_or_default();
        if part["thought"] == true { thought.push_str(piece) } else { text.push_str(piece) }
    }
    let mut delta = json!({});
    if !text.is_empty() {
        delta["content"] = text.into();
    }
    if !thought.is_empty() {
        delta["reasoning_content"] = thought.into();
    }
    if !called.is_empty() {
        delta["tool_calls"] = called.into();
    }
    let blocked = wire.pointer("/promptFeedback/blockReason").is_some();
    let finish = match candidate["finishReason"].as_str() {
        None if blocked => "content_filter".into(),
        None => Value::Null,
        Some("STOP") if calls.count > 0 => "tool_calls".into(),
        Some("STOP") => "stop".into(),
        Some("MAX_TOKENS") => "length".into(),
        Some(_) => "content_filter".into(),
    };
    (delta, finish)
}

/// Counts as chat completions do: thoughts are part of what was written.
fn usage(usage: &Value) -> Option<Value> {
    let count = |name: &str| usage[name].as_u64().unwrap_or_default();
    let input = usage.get("promptTokenCount")?.as_u64()?;
    let input = input.saturating_add(count("toolUsePromptTokenCount"));
    let thought = count("thoughtsTokenCount");
    let output = count("candidatesTokenCount").saturating_add(thought);
    Some(json!({
        "prompt_tokens": input,
        "completion_tokens": output,
        "total_tokens": input.saturating_add(output),
        "prompt_tokens_details": { "cached_tokens": count("cachedContentTokenCount") },
        "completion_tokens_details": { "reasoning_tokens": thought },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_everything_or_points_at_what_it_cannot() {
        let chat = json!({
            "model": "m", "stream": true, "temperature": 0.5, "stop": "END",
            "messages": [
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": [
                    { "type": "text", "text": "Look." },
                    { "type": "image_url", "image_url": { "url": "data:image/png;base64,aGk=" } },
                ] },
                { "role": "assistant", "content": null, "tool_calls": [{
                    "id": "c1", "type": "function",
                    "function": { "name": "look", "arguments": "{\"at\":1}" },
                    "extra_content": { "google": { "thought_signature": "s" } },
                }] },
                { "role": "tool", "tool_call_id": "c1", "content": "a cat" },
                { "role": "user", "content": "Well?" },
            ],
            "tools": [{ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } }],
            "tool_choice": "required",
            "response_format": { "type": "json_schema", "json_schema": { "schema": { "type": "object" } } },
        });
        let wire = request(chat.as_object().unwrap(), 7).unwrap();
        let wanted = json!({
            "contents": [
                { "role": "user", "parts": [
                    { "text": "Look." }, { "inlineData": { "mimeType": "image/png", "data": "aGk=" } } ] },
                { "role": "model", "parts": [
                    { "functionCall": { "name": "look", "args": { "at": 1 } }, "thoughtSignature": "s" } ] },
                { "role": "user", "parts": [
                    { "functionResponse": { "name": "look", "response": { "result": "a cat" } } },
                    { "text": "Well?" } ] },
            ],
            "systemInstruction": { "parts": [{ "text": "Be brief." }] },
            "generationConfig": { "maxOutputTokens": 7, "temperature": 0.5, "stopSequences": ["END"],
                "responseMimeType": "application/json", "responseJsonSchema": { "type": "object" } },
            "tools": [{ "functionDeclarations": [{ "name": "look", "parametersJsonSchema": { "type": "object" } }] }],
            "toolConfig": { "functionCallingConfig": { "mode": "ANY" } },
        });
        assert_eq!(wire, wanted);
        for (chat, fault) in [
            (json!({ "messages": [], "n": 2 }), "/n"),
            (json!({ "messages": [], "logit_bias": { "1": 2 } }), "/logit_bias"),
            (
                json!({ "messages": [{ "role": "tool", "tool_call_id": "x", "content": "" }] }),
                "/messages/0/tool_call_id",
            ),
            (
                json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://a/b" } }] }] }),
                "/messages/0/content/0/image_url",
            ),
        ] {
            let told = request(chat.as_object().unwrap(), 1).unwrap_err();
            assert!(told.starts_with(fault), "{told}");
        }
    }

    #[test]
    fn an_answer_is_told_whole_and_in_pieces() {
        let wire = json!({
            "candidates": [{ "content": { "role": "model", "parts": [
                { "text": "hm", "thought": true }, { "text": "pong" },
                { "functionCall": { "name": "add", "args": { "a": 1 } }, "thoughtSignature": "s" },
            ] }, "finishReason": "STOP" }],
            "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": 2,
                "thoughtsTokenCount": 3, "cachedContentTokenCount": 4 },
            "modelVersion": "g", "responseId": "r",
        });
        let chat = response(&wire, 2);
        let message = &chat["choices"][0]["message"];
        assert_eq!(
            (&message["content"], &message["reasoning_content"]),
            (&"pong".into(), &"hm".into())
        );
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
        assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(chat["usage"]["completion_tokens"], 5);
        let mut twice = wire.clone();
        let parts = twice["candidates"][0]["content"]["parts"].as_array_mut().unwrap();
        parts.push(parts[2].clone());
        assert_eq!(&response(&twice, 1)["choices"], &chat["choices"], "one at a time");
        let mut chunks = Chunks::new(2);
        let half = json!({ "candidates": [{ "content": { "parts": [{ "text": "po" }] } }] });
        let chunk = chunks.push(&half).unwrap();
        assert_eq!(chunk["choices"][0]["delta"]["content"], "po");
        assert!(!chunks.is_whole && chunk.get("usage").is_none());
        assert!(chunks.push(&wire).unwrap().get("usage").is_none() && chunks.is_whole);
        let counted = chunks.counted().unwrap();
        assert_eq!(counted["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
        let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
        assert_eq!(response(&blocked, 2)["choices"][0]["finish_reason"], "content_filter");
    }
}
