//! What is asked back, and asked again with the answer.

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CreateMessageRequest,
    CreateMessageRequestParams, ElicitRequest, ElicitRequestParams, ElicitationSchema, ErrorData,
    GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequest, InputRequiredResult,
    ListRootsRequest, PromptMessage, RequestStateCodec, Role, SamplingMessage,
};
use rmcp::service::{RequestContext, RoleServer, ServiceError};
use serde_json::{Value, json};

pub(super) fn form(fields: Value) -> ElicitationSchema {
    serde_json::from_value(json!({ "type": "object", "properties": fields })).unwrap()
}

pub(super) fn refused(fault: ServiceError) -> ErrorData {
    match fault {
        ServiceError::McpError(fault) => fault,
        fault => ErrorData::internal_error(fault.to_string(), None),
    }
}

/// Fields that have values already.
pub(super) fn defaults() -> Value {
    json!({
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true },
    })
}

/// Fields of which one or several values are chosen.
pub(super) fn choices() -> Value {
    let titled = |key: &str| {
        let all = ["value1", "value2", "value3"];
        json!({ key: all.map(|value| json!({ "const": value, "title": value.to_uppercase() })) })
    };
    let mut one = titled("oneOf");
    one["type"] = json!("string");
    json!({
        "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
        "titledSingle": one,
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {
            "type": "array",
            "items": { "type": "string", "enum": ["option1", "option2", "option3"] },
        },
        "titledMulti": { "type": "array", "items": titled("anyOf") },
    })
}

fn elicitation(field: &str) -> InputRequest {
    let fields = json!({ field: { "type": "string" } });
    InputRequest::Elicitation(ElicitRequest::new(ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: format!("What is the {field}?"),
        requested_schema: form(fields),
    }))
}

fn sampling() -> InputRequest {
    let message = SamplingMessage::user_text("What is the capital of France?");
    let asked = CreateMessageRequestParams::new(vec![message], 100);
    InputRequest::CreateMessage(CreateMessageRequest::new(asked))
}

fn roots() -> InputRequest {
    let (method, extensions) = Default::default();
    InputRequest::ListRoots(ListRootsRequest { method, extensions })
}

fn ask(wanted: Vec<(&str, InputRequest)>, state: Option<String>) -> InputRequiredResult {
    let wanted = wanted.into_iter().map(|(name, wanted)| (name.to_owned(), wanted));
    InputRequiredResult::new(Some(wanted.collect()), state)
}

pub(super) fn streaming() -> Result<CallToolResponse, ErrorData> {
    Ok(ask(vec![("value", elicitation("value"))], None).into())
}

/// Answers a tool of those that ask back.
pub(super) fn once_more(
    states: &RequestStateCodec,
    which: &str,
    call: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let given = |name: &str| {
        let given = call.input_responses.as_ref().and_then(|all| all.get(name));
        given.filter(|given| given.is_object()).map(ToString::to_string)
    };
    let seal = |state: &str| Some(states.seal(state.as_bytes()));
    let state = match &call.request_state {
        None => String::new(),
        Some(sealed) => {
            let fault = |_| ErrorData::invalid_params("the requestState is not ours", None);
            String::from_utf8(states.open(sealed).map_err(fault)?).unwrap()
        }
    };
    let all = || {
        vec![
            ("user_name", elicitation("name")),
            ("greeting", sampling()),
            ("client_roots", roots()),
        ]
    };
    let one = |name: &'static str, wanted: InputRequest| (vec![(name, wanted)], None);
    let (wanted, sealed) = match (which, state.as_str()) {
        ("elicitation", _) if given("user_name").is_none() => one("user_name", elicitation("name")),
        ("sampling", _) if given("capital_question").is_none() => {
            one("capital_question", sampling())
        }
        ("list_roots", _) if given("client_roots").is_none() => one("client_roots", roots()),
        ("request_state" | "tampered_state", "") => {
            (vec![("confirm", elicitation("ok"))], seal("confirm"))
        }
        ("multiple_inputs", _) if !all().iter().all(|(name, _)| given(name).is_some()) => {
            (all(), seal("gather"))
        }
        ("multi_round", "") => (vec![("step1", elicitation("name"))], seal("1")),
        ("multi_round", "1") => (vec![("step2", elicitation("color"))], seal("2")),
        ("capabilities", _) if call.input_responses.is_none() => {
            let client = context.client_capabilities().unwrap_or_default();
            let may =
                [client.elicitation.is_some(), client.sampling.is_some(), client.roots.is_some()];
            let may = all().into_iter().zip(may).filter(|(_, may)| *may);
            (may.map(|(wanted, _)| wanted).collect(), None)
        }
        _ => (Vec::new(), None),
    };
    if wanted.is_empty() {
        let told = call.input_responses.as_ref().map(|told| json!(told).to_string());
        let text = format!("state-ok {}", told.unwrap_or_default());
        return Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into());
    }
    Ok(ask(wanted, sealed).into())
}

/// Answers a prompt that asks back.
pub(super) fn prompt(get: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let told = get.input_responses.as_ref().and_then(|all| all.get("user_context"));
    let Some(told) = told.filter(|told| told.is_object()) else {
        return Ok(ask(vec![("user_context", elicitation("context"))], None).into());
    };
    let message = PromptMessage::new(Role::User, ContentBlock::text(told.to_string()));
    Ok(GetPromptResult::new(vec![message]).into())
}
