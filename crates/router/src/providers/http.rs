//! How a provider is reached over HTTP, whatever it speaks.

pub(crate) mod jobs;
mod sent;

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use egress::Reach;
use futures::{StreamExt as _, stream};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, Url};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use types::CallContext;

use self::sent::Sent;
use super::{Chunks, Fault, complaint};
use crate::config::{self, Timeouts};
use crate::sse::{BYTE_ORDER_MARK, Decoder};

/// The largest answer that is read whole.
pub(crate) const LARGEST: usize = 16 * 1024 * 1024;

/// How many models are taken from a list, and the longest name of one, in bytes.
const MOST_NAMES: usize = 1000;
const LONGEST_NAME: usize = 256;

pub(crate) struct Http {
    client: Client,
    /// Ends with a slash, so that a path joins it.
    base: Url,
    headers: HeaderMap,
    timeouts: Timeouts,
}

impl Http {
    /// Prepares to post below the provider's address, with its key as header `key`.
    pub(crate) fn new(
        name: &str,
        provider: &config::Provider,
        timeouts: &Timeouts,
        reach: Reach,
        key: HeaderName,
    ) -> anyhow::Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(secret) = &provider.api_key {
            let secret = secret.expose_secret();
            let shown = match key == header::AUTHORIZATION {
                true => format!("Bearer {secret}"),
                false => secret.to_owned(),
            };
            let mut shown = HeaderValue::try_from(shown).with_context(|| {
                format!("router.providers.{name}.api_key: not a header's value")
            })?;
            shown.set_sensitive(true);
            headers.insert(key, shown);
        }
        let base = format!("{}/", provider.base_url.trim_end_matches('/'));
        let base = Url::parse(&base).with_context(|| {
            format!("router.providers.{name}.base_url: {:?}", provider.base_url)
        })?;
        reach.check(&base).with_context(|| {
            format!("router.providers.{name}: tier {} is for local addresses", provider.tier)
        })?;
        let client = egress::client(reach)
            .connect_timeout(Duration::from_millis(timeouts.connect_ms))
            .timeout(Duration::from_millis(timeouts.total_ms))
            .build()?;
        Ok(Self { client, base, headers, timeouts: timeouts.clone() })
    }

    /// Adds a header to every request.
    pub(crate) fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(name, HeaderValue::from_static(value));
        self
    }

    async fn send(
        &self,
        context: &CallContext,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> Result<Response, Fault> {
        let (body, sent) = Sent::new(body.to_string().into());
        let json = HeaderValue::from_static("application/json");
        let request =
            self.request(Method::POST, path).header(header::CONTENT_TYPE, json).body(body);
        let asked = within(context.time_left(patience), request.send()).await;
        let asked = asked.and_then(|asked| asked.map_err(|fault| told(&fault)));
        let heard = asked.map_err(|fault| if sent.is_so() { fault.once_sent() } else { fault })?;
        self.good(context, heard).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).headers(self.headers.clone())
    }

    /// Returns the address of a path with its query, if it has one. The host is not read anew, which
    /// takes longer than all the rest.
    fn url(&self, path: &str) -> Url {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, q)| (path, Some(q)));
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url.set_query(query);
        url
    }

    /// Returns a response unless its status is a fault: it was not served then, and has no cost.
    async fn good(&self, context: &CallContext, response: Response) -> Result<Response, Fault> {
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) && status.is_success()
        {
            // Whoever shows pages was not asked, such as a network that wants to be signed in to.
            return Err(Fault::Provider("the answer is a web page".to_owned()));
        }
        if status.is_success() {
            return Ok(response);
        }
        let come_back = come_back(response.headers());
        let text = read(response, context.time_left(self.timeouts.idle())).await;
        let text = text.unwrap_or_default();
        let error: Value = serde_json::from_slice(&text).unwrap_or_default();
        let message = complaint(&error).unwrap_or_default();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            // It is about the operator's account, and may quote the key.
            tracing::error!(%status, message, "a provider refused its credentials");
            let told = format!("the provider refused our credentials ({})", status.as_u16());
            return Err(Fault::Provider(told));
        }
        let message = format!("{} {message}", status.as_u16());
        let refused = matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::PAYLOAD_TOO_LARGE
                | StatusCode::UNPROCESSABLE_ENTITY
        );
        Err(match (refused, come_back) {
            (true, _) => {
                Fault::Request(format!("the provider refused the request: {}", message.trim()))
            }
            (false, Some(after)) => Fault::Busy { message: message.trim().to_owned(), after },
            (false, None) if is_for_the_moment(status) => Fault::Down(message.trim().to_owned()),
            (false, None) => Fault::Provider(message.trim().to_owned()),
        })
    }

    /// Returns what each entry of the list `list` at `path` calls its `name`. Says of a refusal no
    /// more than its status, because a provider may quote the key.
    pub(crate) async fn names(
        &self,
        path: &str,
        list: &str,
        name: &str,
    ) -> Result<Vec<String>, Fault> {
        let sent = self.request(Method::GET, path).send();
        let response = sent.await.map_err(|fault| told(&fault))?;
        match response.status() {
            status if status.is_success() => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(Fault::Provider(format!("the key was refused ({})", status.as_u16())));
            }
            status => return Err(Fault::Provider(format!("status {}", status.as_u16()))),
        }
        let answer = read(response, self.timeouts.idle()).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let entries = match answer.get(list) {
            // What Ollama says without any.
            Some(Value::Null) => &[],
            Some(Value::Array(entries)) => entries.as_slice(),
            _ => return Err(Fault::Provider("the answer is no list of models".to_owned())),
        };
        let good = |name: &&str| {
            (1..=LONGEST_NAME).contains(&name.len()) && !name.contains(char::is_control)
        };
        let names = entries.iter().filter_map(|entry| entry.get(name)?.as_str()).filter(good);
        Ok(names.take(MOST_NAMES).map(str::to_owned).collect())
    }

    /// Sends `body` and returns the whole answer.
    pub(crate) async fn whole(
        &self,
        context: &CallContext,
        path: &str,
        body: &Value,
    ) -> Result<Value, Fault> {
        let response = self.send(context, path, body, self.timeouts.answer()).await?;
        let (mut answer, wait) = (Vec::new(), context.time_left(self.timeouts.idle()));
        let read = read_into(&mut answer, response, wait).await;
        let bytes = answer.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&answer);
        read.and_then(|()| parsed(bytes)).map_err(|fault| fault.after(bytes))
    }

    /// Sends `body` and returns the data of the events that come; the end of the connection is a
    /// fault, because a stream says itself when it is whole.
    pub(crate) async fn events(
        &self,
        context: &CallContext,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> Result<Chunks, Fault> {
        let response = self.send(context, path, body, patience).await?;
        let idle = self.timeouts.idle();
        let kind = response.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
            // No stream: there are servers that tell their errors so, as if all were well.
            let mut body = Vec::new();
            let read = read_into(&mut body, response, context.time_left(idle)).await;
            read.map_err(|fault| fault.after(&body))?;
            return Err(match Fault::without(&parsed(&body).unwrap_or_default(), "events") {
                fault @ Fault::Provider(_) => fault,
                fault => fault.after(&body),
            });
        }
        let bytes = response.bytes_stream().boxed();
        let events = stream::unfold(Some((bytes, Decoder::default())), move |state| async move {
            let (mut bytes, mut decoder) = state?;
            let fault = |message: &str| vec![Err(Fault::unheard(message))];
            let read = match tokio::time::timeout(idle, bytes.next()).await {
                Err(_) => return Some((fault("the stream stalled"), None)),
                Ok(None) => return Some((fault("the stream ended early"), None)),
                Ok(Some(Err(broken))) => return Some((fault(&told(&broken).to_string()), None)),
                Ok(Some(Ok(read))) => read,
            };
            let Some(events) = decoder.push(&read) else {
                return Some((fault("an event is too long"), None));
            };
            let events = events.into_iter().map(|event| Ok(Bytes::from(event))).collect();
            Some((events, Some((bytes, decoder))))
        });
        Ok(events.flat_map(stream::iter).boxed())
    }
}

