//! A conversation with tools in the words of one API: what its next call says, what a client sees of the
//! calls, and the answer at the end. Pure.

mod chat;
mod responses;

use std::sync::Arc;

use proto::router::Dialect;
use serde_json::{Map, Value};

pub(super) use chat::Chat;
pub(super) use responses::Responses;

use super::offer::{Tool, Toolbox};
use crate::Error;

/// A call of a tool of ours that a model asks for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Its name within the conversation.
    pub(super) id: String,
    pub(super) tool: Arc<Tool>,
    /// As the model wrote them.
    pub(super) arguments: String,
    /// What else the model said with it, and wants back.
    besides: Map<String, Value>,
    /// The request for approval that it was asked for by.
    approval: Option<String>,
}

/// What became of a call.
#[derive(Debug)]
pub(super) struct Gave {
    /// What the tool gave, or why it gave nothing.
    pub(super) output: Result<String, String>,
    /// "ok", "tool_error", "denied" or "failed".
    pub(super) outcome: &'static str,
    pub(super) took_ms: u64,
}

/// What a model asked for in one turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Calls to make now.
    pub(super) calls: Vec<Asked>,
    /// The client has the next word, once they are made.
    pub(super) over: bool,
    /// What the client sees.
    pub(super) events: Vec<Value>,
}

/// Why the last turn was the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is answered, or the client has the next word.
    Answered,
    /// The model asks for more calls than it may make.
    Limit,
}

/// A conversation in the client's dialect. What it returns as events is what a client sees that streams.
pub(super) trait Speech: Send {
    /// Returns the body of the next call; in the last turn the model may ask for no tool.
    fn body(&self, tools: &Toolbox, last: bool) -> Value;

    /// Takes a chunk of a turn.
    fn piece(&mut self, chunk: Value) -> Vec<Value>;

    /// Ends a turn.
    fn turn(&mut self, tools: &Toolbox) -> Turn;

    /// Tells the client that a call begins.
    fn calling(&mut self, call: &Asked) -> Vec<Value>;

    /// Tells the client, and the model in its next turn, what a call gave.
    fn called(&mut self, call: &Asked, gave: &Gave) -> Vec<Value>;

    /// Returns the whole answer of the run.
    fn answer(&mut self, stop: Stop, run: &str) -> Value;

    /// Returns what ends a stream behind the last turn of the whole answer.
    fn end(&mut self, answer: &Value) -> Vec<Value>;

    /// Returns the text of the whole answer.
    fn text(&self, answer: &Value) -> String;
}

/// Returns the names of a client's own tools.
pub(super) fn theirs(body: &Map<String, Value>, dialect: Dialect) -> Vec<String> {
    let at = if dialect == Dialect::Responses { "/name" } else { "/function/name" };
    let tools = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    tools.filter_map(|tool| Some(tool.pointer(at)?.as_str()?.to_owned())).collect()
}

/// Returns which tool is to be called, as the model is told: what names one of ours becomes its function,
/// and what was asked for once is not asked for again.
fn choice(
    said: Option<&Value>,
    tools: &Toolbox,
    first: bool,
    function: impl Fn(&str) -> Value,
) -> Option<Value> {
    let said = said.filter(|said| !said.is_null())?;
    let word = said.as_str().or(said["type"].as_str());
    match word {
        Some("auto" | "none") => Some(said.clone()),
        _ if !first => None,
        Some("mcp") => {
            let (server, name) = (said["server_label"].as_str(), said["name"].as_str());
            let tool = tools.of_server(server.unwrap_or_default(), name.unwrap_or_default());
            Some(tool.map_or_else(|| "required".into(), |tool| function(&tool.offered)))
        }
        _ => Some(said.clone()),
    }
}

/// Checks a choice of a tool of ours.
///
/// # Errors
/// [`Error::Invalid`] if it names none.
pub(super) fn check_choice(body: &Map<String, Value>, tools: &Toolbox) -> Result<(), Error> {
    let Some(said) = body.get("tool_choice").filter(|said| said["type"] == "mcp") else {
        return Ok(());
    };
    let server = said["server_label"].as_str().unwrap_or_default();
    let name = said["name"].as_str();
    let known = match name {
        Some(name) => tools.of_server(server, name).is_some(),
        None => tools.tools.iter().any(|tool| tool.server == server),
    };
    match known {
        true => Ok(()),
        false => Err(Error::Invalid(format!(
            "/tool_choice: server {server:?} has no tool {:?} here",
            name.unwrap_or_default()
        ))),
    }
}

/// Adds the numbers of `more` to those of `sum`, at every depth.
fn add(sum: &mut Value, more: &Value) {
    match (sum, more) {
        (Value::Object(sum), Value::Object(more)) => {
            for (name, value) in more {
                add(sum.entry(name.as_str()).or_insert(Value::Null), value);
            }
        }
        (sum @ Value::Null, more) => *sum = more.clone(),
        (sum, more) => {
            if let (Some(a), Some(b)) = (sum.as_u64(), more.as_u64()) {
                *sum = a.saturating_add(b).into();
            }
        }
    }
}
