use rmcp::handler::server::common::FromContextPart;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::tool::ToolCallContext;
use rmcp::model::{CallToolRequestParams, CallToolResponse};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

/// The arguments of a tool, of which a fault is told with a JSON pointer to it.
///
/// It has the name of rmcp's own, by which the `tool` macro finds the type whose schema is listed.
#[derive(Debug)]
pub struct Parameters<T>(pub T);

impl<T: JsonSchema> JsonSchema for Parameters<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<S, T: DeserializeOwned> FromContextPart<ToolCallContext<'_, S>> for Parameters<T> {
    fn from_context_part(context: &mut ToolCallContext<S>) -> Result<Self, ErrorData> {
        let arguments = Value::Object(context.arguments.take().unwrap_or_default());
        read(arguments).map(Self).map_err(|told| {
            // Told in these words, rmcp makes of it a result that the model reads.
            ErrorData::invalid_params(format!("failed to deserialize parameters: {told}"), None)
        })
    }
}

/// Reads a tool's arguments.
///
/// # Errors
/// What is wrong with them, with a JSON pointer to it.
pub fn read<T: DeserializeOwned>(arguments: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(arguments).map_err(|fault| match pointer(fault.path()) {
        pointer if pointer.is_empty() => fault.inner().to_string(),
        pointer => format!("{pointer}: {}", fault.inner()),
    })
}

/// Calls the tool of `server` that `request` names.
///
/// # Errors
/// If there is none; the error names those that are called nearly so.
pub async fn call<S: Send + Sync + 'static>(
    tools: &ToolRouter<S>,
    server: &S,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    if !tools.has_route(&request.name) {
        let all = tools.list_all();
        return Err(unknown(&request.name, all.iter().map(|tool| tool.name.as_ref())));
    }
    tools.call(ToolCallContext::new(server, request, context)).await
}

/// Returns that there is no tool `name`, and which of those that there are is called nearly so.
pub fn unknown<'a>(name: &str, tools: impl Iterator<Item = &'a str>) -> ErrorData {
    // Names are short; whatever is longer than any is near to none.
    let asked: String = name.chars().take(128).collect();
    let near: Vec<_> = tools.filter(|tool| strsim::jaro_winkler(&asked, tool) > 0.85).collect();
    let hint = match near.is_empty() {
        true => String::new(),
        false => format!("; there is {}", near.join(", ")),
    };
    ErrorData::invalid_params(format!("unknown tool {asked:?}{hint}"), None)
}

fn pointer(path: &Path) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        Segment::Enum { .. } | Segment::Unknown => String::new(),
    };
    path.iter().map(segment).collect()
}
