//! Tokens and what they cost. Pure.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use types::NanoUsd;

use crate::config::Price;
use crate::tokens::Text;

/// More tokens than any model takes or makes: a provider that counts more does not count.
const MOST: u64 = 100_000_000;

/// Where the tokens stand that came from a cache, besides OpenAI's place: `DeepSeek`'s and Moonshot's.
const CACHED: [&str; 2] = ["prompt_cache_hit_tokens", "cached_tokens"];

/// Tokens as the provider counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Everything read, from a cache or not.
    pub(crate) input: u64,
    /// The part of it that came from a cache.
    pub(crate) cached: u64,
    /// The part of it that was written to a cache.
    pub(crate) stored: u64,
    /// The part of that which stays there for an hour.
    pub(crate) stored_long: u64,
    /// Everything written, shown or not.
    pub(crate) output: u64,
    /// The part of it that is thought and not shown.
    pub(crate) reasoning: u64,
}

impl Usage {
    /// Reads the usage of a chat completion or a chunk of one, also beside choices; an exact zero
    /// counts, and what cannot be true does not.
    pub(crate) fn of(chat: &Value) -> Option<Self> {
        Self::said(chat.get("usage")?, chat.get("choices").is_some())
    }

    /// Reads the usage of a whole chat completion as it came, without making values of the rest; none if
    /// it is another thing, or does not say.
    pub(crate) fn glance(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Completion {
            choices: Vec<IgnoredAny>,
            usage: Value,
        }
        let completion: Completion = serde_json::from_str(std::str::from_utf8(body).ok()?).ok()?;
        Self::said(&completion.usage, true).filter(|_| !completion.choices.is_empty())
    }

    fn said(usage: &Value, has_choices: bool) -> Option<Self> {
        let input = tokens(usage.get("prompt_tokens")?)?;
        let output = match (usage.get("completion_tokens"), usage.get("total_tokens")) {
            (Some(output), _) if !output.is_null() => tokens(output)?,
            (_, Some(total)) if !total.is_null() => tokens(total)?.checked_sub(input)?,
            // Embeddings write nothing, and some say nothing about it.
            _ if !has_choices => 0,
            _ => return None,
        };
        let part = |details: &str, name: &str| tokens(usage.get(details)?.get(name)?);
        let cached = part("prompt_tokens_details", "cached_tokens");
        let cached = cached.or_else(|| CACHED.iter().find_map(|name| tokens(usage.get(name)?)));
        let cached = cached.unwrap_or_default().min(input);
        let stored = part("prompt_tokens_details", "cache_creation_tokens").unwrap_or_default();
        let stored = stored.min(input - cached);
        let stored_long = part("prompt_tokens_details", "cache_creation_1h_tokens");
        let stored_long = stored_long.unwrap_or_default().min(stored);
        let reasoning = part("completion_tokens_details", "reasoning_tokens");
        let reasoning = reasoning.unwrap_or_default().min(output);
        Some(Self { input, cached, stored, stored_long, output, reasoning })
    }

    /// Returns what was counted of an answer that is not whole, with what it cannot have counted yet
    /// from this guess.
    pub(crate) fn unless_more(self, counted: Option<Self>) -> Self {
        let Some(counted) = counted else { return self };
        let input = if counted.input == 0 { self.input } else { counted.input };
        Self { input, output: counted.output.max(self.output), ..counted }
    }

    /// Returns what it costs; more than can be said is the most that can.
    pub(crate) fn cost(self, price: &Price) -> NanoUsd {
        let parts = [
            (price.input, self.input.saturating_sub(self.cached).saturating_sub(self.stored)),
            (price.cached, self.cached),
            (price.stored, self.stored.saturating_sub(self.stored_long)),
            (price.stored_long(), self.stored_long),
            (price.output, self.output.saturating_sub(self.reasoning)),
            (price.reasoning, self.reasoning),
        ];
        let mut costs = parts.into_iter().map(|(price, tokens)| price.checked_mul(tokens));
        let sum = costs.try_fold(NanoUsd::ZERO, |sum, cost| sum.checked_add(cost?));
        sum.unwrap_or(NanoUsd::new(i64::MAX))
    }
}

/// Reads a count, if it can be one. There are servers that know no whole numbers.
fn tokens(count: &Value) -> Option<u64> {
    let float = || count.as_f64().filter(|count| *count >= 0.0 && count.fract() == 0.0);
    // Too large a float is the largest number.
    let whole = count.as_u64().or_else(|| float().map(|count| count as u64))?;
    Some(whole).filter(|count| *count <= MOST)
}

/// Returns how many choices end with a chunk of a chat completion.
pub(crate) fn ends(chunk: &Value) -> u64 {
    let choices = chunk["choices"].as_array().map(Vec::as_slice).unwrap_or_default();
    choices.iter().filter(|choice| !choice["finish_reason"].is_null()).count() as u64
}

