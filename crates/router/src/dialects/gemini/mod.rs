//! Google's Gemini API, `generateContent`, v1beta
//! (<https://ai.google.dev/api/generate-content>, read November 2026). Providers only: no client of
//! Baton speaks it.

mod request;
mod response;
mod stream;

pub(crate) use request::request;
pub(crate) use response::{failure, response};
pub(crate) use stream::Chunks;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_told_whole_and_in_pieces() {
        let wire = json!({
            "candidates": [{ "content": { "role": "model", "parts": [
                { "text": "hm", "thought": true }, { "text": "pong" },
                { "functionCall": { "name": "add", "args": { "a": 1 } }, "thoughtSignature": "s" },
            ] }, "finishReason": "STOP" }],
            "usageMetadata": { "promptTokenCount": 10, "candidatesTokenCount": 2,
                "thoughtsTokenCount": 3, "cachedContentTokenCount": 4 },
            "modelVersion": "g", "responseId": "r",
        });
        let chat = response(&wire, 2, 7);
        assert_eq!(chat["created"], 7);
        let message = &chat["choices"][0]["message"];
        assert_eq!(
            (&message["content"], &message["reasoning_content"]),
            (&"pong".into(), &"hm".into())
        );
        assert_eq!(message["tool_calls"][0]["function"]["arguments"], "{\"a\":1}");
        assert_eq!(chat["choices"][0]["finish_reason"], "tool_calls");
        assert_eq!(chat["usage"]["completion_tokens"], 5);
        let mut twice = wire.clone();
        let parts = twice["candidates"][0]["content"]["parts"].as_array_mut().unwrap();
        parts.push(parts[2].clone());
        assert_eq!(&response(&twice, 1, 7)["choices"], &chat["choices"], "one at a time");
        let mut chunks = Chunks::new(2, 7);
        let half = json!({ "candidates": [{ "content": { "parts": [{ "text": "po" }] } }] });
        let chunk = chunks.push(&half).unwrap();
        assert_eq!(
            (&chunk["choices"][0]["delta"]["content"], &chunk["created"]),
            (&"po".into(), &7.into())
        );
        assert!(!chunks.is_whole && chunk.get("usage").is_none());
        assert!(chunks.push(&wire).unwrap().get("usage").is_none() && chunks.is_whole);
        let counted = chunks.counted().unwrap();
        assert_eq!(counted["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
        let blocked = json!({ "promptFeedback": { "blockReason": "SAFETY" } });
        assert_eq!(response(&blocked, 2, 7)["choices"][0]["finish_reason"], "content_filter");
    }
}
