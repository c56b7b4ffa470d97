//! Functions, which are routes.

use serde_json::{Map, Value};

use super::candidates::{candidate, family};
use super::hints::{SCHEMAS, hint};
use crate::commands::import::draft::Draft;
use crate::commands::import::{at, table};

/// Makes a route of a function: the models of its variants by weight, and those that take their place.
pub(super) fn route(name: &str, function: &Value, root: &Map<String, Value>, draft: &mut Draft) {
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

#[cfg(test)]
mod tests {
    use super::super::import;
    use crate::commands::import::tests::{accepted, why};

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
}
