//! The tools that a model may call in one conversation.

use std::sync::Arc;

use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{ListToolsRequest, ListToolsResponse};
use runtime::transport::Peer;
use serde_json::{Value, json};
use types::{CallContext, Privacy};

use super::wanted::Wanted;
use crate::Error;

/// The most tools that a model is offered.
const MOST: usize = 128;

/// A tool of an MCP server.
#[derive(Debug)]
pub(super) struct Tool {
    /// What the model calls it.
    pub(super) offered: String,
    /// What the bridge calls it.
    pub(super) bridged: String,
    /// Its server.
    pub(super) server: String,
    /// What its server calls it.
    pub(super) name: String,
    pub(super) description: String,
    /// The JSON schema of its arguments.
    pub(super) schema: Value,
    /// The client wants to be asked before it is called.
    pub(super) asks: bool,
    /// What its server gives is private, what it says of the tool as well.
    pub(super) private: bool,
}

/// Every tool that a conversation may use, by server.
#[derive(Debug)]
pub(super) struct Toolbox {
    pub(super) tools: Vec<Arc<Tool>>,
}

impl Toolbox {
    /// Looks up what a request wants; `theirs` are the names of its client's own tools. With a tool of a
    /// private server the call is private from now on: a model reads what the server says of it, and what
    /// it gives, be it an error.
    ///
    /// # Errors
    /// [`Error::Invalid`] if a server has no tool that may be called, with the reason; the bridge's own.
    pub(super) async fn open(
        bridge: &Peer,
        context: &mut CallContext,
        wanted: &[Wanted],
        theirs: &[String],
    ) -> Result<Self, Error> {
        let toolbox = Self::look_up(bridge, context, wanted, theirs).await?;
        let private = toolbox.tools.iter().find(|tool| tool.private);
        let Some(private) = private.filter(|_| context.privacy != Privacy::Private) else {
            return Ok(toolbox);
        };
        context.privacy = Privacy::Private;
        // A private call may see less than was listed.
        Self::look_up(bridge, context, wanted, theirs).await.map_err(|error| match error {
            Error::Invalid(fault) => {
                let server = &private.server;
                Error::Invalid(format!("{fault}; with server {server:?} the call is private"))
            }
            error => error,
        })
    }

    async fn look_up(
        bridge: &Peer,
        context: &CallContext,
        wanted: &[Wanted],
        theirs: &[String],
    ) -> Result<Self, Error> {
        let request = runtime::context::request(context, ListToolsRequest {});
        let mut bridge =
            BridgeServiceClient::new(bridge.clone()).max_decoding_message_size(usize::MAX);
        let listed = bridge.list_tools(request).await?.into_inner();
        Self::of(&listed, wanted, theirs)
    }

    fn of(listed: &ListToolsResponse, wanted: &[Wanted], theirs: &[String]) -> Result<Self, Error> {
        let mut tools: Vec<Arc<Tool>> = Vec::new();
        for one in wanted {
            let before = tools.len();
            let of_server = listed.tools.iter().filter(|tool| tool.server == one.label);
            for tool in of_server.clone() {
                let name = tool.own_name.as_str();
                let offered = types::function_name(&tool.name);
                // The gate has judged it: this is a name of a tool, and that is its schema.
                let known = tools.iter().any(|before| before.offered == offered);
                if !one.allows(name) || known {
                    continue;
                }
                if theirs.contains(&offered) {
                    let fault = format!(
                        "{}: {offered:?} is also the name of a tool of the request itself",
                        one.at
                    );
                    return Err(Error::Invalid(fault));
                }
                tools.push(Arc::new(Tool {
                    offered,
                    bridged: tool.name.clone(),
                    server: one.label.clone(),
                    name: name.to_owned(),
                    description: tool.description.clone(),
                    schema: schema(&tool.input_schema_json),
                    asks: one.asks(name),
                    private: tool.private,
                }));
            }
            if tools.len() == before {
                let degraded = listed.degraded.iter().find(|down| down.server == one.label);
                let mut refused = listed.refused.iter().filter(|tool| tool.server == one.label);
                let refused = refused.find(|tool| one.allows(&tool.name));
                let reason = match (degraded, refused, of_server.count()) {
                    (Some(down), ..) => down.reason.clone(),
                    (None, Some(tool), _) => format!("{}: {}", tool.name, tool.reason),
                    (None, None, 0) => {
                        "it is not registered, or this call may not see it".to_owned()
                    }
                    (None, None, count) => format!("none of its {count} tools is allowed"),
                };
                let (at, label) = (&one.at, &one.label);
                return Err(Error::Invalid(format!(
                    "{at}: server {label:?} has no tool: {reason}"
                )));
            }
        }
        if tools.len() > MOST {
            let (count, at) = (tools.len(), "/tools");
            let fault = format!(
                "{at}: {count} tools of servers are more than {MOST}: name some in allowed_tools"
            );
            return Err(Error::Invalid(fault));
        }
        Ok(Self { tools })
    }

