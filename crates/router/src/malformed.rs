//! What is wrong with a request, whoever serves it: found in the client's own words, before any money
//! is held. Pure. What is not known here may be known to a provider, and passes.

use proto::router::Dialect;
use serde_json::{Map, Value};

use crate::dialects::Refused;

/// The most tools that a request may bring.
const TOOLS: usize = 1024;

/// Numbers: their field, and from where to where they go.
const NUMBERS: [(&str, f64, f64); 4] = [
    ("temperature", 0.0, 2.0),
    ("top_p", 0.0, 1.0),
    ("presence_penalty", -2.0, 2.0),
    ("frequency_penalty", -2.0, 2.0),
];

/// Checks a request in `dialect`.
///
/// # Errors
/// A JSON pointer to the first fault.
pub(crate) fn check(wire: &Map<String, Value>, dialect: Dialect) -> Result<(), Refused> {
    options(wire)?;
    if dialect != Dialect::Responses {
        messages(list(wire, "messages")?)?;
    }
    let names = tools(list(wire, "tools")?, dialect)?;
    match given(wire, "tool_choice") {
        None => Ok(()),
        Some(choice) => tool_choice(choice, &names, list(wire, "tools")?.is_empty(), dialect),
    }
}

fn given<'a>(wire: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    wire.get(name).filter(|value| !value.is_null())
}

fn list<'a>(wire: &'a Map<String, Value>, name: &str) -> Result<&'a [Value], Refused> {
    match given(wire, name) {
        None => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => Err(format!("/{name}: a list is required")),
    }
}

/// Checks options alone, and those that contradict each other.
fn options(wire: &Map<String, Value>) -> Result<(), Refused> {
    for (name, least, most) in NUMBERS {
        if let Some(value) = given(wire, name)
            && !value.as_f64().is_some_and(|number| (least..=most).contains(&number))
        {
            return Err(format!("/{name}: {} is not {least} to {most}", cut(value)));
        }
    }
    let stream = given(wire, "stream");
    if stream.is_some_and(|stream| !stream.is_boolean()) {
        return Err("/stream: true or false is required".to_owned());
    }
    if given(wire, "stream_options").is_some_and(|options| !options.is_object()) {
        return Err("/stream_options: an object is required".to_owned());
    }
    if given(wire, "top_logprobs").is_some_and(|top| *top != 0)
        && given(wire, "logprobs") == Some(&Value::Bool(false))
    {
        return Err("/top_logprobs: contradicts /logprobs".to_owned());
    }
    for name in ["stop", "stop_sequences"] {
        let stops = given(wire, name);
        let texts = |stops: &Value| match stops {
            Value::Array(stops) => stops.iter().all(Value::is_string),
            stop => stop.is_string() && name == "stop",
        };
        if stops.is_some_and(|stops| !texts(stops)) {
            return Err(format!("/{name}: a list of strings is required"));
        }
    }
    if let Some(format) = given(wire, "response_format") {
        let kind = format.get("type").and_then(Value::as_str);
        let kind = kind.ok_or("/response_format/type: a string is required")?;
        if kind == "json_schema" && !format["json_schema"]["schema"].is_object() {
            return Err("/response_format/json_schema/schema: an object is required".to_owned());
        }
    }
    let budget = wire.get("thinking").and_then(|thinking| thinking.get("budget_tokens"));
    let most = given(wire, "max_tokens").and_then(Value::as_u64);
    match (budget.and_then(Value::as_u64), most) {
        (Some(budget), Some(most)) if budget >= most => {
            Err(format!("/thinking/budget_tokens: {budget} leaves nothing of /max_tokens, {most}"))
        }
        _ => Ok(()),
    }
}

fn messages(messages: &[Value]) -> Result<(), Refused> {
    for (index, message) in messages.iter().enumerate() {
        let Value::Object(fields) = message else {
            return Err(format!("/messages/{index}: an object is required"));
        };
        let role = fields.get("role").and_then(Value::as_str);
        let role = role.ok_or_else(|| format!("/messages/{index}/role: a role is required"))?;
        match fields.get("content") {
            Some(Value::String(_)) => {}
            Some(Value::Array(parts)) => {
                let kind = |part: &Value| part.get("type").is_some_and(Value::is_string);
                if let Some(at) = parts.iter().position(|part| !kind(part)) {
                    let fault = "an object with a type is required";
                    return Err(format!("/messages/{index}/content/{at}: {fault}"));
                }
            }
            // Who calls tools need say nothing.
            None | Some(Value::Null) if matches!(role, "assistant" | "function") => {}
            _ => {
                let fault = "a string or a list is required";
                return Err(format!("/messages/{index}/content: {fault}"));
            }
        }
        let calls = fields.get("tool_calls").filter(|calls| !calls.is_null());
        if calls.is_some_and(|calls| !calls.is_array()) {
            return Err(format!("/messages/{index}/tool_calls: a list is required"));
        }
    }
    Ok(())
}

