//! From the configuration of LiteLLM's proxy: <https://docs.litellm.ai/docs/proxy/config_settings>
//! (read 2026-11-24).

use std::collections::BTreeMap;

use anyhow::{anyhow, bail};
use serde_json::{Map, Value};

use super::draft::{CACHED, Draft, INPUT, Model, OUTPUT, STORED};
use super::servers::{self, Family, Key, Place};
use super::{Imported, at, price, table};

/// Prices a token, and what ours a million tokens are called.
const PRICES: [(&str, &str); 4] = [
    ("input_cost_per_token", INPUT),
    ("cache_read_input_token_cost", CACHED),
    ("cache_creation_input_token_cost", STORED),
    ("output_cost_per_token", OUTPUT),
];

/// What else is read of a deployment's `litellm_params` and `model_info`.
const PARAMS: [&str; 9] = [
    "api_base",
    "api_key",
    "base_url",
    "custom_llm_provider",
    "max_completion_tokens",
    "max_tokens",
    "model",
    "order",
    "weight",
];
const INFO: [&str; 2] = ["id", "mode"];

/// What is read of each section.
const SETTINGS: [(&str, &[&str]); 3] = [
    ("general_settings", &[]),
    ("litellm_settings", &["default_fallbacks", "fallbacks", "request_timeout"]),
    ("router_settings", &["default_fallbacks", "fallbacks", "model_group_alias", "timeout"]),
];

/// What we do otherwise, or why we do not.
const HINTS: [(&str, &str); 45] = [
    ("alerting", METRICS),
    ("allowed_fails", BREAKER),
    ("api_version", "no equivalent: an address has its version in its path"),
    ("budget_duration", LIMITS),
    ("cache", CACHE),
    ("cache_params", CACHE),
    ("callbacks", METRICS),
    ("content_policy_fallbacks", REFUSED),
    ("context_window_fallbacks", REFUSED),
    ("cooldown_time", BREAKER),
    ("credential_list", "secrets are not copied: set each provider's key"),
    ("database_url", "LiteLLM's tables are its own; ours are made where BATON_BUDGET__LEDGER says"),
    ("disable_cooldowns", BREAKER),
    ("drop_params", "no equivalent: what a provider cannot do is translated, or refused"),
    ("enable_pre_call_checks", "no equivalent: a provider says itself what is too long for it"),
    ("environment_variables", "values are not copied: set them where baton runs"),
    ("failure_callback", METRICS),
    ("host", "listen = \"HOST:PORT\" says where HTTP is served"),
    ("include", "other files are not read: import each, and join what comes of it"),
    ("json_logs", "logs are JSON lines wherever they do not go to a terminal"),
    ("litellm_credential_name", "secrets are not copied: set the provider's key"),
    ("master_key", "secrets are not copied: see gateway.keys, each with a secret, tenant and user"),
    ("max_budget", LIMITS),
    ("max_parallel_requests", RATES),
    ("max_retries", RETRIES),
    ("mcp_servers", "describe them in mcp_bridge.servers"),
    ("num_retries", RETRIES),
    ("order", "not a whole number"),
    ("port", "listen = \"HOST:PORT\" says where HTTP is served"),
    ("provider_budget_config", LIMITS),
    ("redis_host", "no equivalent: replicas share the ledger alone"),
    ("redis_password", "no equivalent: replicas share the ledger alone"),
    ("redis_port", "no equivalent: replicas share the ledger alone"),
    ("redis_url", "no equivalent: replicas share the ledger alone"),
    ("request_timeout", TIMEOUTS),
    ("retry_policy", RETRIES),
    ("routing_strategy", ORDER),
    ("rpm", RATES),
    ("service_callbacks", METRICS),
    ("set_verbose", "telemetry.log says which log lines are written"),
    ("stream_timeout", "router.timeouts.first_token_ms is for streams and whole answers alike"),
    ("success_callback", METRICS),
    ("timeout", TIMEOUTS),
    ("tpm", RATES),
    ("weight", "not a number above 0"),
];
const BREAKER: &str = "a circuit breaker is built in: five failures in a row, five seconds";
const CACHE: &str = "not copied: [router.cache] says which answers are given again";
const LIMITS: &str = "limits are set through /api/v1/budget/limit, and kept in the ledger";
const METRICS: &str = "traces go to telemetry.otlp_endpoint, metrics are at the probes' listener";
const ORDER: &str = "no equivalent: candidates are tried in order";
const RATES: &str = "no equivalent: a provider that is busy is left alone for as long as it asks";
const REFUSED: &str = "what one model refuses, the next candidate of its route is asked";
const RETRIES: &str = "router.retries are the same for every model";
const TIMEOUTS: &str = "router.timeouts are the same for every provider";
const NOTHING: &str = "no equivalent";

