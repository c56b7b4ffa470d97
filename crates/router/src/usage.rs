//! Tokens and what they cost. Pure.

use serde_json::Value;
use types::NanoUsd;

use crate::config::Price;

/// More tokens than any model takes or makes: a provider that counts more does not count.
const MOST: u64 = 100_000_000;

/// Tokens as the provider counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Everything read, from a cache or not.
    pub(crate) input: u64,
    /// The part of it that came from a cache.
    pub(crate) cached: u64,
    /// The part of it that was written to a cache.
    pub(crate) stored: u64,
    /// Everything written, shown or not.
    pub(crate) output: u64,
    /// The part of it that is thought and not shown.
    pub(crate) reasoning: u64,
}

impl Usage {
    /// Reads the usage of a chat completion or a chunk of one, also beside choices; an exact zero
    /// counts, and what cannot be true does not.
    pub(crate) fn of(chat: &Value) -> Option<Self> {
        let usage = chat.get("usage")?;
        let known = |tokens: &u64| *tokens <= MOST;
        let input = usage.get("prompt_tokens")?.as_u64().filter(known)?;
        let output = match usage.get("completion_tokens") {
            // Embeddings write nothing, and some say nothing about it.
            None | Some(Value::Null) => 0,
            Some(output) => output.as_u64().filter(known)?,
        };
        let part = |at: &str| usage.pointer(at).and_then(Value::as_u64).unwrap_or_default();
        let cached = part("/prompt_tokens_details/cached_tokens").min(input);
        let stored = part("/prompt_tokens_details/cache_creation_tokens").min(input - cached);
        let reasoning = part("/completion_tokens_details/reasoning_tokens").min(output);
        Some(Self { input, cached, stored, output, reasoning })
    }

    /// Returns what it costs; more than can be said is the most that can.
    pub(crate) fn cost(self, price: &Price) -> NanoUsd {
        let parts = [
            (price.input, self.input.saturating_sub(self.cached).saturating_sub(self.stored)),
            (price.cached, self.cached),
            (price.stored, self.stored),
            (price.output, self.output.saturating_sub(self.reasoning)),
            (price.reasoning, self.reasoning),
        ];
        let mut costs = parts.into_iter().map(|(price, tokens)| price.checked_mul(tokens));
        let sum = costs.try_fold(NanoUsd::ZERO, |sum, cost| sum.checked_add(cost?));
        sum.unwrap_or(NanoUsd::new(i64::MAX))
    }
}

/// Returns the bytes of everything that a chunk of a chat completion writes: text, thoughts, refusals
/// and calls of tools, of every choice.
pub(crate) fn written(chunk: &Value) -> usize {
    let choices = chunk["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
    choices.iter().map(|choice| strings(&choice["delta"])).sum()
}

fn strings(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(strings).sum(),
        Value::Object(fields) => {
            let said = fields.iter().filter(|(name, _)| {
                !matches!(name.as_str(), "role" | "id" | "type" | "reasoning_signature")
            });
            said.map(|(_, value)| strings(value)).sum()
        }
        _ => 0,
    }
}

/// Guesses how many tokens `bytes` of text are: a token is about four.
pub(crate) fn guess(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(4)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_is_what_was_said_or_nothing() {
        let of = |usage: Value| Usage::of(&json!({ "choices": [{}], "usage": usage }));
        let zero = of(json!({ "prompt_tokens": 0, "completion_tokens": 0 }));
        assert_eq!(zero, Some(Usage::default()), "an exact zero counts");
        let all = of(json!({
            "prompt_tokens": 10, "completion_tokens": 8,
            "prompt_tokens_details": { "cached_tokens": 4, "cache_creation_tokens": 99 },
            "completion_tokens_details": { "reasoning_tokens": 5 },
        }));
        let wanted = Usage { input: 10, cached: 4, stored: 6, output: 8, reasoning: 5 };
        assert_eq!(all, Some(wanted));
        assert_eq!(of(Value::Null), None);
        assert_eq!(of(json!({ "prompt_tokens": 3, "completion_tokens": u64::MAX })), None);
        assert_eq!(of(json!({ "prompt_tokens": -1, "completion_tokens": 1 })), None);
    }

    #[test]
    fn every_kind_of_token_has_its_price() {
        let nanos = NanoUsd::new;
        let price = Price {
            input: nanos(1),
            cached: nanos(10),
            stored: nanos(100),
            output: nanos(1_000),
            reasoning: nanos(10_000),
        };
        let usage = Usage { input: 6, cached: 2, stored: 1, output: 5, reasoning: 3 };
        assert_eq!(usage.cost(&price), nanos(3 + 20 + 100 + 2_000 + 30_000));
        let most = Usage { output: u64::MAX, ..Usage::default() };
        assert_eq!(most.cost(&price), nanos(i64::MAX));
    }

    #[test]
    fn thoughts_and_calls_are_written_too() {
        let call = json!({ "id": "x", "function": { "name": "add", "arguments": "{}" } });
        let first = json!({ "delta": { "content": "four", "reasoning_content": "hm" } });
        let second = json!({ "delta": { "tool_calls": [call], "role": "assistant" } });
        assert_eq!(written(&json!({ "choices": [first, second] })), 4 + 2 + 5);
    }
}