/// Checks tools and returns their names.
fn tools(tools: &[Value], dialect: Dialect) -> Result<Vec<&str>, Refused> {
    if tools.len() > TOOLS {
        return Err(format!("/tools: {} are more than {TOOLS}", tools.len()));
    }
    let mut names = Vec::with_capacity(tools.len());
    for (index, tool) in tools.iter().enumerate() {
        if let Some(name) = self::tool(tool, dialect)
            .map_err(|(at, fault)| format!("/tools/{index}{at}: {fault}"))?
        {
            names.push(name);
        }
    }
    let mut sorted = names.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(format!("/tools: {:?} is the name of two", two[0])),
        None => Ok(names),
    }
}

/// Where in a tool, and what is wrong there.
type Fault = (&'static str, String);

/// Checks a tool and returns its name, unless it is one of the provider's own.
fn tool(tool: &Value, dialect: Dialect) -> Result<Option<&str>, Fault> {
    let fault = |at, fault: &str| Err((at, fault.to_owned()));
    let Value::Object(fields) = tool else { return fault("", "an object is required") };
    let kind = match given(fields, "type") {
        None if dialect == Dialect::Messages => "custom",
        Some(Value::String(kind)) => kind,
        _ => return fault("/type", "a string is required"),
    };
    let ours = if dialect == Dialect::Messages { "custom" } else { "function" };
    if kind != ours {
        return Ok(None);
    }
    let (function, at_name, at_schema, schema, longest) = match dialect {
        Dialect::Messages => (tool, "/name", "/input_schema", "input_schema", 128),
        Dialect::Responses => (tool, "/name", "/parameters", "parameters", 64),
        _ => {
            let inner = "/function/parameters";
            (&tool["function"], "/function/name", inner, "parameters", 64)
        }
    };
    let Value::Object(function) = function else {
        return fault("/function", "an object is required");
    };
    let Some(name) = function.get("name").and_then(Value::as_str) else {
        return fault(at_name, "a string is required");
    };
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || name.len() > longest || !name.chars().all(known) {
        let shown: String = name.chars().take(longest).collect();
        let wanted = format!("{shown:?} is not 1 to {longest} letters, digits, '_' and '-'");
        return Err((at_name, wanted));
    }
    match given(function, schema) {
        // One that takes nothing need not say so, but in Messages.
        None if dialect != Dialect::Messages => {}
        Some(Value::Object(schema)) => {
            let kind = schema.get("type").unwrap_or(&Value::Null);
            if !(kind.is_null() || *kind == "object") {
                let told = format!("it must describe an object, not {}", cut(kind));
                return Err((at_schema, told));
            }
            if given(schema, "properties").is_some_and(|properties| !properties.is_object()) {
                return fault(at_schema, "/properties must be an object");
            }
            let texts =
                |list: &Value| list.as_array().is_some_and(|l| l.iter().all(Value::is_string));
            if given(schema, "required").is_some_and(|required| !texts(required)) {
                return fault(at_schema, "/required must be a list of strings");
            }
        }
        _ => return fault(at_schema, "an object is required"),
    }
    Ok(Some(name))
}

fn tool_choice(
    choice: &Value,
    names: &[&str],
    no_tools: bool,
    dialect: Dialect,
) -> Result<(), Refused> {
    let word = match dialect {
        Dialect::Messages => choice.get("type").and_then(Value::as_str),
        _ => choice.as_str().or(choice.get("type").and_then(Value::as_str)),
    };
    let Some(word) = word else {
        return Err("/tool_choice: its form is unknown".to_owned());
    };
    if no_tools && !matches!(word, "auto" | "none") {
        return Err("/tool_choice: there are no tools to choose from".to_owned());
    }
    let (at, named) = match (dialect, word) {
        (Dialect::Messages, "tool") | (Dialect::Responses, "function") => {
            ("/tool_choice/name", choice.get("name"))
        }
        (Dialect::Messages | Dialect::Responses, _) => return Ok(()),
        (_, "function") => ("/tool_choice/function/name", choice.pointer("/function/name")),
        _ => return Ok(()),
    };
    match named.and_then(Value::as_str) {
        Some(name) if names.contains(&name) => Ok(()),
        Some(name) => {
            let name: String = name.chars().take(128).collect();
            Err(format!("{at}: no tool is called {name:?}"))
        }
        None => Err(format!("{at}: a string is required")),
    }
}

/// Shows a value, and not all of it when it is long.
fn cut(value: &Value) -> String {
    value.to_string().chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn faults_are_pointed_at_and_what_others_may_know_passes() {
        let chat = |more: Value| {
            let mut body = json!({ "messages": [{ "role": "user", "content": "x" }] });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            check(body.as_object().unwrap(), Dialect::ChatCompletions)
        };
        for good in [
            json!({ "tools": [{ "type": "function", "function": { "name": "a" } }], "tool_choice": "required" }),
            json!({ "tools": [{ "type": "custom", "custom": { "name": "?" } }] }),
            json!({ "tools": null, "tool_choice": "auto", "stop": "x", "temperature": 2 }),
            json!({ "messages": [{ "role": "assistant", "tool_calls": [] }] }),
            json!({ "stream": false, "stream_options": {} }),
        ] {
            assert_eq!(chat(good.clone()), Ok(()), "{good}");
        }
        let same = json!({ "type": "function", "function": { "name": "a" } });
        for (bad, fault) in [
            (json!({ "temperature": "hot" }), "/temperature: \"hot\" is not 0 to 2"),
            (json!({ "stream": "yes" }), "/stream: "),
            (json!({ "stream_options": 1 }), "/stream_options: "),
            (json!({ "logprobs": false, "top_logprobs": 2 }), "/top_logprobs: contradicts"),
            (json!({ "stop": [1] }), "/stop: "),
            (
                json!({ "response_format": { "type": "json_schema" } }),
                "/response_format/json_schema",
            ),
            (json!({ "messages": ["x"] }), "/messages/0: "),
            (json!({ "messages": [{ "role": "user" }] }), "/messages/0/content: "),
            (
                json!({ "messages": [{ "role": "user", "content": ["x"] }] }),
                "/messages/0/content/0: ",
            ),
            (json!({ "tools": {} }), "/tools: a list"),
            (json!({ "tools": ["a"] }), "/tools/0: an object"),
            (json!({ "tools": [same, same] }), "/tools: \"a\" is the name of two"),
            (
                json!({ "tools": [same], "tool_choice": { "type": "function", "function": { "name": "b" } } }),
                "/tool_choice/function/name: no tool",
            ),
            (json!({ "tool_choice": "required" }), "/tool_choice: there are no tools"),
        ] {
            let told = chat(bad.clone()).unwrap_err();
            assert!(told.starts_with(fault), "{bad}: {told}");
        }
    }

    #[test]
    fn a_tool_is_pointed_at_in_the_words_of_its_dialect() {
        for (function, fault) in [
            (json!({}), "name"),
            (json!({ "name": "" }), "name"),
            (json!({ "name": "a b" }), "name"),
            (json!({ "name": "a".repeat(129) }), "name"),
            (json!({ "name": "a", "schema": [] }), "schema"),
            (json!({ "name": "a", "schema": { "type": "string" } }), "schema"),
            (json!({ "name": "a", "schema": { "properties": [] } }), "schema"),
            (json!({ "name": "a", "schema": { "required": "x" } }), "schema"),
        ] {
            for (dialect, inner, schema) in [
                (Dialect::ChatCompletions, "/function", "parameters"),
                (Dialect::Responses, "", "parameters"),
                (Dialect::Messages, "", "input_schema"),
            ] {
                let mut tool = function.clone();
                if let Some(said) = tool.as_object_mut().unwrap().remove("schema") {
                    tool[schema] = said;
                }
                if !inner.is_empty() {
                    tool = json!({ "function": tool });
                }
                if dialect != Dialect::Messages {
                    tool["type"] = "function".into();
                }
                let body = json!({ "messages": [], "tools": [tool] });
                let told = check(body.as_object().unwrap(), dialect).unwrap_err();
                let fault = if fault == "schema" { schema } else { fault };
                assert!(told.starts_with(&format!("/tools/0{inner}/{fault}: ")), "{told}");
            }
        }
    }
}