/// Our settings, and what of LiteLLM's they do not hold.
///
/// # Errors
/// If `text` is no YAML, or is not a configuration of LiteLLM.
pub(super) fn import(text: &str) -> anyhow::Result<Imported> {
    let root = parse(text)?;
    if !root.contains_key("model_list") {
        bail!("has no model_list: is it LiteLLM's configuration?");
    }
    let mut draft = Draft::default();
    let groups = deployments(&root, &mut draft);
    let fallbacks = Fallbacks::read(&root, &groups, &mut draft);
    for group in &groups {
        draft.route(&group.name, fallbacks.follow(&groups, &group.name));
    }
    aliases(&root, &mut draft);
    timeouts(&root, &mut draft);
    rest(&root, &mut draft);
    Ok(draft.finish("litellm"))
}

fn parse(text: &str) -> anyhow::Result<Map<String, Value>> {
    let options = serde_saphyr::options! {
        // Snippets would show what stands in the file.
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 64 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    };
    let root = serde_saphyr::from_str_with_options(text, options).map_err(|fault| {
        let fault = fault.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        anyhow!("not YAML that can be read: {}", fault.lines().next().unwrap_or_default())
    })?;
    match root {
        Value::Object(root) => Ok(root),
        _ => bail!("is not a mapping of settings"),
    }
}

/// Deployments of one `model_name`, which are candidates of one route.
struct Group {
    name: String,
    /// By `order`, those without one last.
    deployments: Vec<Deployment>,
    /// What its route has, in this order: candidates, and what they share by weight.
    places: Vec<String>,
}

struct Deployment {
    order: i64,
    weight: Option<f64>,
    candidate: String,
    id: Option<String>,
}

fn deployments(root: &Map<String, Value>, draft: &mut Draft) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let list = root.get("model_list").and_then(Value::as_array);
    for (index, entry) in list.into_iter().flatten().enumerate() {
        let path = format!("model_list[{index}]");
        let Some((name, deployment)) = deployment(&path, entry, draft) else { continue };
        match groups.iter_mut().find(|group| group.name == name) {
            Some(group) => group.deployments.push(deployment),
            None => groups.push(Group { name, deployments: vec![deployment], places: Vec::new() }),
        }
    }
    for group in &mut groups {
        group.deployments.sort_by_key(|deployment| deployment.order);
        group.places = places(group, draft);
    }
    groups
}

/// Deployments of the first order share a place by weight, if they have any.
fn places(group: &Group, draft: &mut Draft) -> Vec<String> {
    let first = group.deployments.first().map_or(0, |deployment| deployment.order);
    let (first, behind): (Vec<_>, Vec<_>) =
        group.deployments.iter().partition(|deployment| deployment.order == first);
    let weight = |one: &&Deployment| (one.candidate.clone(), one.weight.unwrap_or(0.0));
    let mut places = draft.by_weight(&group.name, first.iter().map(weight).collect());
    places.extend(behind.into_iter().map(|deployment| deployment.candidate.clone()));
    places
}

