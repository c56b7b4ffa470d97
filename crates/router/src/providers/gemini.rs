//! Google's Gemini. No client speaks it, so it answers in chat completions.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use egress::Reach;
use futures::{StreamExt as _, future, stream};
use http::header::HeaderName;
use proto::router::{Dialect, Grounding};
use serde_json::Value;
use types::CallContext;

use super::http::Http;
use super::{Chunks, Fault, Provider, Reply, now};
use crate::config::{self, Model, Timeouts};
use crate::dialects::gemini;
use crate::request::ChatRequest;

pub(crate) struct Gemini(Http);

impl Gemini {
    pub(crate) fn new(
        name: &str,
        provider: &config::Provider,
        timeouts: &Timeouts,
        reach: Reach,
    ) -> anyhow::Result<Self> {
        let key = HeaderName::from_static("x-goog-api-key");
        Http::new(name, provider, timeouts, reach, key).map(Self)
    }
}

fn body(model: &Model, request: &ChatRequest) -> Result<Value, Fault> {
    request.for_gemini(&model.name, model.max_output_tokens).map_err(Fault::Dialect)
}

#[async_trait]
impl Provider for Gemini {
    fn dialect(&self) -> Dialect {
        Dialect::ChatCompletions
    }

    async fn complete(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        _groundings: &[Grounding],
    ) -> Result<Reply, Fault> {
        let body = body(model, request)?;
        let path = format!("models/{}:generateContent", model.name);
        let answer = self.0.value(context, &path, &body).await?;
        if let Some(failure) = gemini::failure(&answer) {
            return Err(Fault::Provider(failure));
        }
        let is_answer =
            answer["candidates"].get(0).is_some() || answer.get("promptFeedback").is_some();
        match is_answer {
            true => Ok(Reply::Value(gemini::response(&answer, request.most_calls(), now()))),
            false => Err(Fault::without(&answer, "candidates")),
        }
    }

    async fn list(&self) -> Result<Vec<String>, Fault> {
        let names = self.0.names("models?pageSize=1000", "models", "name").await?;
        let short = |name: String| name.strip_prefix("models/").map(str::to_owned).unwrap_or(name);
        Ok(names.into_iter().map(short).collect())
    }

    async fn stream(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        _groundings: &[Grounding],
        patience: Duration,
    ) -> Result<Chunks, Fault> {
        let body = body(model, request)?;
        let path = format!("models/{}:streamGenerateContent?alt=sse", model.name);
        let events = self.0.events(context, &path, &body, patience).await?;
        // Nothing marks the end but the end itself: it is one when a reason for it was given.
        let chunks = gemini::Chunks::new(request.most_calls(), now());
        let chunks = events.scan(chunks, |chunks, event| {
            let mut told: Vec<Result<Bytes, Fault>> = Vec::new();
            match event.and_then(|data| read(&data)) {
                Ok(piece) => told.extend(chunks.push(&piece).map(|chunk| Ok(written(&chunk)))),
                Err(fault) => {
                    told.extend(chunks.counted().map(|chunk| Ok(written(&chunk))));
                    told.extend((!chunks.is_whole).then_some(Err(fault)));
                }
            }
            future::ready(Some(told))
        });
        Ok(chunks.flat_map(stream::iter).boxed())
    }
}

fn written(chunk: &Value) -> Bytes {
    chunk.to_string().into()
}

fn read(data: &[u8]) -> Result<Value, Fault> {
    let piece: Value = serde_json::from_slice(data)
        .map_err(|fault| Fault::unheard(format!("a chunk is not JSON: {fault}")))?;
    match piece.get("error") {
        Some(_) => Err(Fault::without(&piece, "pieces")),
        None => gemini::failure(&piece).map_or(Ok(piece), |failure| Err(Fault::Provider(failure))),
    }
}