    /// Finds a tool by what the model calls it.
    pub(super) fn find(&self, offered: &str) -> Option<&Arc<Tool>> {
        self.tools.iter().find(|tool| tool.offered == offered)
    }

    /// Finds a tool by what its server calls it.
    pub(super) fn of_server(&self, server: &str, name: &str) -> Option<&Arc<Tool>> {
        self.tools.iter().find(|tool| tool.server == server && tool.name == name)
    }
}

/// Reads a schema as models take it: some insist on being told that there are no properties.
fn schema(text: &str) -> Value {
    let mut schema: Value = serde_json::from_str(text).unwrap_or_default();
    if !schema.is_object() {
        schema = json!({ "type": "object" });
    }
    if schema.get("properties").is_none() {
        schema["properties"] = json!({});
    }
    schema
}

#[cfg(test)]
mod tests {
    use proto::bridge::{Degraded, RefusedTool, Tool as Listed};
    use proto::router::Dialect;
    use serde_json::Map;

    use super::super::wanted;
    use super::*;

    fn toolbox(tools: Value, theirs: &[&str]) -> Result<Toolbox, String> {
        let listed = |server: &str, own: &str| Listed {
            name: format!("{server}__{own}"),
            server: server.to_owned(),
            own_name: own.to_owned(),
            input_schema_json: r#"{"type":"object"}"#.to_owned(),
            ..Listed::default()
        };
        let down = Degraded { server: "down".to_owned(), reason: "it is asleep".to_owned() };
        let list = ListToolsResponse {
            tools: vec![
                listed("files", "read.all"),
                listed("files", "write"),
                listed("git", "log"),
            ],
            degraded: vec![down],
            refused: vec![RefusedTool {
                server: "shut".to_owned(),
                name: "open".to_owned(),
                reason: "it has changed".to_owned(),
            }],
        };
        let mut body = Map::from_iter([("tools".to_owned(), tools)]);
        let wanted = wanted::take(&mut body, Dialect::ChatCompletions).unwrap();
        let theirs: Vec<_> = theirs.iter().map(|&name| name.to_owned()).collect();
        Toolbox::of(&list, &wanted, &theirs).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_wanted_is_offered_or_it_is_said_why_nothing_is() {
        let want = |label: &str| json!({ "type": "mcp", "server_label": label });
        let all = toolbox(json!([want("files"), want("git")]), &[]).unwrap();
        let names: Vec<_> = all.tools.iter().map(|tool| tool.offered.as_str()).collect();
        assert_eq!(names, ["files__read_all", "files__write", "git__log"]);
        let read = all.find("files__read_all").unwrap();
        assert_eq!((read.name.as_str(), read.bridged.as_str()), ("read.all", "files__read.all"));
        assert_eq!(read.schema, json!({ "type": "object", "properties": {} }));
        assert!(all.of_server("git", "log").is_some() && all.of_server("git", "write").is_none());

        let none = json!({ "type": "mcp", "server_label": "git", "allowed_tools": ["push"] });
        for (tools, theirs, fault) in [
            (
                json!([want("git"), want("down")]),
                "",
                "/tools/1: server \"down\" has no tool: it is asleep",
            ),
            (
                json!([want("shut")]),
                "",
                "/tools/0: server \"shut\" has no tool: open: it has changed",
            ),
            (
                json!([want("nobody")]),
                "",
                "/tools/0: server \"nobody\" has no tool: it is not registered",
            ),
            (
                json!([none]),
                "",
                "/tools/0: server \"git\" has no tool: none of its 1 tools is allowed",
            ),
            (json!([want("git")]), "git__log", "/tools/0: \"git__log\" is also the name of"),
        ] {
            let told = toolbox(tools, &[theirs]).unwrap_err();
            assert!(told.starts_with(fault), "{told}");
        }
    }
}