fn deployment(path: &str, entry: &Value, draft: &mut Draft) -> Option<(String, Deployment)> {
    let name = text(entry, "model_name");
    let params = entry.get("litellm_params").and_then(Value::as_object);
    let (Some(name), Some(params)) = (name, params) else {
        draft.leave(path, "has no model_name or litellm_params");
        return None;
    };
    let none = Map::new();
    let info = entry.get("model_info").and_then(Value::as_object).unwrap_or(&none);
    let (family, model) = match server(&name, params, info) {
        Ok(found) => found,
        Err(why) => {
            draft.leave(path, why);
            return None;
        }
    };
    let inside = at(path, "litellm_params");
    let base = if params.contains_key("base_url") { "base_url" } else { "api_base" };
    let place = match params.get(base) {
        None | Some(Value::Null) => Place::Home,
        Some(said) => match said.as_str().map(|said| (said, variable(said))) {
            Some((_, Some(name))) => Place::Variable(name),
            Some((said, None)) => Place::Said(said.to_owned()),
            None => Place::Said(String::new()),
        },
    };
    let key = match params.get("api_key") {
        None | Some(Value::Null) => (String::new(), usual_key(family, &place)),
        Some(said) => {
            let named = said.as_str().and_then(variable).map(Key::Variable);
            let secret = || Key::Secret(said.to_string());
            (at(&inside, "api_key"), named.unwrap_or_else(secret))
        }
    };
    let model = Model {
        path: path.to_owned(),
        name: model,
        prices: prices(path, params, info, draft),
        max_output_tokens: most(&inside, params, draft),
    };
    let place = (&*at(&inside, base), place);
    let candidate = draft.candidate(family, place, (&key.0, key.1), model)?;
    let order = params.get("order").and_then(Value::as_i64);
    let lost_order = order.is_none() && params.contains_key("order");
    let weight = params.get("weight").and_then(Value::as_f64).filter(|weight| *weight > 0.0);
    let lost_weight = weight.is_none() && params.contains_key("weight");
    let priced = PRICES.map(|(field, _)| field);
    for (section, known) in [("litellm_params", PARAMS.as_slice()), ("model_info", &INFO)] {
        for (field, value) in entry.get(section).and_then(Value::as_object).into_iter().flatten() {
            let read = known.contains(&field.as_str()) || priced.contains(&field.as_str());
            let lost = (lost_order && field == "order") || (lost_weight && field == "weight");
            if !value.is_null() && (!read || lost) {
                draft.leave(at(&at(path, section), field), hint(field));
            }
        }
    }
    for field in entry.as_object().into_iter().flat_map(Map::keys) {
        if !["model_name", "litellm_params", "model_info"].contains(&field.as_str()) {
            draft.leave(at(path, field), hint(field));
        }
    }
    let id = info.get("id").and_then(Value::as_str).map(str::to_owned);
    Some((name, Deployment { order: order.unwrap_or(i64::MAX), weight, candidate, id }))
}

