//! Tokens: about how many a request takes, and how many it took.

use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde_json::Value;

/// How many tokens are written where a request does not say.
const OUTPUT: u64 = 1024;
/// How many bytes a token has about.
const BYTES: u64 = 4;

/// The routes that use a model's tokens.
const ROUTES: [&str; 5] =
    ["/v1/chat/completions", "/v1/messages", "/v1/responses", "/v1/embeddings", "/api/v1/ask"];

/// How many tokens a call used, once that is known. A handler puts one among its response's extensions
/// when a model was asked. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Used(Arc<OnceLock<u64>>);

impl Used {
    /// Returns one that is known.
    pub(crate) fn known(input: u64, output: u64) -> Self {
        let used = Self::default();
        used.say(input, output);
        used
    }

    /// Says how many there were; the first word holds.
    pub(crate) fn say(&self, input: u64, output: u64) {
        let _ = self.0.set(input.saturating_add(output));
    }

    pub(crate) fn tokens(&self) -> Option<u64> {
        self.0.get().copied()
    }
}

/// Tells whether calls of a route use tokens.
pub(super) fn are_used(route: &str) -> bool {
    ROUTES.contains(&route)
}

/// Returns about how many tokens a body takes: a quarter of its bytes, and what it asks to be written.
pub(super) fn estimate(route: &str, body: &[u8]) -> u64 {
    #[derive(Default, Deserialize)]
    struct Most {
        max_tokens: Option<Value>,
        max_completion_tokens: Option<Value>,
        max_output_tokens: Option<Value>,
    }
    let input = (body.len() as u64).div_ceil(BYTES);
    if route == "/v1/embeddings" {
        return input;
    }
    // What is malformed is refused by whoever reads it.
    let most: Most = serde_json::from_slice(body).unwrap_or_default();
    let most = [most.max_completion_tokens, most.max_output_tokens, most.max_tokens];
    let output = most.into_iter().flatten().find_map(|most| most.as_u64());
    input.saturating_add(output.unwrap_or(OUTPUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_a_quarter_of_the_bytes_and_what_may_be_written() {
        let chat = |body: &str| estimate("/v1/chat/completions", body.as_bytes());
        assert_eq!(chat(r#"{"max_tokens":100}  "#), 5 + 100);
        assert_eq!(chat(r#"{"max_completion_tokens":7}"#), 7 + 7);
        assert_eq!(chat("{}"), 1 + OUTPUT);
        assert_eq!(chat("nothing"), 2 + OUTPUT);
        assert_eq!(estimate("/v1/embeddings", b"{}"), 1);
    }
}
