//! Prices, which stand there by where a provider counts.

use std::collections::BTreeMap;

use serde_json::Value;
use types::NanoUsd;

use crate::commands::import::draft::{CACHED, Draft, INPUT, OUTPUT, STORED};
use crate::commands::import::price;

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

/// Returns prices a million tokens.
pub(super) fn cost(
    path: &str,
    entries: Option<&Value>,
    draft: &mut Draft,
) -> BTreeMap<&'static str, NanoUsd> {
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

#[cfg(test)]
mod tests {
    use super::super::import;
    use crate::commands::import::tests::why;

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
}