fn is_for_the_moment(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// Reads when to come back, in seconds; a date says too little about whose clock it was.
fn come_back(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

async fn read(response: Response, wait: Duration) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    read_into(&mut body, response, wait).await?;
    Ok(body)
}

/// Reads a body; `body` has what came of it also when it fails.
async fn read_into(body: &mut Vec<u8>, response: Response, wait: Duration) -> Result<(), Fault> {
    let mut bytes = response.bytes_stream();
    while let Some(part) = within(wait, bytes.next()).await? {
        body.extend_from_slice(&part.map_err(|fault| told(&fault))?);
        if body.len() > LARGEST {
            return Err(Fault::Provider(too_large()));
        }
    }
    Ok(())
}

fn parsed(body: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(body)
        .map_err(|fault| Fault::Provider(format!("the answer is not JSON: {fault}")))
}

pub(crate) fn too_large() -> String {
    format!("the answer has more than {LARGEST} bytes")
}

async fn within<T>(wait: Duration, work: impl Future<Output = T>) -> Result<T, Fault> {
    let late = |_| Fault::Provider(format!("no answer within {} ms", wait.as_millis()));
    tokio::time::timeout(wait, work).await.map_err(late)
}

/// What is said when nobody listens at an address.
pub(crate) const NOBODY: &str = "cannot connect";

/// Says what went wrong without the address, which is nobody's business but the operator's.
fn told(fault: &reqwest::Error) -> Fault {
    let message = match fault {
        fault if egress::is_out_of_reach(fault) => {
            "its tier is for local addresses, and its own is not one"
        }
        fault if fault.is_connect() => NOBODY,
        fault if fault.is_timeout() => "timed out",
        _ => "the connection broke",
    };
    tracing::debug!(?fault, "a provider failed");
    match fault.is_timeout() || egress::is_out_of_reach(fault) {
        true => Fault::Provider(message.to_owned()),
        false => Fault::Down(message.to_owned()),
    }
}
