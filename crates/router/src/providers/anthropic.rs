//! A server that speaks Anthropic's Messages.

use async_trait::async_trait;
use egress::Reach;
use futures::{StreamExt as _, future};
use proto::router::{Dialect, Grounding};
use reqwest::header::HeaderName;
use serde_json::Value;
use types::CallContext;

use super::http::Http;
use super::{Chunks, Fault, Provider};
use crate::config::{self, Timeouts};
use crate::request::ChatRequest;

/// The newest version of the API; what came since is told apart by fields.
const VERSION: &str = "2023-06-01";

pub(crate) struct Anthropic {
    http: Http,
    /// The API wants a limit in every request; a model's own when the request has none.
    limits: Vec<(String, u64)>,
}

impl Anthropic {
    pub(crate) fn new(
        name: &str,
        provider: &config::Provider,
        timeouts: &Timeouts,
        reach: Reach,
    ) -> anyhow::Result<Self> {
        let key = HeaderName::from_static("x-api-key");
        let http = Http::new(name, provider, timeouts, reach, "messages", key)?;
        let limits = provider.models.iter().map(|m| (m.name.clone(), m.max_output_tokens));
        Ok(Self { http: http.with_header("anthropic-version", VERSION), limits: limits.collect() })
    }

    fn body(&self, model: &str, request: &ChatRequest, stream: bool) -> Result<Value, Fault> {
        let limit = self.limits.iter().find(|(name, _)| name == model);
        let limit = limit.map_or(4096, |(_, limit)| *limit);
        request.for_messages(model, limit, stream).map_err(Fault::Dialect)
    }
}

#[async_trait]
impl Provider for Anthropic {
    fn dialect(&self) -> Dialect {
        Dialect::Messages
    }

    async fn complete(
        &self,
        context: &CallContext,
        model: &str,
        request: &ChatRequest,
        _groundings: &[Grounding],
    ) -> Result<Value, Fault> {
        let answer = self.http.whole(context, &self.body(model, request, false)?).await?;
        match answer.get("content") {
            Some(Value::Array(_)) => Ok(answer),
            _ => Err(Fault::Provider("the answer has no content".to_owned())),
        }
    }

    async fn stream(
        &self,
        context: &CallContext,
        model: &str,
        request: &ChatRequest,
        _groundings: &[Grounding],
    ) -> Result<Chunks, Fault> {
        let events = self.http.events(context, &self.body(model, request, true)?).await?;
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
