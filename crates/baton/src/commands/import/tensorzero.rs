//! From the configuration of TensorZero's gateway:
//! <https://www.tensorzero.com/docs/gateway/configuration-reference> (read 2026-11-24).

use std::collections::BTreeMap;

use anyhow::anyhow;
use serde_json::{Map, Value};
use types::NanoUsd;

use super::draft::{CACHED, Draft, INPUT, Model, OUTPUT, STORED};
use super::servers::{self, Family, Key, Place};
use super::{Imported, at, price, table};

/// What a token is where a provider counts it, and ours a million of them. True where the provider
/// counts those tokens as input too, so that the rate is a difference.
const POINTERS: [(&str, &str, bool); 10] = [
    ("/usage/prompt_tokens", INPUT, false),
    ("/usage/prompt_tokens_details/cached_tokens", CACHED, true),
    ("/usage/completion_tokens", OUTPUT, false),
    ("/usage/input_tokens", INPUT, false),
    ("/usage/cache_read_input_tokens", CACHED, false),
    ("/usage/cache_creation_input_tokens", STORED, false),
    ("/usage/output_tokens", OUTPUT, false),
    ("/usageMetadata/promptTokenCount", INPUT, false),
    ("/usageMetadata/cachedContentTokenCount", CACHED, true),
    ("/usageMetadata/candidatesTokenCount", OUTPUT, false),
];

/// What we do otherwise, or why we do not.
const HINTS: [(&str, &str); 37] = [
    ("api_type", "providers are asked for chat completions; clients may speak Responses to any"),
    ("assistant_schema", PROMPTS),
    ("assistant_template", PROMPTS),
    ("auth", "see gateway.keys, each with a secret, tenant and user"),
    ("batch_cost", "no equivalent: there are no batches"),
    ("bind_address", "listen = \"HOST:PORT\" says where HTTP is served"),
    ("clickhouse", LEDGER),
    ("debug", "telemetry.log says which log lines are written"),
    ("export", "traces go to telemetry.otlp_endpoint"),
    ("frequency_penalty", CLIENTS),
    ("input_wrappers", PROMPTS),
    ("json_mode", SCHEMAS),
    ("max_tokens", CLIENTS),
    ("observability", LEDGER),
    ("output_schema", SCHEMAS),
    ("parallel_tool_calls", CLIENTS),
    ("postgres", LEDGER),
    ("presence_penalty", CLIENTS),
    ("provider_types", "no equivalent but for where keys are"),
    ("rate_limiting", "limits of money are set through /api/v1/budget/limit"),
    ("reasoning_effort", CLIENTS),
    ("retries", "router.retries are the same for every model"),
    ("schemas", PROMPTS),
    ("seed", CLIENTS),
    ("service_tier", CLIENTS),
    ("stop_sequences", CLIENTS),
    ("system_schema", PROMPTS),
    ("system_template", PROMPTS),
    ("temperature", CLIENTS),
    ("templates", PROMPTS),
    ("timeout_ms", TIMEOUTS),
    ("timeouts", TIMEOUTS),
    ("tool_choice", CLIENTS),
    ("tools", CLIENTS),
    ("top_p", CLIENTS),
    ("user_schema", PROMPTS),
    ("user_template", PROMPTS),
];
const CLIENTS: &str = "no equivalent: a request says it";
const LEDGER: &str = "no equivalent: money is in the ledger, at budget.ledger";
const PROMPTS: &str = "no equivalent: a request brings its prompts";
const SCHEMAS: &str = "no equivalent: a request brings its output schema";
const TIMEOUTS: &str = "router.timeouts are the same for every provider";
const NOTHING: &str = "no equivalent";

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

