//! Any server that speaks OpenAI's chat completions.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use proto::router::Grounding;
use reqwest::{Client, Response, StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use types::CallContext;

use super::{Chunks, Fault, Provider};
use crate::config::{self, Timeouts};
use crate::request::ChatRequest;
use crate::sse::Decoder;

/// The largest answer that is read whole.
const LARGEST: usize = 16 * 1024 * 1024;

pub(crate) struct Http {
    client: Client,
    url: Url,
    key: Option<SecretString>,
    timeouts: Timeouts,
}

impl Http {
    pub(crate) fn new(
        name: &str,
        provider: &config::Provider,
        timeouts: &Timeouts,
    ) -> anyhow::Result<Self> {
        runtime::http::use_ring();
        let address = format!("{}/chat/completions", provider.base_url.trim_end_matches('/'));
        let url = Url::parse(&address).with_context(|| {
            format!("router.providers.{name}.base_url: {:?}", provider.base_url)
        })?;
        let client = Client::builder()
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_millis(timeouts.connect_ms))
            .timeout(Duration::from_millis(timeouts.total_ms))
            // A redirect could lead a private call elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, url, key: provider.api_key.clone(), timeouts: timeouts.clone() })
    }

    async fn send(&self, context: &CallContext, body: Value) -> Result<Response, Fault> {
        let mut request = self.client.post(self.url.clone()).json(&body);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let wait = context.time_left(self.timeouts.first_token());
        let response = within(wait, request.send()).await?.map_err(|fault| told(&fault))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = read(response, wait).await.unwrap_or_default();
        let error: Value = serde_json::from_slice(&text).unwrap_or_default();
        let message =
            error.pointer("/error/message").or(error.get("error")).and_then(Value::as_str);
        let message = format!("{} {}", status.as_u16(), message.unwrap_or_default());
        let refused = matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY
        );
        Err(match refused {
            true => Fault::Request(format!("the provider refused the request: {}", message.trim())),
            false => Fault::Provider(message.trim().to_owned()),
        })
    }
}

#[async_trait]
impl Provider for Http {
    async fn complete(
        &self,
        context: &CallContext,
        model: &str,
        request: &ChatRequest,
        _groundings: &[Grounding],
    ) -> Result<Value, Fault> {
        let response = self.send(context, request.for_provider(model, false)).await?;
        let body = read(response, context.time_left(self.timeouts.idle())).await?;
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|fault| Fault::Provider(format!("the answer is not JSON: {fault}")))?;
        match answer.get("choices").and_then(Value::as_array) {
            Some(choices) if !choices.is_empty() => Ok(answer),
            _ => Err(Fault::Provider("the answer has no choices".to_owned())),
        }
    }

    async fn stream(
        &self,
        context: &CallContext,
        model: &str,
        request: &ChatRequest,
        _groundings: &[Grounding],
    ) -> Result<Chunks, Fault> {
        let response = self.send(context, request.for_provider(model, true)).await?;
        let idle = self.timeouts.idle();
        let bytes = response.bytes_stream().boxed();
        let events = stream::unfold(Some((bytes, Decoder::default())), move |state| async move {
            let (mut bytes, mut decoder) = state?;
            let early = || vec![Err(Fault::Provider("the stream ended early".to_owned()))];
            let read = match tokio::time::timeout(idle, bytes.next()).await {
                Err(_) => {
                    return Some((
                        vec![Err(Fault::Provider("the stream stalled".to_owned()))],
                        None,
                    ));
                }
                Ok(None) => return Some((early(), None)),
                Ok(Some(Err(fault))) => return Some((vec![Err(told(&fault))], None)),
                Ok(Some(Ok(read))) => read,
            };
            let Some(events) = decoder.push(&read) else {
                return Some((vec![Err(Fault::Provider("an event is too long".to_owned()))], None));
            };
            let done = events.iter().position(|event| event == b"[DONE]");
            let whole = events.into_iter().take(done.unwrap_or(usize::MAX));
            let chunks = whole.map(|event| Ok(Bytes::from(event))).collect();
            Some((chunks, done.is_none().then_some((bytes, decoder))))
        });
        Ok(events.flat_map(stream::iter).boxed())
    }
}

async fn read(response: Response, wait: Duration) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    let mut bytes = response.bytes_stream();
    while let Some(part) = within(wait, bytes.next()).await? {
        body.extend_from_slice(&part.map_err(|fault| told(&fault))?);
        if body.len() > LARGEST {
            return Err(Fault::Provider(format!("the answer has more than {LARGEST} bytes")));
        }
    }
    Ok(body)
}

async fn within<T>(wait: Duration, work: impl Future<Output = T>) -> Result<T, Fault> {
    let late = |_| Fault::Provider(format!("no answer within {} ms", wait.as_millis()));
    tokio::time::timeout(wait, work).await.map_err(late)
}

/// Says what went wrong without the address, which is nobody's business but the operator's.
fn told(fault: &reqwest::Error) -> Fault {
    let message = match fault {
        fault if fault.is_connect() => "cannot connect",
        fault if fault.is_timeout() => "timed out",
        _ => "the connection broke",
    };
    tracing::debug!(?fault, "a provider failed");
    Fault::Provider(message.to_owned())
}