/// Returns who serves a deployment, and what the model is called there.
fn server(
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
fn usual_key(family: &Family, place: &Place) -> Key {
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

fn prices(
    path: &str,
    params: &Map<String, Value>,
    info: &Map<String, Value>,
    draft: &mut Draft,
) -> BTreeMap<&'static str, types::NanoUsd> {
    let mut prices = BTreeMap::new();
    for (field, ours) in PRICES {
        let found = [("litellm_params", params), ("model_info", info)]
            .into_iter()
            .find_map(|(section, of)| Some((section, of.get(field).filter(|v| !v.is_null())?)));
        if let Some((section, value)) = found {
            let path = at(&at(path, section), field);
            prices.extend(draft.price(&path, value, 6).map(|price| (ours, price)));
        }
    }
    prices
}

fn most(path: &str, params: &Map<String, Value>, draft: &mut Draft) -> Option<u64> {
    let field = ["max_completion_tokens", "max_tokens"].into_iter();
    let (field, value) = field.filter_map(|field| Some((field, params.get(field)?))).next()?;
    // TOML's numbers are signed.
    let most = value.as_i64().filter(|most| *most > 0).map(i64::unsigned_abs);
    if most.is_none() && !value.is_null() {
        draft.leave(at(path, field), "not a number of tokens");
    }
    most
}

/// Where a group's requests go when it fails.
#[derive(Default)]
struct Fallbacks {
    /// Names of groups, or candidates, by the group's name.
    of: BTreeMap<String, Vec<Target>>,
    /// Of groups that have none of their own.
    default: Vec<Target>,
}

#[derive(Clone)]
enum Target {
    Group(String),
    Candidate(String),
}

impl Fallbacks {
    fn read(root: &Map<String, Value>, groups: &[Group], draft: &mut Draft) -> Self {
        let mut fallbacks = Self::default();
        for section in ["litellm_settings", "router_settings"] {
            for (field, value) in table(root, section) {
                let path = at(section, field);
                match field.as_str() {
                    "default_fallbacks" => {
                        fallbacks.default = targets(&path, value, root, groups, draft);
                    }
                    "fallbacks" => fallbacks.add(&path, value, root, groups, draft),
                    _ => {}
                }
            }
        }
        fallbacks
    }

    fn add(
        &mut self,
        path: &str,
        value: &Value,
        root: &Map<String, Value>,
        groups: &[Group],
        draft: &mut Draft,
    ) {
        let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        for (from, to) in list.iter().filter_map(Value::as_object).flatten() {
            let path = at(path, from);
            if from == "*" {
                self.default = targets(&path, to, root, groups, draft);
                continue;
            }
            let from = aliased(root, from);
            if !groups.iter().any(|group| group.name == from) {
                draft.leave(path, "names no model that was taken over");
                continue;
            }
            let to = targets(&path, to, root, groups, draft);
            self.of.insert(from.to_owned(), to);
        }
    }

    /// Returns the candidates of a group, and of what takes its place, in turn.
    fn follow(&self, groups: &[Group], name: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let mut found = Vec::new();
        let mut next = vec![Target::Group(name.to_owned())];
        while let Some(target) = next.pop() {
            let name = match target {
                Target::Candidate(candidate) => {
                    found.push(candidate);
                    continue;
                }
                Target::Group(name) => name,
            };
            if seen.contains(&name) {
                continue;
            }
            let group = groups.iter().find(|group| group.name == name);
            found.extend(group.into_iter().flat_map(|group| group.places.clone()));
            let targets = self.of.get(&name).unwrap_or(&self.default);
            next.extend(targets.iter().rev().cloned());
            seen.push(name);
        }
        found
    }
}

/// Reads names of groups, aliases, or ids of deployments.
fn targets(
    path: &str,
    value: &Value,
    root: &Map<String, Value>,
    groups: &[Group],
    draft: &mut Draft,
) -> Vec<Target> {
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut targets = Vec::new();
    for (index, target) in list.iter().enumerate() {
        let name = target.as_str().map(|name| aliased(root, name));
        let group = groups.iter().find(|group| Some(group.name.as_str()) == name);
        let mut deployments = groups.iter().flat_map(|group| &group.deployments);
        let deployment = deployments.find(|one| name.is_some() && one.id.as_deref() == name);
        match (group, deployment) {
            (Some(group), _) => targets.push(Target::Group(group.name.clone())),
            (None, Some(one)) => targets.push(Target::Candidate(one.candidate.clone())),
            (None, None) => {
                draft.leave(format!("{path}[{index}]"), "names no model that was taken over");
            }
        }
    }
    targets
}

/// Returns what an alias stands for, or the name itself.
fn aliased<'a>(root: &'a Map<String, Value>, name: &'a str) -> &'a str {
    let found = table(root, "router_settings").find(|(field, _)| *field == "model_group_alias");
    let alias = found.and_then(|(_, aliases)| aliases.get(name));
    alias.and_then(|alias| alias.get("model").unwrap_or(alias).as_str()).unwrap_or(name)
}

fn aliases(root: &Map<String, Value>, draft: &mut Draft) {
    let found = table(root, "router_settings").find(|(field, _)| *field == "model_group_alias");
    let aliases = found.and_then(|(_, aliases)| aliases.as_object());
    for alias in aliases.into_iter().flat_map(Map::keys) {
        let path = at("router_settings.model_group_alias", alias);
        match draft.routed(aliased(root, alias)).map(<[String]>::to_vec) {
            Some(candidates) => draft.route(alias, candidates),
            None => draft.leave(&path, "names no model that was taken over"),
        }
        let hidden = aliases.and_then(|all| all.get(alias)?.get("hidden")?.as_bool());
        if hidden == Some(true) {
            draft.leave(at(&path, "hidden"), "no equivalent: every route is listed");
        }
    }
}

fn timeouts(root: &Map<String, Value>, draft: &mut Draft) {
    // The router's own comes last, and takes the place of the other.
    for (section, field) in
        [("litellm_settings", "request_timeout"), ("router_settings", "timeout")]
    {
        let Some((_, value)) = table(root, section).find(|(key, _)| *key == field) else {
            continue;
        };
        // Seconds with nine places are as exact as dollars.
        let milliseconds = price::exact(value, 3).map(|exact| exact.nanos() / 1_000_000_000);
        match milliseconds.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0) {
            Some(milliseconds) => {
                draft.timeout("total_ms", milliseconds);
                // An answer that is no stream begins when it is whole, so it may take as long.
                draft.timeout("first_token_ms", milliseconds);
                if milliseconds > gateway::Config::default().request_timeout_ms {
                    draft.leave(at(section, field), "gateway.request_timeout_ms ends it sooner");
                }
            }
            None if value.is_null() => {}
            None => draft.leave(at(section, field), "not a number of seconds"),
        }
    }
}

