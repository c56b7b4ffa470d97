//! From the configuration of TensorZero's gateway:
//! <https://www.tensorzero.com/docs/gateway/configuration-reference> (read 2026-11-24).

mod candidates;
mod cost;
mod functions;
mod hints;

use anyhow::anyhow;
use serde_json::{Map, Value};

use self::candidates::providers;
use self::functions::route;
use self::hints::hint;
use super::draft::Draft;
use super::{Imported, at, table};

/// Our settings, and what of TensorZero's they do not hold.
///
/// # Errors
/// If `text` is no TOML.
pub(super) fn import(text: &str) -> anyhow::Result<Imported> {
    let root: Map<String, Value> = toml::from_str(text).map_err(|fault| {
        let line = fault.span().and_then(|span| text.get(..span.start));
        let line = line.map_or(1, |before| before.matches('\n').count() + 1);
        anyhow!("not TOML that can be read: line {line}: {}", fault.message().replace('\n', "; "))
    })?;
    let mut draft = Draft::default();
    for (name, model) in table(&root, "models") {
        let path = at("models", name);
        let candidates = providers(&path, model, &root, &mut draft);
        match candidates.is_empty() {
            true => draft.leave(path, "none of its providers was taken over"),
            false => draft.route(name, candidates),
        }
    }
    for (name, function) in table(&root, "functions") {
        route(name, function, &root, &mut draft);
    }
    rest(&root, &mut draft);
    Ok(draft.finish("tensorzero"))
}

