//! What a request may ask for that costs more than the prices of tokens say. Pure.

use proto::router::Dialect;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::media;

/// What is billed beyond the price of tokens. A model takes it when its configuration says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extra {
    /// Faster answers, or answers from chosen places, at a higher price.
    ServiceTier,
    /// Searches of the web, and pages that the provider reads.
    WebSearch,
    /// Other tools that the provider runs itself: code, files, MCP servers.
    ServerTools,
    /// What is heard or spoken.
    Audio,
}

impl Extra {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ServiceTier, Self::WebSearch, Self::ServerTools, Self::Audio];

    fn name(self) -> &'static str {
        match self {
            Self::ServiceTier => "service_tier",
            Self::WebSearch => "web_search",
            Self::ServerTools => "server_tools",
            Self::Audio => "audio",
        }
    }
}

/// An extra, and where it is asked for, as a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) extra: Extra,
    at: String,
}

impl Asked {
    /// Says why nobody is asked.
    pub(crate) fn refusal(&self, model: &str) -> String {
        let (at, name) = (&self.at, self.extra.name());
        format!("{at}: costs more than a token's price, and {model:?} has no extras = [{name:?}]")
    }
}

/// Tools that the client runs, of Messages, by how their types begin; what they cost is tokens alone.
const CLIENTS_TOOLS: [&str; 6] =
    ["custom", "bash_", "text_editor_", "computer_", "memory_", "tool_search_tool_"];

/// Returns what a request asks for that is billed beyond tokens, in its client's own words; its messages
/// stand at `place`.
pub(crate) fn of(
    wire: &Map<String, Value>,
    dialect: Dialect,
    place: &str,
    messages: &[Value],
) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut ask = |extra, at: &str| asked.push(Asked { extra, at: at.to_owned() });
    let says = |name: &str, plain: &[&str]| match wire.get(name) {
        None | Some(Value::Null) => false,
        Some(value) => !value.as_str().is_some_and(|value| plain.contains(&value)),
    };
    if says("service_tier", &["auto", "default", "flex", "standard", "standard_only"]) {
        ask(Extra::ServiceTier, "/service_tier");
    }
    if says("speed", &["standard"]) {
        ask(Extra::ServiceTier, "/speed");
    }
    if says("inference_geo", &["global"]) {
        ask(Extra::ServiceTier, "/inference_geo");
    }
    if says("web_search_options", &[]) {
        ask(Extra::WebSearch, "/web_search_options");
    }
    for name in ["mcp_servers", "plugins"] {
        let is_empty = wire.get(name).and_then(Value::as_array).is_some_and(Vec::is_empty);
        if says(name, &[]) && !is_empty {
            ask(Extra::ServerTools, &format!("/{name}"));
        }
    }
    let modes = wire.get("modalities").and_then(Value::as_array);
    if let Some(at) = modes.and_then(|modes| modes.iter().position(|mode| mode != "text")) {
        ask(Extra::Audio, &format!("/modalities/{at}"));
    }
    let tools = wire.get("tools").and_then(Value::as_array);
    for (index, tool) in tools.into_iter().flatten().enumerate() {
        if let Some(extra) = of_tool(tool, dialect) {
            ask(extra, &format!("/tools/{index}"));
        }
    }
    let heard = |part: &Value| matches!(part["type"].as_str(), Some("input_audio" | "audio"));
    if let Some(at) = media::first(place, messages, &heard) {
        ask(Extra::Audio, &at);
    }
    asked
}

fn of_tool(tool: &Value, dialect: Dialect) -> Option<Extra> {
    let kind = tool["type"].as_str()?;
    let is_clients = match dialect {
        Dialect::Messages => CLIENTS_TOOLS.iter().any(|known| kind.starts_with(known)),
        _ => matches!(kind, "function" | "custom"),
    };
    let is_search = ["web_search", "web_fetch"].iter().any(|known| kind.starts_with(known));
    match (is_clients, is_search) {
        (true, _) => None,
        (false, true) => Some(Extra::WebSearch),
        (false, false) => Some(Extra::ServerTools),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_model_takes_an_extra_by_the_name_that_a_refusal_tells() {
        for extra in Extra::ALL {
            let model = format!("name = \"m\"\nextras = [{:?}]", extra.name());
            let model: crate::config::Model = toml::from_str(&model).unwrap();
            assert!(model.extras.contains(&extra) && model.extras.len() == 1);
        }
    }

    #[test]
    fn what_costs_more_is_found_and_pointed_at() {
        use Dialect::{ChatCompletions, Messages};
        use Extra::{Audio, ServerTools, ServiceTier, WebSearch};
        for (dialect, body, wanted) in [
            (ChatCompletions, json!({ "service_tier": "flex", "modalities": ["text"] }), None),
            (ChatCompletions, json!({ "service_tier": null, "web_search_options": null }), None),
            (
                ChatCompletions,
                json!({ "tools": [{ "type": "function" }, { "type": "custom" }] }),
                None,
            ),
            (
                ChatCompletions,
                json!({ "service_tier": "priority" }),
                Some((ServiceTier, "/service_tier")),
            ),
            (
                ChatCompletions,
                json!({ "web_search_options": {} }),
                Some((WebSearch, "/web_search_options")),
            ),
            (
                ChatCompletions,
                json!({ "modalities": ["text", "audio"] }),
                Some((Audio, "/modalities/1")),
            ),
            (
                ChatCompletions,
                json!({ "messages": [{ "content": [{ "type": "input_audio" }] }] }),
                Some((Audio, "/messages/0/content/0")),
            ),
            (
                ChatCompletions,
                json!({ "tools": [{ "type": "function" }, { "type": "browser_search" }] }),
                Some((ServerTools, "/tools/1")),
            ),
            (Messages, json!({ "service_tier": "standard_only", "mcp_servers": [] }), None),
            (Messages, json!({ "tools": [{ "name": "a" }, { "type": "bash_20250124" }] }), None),
            (
                Messages,
                json!({ "tools": [{ "type": "web_search_20250305" }] }),
                Some((WebSearch, "/tools/0")),
            ),
            (
                Messages,
                json!({ "tools": [{ "type": "code_execution_20250825" }] }),
                Some((ServerTools, "/tools/0")),
            ),
            (Messages, json!({ "mcp_servers": [{}] }), Some((ServerTools, "/mcp_servers"))),
            (Messages, json!({ "speed": "fast" }), Some((ServiceTier, "/speed"))),
        ] {
            let fields = body.as_object().unwrap();
            let messages = body["messages"].as_array().cloned().unwrap_or_default();
            let found = of(fields, dialect, "/messages", &messages);
            let found: Vec<_> = found.iter().map(|one| (one.extra, one.at.as_str())).collect();
            assert_eq!(found, wanted.into_iter().collect::<Vec<_>>(), "{body}");
        }
    }
}
