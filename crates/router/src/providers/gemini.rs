//! Google's Gemini. No client speaks it, so it answers in chat completions.

use async_trait::async_trait;
use bytes::Bytes;
use egress::Reach;
use futures::{StreamExt as _, future};
use proto::router::{Dialect, Grounding};
use reqwest::header::HeaderName;
use serde_json::Value;
use types::CallContext;

use super::http::Http;
use super::{Chunks, Fault, Provider};
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
    ) -> Result<Value, Fault> {
        let body = request.for_gemini(model.max_output_tokens).map_err(Fault::Dialect)?;
        let path = format!("models/{}:generateContent", model.name);
        let answer = self.0.whole(context, &path, &body).await?;
        match answer.get("candidates").or(answer.get("promptFeedback")) {
            Some(_) => Ok(gemini::response(&answer)),
            None => Err(Fault::Provider("the answer has no candidates".to_owned())),
        }
    }

    async fn stream(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        _groundings: &[Grounding],
    ) -> Result<Chunks, Fault> {
        let body = request.for_gemini(model.max_output_tokens).map_err(Fault::Dialect)?;
        let path = format!("models/{}:streamGenerateContent?alt=sse", model.name);
        let events = self.0.events(context, &path, &body).await?;
        // Nothing marks the end but the end itself: it is one when a reason for it was given.
        let chunks = events.scan(gemini::Chunks::default(), |chunks, event| {
            let told = match event {
                Err(_) if chunks.is_whole => None,
                Err(fault) => Some(Err(fault)),
                Ok(data) => Some(read(&data).map(|piece| match piece.get("error") {
                    Some(_) => piece.to_string().into(),
                    None => Bytes::from(chunks.push(&piece).to_string()),
                })),
            };
            future::ready(told)
        });
        Ok(chunks.boxed())
    }
}

fn read(data: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(data)
        .map_err(|fault| Fault::Provider(format!("a chunk is not JSON: {fault}")))
}
