//! How a provider is reached over HTTP, whatever it speaks.

pub(crate) mod jobs;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use egress::{Answer, Outgoing, Reach, Sent, Server};
use futures::{StreamExt as _, stream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use types::CallContext;
use url::{Position, Url};

use super::{Chunks, Fault, complaint};
use crate::config::{self, Timeouts};
use crate::sse::{BYTE_ORDER_MARK, Decoder};

/// The largest answer that is read whole.
pub(crate) const LARGEST: usize = 16 * 1024 * 1024;

/// How many models are taken from a list, and the longest name of one, in bytes.
const MOST_NAMES: usize = 1000;
const LONGEST_NAME: usize = 256;

pub(crate) struct Http {
    server: Server,
    /// Ends with a slash, so that a path joins it.
    base: Url,
    headers: HeaderMap,
    timeouts: Timeouts,
}

/// An answer whose headers have come.
struct Response {
    status: StatusCode,
    headers: HeaderMap,
    body: Answer,
    /// When all of it is to have come.
    until: Instant,
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
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(shown) = basic(&base)? {
            headers.entry(header::AUTHORIZATION).or_insert(shown);
        }
        let server = egress::server(reach, &base, Duration::from_millis(timeouts.connect_ms))
            .with_context(|| format!("router.providers.{name}.base_url"))?;
        Ok(Self { server, base, headers, timeouts: timeouts.clone() })
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
        let (request, sent) = self.post(path, JSON, body.to_string().into())?;
        let asked = within(context.time_left(patience), self.ask(request)).await;
        let asked = asked.and_then(|asked| asked.map_err(|fault| told(&fault)));
        let heard = asked.map_err(|fault| if sent.is_so() { fault.once_sent() } else { fault })?;
        self.good(context, heard).await
    }

    /// Prepares to post a body of a type to a path with its query, if it has one.
    fn post(
        &self,
        path: &str,
        kind: HeaderValue,
        body: Bytes,
    ) -> Result<(Request<Outgoing>, Sent), Fault> {
        let (body, sent) = Outgoing::new(body);
        let mut request = self.request(Method::POST, path, body)?;
        request.headers_mut().insert(header::CONTENT_TYPE, kind);
        Ok((request, sent))
    }

    fn get(&self, path: &str) -> Result<Request<Outgoing>, Fault> {
        self.request(Method::GET, path, Outgoing::default())
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Outgoing,
    ) -> Result<Request<Outgoing>, Fault> {
        let url = self.url(path);
        let request = Request::builder().method(method).uri(&url[Position::BeforePath..]);
        let mut request = request
            .body(body)
            .map_err(|fault| Fault::Provider(format!("{path:?} is no path: {fault}")))?;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
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

    async fn ask(&self, request: Request<Outgoing>) -> Result<Response, egress::Error> {
        let until = Instant::now() + Duration::from_millis(self.timeouts.total_ms);
        let (head, body) = self.server.send(request).await?.into_parts();
        Ok(Response { status: head.status, headers: head.headers, body, until })
    }

    /// Returns a response unless its status is a fault: it was not served then, and has no cost.
    async fn good(&self, context: &CallContext, response: Response) -> Result<Response, Fault> {
        let status = response.status;
        let kind = response.headers.get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) && status.is_success()
        {
            // Whoever shows pages was not asked, such as a network that wants to be signed in to.
            return Err(Fault::Provider("the answer is a web page".to_owned()));
        }
        if status.is_success() {
            return Ok(response);
        }
        let come_back = come_back(&response.headers);
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
        let response = self.ask(self.get(path)?).await.map_err(|fault| told(&fault))?;
        match response.status {
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

    /// Sends `body` and returns the whole answer, which may be anything.
    pub(crate) async fn whole(
        &self,
        context: &CallContext,
        path: &str,
        body: &Value,
    ) -> Result<Bytes, Fault> {
        let response = self.send(context, path, body, self.timeouts.answer()).await?;
        let (mut answer, wait) = (Vec::new(), context.time_left(self.timeouts.idle()));
        let read = read_into(&mut answer, response, wait).await;
        let answer = Bytes::from(answer);
        let marked = answer.starts_with(BYTE_ORDER_MARK);
        let answer = answer.slice(if marked { BYTE_ORDER_MARK.len() } else { 0 }..);
        read.map_err(|fault| fault.after(&answer)).map(|()| answer)
    }

    /// As [`Http::whole`], of an answer in JSON.
    pub(crate) async fn value(
        &self,
        context: &CallContext,
        path: &str,
        body: &Value,
    ) -> Result<Value, Fault> {
        value(&self.whole(context, path, body).await?)
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
        let kind = response.headers.get(header::CONTENT_TYPE);
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
        let state = Some((response, Decoder::default()));
        let events = stream::unfold(state, move |state| async move {
            let (mut response, mut decoder) = state?;
            let fault = |message: &str| Err(Fault::unheard(message));
            let silent = |_| Fault::unheard("the stream stalled");
            let come = match response.more(idle, silent).await {
                Err(broken) => return Some((vec![fault(&broken.to_string())], None)),
                Ok(None) => return Some((vec![fault("the stream ended early")], None)),
                Ok(Some(come)) => come,
            };
            let mut events = Vec::new();
            for bytes in come {
                let Some(whole) = decoder.push(&bytes) else {
                    events.push(fault("an event is too long"));
                    return Some((events, None));
                };
                events.extend(whole.into_iter().map(|event| Ok(Bytes::from(event))));
            }
            Some((events, Some((response, decoder))))
        });
        Ok(events.flat_map(stream::iter).boxed())
    }
}

impl Response {
    /// Waits for more of the body and returns all that has come by then; none at its end. What is
    /// `silent` for so long is given up, and so is what has had its time.
    async fn more(
        &mut self,
        wait: Duration,
        silent: impl FnOnce(Duration) -> Fault,
    ) -> Result<Option<Vec<Bytes>>, Fault> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            // Also when there is always more.
            return Err(Fault::Provider("timed out".to_owned()));
        }
        match tokio::time::timeout(wait.min(left), self.body.more()).await {
            Ok(come) => come.map_err(|fault| told(&fault)),
            Err(_) if left < wait => Err(Fault::Provider("timed out".to_owned())),
            Err(_) => Err(silent(wait)),
        }
    }
}

