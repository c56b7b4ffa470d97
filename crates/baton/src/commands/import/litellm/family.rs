//! Who serves a deployment, and what the model is called there.

use serde_json::{Map, Value};

use crate::commands::import::servers::{self, Family, Key, Place};

/// Returns who serves a deployment, and what the model is called there.
pub(super) fn server(
    name: &str,
    params: &Map<String, Value>,
    info: &Map<String, Value>,
) -> Result<(&'static Family, String), String> {
    let Some(model) = params.get("model").and_then(Value::as_str) else {
        return Err("its litellm_params have no model".to_owned());
    };
    if name.contains('*') || model.contains('*') {
        return Err("no equivalent: models are named one by one".to_owned());
    }
    let mode = info.get("mode").and_then(Value::as_str).unwrap_or("chat");
    let other = ["embed", "dall-e", "gpt-image", "moderation", "rerank", "tts-", "whisper"];
    if !["chat", "responses"].contains(&mode) || other.iter().any(|other| model.contains(other)) {
        return Err("no equivalent: it is not a model that one chats with".to_owned());
    }
    let custom = params.get("custom_llm_provider").and_then(Value::as_str);
    let (prefix, model) = match (custom, model.split_once('/')) {
        (Some(custom), Some((prefix, model))) if custom == prefix => (custom, model),
        (Some(custom), _) => (custom, model),
        (None, Some((prefix, model))) => (prefix, model),
        (None, None) => (guessed(model)?, model),
    };
    let family = match prefix {
        "custom_openai" => "openai_like",
        "fireworks_ai" => "fireworks",
        "hosted_vllm" => "vllm",
        "ollama_chat" => "ollama",
        "together_ai" => "together",
        // This one runs vLLM in LiteLLM's own process.
        "vllm" => "",
        other => other,
    };
    let Some(family) = servers::named(family) else {
        return Err(format!(
            "no equivalent of {prefix:?}: if it speaks OpenAI's chat completions, describe it as a provider of kind openai"
        ));
    };
    if prefix == "openai" && model.starts_with("responses/") {
        return Err("no equivalent: providers are asked for chat completions".to_owned());
    }
    let short = family.name == "fireworks" && !model.starts_with("accounts/");
    Ok((
        family,
        if short { format!("accounts/fireworks/models/{model}") } else { model.to_owned() },
    ))
}

/// Returns where LiteLLM looks for a key that is not said.
pub(super) fn usual_key(family: &Family, place: &Place) -> Key {
    let usual = match family.name {
        "perplexity" => Some("PERPLEXITYAI_API_KEY".to_owned()),
        "together" => Some("TOGETHERAI_API_KEY".to_owned()),
        _ => family.usual_key(),
    };
    usual.filter(|_| *place == Place::Home).map_or(Key::Unsaid, Key::Variable)
}

/// Returns whose a model is that is named without its provider.
fn guessed(model: &str) -> Result<&'static str, String> {
    let starts = |of: &[&str]| of.iter().any(|start| model.starts_with(start));
    if starts(&["gpt-", "chatgpt-", "ft:gpt-", "o1", "o3", "o4"]) {
        return Ok("openai");
    }
    if starts(&["claude-"]) {
        return Ok("anthropic");
    }
    Err(format!(
        "whose model {model:?} is cannot be told: put the provider before it, as in openai/"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::import;
    use crate::commands::import::tests::{accepted, why};

    #[tokio::test]
    async fn what_cannot_be_served_is_left_out_with_the_reason() {
        for (deployment, path, start) in [
            ("model_name: a, litellm_params: {model: azure/gpt}", "", "no equivalent of \"azure\""),
            ("model_name: a, litellm_params: {model: bedrock/x/y}", "", "no equivalent of"),
            ("model_name: a, litellm_params: {model: vllm/x}", "", "no equivalent of \"vllm\""),
            ("model_name: '*', litellm_params: {model: openai/*}", "", "no equivalent: models are"),
            ("model_name: a, litellm_params: {model: mystery}", "", "whose model \"mystery\""),
            (
                "model_name: a, litellm_params: {model: openai/text-embedding-3}",
                "",
                "no equivalent: it",
            ),
            (
                "model_name: a, litellm_params: {model: openai/x}, model_info: {mode: rerank}",
                "",
                "no equivalent: it is not",
            ),
            (
                "model_name: a, litellm_params: {model: openai/responses/x}",
                "",
                "no equivalent: prov",
            ),
            ("model_name: a, litellm_params: {model: openai/}", "", "its model has no name"),
            ("model_name: a, litellm_params: {}", "", "its litellm_params have no model"),
            ("model_name: a", "", "has no model_name or"),
            ("litellm_params: {model: openai/x}", "", "has no model_name or"),
            (
                "model_name: a, litellm_params: {model: hosted_vllm/x}",
                ".litellm_params.api_base",
                "no address is said for it",
            ),
            (
                "model_name: a, litellm_params: {model: openai/x, base_url: '<here>'}",
                ".litellm_params.base_url",
                "not an address",
            ),
        ] {
            let imported = import(&format!("model_list: [{{{deployment}}}]")).unwrap();
            let told = why(&imported, &format!("model_list[0]{path}"));
            assert!(told.starts_with(start), "{deployment}: {told}");
            assert!(accepted(&imported).await.router.providers.is_empty(), "{deployment}");
        }
        let named = import("model_list: [text, 7, null]").unwrap();
        assert_eq!(named.left_out.len(), 3);
    }
}