/// Returns a model's candidates, in the order of its routing.
fn providers(
    path: &str,
    model: &Value,
    root: &Map<String, Value>,
    draft: &mut Draft,
) -> Vec<String> {
    let none = Map::new();
    let model = model.as_object().unwrap_or(&none);
    let routing = model.get("routing").and_then(Value::as_array);
    let routing: Vec<&str> = routing.into_iter().flatten().filter_map(Value::as_str).collect();
    let known: BTreeMap<_, _> = table(model, "providers").collect();
    for name in known.keys().filter(|name| !routing.contains(&name.as_str())) {
        draft.leave(at(&at(path, "providers"), name), "its model's routing does not name it");
    }
    for field in model.keys().filter(|field| !["routing", "providers"].contains(&field.as_str())) {
        draft.leave(at(path, field), hint(field));
    }
    let mut candidates = Vec::new();
    for name in routing {
        let path = at(&at(path, "providers"), name);
        match known.get(&name.to_owned()).and_then(|provider| provider.as_object()) {
            Some(provider) => candidates.extend(candidate(&path, provider, root, draft)),
            None => draft.leave(path, "its model's routing names it, and it is not there"),
        }
    }
    candidates
}

fn candidate(
    path: &str,
    provider: &Map<String, Value>,
    root: &Map<String, Value>,
    draft: &mut Draft,
) -> Option<String> {
    let said = |field: &str| provider.get(field).and_then(Value::as_str);
    let kind = said("type").unwrap_or_default();
    let Some(family) = family(kind) else {
        draft.leave(path, format!("no equivalent of type {kind:?}"));
        return None;
    };
    let name = match family.name {
        // It serves one model, and does not ask which.
        "tgi" => "tgi",
        _ => said("model_name").unwrap_or_default(),
    };
    let place = said("api_base").map_or(Place::Home, |base| Place::Said(base.to_owned()));
    let model = Model {
        path: path.to_owned(),
        name: name.to_owned(),
        prices: cost(&at(path, "cost"), provider.get("cost"), draft),
        max_output_tokens: None,
    };
    let key = key(path, family, provider, root, draft);
    let candidate =
        draft.candidate(family, (&at(path, "api_base"), place), (&key.0, key.1), model)?;
    for field in provider.keys() {
        let read = ["api_base", "api_key_location", "cost", "model_name", "type"];
        if !read.contains(&field.as_str()) {
            draft.leave(at(path, field), hint(field));
        }
    }
    Some(candidate)
}

/// Returns the servers that a provider of this type asks.
fn family(kind: &str) -> Option<&'static Family> {
    let known = [
        "anthropic",
        "deepseek",
        "fireworks",
        "groq",
        "hyperbolic",
        "mistral",
        "openai",
        "openrouter",
        "sglang",
        "tgi",
        "together",
        "vllm",
        "xai",
    ];
    match kind {
        "google_ai_studio_gemini" => servers::named("gemini"),
        kind if known.contains(&kind) => servers::named(kind),
        _ => None,
    }
}

/// Returns where a provider's key is, and where that is said.
fn key(
    path: &str,
    family: &Family,
    provider: &Map<String, Value>,
    root: &Map<String, Value>,
    draft: &mut Draft,
) -> (String, Key) {
    let of_type = |of: &'static str| {
        let (_, found) = table(root, "provider_types").find(|(name, _)| *name == of)?;
        let path = format!("provider_types.{of}.defaults.api_key_location");
        Some((path, found.pointer("/defaults/api_key_location")?))
    };
    let own = provider.get("api_key_location");
    let said = match (own.map(|said| (at(path, "api_key_location"), said)), family.name) {
        (Some(own), _) => Some(own),
        (None, "gemini") => {
            of_type("google_ai_studio_gemini").or_else(|| of_type("google_ai_studio"))
        }
        (None, name) => of_type(name),
    };
    let Some((path, said)) = said else {
        let usual = match family.name {
            "gemini" => Some("GOOGLE_AI_STUDIO_API_KEY".to_owned()),
            _ => family.usual_key(),
        };
        let home = !provider.contains_key("api_base");
        return (String::new(), usual.filter(|_| home).map_or(Key::Unsaid, Key::Variable));
    };
    let places: Vec<&str> = match said {
        Value::Object(said) => said.values().filter_map(Value::as_str).collect(),
        said => said.as_str().into_iter().collect(),
    };
    let variable = places.iter().find_map(|place| {
        let name = place.strip_prefix("env::")?;
        servers::is_variable(name).then(|| name.to_owned())
    });
    if places.len() > 1 || places.iter().any(|place| place.starts_with("dynamic::")) {
        draft.leave(&path, "no equivalent: a provider has one key, and requests bring none");
    }
    let elsewhere = ["dynamic::", "path::", "path_from_env::", "sdk", "none"];
    let key = match (variable, places.as_slice()) {
        (Some(name), _) => Key::Variable(name),
        (None, ["none"]) => Key::Nothing,
        (None, places) => {
            let odd = |place: &&&str| !elsewhere.iter().any(|start| place.starts_with(start));
            places.iter().find(odd).map_or(Key::Unsaid, |place| Key::Secret((*place).to_owned()))
        }
    };
    (path, key)
}

