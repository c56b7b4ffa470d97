//! Which tier a conversation needs, and why. Pure; a guess from its form, never from a model.

use serde_json::{Map, Value};

/// What a conversation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    /// 0 to 4.
    pub(crate) tier: u32,
    /// For people: the score and what made it.
    pub(crate) reason: String,
}

/// Below the first a local model will do, below the second a cheap one; in hundredths.
const BOUNDS: [u32; 2] = [30, 70];

/// Words that ask for thought, at their beginning.
const THOUGHT: [&str; 16] = [
    "analy",
    "compar",
    "contrast",
    "critique",
    "debug",
    "derive",
    "design",
    "evaluat",
    "explain why",
    "optimi",
    "prove",
    "refactor",
    "step by step",
    "trade-off",
    "tradeoff",
    "why",
];

/// First words that ask for a plan or a review, which are for the best.
const BEST: [&str; 4] = ["architect", "plan", "propose a plan", "review"];

/// Returns what a chat completions request needs; `tokens` is about how long it is.
pub(crate) fn need(chat: &Map<String, Value>, tokens: u64, image: bool) -> Need {
    if image {
        return Need { tier: 2, reason: "a picture".to_owned() };
    }
    let question = question(chat).to_lowercase();
    let question = question.trim_start();
    if let Some(word) = BEST.iter().find(|word| question.starts_with(**word)) {
        return Need { tier: 3, reason: format!("it begins with {word:?}") };
    }
    let words = THOUGHT.iter().filter(|word| begins(question, word)).count();
    let messages = chat.get("messages").and_then(Value::as_array).map_or(0, Vec::len);
    let given = |name: &str| chat.get(name).is_some_and(|value| !value.is_null());
    let effort = chat.get("reasoning_effort").and_then(Value::as_str);
    let signs = [
        ("length", u32::try_from(tokens / 200).unwrap_or(u32::MAX).min(30)),
        ("words", u32::try_from(words * 15).unwrap_or(u32::MAX).min(45)),
        ("code", if question.contains("```") { 20 } else { 0 }),
        ("questions", if question.matches('?').count() > 1 { 10 } else { 0 }),
        ("tools", if given("tools") { 10 } else { 0 }),
        ("schema", if given("response_format") { 10 } else { 0 }),
        ("turns", if messages > 6 { 10 } else { 0 }),
        ("effort", if matches!(effort, Some("high" | "xhigh")) { 40 } else { 0 }),
    ];
    let score: u32 = signs.iter().map(|sign| sign.1).sum::<u32>().min(100);
    let tier = match score {
        score if score < BOUNDS[0] => 0,
        score if score < BOUNDS[1] => 1,
        _ => 3,
    };
    let why = signs.iter().filter(|sign| sign.1 > 0);
    let why: Vec<String> = why.map(|(name, weight)| format!("{name} 0.{weight:02}")).collect();
    let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join(", ")) };
    Need { tier, reason: format!("complexity {}.{:02}{why}", score / 100, score % 100) }
}

fn begins(text: &str, word: &str) -> bool {
    let starts = text.match_indices(word).map(|(at, _)| at);
    starts.into_iter().any(|at| !text[..at].ends_with(char::is_alphanumeric))
}

fn question(chat: &Map<String, Value>) -> String {
    let messages = chat.get("messages").and_then(Value::as_array);
    let mut users = messages.into_iter().flatten().rev().filter(|m| m["role"] == "user");
    match users.next().map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_conversation_needs_what_its_form_says() {
        let code = "Why is this slow? Compare it with a hash map:\n```rust\nfn f() {}\n```";
        for (question, tier, reason) in [
            ("What is the capital of France?", 0, "complexity 0.00"),
            ("Somewhy the wall stands", 0, "complexity 0.00"),
            (code, 1, "complexity 0.50 (words 0.30, code 0.20)"),
            ("Plan the migration", 3, "it begins with \"plan\""),
        ] {
            let chat = json!({ "messages": [{ "role": "user", "content": question }] });
            let need = need(chat.as_object().unwrap(), 20, false);
            assert_eq!((need.tier, need.reason.as_str()), (tier, reason), "{question}");
        }
        let hard = json!({
            "messages": [{ "role": "user", "content": "Prove it, step by step, and evaluate why" }],
            "reasoning_effort": "high",
        });
        let need = need(hard.as_object().unwrap(), 10_000, false);
        assert_eq!(need.tier, 3);
        assert!(need.reason.starts_with("complexity 1.00 (length 0.30, words 0.45"), "{need:?}");
    }

    #[test]
    fn a_picture_is_for_those_that_see() {
        assert_eq!(need(&Map::new(), 0, true).tier, 2);
    }
}
