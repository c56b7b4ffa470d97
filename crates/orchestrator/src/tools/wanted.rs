//! What a request wants of our MCP servers: its tools of type "mcp". Pure.

use proto::router::Dialect;
use serde_json::{Map, Value};

use crate::Error;

/// A tool of type "mcp": a server that is registered here, and what of it may be called.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Where it stands in the request, as a JSON pointer.
    pub(super) at: String,
    /// The server's name.
    pub(super) label: String,
    allowed: Option<Vec<String>>,
    approval: Approval,
}

/// Which calls the client wants to be asked about before they are made.
#[derive(Debug)]
enum Approval {
    Never,
    Always,
    By { always: Option<Vec<String>>, never: Option<Vec<String>> },
}

/// Takes the tools of type "mcp" out of a request.
///
/// # Errors
/// [`Error::Invalid`] with a JSON pointer to what is wrong with one.
pub(super) fn take(body: &mut Map<String, Value>, dialect: Dialect) -> Result<Vec<Wanted>, Error> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let Some(Value::Array(tools)) = body.get_mut("tools") else { return Ok(wanted) };
    let mut others = Vec::new();
    for (index, tool) in std::mem::take(tools).into_iter().enumerate() {
        match tool {
            Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "mcp") => {
                let one = Wanted::read(format!("/tools/{index}"), &fields, dialect)?;
                if wanted.iter().any(|before| before.label == one.label) {
                    let fault = format!("{}/server_label: {:?} is there twice", one.at, one.label);
                    return Err(Error::Invalid(fault));
                }
                wanted.push(one);
            }
            other => others.push(other),
        }
    }
    *tools = others;
    Ok(wanted)
}

impl Wanted {
    fn read(at: String, fields: &Map<String, Value>, dialect: Dialect) -> Result<Self, Error> {
        let invalid = |name: &str, fault: &str| Error::Invalid(format!("{at}/{name}: {fault}"));
        let (mut label, mut allowed, mut approval) = (None, None, None);
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
            match name.as_str() {
                "type" | "server_description" => {}
                "server_label" => label = value.as_str().filter(|label| !label.is_empty()),
                "allowed_tools" => {
                    let names = names(value.get("tool_names").unwrap_or(value));
                    let fault = "a list of names, or an object with tool_names, is required";
                    allowed = Some(names.ok_or_else(|| invalid(name, fault))?);
                }
                "require_approval" => {
                    let fault = "\"never\", \"always\", or an object of always and never with tool_names, is required";
                    let read = Approval::read(value).ok_or_else(|| invalid(name, fault))?;
                    approval = Some(read);
                }
                "server_url" | "authorization" | "headers" | "connector_id" => {
                    let fault = "only servers that are registered here are called, by server_label and with credentials of ours";
                    return Err(invalid(name, fault));
                }
                _ => return Err(invalid(name, "is unknown")),
            }
        }
        let label = label.ok_or_else(|| invalid("server_label", "a name is required"))?.to_owned();
        let approval = match (dialect, approval) {
            (Dialect::Responses, approval) => approval.unwrap_or(Approval::Always),
            (_, None | Some(Approval::Never)) => Approval::Never,
            (_, Some(_)) => {
                let fault = "chat completions cannot ask for approval; Responses can";
                return Err(invalid("require_approval", fault));
            }
        };
        Ok(Self { label, allowed, approval, at })
    }

    /// Whether a tool may be called that its server calls `name`.
    pub(super) fn allows(&self, name: &str) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|one| one == name))
    }

    /// Whether the client wants to be asked before that tool is called.
    pub(super) fn asks(&self, name: &str) -> bool {
        let among = |names: &Option<Vec<String>>| names.iter().flatten().any(|one| one == name);
        match &self.approval {
            Approval::Never => false,
            Approval::Always => true,
            Approval::By { always, never } if among(always) || among(never) => !among(never),
            // Where only those are named that want it, the others do not.
            Approval::By { always, never } => never.is_some() || always.is_none(),
        }
    }
}