/// Returns prices a million tokens.
fn cost(path: &str, entries: Option<&Value>, draft: &mut Draft) -> BTreeMap<&'static str, NanoUsd> {
    let mut rates: BTreeMap<(&'static str, bool), NanoUsd> = BTreeMap::new();
    let entries = entries.and_then(Value::as_array);
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        let path = format!("{path}[{index}]");
        let said = |field: &str| entry.get(field).and_then(Value::as_str);
        let pointer = said("pointer").or_else(|| said("pointer_nonstreaming"));
        let known = POINTERS.iter().find(|(known, _, _)| Some(*known) == pointer);
        let rate = match (entry.get("cost_per_million"), entry.get("cost_per_unit")) {
            (Some(million), _) => price::exact(million, 0),
            (None, Some(unit)) => price::exact(unit, 6),
            (None, None) => None,
        };
        let (Some((_, field, difference)), Some(rate)) = (known, rate) else {
            draft.leave(
                path,
                "no equivalent: tokens of input, of a cache and of output have prices",
            );
            continue;
        };
        let sum = rates.entry((field, *difference)).or_default();
        *sum = sum.checked_add(rate).unwrap_or(*sum);
    }
    let mut prices = BTreeMap::new();
    for ((field, difference), rate) in &rates {
        let input = rates.get(&(INPUT, false)).filter(|_| *difference);
        let sum = input.map_or(Some(*rate), |input| input.checked_add(*rate));
        let sum = sum.ok_or_else(|| "too large".to_owned());
        match sum.and_then(price::countable) {
            Ok(price) => {
                prices.insert(*field, price);
            }
            Err(why) => draft.leave(path, format!("{field}: {why}")),
        }
    }
    prices
}

/// Makes a route of a function: the models of its variants by weight, and those that take their place.
fn route(name: &str, function: &Value, root: &Map<String, Value>, draft: &mut Draft) {
    let path = at("functions", name);
    let none = Map::new();
    let function = function.as_object().unwrap_or(&none);
    let mut variants: Vec<(&String, &Value)> = table(function, "variants").collect();
    let weight = |variant: &Value| variant.get("weight").and_then(Value::as_f64).unwrap_or(0.0);
    variants.sort_by(|one, other| weight(other.1).total_cmp(&weight(one.1)));
    let (mut weights, mut behind) = (Vec::new(), Vec::new());
    for (variant_name, variant) in &variants {
        let path = at(&at(&path, "variants"), variant_name);
        let said = |field: &str| variant.get(field).and_then(Value::as_str);
        if said("type") != Some("chat_completion") {
            draft.leave(path, "no equivalent: a route has models, and asks one at a time");
            continue;
        }
        let found = models(&at(&path, "model"), said("model").unwrap_or_default(), root, draft);
        let mut found = found.into_iter();
        weights.extend(found.next().map(|first| (first, weight(variant))));
        behind.extend(found);
        for field in variant.as_object().into_iter().flat_map(Map::keys) {
            match field.as_str() {
                "type" | "model" | "weight" => {}
                field => draft.leave(at(&path, field), hint(field)),
            }
        }
    }
    for (field, value) in function {
        let chat = field == "type" && value == "chat";
        if !chat && field != "variants" {
            let why = if field == "type" { SCHEMAS } else { hint(field) };
            draft.leave(at(&path, field), why);
        }
    }
    if weights.is_empty() {
        draft.leave(path, "none of its models was taken over");
    } else if draft.routed(name).is_some() {
        draft.leave(path, "a model has this name, and the route");
    } else {
        if weights.iter().filter(|(_, weight)| *weight > 0.0).count() > 1 {
            draft.leave(
                at(&path, "variants"),
                "a user always gets the same one, not each episode anew",
            );
        }
        let places = draft.by_weight(name, weights);
        draft.route(name, places.into_iter().chain(behind));
    }
}

