//! A server that speaks OpenAI's chat completions.

mod batches;

use std::time::Duration;

use ::http::header;
use async_trait::async_trait;
use bytes::Bytes;
use egress::Reach;
use futures::{StreamExt as _, future};
use proto::router::{Dialect, Grounding};
use serde_json::Value;
use types::CallContext;

use super::batches::Batches;
use super::http::{self, Http};
use super::{Chunks, Fault, Provider, Reply, complaint};
use crate::config::{self, Model, Timeouts};
use crate::request::ChatRequest;
use crate::tokens::Text;
use crate::usage::Usage;

const PATH: &str = "chat/completions";

/// What OpenAI itself calls the most tokens of an answer; the others kept the older name.
const LIMIT: &str = "max_completion_tokens";

pub(crate) struct OpenAi {
    http: Http,
    limit: &'static str,
}

impl OpenAi {
    pub(crate) fn new(
        name: &str,
        provider: &config::Provider,
        timeouts: &Timeouts,
        reach: Reach,
    ) -> anyhow::Result<Self> {
        let own = provider.base_url.starts_with("https://api.openai.com/");
        let http = Http::new(name, provider, timeouts, reach, header::AUTHORIZATION)?;
        Ok(Self { http, limit: if own { LIMIT } else { "max_tokens" } })
    }
}

#[async_trait]
impl Provider for OpenAi {
    fn dialect(&self) -> Dialect {
        Dialect::ChatCompletions
    }

    fn batches(&self) -> Option<&dyn Batches> {
        Some(self)
    }

    async fn complete(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        _groundings: &[Grounding],
    ) -> Result<Reply, Fault> {
        let sent = request
            .for_chat(&model.name, (self.limit, model.max_output_tokens), false)
            .map_err(Fault::Dialect)?;
        let body = self.http.whole(context, PATH, &sent).await?;
        let passes = request.dialect == Dialect::ChatCompletions;
        if let Some(counted) = Usage::glance(&body).filter(|_| passes) {
            return Ok(Reply::Passing { body, counted });
        }
        let answer = http::value(&body)?;
        match answer.get("choices").and_then(Value::as_array) {
            Some(choices) if !choices.is_empty() => Ok(Reply::Value(answer)),
            _ => Err(Fault::without(&answer, "choices")),
        }
    }

    async fn list(&self) -> Result<Vec<String>, Fault> {
        self.http.names("models", "data", "id").await
    }

    async fn embed(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
    ) -> Result<Value, Fault> {
        let body = request.for_embeddings(&model.name).map_err(Fault::Dialect)?;
        let answer = self.http.value(context, "embeddings", &body).await?;
        match answer.get("data").and_then(Value::as_array) {
            Some(data) if data.len() == request.inputs() => Ok(answer),
            _ if complaint(&answer).is_some() => Err(Fault::without(&answer, "vectors")),
            _ => Err(Fault::Broken {
                message: "the answer has not one vector for each input".to_owned(),
                written: Text::default(),
                counted: Usage::of(&answer),
                lost: false,
            }),
        }
    }

    async fn stream(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        _groundings: &[Grounding],
        patience: Duration,
    ) -> Result<Chunks, Fault> {
        let body = request
            .for_chat(&model.name, (self.limit, model.max_output_tokens), true)
            .map_err(Fault::Dialect)?;
        let events = self.http.events(context, PATH, &body, patience).await?;
        let goes_on = |event: &Result<Bytes, _>| {
            !event.as_ref().is_ok_and(|data| data.trim_ascii().starts_with(b"[DONE]"))
        };
        Ok(events.take_while(move |event| future::ready(goes_on(event))).boxed())
    }
}
