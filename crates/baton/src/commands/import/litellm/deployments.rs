//! Deployments of `model_list`, by the name that they share.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::family::{server, usual_key};
use super::hints::hint;
use crate::commands::import::at;
use crate::commands::import::draft::{CACHED, Draft, INPUT, Model, OUTPUT, STORED};
use crate::commands::import::servers::{self, Key, Place};

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

/// Deployments of one `model_name`, which are candidates of one route.
pub(super) struct Group {
    pub(super) name: String,
    /// By `order`, those without one last.
    pub(super) deployments: Vec<Deployment>,
    /// What its route has, in this order: candidates, and what they share by weight.
    pub(super) places: Vec<String>,
}

pub(super) struct Deployment {
    order: i64,
    weight: Option<f64>,
    pub(super) candidate: String,
    pub(super) id: Option<String>,
}

pub(super) fn deployments(root: &Map<String, Value>, draft: &mut Draft) -> Vec<Group> {
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

fn text(of: &Value, field: &str) -> Option<String> {
    of.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Returns the name in `os.environ/NAME`.
pub(super) fn variable(said: &str) -> Option<String> {
    let name = said.strip_prefix("os.environ/")?;
    servers::is_variable(name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::hints::RATES;
    use super::super::import;
    use super::super::tests::routes;
    use crate::commands::import::tests::{accepted, why};

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
}
