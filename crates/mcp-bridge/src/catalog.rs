//! Names and shapes of tools. Pure.

use proto::bridge::Tool;

/// Between a server's name, which has no underscore, and its tool's.
const SEPARATOR: &str = "__";

/// Parts `server__tool`.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(SEPARATOR)
}

/// Returns a server's tool as clients see it, or why it is left out.
pub(crate) fn federated(server: &str, tool: rmcp::model::Tool) -> Result<Tool, &'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if tool.name.is_empty() || tool.name.len() > 128 || !tool.name.chars().all(good) {
        return Err("its name is not 1 to 128 of A-Z a-z 0-9 _ - .");
    }
    // Clients refuse a whole list for one tool that takes no object.
    if tool.input_schema.get("type").and_then(|kind| kind.as_str()) != Some("object") {
        return Err("its input schema is not that of an object");
    }
    let schema = serde_json::to_string(&tool.input_schema);
    Ok(Tool {
        name: format!("{server}{SEPARATOR}{}", tool.name),
        server: server.to_owned(),
        description: tool.description.unwrap_or_default().into_owned(),
        input_schema_json: schema.map_err(|_| "its input schema cannot be written")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_tool_is_named_by_its_server_or_left_out() {
        let tool = |name: &str, schema: serde_json::Value| -> rmcp::model::Tool {
            serde_json::from_value(json!({ "name": name, "inputSchema": schema })).unwrap()
        };
        let object = json!({ "type": "object" });
        let good = federated("files", tool("read__all", object.clone())).unwrap();
        assert_eq!(good.name, "files__read__all");
        assert_eq!(split(&good.name), Some(("files", "read__all")));
        for (name, schema) in [("", object.clone()), ("a b", object), ("a", json!({}))] {
            assert!(federated("files", tool(name, schema)).is_err(), "{name}");
        }
    }
}
