//! A server whose place one of ours takes, and ours, asked the same.

use std::collections::BTreeMap;

use rmcp::model::{CallToolRequestParams, Tool};
use rmcp::service::RunningService;
use rmcp::transport::TokioChildProcess;
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::{Map, Value, json};
use tokio::process::Command;

/// A server that speaks over standard input and output; it ends with this value.
pub(crate) struct Child {
    client: RunningService<RoleClient, ()>,
}

impl Child {
    pub(crate) async fn start(command: Command) -> Self {
        let client = ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
        Self { client }
    }

    /// Returns, by name, what of each tool a program depends on: see [`shape`].
    pub(crate) async fn tools(&self) -> BTreeMap<String, Value> {
        let tools = self.client.list_all_tools().await.unwrap();
        tools.into_iter().map(|tool| (tool.name.to_string(), shape(&tool))).collect()
    }

    /// Returns what a call answers. Of a fault it is only said that it is one, as words differ.
    pub(crate) async fn call(&self, tool: &str, arguments: &Value) -> Value {
        let request = CallToolRequestParams::new(tool.to_owned())
            .with_arguments(arguments.as_object().unwrap().clone());
        match self.client.call_tool(request).await {
            Ok(answer) if answer.is_error == Some(true) => json!("a fault"),
            Ok(answer) => json!({
                "content": answer.content,
                "structured": answer.structured_content,
            }),
            Err(fault) => panic!("{tool}: {fault}"),
        }
    }
}

/// Returns the parameters, the shape of the answer and the hints of a tool, without words and without limits
/// that only one of two servers has.
fn shape(tool: &Tool) -> Value {
    let listed = serde_json::to_value(tool).unwrap();
    let hints = ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"];
    let hints: Map<_, _> = hints
        .into_iter()
        .filter_map(|hint| Some((hint.to_owned(), listed["annotations"].get(hint)?.clone())))
        .collect();
    json!({
        "parameters": plain(&listed["inputSchema"]),
        "answer": plain(&listed["outputSchema"]),
        "hints": hints,
    })
}

/// Returns what a JSON schema says of types, names, defaults and choices.
fn plain(schema: &Value) -> Value {
    let Some(schema) = schema.as_object() else { return Value::Null };
    let mut said = Map::new();
    for (key, value) in schema {
        let value = match key.as_str() {
            "properties" => {
                let named = value.as_object().unwrap().iter();
                // By name, as the order says nothing.
                let named: BTreeMap<_, _> = named.map(|(name, of)| (name, plain(of))).collect();
                json!(named)
            }
            "items" => plain(value),
            "anyOf" => value.as_array().unwrap().iter().map(plain).collect(),
            "required" => {
                let mut names: Vec<_> = value.as_array().unwrap().iter().collect();
                names.sort_by_key(|name| name.as_str());
                json!(names)
            }
            "type" | "enum" | "const" | "default" | "minItems" => value.clone(),
            _ => continue,
        };
        said.insert(key.clone(), value);
    }
    Value::Object(said)
}
