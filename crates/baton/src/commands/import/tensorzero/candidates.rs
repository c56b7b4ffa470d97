//! A model's providers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::cost::cost;
use super::hints::hint;
use crate::commands::import::draft::{Draft, Model};
use crate::commands::import::servers::{self, Family, Key, Place};
use crate::commands::import::{at, table};

/// Returns a model's candidates, in the order of its routing.
pub(super) fn providers(
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

pub(super) fn candidate(
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
pub(super) fn family(kind: &str) -> Option<&'static Family> {
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
