//! A server that speaks OpenAI's chat completions.

use async_trait::async_trait;
use egress::Reach;
use futures::{StreamExt as _, future};
use proto::router::{Dialect, Grounding};
use reqwest::header;
use serde_json::Value;
use types::CallContext;

use super::http::Http;
use super::{Chunks, Fault, Provider};
use crate::config::{self, Model, Timeouts};
use crate::request::ChatRequest;

const PATH: &str = "chat/completions";

pub(crate) struct OpenAi(Http);

impl OpenAi {
    pub(crate) fn new(
        name: &str,
        provider: &config::Provider,
        timeouts: &Timeouts,
        reach: Reach,
    ) -> anyhow::Result<Self> {
        Http::new(name, provider, timeouts, reach, header::AUTHORIZATION).map(Self)
    }
}

#[async_trait]
impl Provider for OpenAi {
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
        let body = request.for_chat(&model.name, false).map_err(Fault::Dialect)?;
        let answer = self.0.whole(context, PATH, &body).await?;
        match answer.get("choices").and_then(Value::as_array) {
            Some(choices) if !choices.is_empty() => Ok(answer),
            _ => Err(Fault::Provider("the answer has no choices".to_owned())),
        }
    }

    async fn stream(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        _groundings: &[Grounding],
    ) -> Result<Chunks, Fault> {
        let body = request.for_chat(&model.name, true).map_err(Fault::Dialect)?;
        let events = self.0.events(context, PATH, &body).await?;
        let goes_on = |event: &Result<_, _>| !matches!(event, Ok(data) if data == "[DONE]");
        Ok(events.take_while(move |event| future::ready(goes_on(event))).boxed())
    }
}
