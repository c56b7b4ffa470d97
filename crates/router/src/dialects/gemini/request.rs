//! A chat completions request, as Gemini takes it.

use serde_json::{Map, Value, json};

use crate::dialects::{Fields, Refused, calls, thought};

/// Generation settings: in chat completions, and here.
const SETTINGS: [(&str, &str); 6] = [
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("seed", "seed"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
];

/// What Gemini takes for the thought behind a call that is not its own, or whose client lost it.
const UNKNOWN: &str = "skip_thought_signature_validator";

/// Writes a chat completions request for `model` as Gemini takes it.
///
/// # Errors
/// A JSON pointer to what Gemini cannot say.
pub(crate) fn request(
    chat: &Map<String, Value>,
    model: &str,
    max_tokens: u64,
) -> Result<Value, Refused> {
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
    let (system, mut contents) = messages(fields.list("messages")?)?;
    if wants_thoughts(model) {
        contents.iter_mut().for_each(think);
    }
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

/// Tells whether a model refuses calls without a thought behind them: those since Gemini 3 do.
fn wants_thoughts(model: &str) -> bool {
    let version = model.strip_prefix("gemini-");
    version.is_some_and(|version| !version.starts_with("1.") && !version.starts_with("2."))
}

/// Says that the thought behind a turn's first call is not known, if it has none: those beside it need
/// none.
fn think(turn: &mut Value) {
    let parts = turn.get_mut("parts").and_then(Value::as_array_mut);
    let call =
        parts.and_then(|parts| parts.iter_mut().find(|part| part.get("functionCall").is_some()));
    if let Some(Value::Object(call)) = call {
        call.entry("thoughtSignature").or_insert_with(|| UNKNOWN.into());
    }
}

fn function_call(at: &str, call: &Value) -> Result<Value, Refused> {
    let (_, name, arguments) = calls::made(at, call)?;
    let mut part = json!({ "functionCall": { "name": name, "args": arguments } });
    if let Some(thought) = thought::of(call) {
        part["thoughtSignature"] = thought.into();
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
        let wire = request(chat.as_object().unwrap(), "gemini-3-pro", 7).unwrap();
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
            let told = request(chat.as_object().unwrap(), "m", 1).unwrap_err();
            assert!(told.starts_with(fault), "{told}");
        }
    }

    #[test]
    fn a_call_whose_thought_was_lost_says_so_to_those_who_ask() {
        let call = |id: &str| json!({ "id": id, "type": "function", "function": { "name": "f", "arguments": "{}" } });
        let mut known = call("d");
        thought::give(&mut known, "s");
        let chat = json!({ "messages": [
            { "role": "user", "content": "a" },
            { "role": "assistant", "content": "b", "tool_calls": [call("a"), call("b")] },
            { "role": "tool", "tool_call_id": "a", "content": "c" },
            { "role": "assistant", "tool_calls": [known] },
        ] });
        let thoughts = |model: &str| {
            let wire = request(chat.as_object().unwrap(), model, 1).unwrap();
            let parts = |turn: usize| wire["contents"][turn]["parts"].as_array().unwrap().clone();
            let of = |part: &Value| part.get("thoughtSignature").cloned().unwrap_or_default();
            [1, 3].map(|turn| parts(turn).iter().map(of).collect::<Vec<_>>())
        };
        let nothing = Value::Null;
        for model in ["gemini-2.5-flash", "gemma-3-27b-it"] {
            let wanted = [vec![nothing.clone(); 3], vec!["s".into()]];
            assert_eq!(thoughts(model), wanted, "{model}");
        }
        for model in ["gemini-3-pro-preview", "gemini-3.1-flash", "gemini-flash-latest"] {
            let wanted = [vec![nothing.clone(), UNKNOWN.into(), nothing.clone()], vec!["s".into()]];
            assert_eq!(thoughts(model), wanted, "{model}");
        }
    }
}
