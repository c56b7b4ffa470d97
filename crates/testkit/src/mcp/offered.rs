//! What the judges list, and what does not depend on who asks.

use rmcp::model::{
    AudioContent, CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities,
    ContentBlock, CreateMessageRequestParams, ElicitRequestParams, ErrorData,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, LoggingLevel,
    LoggingMessageNotificationParam, ProgressNotificationParam, Prompt, PromptArgument,
    PromptMessage, ReadResourceResponse, ReadResourceResult, Resource, ResourceContents,
    ResourceTemplate, Role, SamplingMessage, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use serde_json::{Value, json};

use super::{Fixture, asking};

/// A red pixel, and no sound.
const PNG: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const WAV: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

/// Tools that take nothing.
const PLAIN: [&str; 24] = [
    "test_simple_text",
    "test_image_content",
    "test_audio_content",
    "test_embedded_resource",
    "test_multiple_content_types",
    "test_error_handling",
    "test_tool_with_logging",
    "test_tool_with_progress",
    "test_elicitation_sep1034_defaults",
    "test_elicitation_sep1330_enums",
    "test_reconnection",
    "test_trigger_tool_change",
    "test_trigger_prompt_change",
    "test_missing_capability",
    "test_streaming_elicitation",
    "test_logging_tool",
    "test_input_required_result_elicitation",
    "test_input_required_result_sampling",
    "test_input_required_result_list_roots",
    "test_input_required_result_request_state",
    "test_input_required_result_tampered_state",
    "test_input_required_result_multiple_inputs",
    "test_input_required_result_multi_round",
    "test_input_required_result_capabilities",
];

pub(super) fn tools() -> Vec<Tool> {
    let takes = |name: &str| json!({ "type": "object", "properties": { name: { "type": "string" } }, "required": [name] });
    let described = [
        ("test_sampling", takes("prompt")),
        ("test_elicitation", takes("message")),
        (
            "test_custom_header",
            json!({
                "type": "object",
                "properties": { "value": { "type": "string", "x-mcp-header": "Value" } },
                "required": ["value"],
            }),
        ),
        (
            "json_schema_2020_12_tool",
            json!({
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "type": "object",
                "$defs": {
                    "address": {
                        "$anchor": "address",
                        "type": "object",
                        "properties": {
                            "street": { "type": "string" },
                            "city": { "type": "string" },
                        },
                    },
                },
                "properties": {
                    "name": { "type": "string" },
                    "address": { "$ref": "#/$defs/address" },
                },
                "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
                "if": { "required": ["address"] },
                "then": { "properties": { "address": { "required": ["street"] } } },
                "else": { "required": ["name"] },
                "additionalProperties": false,
            }),
        ),
    ];
    let plain = PLAIN.map(|name| (name, json!({ "type": "object", "properties": {} })));
    // The judges call the first one, too, with nothing.
    let all = plain.into_iter().chain(described);
    all.map(|(name, schema)| {
        Tool::new(name, "What the judges call", schema.as_object().unwrap().clone())
    })
    .collect()
}

pub(super) fn resources() -> Vec<Resource> {
    vec![
        Resource::new("test://static-text", "text").with_mime_type("text/plain"),
        Resource::new("test://static-binary", "picture").with_mime_type("image/png"),
    ]
}

pub(super) fn templates() -> Vec<ResourceTemplate> {
    let template = ResourceTemplate::new("test://template/{id}/data", "template");
    vec![template.with_mime_type("application/json")]
}

pub(super) fn read(uri: &str) -> Result<ReadResourceResponse, ErrorData> {
    let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
    let contents = match (uri, id) {
        ("test://static-text", _) => text(uri, "text/plain", "A text that stays as it is."),
        ("test://static-binary", _) => ResourceContents::BlobResourceContents {
            uri: uri.to_owned(),
            mime_type: Some("image/png".to_owned()),
            blob: PNG.to_owned(),
            meta: None,
        },
        (_, Some(id)) => text(uri, "application/json", &json!({ "id": id }).to_string()),
        _ => {
            let uri = json!({ "uri": uri });
            return Err(ErrorData::resource_not_found("there is no such resource", Some(uri)));
        }
    };
    Ok(ReadResourceResult::new(vec![contents]).into())
}

fn text(uri: &str, kind: &str, text: &str) -> ResourceContents {
    ResourceContents::TextResourceContents {
        uri: uri.to_owned(),
        mime_type: Some(kind.to_owned()),
        text: text.to_owned(),
        meta: None,
    }
}

pub(super) fn prompts() -> Vec<Prompt> {
    let argument = |name: &str| PromptArgument::new(name).with_required(true);
    let with = |name: &str, arguments| Prompt::new(name, Some("What the judges get"), arguments);
    vec![
        with("test_simple_prompt", None),
        with("test_prompt_with_arguments", Some(vec![argument("arg1"), argument("arg2")])),
        with("test_prompt_with_embedded_resource", Some(vec![argument("resourceUri")])),
        with("test_prompt_with_image", None),
        with("test_input_required_result_prompt", None),
    ]
}

pub(super) fn prompt(get: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let argument = |name: &str| {
        let given = get.arguments.as_ref().and_then(|all| all.get(name));
        given.and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let said = |content| PromptMessage::new(Role::User, content);
    let messages = match get.name.as_str() {
        "test_simple_prompt" => vec![said(ContentBlock::text("A simple prompt."))],
        "test_prompt_with_arguments" => {
            let said_ = format!("arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
            vec![said(ContentBlock::text(said_))]
        }
        "test_prompt_with_embedded_resource" => {
            let uri = Some(argument("resourceUri")).filter(|uri| !uri.is_empty());
            let uri = uri.unwrap_or_else(|| "test://static-text".to_owned());
            let resource = ContentBlock::resource(text(&uri, "text/plain", "Within a prompt."));
            vec![said(resource), said(ContentBlock::text("What is it?"))]
        }
        "test_prompt_with_image" => vec![said(ContentBlock::image(PNG, "image/png"))],
        name => return Err(ErrorData::invalid_params(format!("there is no {name}"), None)),
    };
    Ok(GetPromptResult::new(messages).into())
}

impl Fixture {
    pub(super) async fn answer(
        &self,
        call: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |name: &str| {
            let given = call.arguments.as_ref().and_then(|all| all.get(name));
            given.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let said = |text: &str| vec![ContentBlock::text(text)];
        let content = match call.name.as_ref() {
            "test_simple_text" => said("This is a simple text response for testing."),
            "json_schema_2020_12_tool" => said("good"),
            "test_reconnection" => said("still here"),
            "test_image_content" => vec![ContentBlock::image(PNG, "image/png")],
            "test_audio_content" => {
                vec![ContentBlock::Audio(AudioContent::new(WAV, "audio/wav"))]
            }
            "test_embedded_resource" => {
                vec![ContentBlock::resource(text("test://embedded", "text/plain", "Within."))]
            }
            "test_multiple_content_types" => vec![
                ContentBlock::text("Several kinds:"),
                ContentBlock::image(PNG, "image/png"),
                ContentBlock::resource(text("test://mixed", "application/json", "{}")),
            ],
            "test_error_handling" => {
                let failed = said("This tool intentionally returns an error for testing");
                return Ok(CallToolResult::error(failed).into());
            }
            "test_tool_with_logging" => {
                for step in ["begun", "going on", "done"] {
                    log(context, LoggingLevel::Info, step).await;
                }
                said("logged")
            }
            "test_logging_tool" => {
                if let Some(level) = context.meta.log_level() {
                    log(context, level, "as was asked for").await;
                }
                said("logged, if asked to")
            }
            "test_tool_with_progress" => {
                for done in [0.0, 50.0, 100.0] {
                    if let Some(token) = context.meta.get_progress_token() {
                        let progress = ProgressNotificationParam::new(token, done);
                        context.peer.notify_progress(progress.with_total(100.0)).await.unwrap();
                    }
                }
                said("done")
            }
            "test_sampling" => {
                let message = SamplingMessage::user_text(argument("prompt"));
                let asked = CreateMessageRequestParams::new(vec![message], 100);
                let answer = context.peer.create_message(asked).await;
                said(&format!("{:?}", answer.map_err(asking::refused)?.message.content))
            }
            "test_elicitation" => {
                let fields =
                    json!({ "username": { "type": "string" }, "email": { "type": "string" } });
                elicit(context, &argument("message"), fields).await?
            }
            "test_elicitation_sep1034_defaults" => {
                elicit(context, "Say what differs", asking::defaults()).await?
            }
            "test_elicitation_sep1330_enums" => {
                elicit(context, "Choose", asking::choices()).await?
            }
            "test_streaming_elicitation" => return asking::streaming(),
            "test_trigger_tool_change" => {
                self.changed("tool").await;
                said("told")
            }
            "test_trigger_prompt_change" => {
                self.changed("prompt").await;
                said("told")
            }
            "test_custom_header" => said(&argument("value")),
            "test_missing_capability" => {
                if context.client_capabilities().is_none_or(|client| client.sampling.is_none()) {
                    let wanted = ClientCapabilities::builder().enable_sampling().build();
                    return Err(ErrorData::missing_required_client_capability(wanted));
                }
                said("it can be asked")
            }
            name => return Err(ErrorData::invalid_params(format!("there is no {name}"), None)),
        };
        Ok(CallToolResult::success(content).into())
    }
}

async fn log(context: &RequestContext<RoleServer>, level: LoggingLevel, text: &str) {
    let line = LoggingMessageNotificationParam::new(level, json!(text)).with_logger("fixture");
    context.peer.notify_logging_message(line).await.unwrap();
}

async fn elicit(
    context: &RequestContext<RoleServer>,
    message: &str,
    fields: Value,
) -> Result<Vec<ContentBlock>, ErrorData> {
    let asked = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.to_owned(),
        requested_schema: asking::form(fields),
    };
    let answer = context.peer.create_elicitation(asked).await.map_err(asking::refused)?;
    Ok(vec![ContentBlock::text(format!("{:?} {:?}", answer.action, answer.content))])
}