/// Notes what nothing else has read.
fn rest(root: &Map<String, Value>, draft: &mut Draft) {
    for (section, value) in root {
        match (section.as_str(), value) {
            ("models" | "functions", _) => {}
            ("provider_types", Value::Object(types)) => {
                for (name, of) in types {
                    let path = at(section, name);
                    let keys = of.get("defaults").is_some_and(|defaults| {
                        defaults
                            .as_object()
                            .is_some_and(|all| all.keys().all(|key| key == "api_key_location"))
                    });
                    for field in of.as_object().into_iter().flat_map(Map::keys) {
                        if field != "defaults" || !keys {
                            draft.leave(at(&path, field), hint("provider_types"));
                        }
                    }
                }
            }
            ("gateway", Value::Object(settings)) => {
                for field in settings.keys() {
                    if field == "auth" {
                        draft.client_keys = true;
                    }
                    draft.leave(at(section, field), hint(field));
                }
            }
            (section, _) => draft.leave(at("", section), hint(section)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{accepted, why};
    use super::*;

    const SHOP: &str = r#"
[gateway]
bind_address = "0.0.0.0:3000"
auth.enabled = true

[provider_types.fireworks.defaults]
api_key_location = "env::SHOP_FIREWORKS"

[models."llama-3.3"]
routing = ["first", "second"]

[models."llama-3.3".providers.first]
type = "fireworks"
model_name = "accounts/fireworks/models/llama-v3p3-70b-instruct"
cost = [
  { pointer = "/usage/prompt_tokens", cost_per_million = 0.9 },
  { pointer = "/usage/completion_tokens", cost_per_unit = 0.0000009 },
]

[models."llama-3.3".providers.second]
type = "vllm"
api_base = "http://localhost:8000/v1/"
model_name = "llama"
api_key_location = "none"

[models.haiku]
routing = ["anthropic"]
timeouts = { non_streaming.total_ms = 15000 }

[models.haiku.providers.anthropic]
type = "anthropic"
model_name = "claude-haiku-4-5"
api_base = "https://api.anthropic.com/v1/messages"
api_key_location = { default = "dynamic::key", fallback = "env::SHOP_ANTHROPIC" }
cost = [
  { pointer = "/usage/input_tokens", cost_per_million = 1.00, required = true },
  { pointer = "/usage/output_tokens", cost_per_million = 5, required = true },
  { pointer = "/usage/cache_read_input_tokens", cost_per_million = 0.10 },
  { pointer = "/usage/cache_creation_input_tokens", cost_per_million = 1.25 },
  { pointer = "/usage/server_tool_use/web_search_requests", cost_per_unit = 0.01 },
]

[models.mini]
routing = ["openai"]

[models.mini.providers.openai]
type = "openai"
model_name = "gpt-5-mini"
cost = [
  { pointer_nonstreaming = "/usage/prompt_tokens", pointer_streaming = "/usage/prompt_tokens", cost_per_million = 1.25 },
  { pointer = "/usage/prompt_tokens_details/cached_tokens", cost_per_million = -1.125 },
  { pointer = "/usage/completion_tokens", cost_per_million = 10.00 },
]

[models.mini.providers.azure]
type = "azure"
deployment_id = "gpt-5-mini"

[functions.draft]
type = "chat"
system_schema = "functions/draft/system_schema.json"

[functions.draft.variants.light]
type = "chat_completion"
model = "llama-3.3"
weight = 0.2
system_template = "functions/draft/light.minijinja"

[functions.draft.variants.heavy]
type = "chat_completion"
model = "haiku"
weight = 0.8

[functions.draft.variants.best]
type = "experimental_best_of_n_sampling"
candidates = ["light", "heavy"]

[functions.mini]
type = "json"
output_schema = "functions/mini/output_schema.json"

[functions.mini.variants.one]
type = "chat_completion"
model = "mini"
weight = 1

[tools.search]
description = "hidden"
"#;

    #[tokio::test]
    async fn a_shop_configuration_becomes_ours() {
        let imported = import(SHOP).unwrap();
        let config = accepted(&imported).await;
        let routes = &config.router.routes;
        let llama = "fireworks/accounts/fireworks/models/llama-v3p3-70b-instruct";
        assert_eq!(routes["llama-3.3"], [llama, "vllm/llama"]);
        assert_eq!(routes["haiku"], ["anthropic/claude-haiku-4-5"]);
        assert_eq!(routes["draft"], ["draft", "vllm/llama"]);
        let weights = [("anthropic/claude-haiku-4-5".to_owned(), 4), (llama.to_owned(), 1)];
        assert_eq!(config.router.splits["draft"], weights.into());
        assert_eq!(routes["mini"], ["openai/gpt-5-mini"]);
        let providers = &config.router.providers;
        let prices = |name: &str| {
            let model = &providers[name].models[0];
            [
                &model.input_usd_per_million,
                &model.cached_input_usd_per_million,
                &model.cache_write_usd_per_million,
                &model.output_usd_per_million,
            ]
            .map(|price| price.clone().unwrap_or_default())
        };
        assert_eq!(prices("fireworks"), ["0.90", "", "", "0.90"]);
        assert_eq!(prices("anthropic"), ["1.00", "0.10", "1.25", "5.00"]);
        assert_eq!(prices("openai"), ["1.25", "0.125", "", "10.00"], "a difference was added");
        assert_eq!(providers["anthropic"].base_url, "https://api.anthropic.com/v1");
        assert_eq!((providers["vllm"].tier, providers["fireworks"].tier), (0, 1));
        let key = "# Key: BATON_ROUTER__PROVIDERS__FIREWORKS__API_KEY, which was SHOP_FIREWORKS.";
        assert!(imported.config.contains(key), "{}", imported.config);
        assert!(imported.config.contains("which was SHOP_ANTHROPIC."), "{}", imported.config);
        assert!(!imported.config.contains("VLLM__API_KEY"), "{}", imported.config);
        for path in [
            "models.haiku.providers.anthropic.cost[4]",
            "models.haiku.providers.anthropic.api_key_location",
            "models.haiku.timeouts",
            "models.mini.providers.azure",
            "functions.draft.system_schema",
            "functions.draft.variants.light.system_template",
            "functions.draft.variants",
            "functions.draft.variants.best",
            "functions.mini",
            "functions.mini.type",
            "functions.mini.output_schema",
            "gateway.auth",
            "gateway.bind_address",
            "tools",
            "provider_types.fireworks.defaults.api_key_location",
        ] {
            why(&imported, path);
        }
        assert_eq!(imported.left_out.len(), 16, "{:#?}", imported.left_out);
        assert!(!serde_json::to_string(&imported).unwrap().contains("hidden"));
    }

    #[tokio::test]
    async fn no_secret_comes_out() {
        let imported = import(
            r#"
[models.a]
routing = ["p", "q", "r"]
[models.a.providers.p]
type = "openai"
model_name = "m"
api_key_location = "sk-hidden"
[models.a.providers.q]
type = "openai"
model_name = "m"
api_base = "https://me:hidden@example.com/v1?key=hidden"
api_key_location = "path::/hidden"
extra_headers = [{ name = "authorization", value = "hidden" }]
[clickhouse]
url = "http://me:hidden@db"
"#,
        )
        .unwrap();
        let all = serde_json::to_string(&imported).unwrap();
        assert!(!all.contains("hidden"), "{all}");
        let config = accepted(&imported).await;
        assert_eq!(config.router.routes["a"], ["openai/m", "openai_2/m"]);
        let told = why(&imported, "models.a.providers.p.api_key_location");
        assert_eq!(told, "secrets are not copied: set BATON_ROUTER__PROVIDERS__OPENAI__API_KEY");
        why(&imported, "models.a.providers.r");
    }

    #[test]
    fn a_file_that_is_none_is_told_in_one_line_without_its_text() {
        for text in ["hidden", "a = 'hidden", "[a]\n[a]\nb = 'hidden'", "a = 1\na = 'hidden'"] {
            let fault = import(text).unwrap_err().to_string();
            assert!(fault.starts_with("not TOML that can be read: line "), "{fault}");
            assert!(!fault.contains("hidden") && fault.lines().count() == 1, "{fault}");
        }
        assert!(import(&format!("a = {}", "[".repeat(100_000))).is_err());
        assert_eq!(import("").unwrap().left_out, []);
    }
}