/// Notes what nothing else has read.
fn rest(root: &Map<String, Value>, draft: &mut Draft) {
    for (section, value) in root.iter().filter(|(section, _)| *section != "model_list") {
        let Some((_, known)) = SETTINGS.iter().find(|(known, _)| known == section) else {
            draft.leave(at("", section), hint(section));
            continue;
        };
        if !value.is_object() && !value.is_null() {
            draft.leave(section, "not a mapping");
        }
        for (field, value) in table(root, section) {
            if section == "general_settings" && field == "master_key" {
                draft.client_keys = true;
            }
            if !known.contains(&field.as_str()) && !value.is_null() {
                draft.leave(at(section, field), hint(field));
            }
        }
    }
    if root.get("model_list").is_some_and(|list| !list.is_array()) {
        draft.leave("model_list", "not a list");
    }
}

fn hint(field: &str) -> &'static str {
    HINTS.iter().find(|(known, _)| *known == field).map_or(NOTHING, |(_, why)| why)
}

fn text(of: &Value, field: &str) -> Option<String> {
    of.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Returns the name in `os.environ/NAME`.
fn variable(said: &str) -> Option<String> {
    let name = said.strip_prefix("os.environ/")?;
    servers::is_variable(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{accepted, why};
    use super::*;

    /// Everything that we have, with prices, under one name and in turn.
    const TEAM: &str = r#"
defaults: &cloud
  input_cost_per_token: 0.00000015
  output_cost_per_token: 6e-7
model_list:
  - model_name: smart
    litellm_params:
      model: openai/gpt-4o-mini
      api_key: os.environ/TEAM_OPENAI_KEY
      <<: *cloud
      cache_read_input_token_cost: "7.5e-8"
      max_tokens: 1000
      order: 2
  - model_name: smart
    litellm_params:
      model: anthropic/claude-haiku-4-5
      api_base: https://api.anthropic.com
      order: 1
    model_info:
      id: haiku
      input_cost_per_token: 0.000001
      output_cost_per_token: 0.000005
      cache_creation_input_token_cost: 0.00000125
  - model_name: here.small
    litellm_params: {model: ollama_chat/llama3.2:3b, api_base: "http://localhost:11434"}
  - model_name: wide
    litellm_params: {model: fireworks_ai/llama-v3p3-70b-instruct, <<: *cloud}
  - model_name: wide
    litellm_params: {model: together_ai/meta/llama-70b, <<: *cloud}
  - model_name: wide
    litellm_params: {model: gemini/gemini-2.5-flash, <<: *cloud}
  - model_name: wide
    litellm_params: {model: hosted_vllm/qwen, api_base: "http://127.0.0.1:8000/v1"}
router_settings:
  fallbacks: [{wide: [smart]}, {smart: [short]}, {"*": [wide]}]
  model_group_alias: {short: here.small, quick: {model: wide, hidden: true}, gone: nowhere}
  timeout: 45.5
litellm_settings:
  request_timeout: 600
  cache: true
general_settings:
  master_key: sk-hidden
  database_url: postgresql://me:hidden@db/litellm
"#;

    fn routes(config: &crate::node::Config, name: &str) -> Vec<String> {
        config.router.routes[name].clone()
    }

    #[tokio::test]
    async fn a_team_configuration_becomes_ours() {
        let imported = import(TEAM).unwrap();
        let config = accepted(&imported).await;
        let haiku = "anthropic/claude-haiku-4-5";
        let (mini, small) = ("openai/gpt-4o-mini", "ollama/llama3.2:3b");
        let wide = [
            "fireworks/accounts/fireworks/models/llama-v3p3-70b-instruct",
            "together/meta/llama-70b",
            "gemini/gemini-2.5-flash",
            "vllm/qwen",
        ];
        assert_eq!(
            routes(&config, "smart"),
            [haiku, mini, small, wide[0], wide[1], wide[2], wide[3]]
        );
        let all = [wide.as_slice(), &[haiku, mini, small]].concat();
        assert_eq!(routes(&config, "wide"), all, "fallbacks of fallbacks");
        assert_eq!(routes(&config, "quick"), all);
        assert_eq!(routes(&config, "short"), routes(&config, "here.small"));
        assert_eq!(routes(&config, "auto")[..2], [small, "vllm/qwen"], "local ones first");
        let tiers = |name: &str| config.router.providers[name].tier;
        assert_eq!(["openai", "anthropic", "gemini"].map(tiers), [3; 3]);
        assert_eq!(["fireworks", "together", "ollama", "vllm"].map(tiers), [1, 1, 0, 0]);
        let mini = &config.router.providers["openai"].models[0];
        assert_eq!(mini.input_usd_per_million.as_deref(), Some("0.15"));
        assert_eq!(mini.output_usd_per_million.as_deref(), Some("0.60"));
        assert_eq!(mini.cached_input_usd_per_million.as_deref(), Some("0.075"));
        assert_eq!(mini.max_output_tokens, 1000);
        let haiku = &config.router.providers["anthropic"].models[0];
        assert_eq!(haiku.cache_write_usd_per_million.as_deref(), Some("1.25"));
        assert_eq!(config.router.providers["anthropic"].base_url, "https://api.anthropic.com/v1");
        assert_eq!(config.router.timeouts.total_ms, 45_500, "the router's word counts");
        let key = "BATON_ROUTER__PROVIDERS__OPENAI__API_KEY";
        assert!(imported.config.contains(&format!("# Key: {key}, which was TEAM_OPENAI_KEY.")));
        assert_eq!(
            why(&imported, "model_list[0].litellm_params.api_key"),
            format!("set {key} to what TEAM_OPENAI_KEY has")
        );
        assert_eq!(why(&imported, "defaults"), NOTHING);
        assert_eq!(why(&imported, "litellm_settings.cache"), hint("cache"));
        assert_eq!(why(&imported, "general_settings.database_url"), hint("database_url"));
        assert!(imported.config.contains("# [gateway.keys.main]"), "for the master key");
        why(&imported, "router_settings.model_group_alias.quick.hidden");
        why(&imported, "router_settings.model_group_alias.gone");
        assert_eq!(imported.left_out.len(), 8, "{:#?}", imported.left_out);
    }

    #[tokio::test]
    async fn deployments_with_weights_share_a_place() {
        let imported = import(
            r#"
model_list:
  - model_name: a/b
    litellm_params: {model: openai/x, order: 1, weight: 9}
  - model_name: a/b
    litellm_params: {model: openai/y, order: 1, weight: 1}
  - model_name: a/b
    litellm_params: {model: openai/z, order: 1}
  - model_name: a/b
    litellm_params: {model: openai/last, order: 2, weight: 5}
  - model_name: c
    litellm_params: {model: openai/x, weight: -1}
router_settings:
  fallbacks: [{c: [a/b]}]
"#,
        )
        .unwrap();
        let config = accepted(&imported).await;
        assert_eq!(routes(&config, "a/b"), ["a-b", "openai/z", "openai/last"]);
        assert_eq!(routes(&config, "c"), ["openai/x", "a-b", "openai/z", "openai/last"]);
        let weights = [("openai/x".to_owned(), 9), ("openai/y".to_owned(), 1)];
        assert_eq!(config.router.splits["a-b"], weights.into());
        why(&imported, "model_list[4].litellm_params.weight");
    }

    #[tokio::test]
    async fn no_secret_comes_out() {
        let imported = import(
            r#"
model_list:
  - model_name: a
    litellm_params:
      model: openai/m
      api_key: sk-hidden-1
      api_base: https://me:hidden-2@example.com/v1?key=hidden-3
      extra_headers: {Authorization: Bearer hidden-4}
  - model_name: a
    litellm_params: {model: openai/m, api_key: sk-hidden-5}
  - model_name: a
    litellm_params: {model: openai/m, api_key: os.environ/not-a-name-hidden-6}
  - model_name: a
    litellm_params: {model: openai/m, api_key: 424242424242}
  - model_name: c
    litellm_params: {model: openai/m, api_base: "hidden-10", rpm: "hidden-11", max_tokens: "hidden-12"}
    model_info: {input_cost_per_token: hidden-13}
general_settings: {master_key: sk-hidden-7}
litellm_settings: {cache_params: {password: hidden-8}, request_timeout: hidden-14}
environment_variables: {OPENAI_API_KEY: sk-hidden-9}
"#,
        )
        .unwrap();
        let all = serde_json::to_string(&imported).unwrap();
        assert!(!all.contains("hidden") && !all.contains("4242"), "{all}");
        let config = accepted(&imported).await;
        assert_eq!(config.router.providers.len(), 4, "a key is a provider");
        assert_eq!(routes(&config, "a"), ["openai/m", "openai_2/m", "openai_3/m", "openai_4/m"]);
        let told = why(&imported, "model_list[1].litellm_params.api_key");
        assert_eq!(told, "secrets are not copied: set BATON_ROUTER__PROVIDERS__OPENAI_2__API_KEY");
        why(&imported, "model_list[0].litellm_params.extra_headers");
        why(&imported, "environment_variables");
    }

    #[tokio::test]
    async fn a_missing_price_is_asked_for_and_not_made_up() {
        let deployment = |more: &str| {
            let text =
                format!("model_list: [{{model_name: a, litellm_params: {{model: groq/m{more}}}}}]");
            import(&text).unwrap()
        };
        for (more, whys) in [
            ("", vec![("model_list[0]", "no price: ")]),
            (", input_cost_per_token: 1e-6", vec![("model_list[0]", "no price: ")]),
            (
                ", input_cost_per_token: 3.75e-8, output_cost_per_token: 0",
                vec![
                    ("model_list[0].litellm_params.input_cost_per_token", "0.0375 USD a million"),
                    ("model_list[0]", "no price: "),
                ],
            ),
            (
                ", input_cost_per_token: -1, output_cost_per_token: free",
                vec![
                    ("model_list[0].litellm_params.input_cost_per_token", "-1000000.00 USD"),
                    ("model_list[0].litellm_params.output_cost_per_token", "not a price"),
                    ("model_list[0]", "no price: "),
                ],
            ),
        ] {
            let imported = deployment(more);
            accepted(&imported).await;
            assert!(imported.config.contains("# TODO: input_usd_per_million"), "{more}");
            assert_eq!(imported.left_out.len(), whys.len(), "{:#?}", imported.left_out);
            for (path, start) in whys {
                assert!(why(&imported, path).starts_with(start), "{:#?}", imported.left_out);
            }
        }
        let free = deployment(", input_cost_per_token: 0, output_cost_per_token: 0.0");
        accepted(&free).await;
        assert_eq!(free.left_out, []);
    }

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

    #[tokio::test]
    async fn an_address_in_the_environment_stays_there() {
        let imported = import(
            "model_list: [{model_name: a, litellm_params: {model: hosted_vllm/m, api_base: os.environ/VLLM_BASE, \
             input_cost_per_token: 0, output_cost_per_token: 0}}]",
        )
        .unwrap();
        let config = accepted(&imported).await;
        assert_eq!(config.router.providers["vllm"].base_url, "https://vllm-base.invalid/v1");
        let told = why(&imported, "model_list[0].litellm_params.api_base");
        assert_eq!(told, "set BATON_ROUTER__PROVIDERS__VLLM__BASE_URL, and the tier");
    }

    #[tokio::test]
    async fn one_server_is_one_provider_and_one_model_one_candidate() {
        let priced = "input_cost_per_token: 1e-6, output_cost_per_token: 1e-6";
        let imported = import(&format!(
            "model_list:\n\
             - {{model_name: a, litellm_params: {{model: gpt-4o, {priced}, rpm: 5}}}}\n\
             - {{model_name: b, litellm_params: {{model: openai/gpt-4o, api_key: os.environ/OPENAI_API_KEY}}}}\n\
             - {{model_name: b, litellm_params: {{model: gpt-4o, custom_llm_provider: openai, input_cost_per_token: 2e-6}}}}\n\
             - {{model_name: b, litellm_params: {{model: openai/gpt-4o, api_key: os.environ/OTHER, {priced}}}}}\n"
        ))
        .unwrap();
        let config = accepted(&imported).await;
        assert_eq!(routes(&config, "a"), ["openai/gpt-4o"]);
        assert_eq!(routes(&config, "b"), ["openai/gpt-4o", "openai_2/gpt-4o"]);
        assert!(why(&imported, "model_list[2]").starts_with("model_list[0] says otherwise"));
        assert_eq!(why(&imported, "model_list[0].litellm_params.rpm"), RATES);
    }

    #[tokio::test]
    async fn a_number_of_tokens_is_one_or_told() {
        for (said, most, told) in [
            ("max_tokens: 7", 7, false),
            ("max_completion_tokens: 8, max_tokens: 7", 8, false),
            ("max_tokens: null", 4096, false),
            ("max_tokens: 0", 4096, true),
            ("max_tokens: 1.5", 4096, true),
            ("max_tokens: 18446744073709551615", 4096, true),
        ] {
            let text = "model_list: [{model_name: a, litellm_params: {model: ollama/m, ";
            let imported = import(&format!("{text}{said}}}}}]")).unwrap();
            let config = accepted(&imported).await;
            let model = &config.router.providers["ollama"].models[0];
            assert_eq!(
                (model.max_output_tokens, imported.left_out.len() == 1),
                (most, told),
                "{said}"
            );
        }
    }

    #[tokio::test]
    async fn names_that_need_quotes_are_kept() {
        let imported = import(
            r#"model_list: [{model_name: "a \"b\".c\n[x]\u007f", litellm_params: {model: 'ollama/m"\[y]'}}]"#,
        )
        .unwrap();
        let config = accepted(&imported).await;
        assert_eq!(routes(&config, "a \"b\".c\n[x]\u{7f}"), ["ollama/m\"\\[y]"]);
    }

    #[test]
    fn a_file_that_is_none_is_told_in_one_line_without_its_text() {
        let mut bomb = "a0: &a0 [hidden, hidden]\n".to_owned();
        for level in 1..30 {
            let below = level - 1;
            bomb.push_str(&format!("a{level}: &a{level} [*a{below}, *a{below}]\n"));
        }
        for (text, told) in [
            ("", "is not a mapping of settings"),
            ("- hidden", "is not a mapping of settings"),
            ("hidden", "is not a mapping of settings"),
            ("other: hidden", "has no model_list: is it LiteLLM's configuration?"),
            ("a: 'hidden", "not YAML that can be read: "),
            ("a: {b: hidden", "not YAML that can be read: "),
            ("a: 1\na: hidden", "not YAML that can be read: "),
            ("a: *hid", "not YAML that can be read: "),
            ("a: 1\n---\nb: hidden", "not YAML that can be read: "),
            (&bomb, "not YAML that can be read: "),
            (&"[".repeat(100_000), "not YAML that can be read: "),
            ("a: &a [*a]\n", "not YAML that can be read: "),
        ] {
            let fault = format!("{:#}", import(text).unwrap_err());
            assert!(fault.starts_with(told), "{fault}");
            assert!(!fault.contains("hidden") && fault.lines().count() == 1, "{fault}");
        }
    }
}
