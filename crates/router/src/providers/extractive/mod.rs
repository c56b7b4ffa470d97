//! Answers without a model: selects and quotes sentences of what was found. Pure.

mod answer;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use proto::router::{Dialect, Grounding};
use serde_json::{Value, json};
use types::CallContext;

use super::{Chunks, Fault, Provider, Reply, now};
use crate::config::Model;
use crate::request::ChatRequest;

const UNKNOWN: &str = "I don't know: the documents do not answer this.";
const NO_MODEL: &str = "No language model is connected, so Baton can only quote your documents: ask \
with documents ingested, or connect a model.";

pub(crate) struct Extractive;

#[async_trait]
impl Provider for Extractive {
    fn dialect(&self) -> Dialect {
        Dialect::ChatCompletions
    }

    async fn complete(
        &self,
        _context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        groundings: &[Grounding],
    ) -> Result<Reply, Fault> {
        let text = said(&request.question(), groundings);
        let mut completion = frame(&model.name, "chat.completion");
        completion["choices"] = json!([{
            "index": 0,
            "message": { "role": "assistant", "content": text },
            "finish_reason": "stop",
        }]);
        completion["usage"] = usage(request, &text);
        Ok(Reply::Value(completion))
    }

    async fn list(&self) -> Result<Vec<String>, Fault> {
        Ok(vec!["extractive".to_owned()])
    }

    async fn stream(
        &self,
        _context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        groundings: &[Grounding],
        _patience: Duration,
    ) -> Result<Chunks, Fault> {
        let text = said(&request.question(), groundings);
        let chunk = |delta: Value, end: Value| {
            let mut chunk = frame(&model.name, "chat.completion.chunk");
            chunk["choices"] = json!([{ "index": 0, "delta": delta, "finish_reason": end }]);
            chunk
        };
        let mut last = frame(&model.name, "chat.completion.chunk");
        last["choices"] = json!([]);
        last["usage"] = usage(request, &text);
        let chunks = [
            chunk(json!({ "role": "assistant", "content": text }), Value::Null),
            chunk(json!({}), "stop".into()),
            last,
        ];
        Ok(stream::iter(chunks.map(|chunk| Ok(Bytes::from(chunk.to_string())))).boxed())
    }
}

fn frame(model: &str, object: &str) -> Value {
    let id = format!("chatcmpl-{}", types::RequestId::generate());
    json!({ "id": id, "object": object, "created": now(), "model": model })
}

fn said(question: &str, groundings: &[Grounding]) -> String {
    match answer::answer(question, groundings) {
        Some(answer) => answer,
        None if groundings.is_empty() => NO_MODEL.to_owned(),
        None => UNKNOWN.to_owned(),
    }
}

/// Nothing was tokenised: words stand for tokens, and cost nothing.
fn usage(request: &ChatRequest, text: &str) -> Value {
    let words = |text: &str| text.split_whitespace().count();
    let (input, output) = (words(&request.question()), words(text));
    json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
}