/// Returns everything that a chat completion or a chunk of one writes: text, thoughts, refusals and
/// calls of tools, of every choice.
pub(crate) fn written(chat: &Value) -> Text {
    let mut written = Text::default();
    for choice in chat["choices"].as_array().into_iter().flatten() {
        strings(&choice["delta"], &mut written);
        strings(&choice["message"], &mut written);
    }
    written
}

/// Tells whether a field of a message or of a piece of one holds what is written.
pub(crate) fn is_written(name: &str) -> bool {
    // The last are what a thought is told as besides.
    !matches!(
        name,
        "role" | "id" | "type" | "reasoning_signature" | "thinking_blocks" | "extra_content"
    )
}

fn strings(value: &Value, written: &mut Text) {
    match value {
        Value::String(text) => written.push(text),
        Value::Array(list) => list.iter().for_each(|one| strings(one, written)),
        Value::Object(fields) => {
            let said = fields.iter().filter(|(name, _)| is_written(name));
            said.for_each(|(_, value)| strings(value, written));
        }
        _ => {}
    }
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
            "prompt_tokens_details": { "cached_tokens": 4, "cache_creation_tokens": 99,
                "cache_creation_1h_tokens": 99 },
            "completion_tokens_details": { "reasoning_tokens": 5 },
        }));
        let wanted =
            Usage { input: 10, cached: 4, stored: 6, stored_long: 6, output: 8, reasoning: 5 };
        assert_eq!(all, Some(wanted));
        assert_eq!(of(Value::Null), None);
        assert_eq!(of(json!({ "prompt_tokens": 3, "completion_tokens": u64::MAX })), None);
        assert_eq!(of(json!({ "prompt_tokens": -1, "completion_tokens": 1 })), None);
        assert_eq!(of(json!({ "prompt_tokens": 3 })), None, "half a count is none");
        let rest = Some(Usage { input: 3, output: 2, ..Usage::default() });
        assert_eq!(of(json!({ "prompt_tokens": 3, "total_tokens": 5 })), rest);
        assert_eq!(of(json!({ "prompt_tokens": 3.0, "completion_tokens": 2.0 })), rest);
        assert_eq!(of(json!({ "prompt_tokens": 3.5, "completion_tokens": 2 })), None);
        let embeds = json!({ "data": [], "usage": { "prompt_tokens": 3 } });
        assert_eq!(Usage::of(&embeds), Some(Usage { input: 3, ..Usage::default() }));
    }

    #[test]
    fn a_glance_sees_the_usage_of_what_is_a_completion_and_of_nothing_else() {
        let whole = r#" {"choices":[{"message":{"content":"é"}}],"usage":{"prompt_tokens":3,"completion_tokens":4},"x":1}"#;
        let seen = Usage::glance(whole.as_bytes());
        assert_eq!(seen, Some(Usage { input: 3, output: 4, ..Usage::default() }));
        assert_eq!(seen, Usage::of(&serde_json::from_str(whole).unwrap()));
        for other in [
            whole.replace("[{\"message\":{\"content\":\"é\"}}]", "[]"),
            whole.replace("choices", "choises"),
            whole.replace(":4}", ":-4}"),
            whole.replace(",\"x\"", ",\"usage\""),
            whole.replace("}}],", "}],"),
            format!("{whole}1"),
        ] {
            assert_ne!(other, whole);
            assert_eq!(Usage::glance(other.as_bytes()), None, "{other}");
        }
        let garbled: Vec<u8> = whole.bytes().filter(|byte| *byte != 0xa9).collect();
        assert_eq!(Usage::glance(&garbled), None, "what is no text does not pass");
    }

    #[test]
    fn what_was_counted_of_half_an_answer_is_not_the_last_word() {
        let guess = Usage { input: 9, output: 50, ..Usage::default() };
        let counted = |input, output| Some(Usage { input, cached: 1, output, ..Usage::default() });
        assert_eq!(guess.unless_more(None), guess);
        let told = guess.unless_more(counted(7, 2));
        assert_eq!((told.input, told.cached, told.output), (7, 1, 50));
        let told = guess.unless_more(counted(0, 60));
        assert_eq!((told.input, told.output), (9, 60));
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
        let usage =
            Usage { input: 6, cached: 2, stored: 1, output: 5, reasoning: 3, ..Usage::default() };
        assert_eq!(usage.cost(&price), nanos(3 + 20 + 100 + 2_000 + 30_000));
        let hour = Usage { stored_long: 1, ..usage };
        assert_eq!(hour.cost(&price), nanos(3 + 20 + 160 + 2_000 + 30_000));
        let most = Usage { output: u64::MAX, ..Usage::default() };
        assert_eq!(most.cost(&price), nanos(i64::MAX));
    }

    #[test]
    fn thoughts_and_calls_are_written_too() {
        let call = json!({ "id": "x", "function": { "name": "add", "arguments": "{}" } });
        let first = json!({ "delta": { "content": "four", "reasoning_content": "hm" } });
        let second = json!({ "delta": { "tool_calls": [call], "role": "assistant" } });
        let mut wanted = Text::default();
        wanted.push("fourhmadd{}");
        assert_eq!(written(&json!({ "choices": [first, second] })), wanted);
    }
}