impl Approval {
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(word) if word == "never" => Some(Self::Never),
            Value::String(word) if word == "always" => Some(Self::Always),
            Value::Object(fields) => {
                let of = |name: &str| match fields.get(name) {
                    None | Some(Value::Null) => Some(None),
                    Some(filter) => names(filter.get("tool_names")?).map(Some),
                };
                let known = |(name, _): (&String, _)| matches!(name.as_str(), "always" | "never");
                let (always, never) = (of("always")?, of("never")?);
                fields.iter().all(known).then_some(Self::By { always, never })
            }
            _ => None,
        }
    }
}

fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| Some(name.as_str()?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(tools: Value, dialect: Dialect) -> Result<(Vec<Wanted>, Value), String> {
        let mut body = Map::from_iter([("tools".to_owned(), tools)]);
        let wanted = take(&mut body, dialect).map_err(|fault| fault.to_string())?;
        Ok((wanted, body["tools"].take()))
    }

    #[test]
    fn tools_of_ours_are_taken_out_and_say_what_of_them_may_be_called() {
        let function = json!({ "type": "function", "function": { "name": "f" } });
        let tools = json!([
            { "type": "mcp", "server_label": "files", "allowed_tools": ["read"], "require_approval": "never" },
            function,
            { "type": "mcp", "server_label": "git", "allowed_tools": { "tool_names": ["log"] } },
        ]);
        let (wanted, others) = read(tools, Dialect::Responses).unwrap();
        assert_eq!(others, json!([function]));
        let [files, git] = &wanted[..] else { panic!("{wanted:?}") };
        assert!(files.allows("read") && !files.allows("write") && !files.asks("read"));
        assert!(git.allows("log") && !git.allows("push") && git.asks("log"), "it asks by default");

        for (approval, [a, b, other]) in [
            (json!("always"), [true; 3]),
            (json!({ "never": { "tool_names": ["a"] } }), [false, true, true]),
            (json!({ "always": { "tool_names": ["b"] } }), [false, true, false]),
            (
                json!({ "never": { "tool_names": ["a"] }, "always": { "tool_names": ["b"] } }),
                [false, true, true],
            ),
        ] {
            let tools =
                json!([{ "type": "mcp", "server_label": "s", "require_approval": approval }]);
            let (wanted, _) = read(tools, Dialect::Responses).unwrap();
            assert_eq!(["a", "b", "other"].map(|name| wanted[0].asks(name)), [a, b, other]);
        }
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        let with = |name: &str, value: Value| {
            let mut tool = json!({ "type": "mcp", "server_label": "s" });
            tool[name] = value;
            json!([{ "type": "function" }, tool])
        };
        for (tools, fault) in [
            (json!([{ "type": "mcp" }]), "/tools/0/server_label: "),
            (with("server_label", json!(7)), "/tools/1/server_label: "),
            (with("server_url", json!("http://169.254.169.254/")), "/tools/1/server_url: only "),
            (with("authorization", json!("x")), "/tools/1/authorization: only "),
            (with("headers", json!({})), "/tools/1/headers: only "),
            (with("allowed_tools", json!("read")), "/tools/1/allowed_tools: "),
            (with("allowed_tools", json!({ "read_only": true })), "/tools/1/allowed_tools: "),
            (with("require_approval", json!("maybe")), "/tools/1/require_approval: "),
            (with("require_approval", json!({ "sometimes": {} })), "/tools/1/require_approval: "),
            (with("name", json!("x")), "/tools/1/name: is unknown"),
            (
                json!([{ "type": "mcp", "server_label": "s" }, { "type": "mcp", "server_label": "s" }]),
                "/tools/1/server_label: \"s\" is there twice",
            ),
        ] {
            let told = read(tools, Dialect::Responses).unwrap_err();
            assert!(told.starts_with(fault), "{told}");
        }
        let told = read(with("require_approval", json!("always")), Dialect::ChatCompletions);
        assert!(told.unwrap_err().contains("Responses can"));
    }
}