/// A body in JSON.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Returns the credentials that an address holds.
fn basic(url: &Url) -> anyhow::Result<Option<HeaderValue>> {
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    if user.is_empty() && password.is_empty() {
        return Ok(None);
    }
    let [user, password] =
        [user, password].map(|text| percent_encoding::percent_decode_str(text).collect::<Vec<_>>());
    let shown = BASE64_STANDARD.encode([&user[..], b":", &password].concat());
    let mut shown = HeaderValue::try_from(format!("Basic {shown}"))?;
    shown.set_sensitive(true);
    Ok(Some(shown))
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
async fn read_into(
    body: &mut Vec<u8>,
    mut response: Response,
    wait: Duration,
) -> Result<(), Fault> {
    while let Some(come) = response.more(wait, late).await? {
        come.iter().for_each(|part| body.extend_from_slice(part));
        if body.len() > LARGEST {
            return Err(Fault::Provider(too_large()));
        }
    }
    Ok(())
}

/// Reads a whole answer.
pub(crate) fn value(answer: &[u8]) -> Result<Value, Fault> {
    parsed(answer).map_err(|fault| fault.after(answer))
}

fn parsed(body: &[u8]) -> Result<Value, Fault> {
    serde_json::from_slice(body)
        .map_err(|fault| Fault::Provider(format!("the answer is not JSON: {fault}")))
}

pub(crate) fn too_large() -> String {
    format!("the answer has more than {LARGEST} bytes")
}

async fn within<T>(wait: Duration, work: impl Future<Output = T>) -> Result<T, Fault> {
    tokio::time::timeout(wait, work).await.map_err(|_| late(wait))
}

fn late(wait: Duration) -> Fault {
    Fault::Provider(format!("no answer within {} ms", wait.as_millis()))
}

/// What is said when nobody listens at an address.
pub(crate) const NOBODY: &str = "cannot connect";

/// Says what went wrong without the address, which is nobody's business but the operator's.
fn told(fault: &egress::Error) -> Fault {
    tracing::debug!(?fault, "a provider failed");
    match fault {
        fault if egress::is_out_of_reach(fault) => {
            let message = "its tier is for local addresses, and its own is not one";
            Fault::Provider(message.to_owned())
        }
        egress::Error::Late(_) => Fault::Provider(NOBODY.to_owned()),
        egress::Error::Connect(_) => Fault::Down(NOBODY.to_owned()),
        egress::Error::Broken(_) => Fault::Down("the connection broke".to_owned()),
    }
}
