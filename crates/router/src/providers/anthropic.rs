//! A server that speaks Anthropic's Messages.

mod batches;

use std::time::Duration;

use async_trait::async_trait;
use egress::Reach;
use futures::{StreamExt as _, future};
use http::header::HeaderName;
use proto::router::{Dialect, Grounding};
use serde_json::Value;
use types::CallContext;

use super::batches::Batches;
use super::http::Http;
use super::{Chunks, Fault, Provider, Reply};
use crate::config::{self, Model, Timeouts};
use crate::request::ChatRequest;

/// The newest version of the API; what came since is told apart by fields.
const VERSION: &str = "2023-06-01";

const PATH: &str = "messages";

pub(crate) struct Anthropic(Http);

impl Anthropic {
    pub(crate) fn new(
        name: &str,
        provider: &config::Provider,
        timeouts: &Timeouts,
        reach: Reach,
    ) -> anyhow::Result<Self> {
        let key = HeaderName::from_static("x-api-key");
        let http = Http::new(name, provider, timeouts, reach, key)?;
        Ok(Self(http.with_header("anthropic-version", VERSION)))
    }
}

fn body(model: &Model, request: &ChatRequest, stream: bool) -> Result<Value, Fault> {
    // The API wants a limit in every request; the model's own when the request has none.
    let limit = model.max_output_tokens;
    request.for_messages(&model.name, limit, stream).map_err(Fault::Dialect)
}

#[async_trait]
impl Provider for Anthropic {
    fn dialect(&self) -> Dialect {
        Dialect::Messages
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
        let answer = self.0.value(context, PATH, &body(model, request, false)?).await?;
        match answer.get("content") {
            Some(Value::Array(_)) => Ok(Reply::Value(answer)),
            _ => Err(Fault::without(&answer, "content")),
        }
    }

    async fn list(&self) -> Result<Vec<String>, Fault> {
        self.0.names("models?limit=1000", "data", "id").await
    }

    async fn stream(
        &self,
        context: &CallContext,
        model: &Model,
        request: &ChatRequest,
        _groundings: &[Grounding],
        patience: Duration,
    ) -> Result<Chunks, Fault> {
        let events = self.0.events(context, PATH, &body(model, request, true)?, patience).await?;
        // The last event is passed on, and nothing is read behind it.
        let until_the_last = events.scan(false, |ended, event| {
            if *ended {
                return future::ready(None);
            }
            *ended = event.as_ref().is_ok_and(|data| is_last(data));
            future::ready(Some(event))
        });
        Ok(until_the_last.boxed())
    }
}

fn is_last(data: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Peek<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<std::borrow::Cow<'a, str>>,
    }
    let peek: Result<Peek<'_>, _> = serde_json::from_slice(data);
    peek.is_ok_and(|peek| peek.kind.as_deref() == Some("message_stop"))
}