/// Returns the candidates of a model by name, or of `provider::model`.
fn models(path: &str, name: &str, root: &Map<String, Value>, draft: &mut Draft) -> Vec<String> {
    if table(root, "models").any(|(known, _)| known == name) {
        return draft.routed(name).map(<[String]>::to_vec).unwrap_or_default();
    }
    let shorthand = name.split_once("::").filter(|(_, model)| !model.starts_with("responses::"));
    let Some((kind, model)) = shorthand.filter(|(kind, _)| family(kind).is_some()) else {
        draft.leave(path, "names no model that was taken over");
        return Vec::new();
    };
    let provider = [("type", kind), ("model_name", model)];
    let provider = provider.map(|(field, value)| (field.to_owned(), Value::from(value)));
    candidate(path, &Map::from_iter(provider), root, draft).into_iter().collect()
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

fn hint(field: &str) -> &'static str {
    HINTS.iter().find(|(known, _)| *known == field).map_or(NOTHING, |(_, why)| why)
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
    async fn a_function_names_a_model_by_its_provider() {
        let variant = |model: &str| {
            import(&format!(
                "functions.f.type = 'chat'\n[functions.f.variants.v]\ntype = 'chat_completion'\nmodel = '{model}'"
            ))
            .unwrap()
        };
        for (model, candidate) in [
            ("openai::gpt-5-mini", "openai/gpt-5-mini"),
            ("anthropic::claude-haiku-4-5", "anthropic/claude-haiku-4-5"),
            ("google_ai_studio_gemini::gemini-2.5-flash", "gemini/gemini-2.5-flash"),
            ("openrouter::meta/llama::free", "openrouter/meta/llama::free"),
        ] {
            let imported = variant(model);
            assert_eq!(accepted(&imported).await.router.routes["f"], [candidate]);
            assert!(why(&imported, "functions.f.variants.v.model").starts_with("no price"));
        }
        for model in ["gone", "azure::x", "openai::responses::gpt-5", ""] {
            let imported = variant(model);
            assert!(accepted(&imported).await.router.routes.is_empty(), "{model}");
            assert_eq!(why(&imported, "functions.f"), "none of its models was taken over");
        }
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
    fn a_cost_that_we_cannot_count_is_told() {
        for (entry, path, told) in [
            (
                "pointer = '/usage/prompt_tokens', cost_per_million = 0.0375",
                "",
                "input_usd_per_million: 0.0375",
            ),
            (
                "pointer = '/usage/prompt_tokens', cost_per_million = -1",
                "",
                "input_usd_per_million: -1.00",
            ),
            ("pointer = '/usage/prompt_tokens'", "[0]", "no equivalent"),
            ("pointer = '/other', cost_per_million = 1", "[0]", "no equivalent"),
            ("cost_per_million = 1", "[0]", "no equivalent"),
        ] {
            let text = format!(
                "models.a = {{ routing = ['p'], providers.p = {{ type = 'groq', model_name = 'm', cost = [{{ {entry} }}] }} }}"
            );
            let imported = import(&text).unwrap();
            let found = why(&imported, &format!("models.a.providers.p.cost{path}"));
            assert!(found.starts_with(told), "{found}");
        }
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
