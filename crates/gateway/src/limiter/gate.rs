//! Where requests are admitted or refused, and told how they stand.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{FromRequest as _, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http_body::{Frame, SizeHint};
use types::ErrorKind;

use super::ticket::Ticket;
use super::{Ask, Limiter, Seen, Used, Verdict, Wanted, address, scopes, tokens};
use crate::auth::Grant;
use crate::{App, Config, Error};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
// draft-ietf-httpapi-ratelimit-headers-10, 2025-09-27.
const STANDS: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// More of anything is as much: Redis counts to this without rounding.
pub(super) const MOST: u64 = 1 << 53;

/// Takes of every limit that a request is under, or refuses it; [`crate::auth::require`] comes before.
pub(crate) async fn admit(
    app: &App,
    route: &str,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let Some(grant) = request.extensions().get::<Arc<Grant>>() else {
        return Err(Error::new(ErrorKind::Internal, "nobody asks"));
    };
    let client = address::of(&request, &app.config.trusted_proxies);
    let mut ask = scopes::ask(&app.config, grant, client, route);
    if ask.windows.is_empty() && ask.leases.is_empty() {
        return Ok(next.run(request).await);
    }
    let request = match ask.windows.iter().any(Wanted::is_tokens) {
        false => request,
        true => estimated(app, request, &mut ask, route).await?,
    };
    let (verdict, ticket) = app.limiter.decide(ask.clone()).await;
    let Some(ticket) = ticket else {
        let mut response = refusal(&ask, &verdict).into_response();
        tell(response.headers_mut(), &ask, &verdict);
        return Ok(response);
    };
    let mut response = next.run(request).await;
    tell(response.headers_mut(), &ask, &verdict);
    Ok(holding(response, ticket))
}

/// Takes one of an address's failures; refuses an address that has no more.
///
/// # Errors
/// When there were too many: nobody is heard from there for a while.
pub(crate) async fn failed(
    limiter: &Arc<Limiter>,
    config: &Config,
    client: IpAddr,
) -> Result<(), Error> {
    let ask = scopes::failure(config, client);
    if ask.windows.is_empty() {
        return Ok(());
    }
    let (verdict, ticket) = limiter.decide(ask).await;
    if ticket.is_some() {
        return Ok(());
    }
    limiter.bar(address::network(client), wait_ms(&verdict));
    heard(limiter, client)
}

/// Checks that an address may show a credential.
///
/// # Errors
/// If too many were none.
pub(crate) fn heard(limiter: &Limiter, client: IpAddr) -> Result<(), Error> {
    match limiter.is_barred(address::network(client)) {
        None => Ok(()),
        Some(left) => {
            let fault = "too many credentials from this address were none";
            let seconds = seconds(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            Err(Error::new(ErrorKind::RateLimited, fault).back_after(seconds))
        }
    }
}

/// Reads the body, to know about how many tokens it takes.
async fn estimated(
    app: &App,
    request: Request,
    ask: &mut Ask,
    route: &str,
) -> Result<Request, Error> {
    let (parts, body) = request.into_parts();
    let mut held = Request::new(body);
    *held.extensions_mut() = parts.extensions.clone();
    let read = Bytes::from_request(held, app).await;
    let body = read.map_err(|fault| Error::with_status(fault.status(), fault.body_text()))?;
    let cost = tokens::estimate(route, &body);
    for wanted in ask.windows.iter_mut().filter(|wanted| wanted.is_tokens()) {
        wanted.cost = cost.min(MOST);
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

fn refusal(ask: &Ask, verdict: &Verdict) -> Error {
    let mut full = String::new();
    let windows = ask.windows.iter().zip(&verdict.windows);
    for (wanted, _) in windows.filter(|(_, seen)| seen.wait_ms != Some(0)) {
        let what = if wanted.is_tokens() { "tokens" } else { "requests" };
        let (limit, span) = (wanted.limit, Duration::from_millis(wanted.window_ms));
        // Writing into a String cannot fail.
        let _ = write!(full, ", {limit} {what} in {span:?} ({})", wanted.policy);
    }
    let leases = ask.leases.iter().zip(&verdict.free);
    for (lease, _) in leases.filter(|(_, free)| **free == 0) {
        let _ = write!(full, ", {} requests at once ({})", lease.limit, lease.policy);
    }
    let seconds = seconds(wait_ms(verdict));
    let full = full.trim_start_matches(", ");
    let fault = format!("the limit is reached: {full}; try again in {seconds} s");
    Error::new(ErrorKind::RateLimited, fault).back_after(seconds)
}

/// Returns when all windows have room; a second where nobody knows.
fn wait_ms(verdict: &Verdict) -> u64 {
    let waits = verdict.windows.iter().map(|seen| seen.wait_ms.unwrap_or(1000));
    waits.max().filter(|ms| *ms > 0).unwrap_or(1000)
}

fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

/// Tells how the limit stands that is nearest to its end, and which there are.
fn tell(headers: &mut HeaderMap, ask: &Ask, verdict: &Verdict) {
    let mut policies = String::new();
    for wanted in &ask.windows {
        let unit = if wanted.is_tokens() { ";qu=\"tokens\"" } else { "" };
        let (name, limit) = (wanted.policy, wanted.limit);
        let _ =
            write!(policies, ", \"{name}\";q={limit};w={}{unit}", wanted.window_ms.div_ceil(1000));
    }
    for lease in &ask.leases {
        let (name, limit) = (lease.policy, lease.limit);
        let _ = write!(policies, ", \"{name}\";q={limit};qu=\"concurrent-requests\"");
    }
    put(headers, POLICY, policies.trim_start_matches(", "));
    let left = |seen: &Seen| match verdict.admitted {
        true => seen.left.saturating_sub(seen.cost),
        false => seen.left,
    };
    let windows = ask.windows.iter().zip(&verdict.windows);
    // In millionths of the limit, and what refuses before what does not.
    let nearness = |wanted: &Wanted, seen: &Seen| {
        let part = u128::from(left(seen)) * 1_000_000 / u128::from(wanted.limit.max(1));
        (seen.wait_ms == Some(0), part)
    };
    let Some((wanted, seen)) = windows.min_by_key(|(wanted, seen)| nearness(wanted, seen)) else {
        return;
    };
    let left = left(seen);
    // An empty window that a request was just taken from is free when that is over.
    let reset_ms = match verdict.admitted {
        true => wanted.window_ms,
        false => seen.reset_ms,
    };
    let reset = u64::from(seconds(reset_ms));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    put(headers, LIMIT, &wanted.limit.to_string());
    put(headers, REMAINING, &left.to_string());
    put(headers, RESET, &(now + reset).to_string());
    put(headers, STANDS, &format!("\"{}\";r={left};t={reset}", wanted.policy));
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Keeps a ticket until a response's body is over, or dropped.
fn holding(mut response: Response, mut ticket: Ticket) -> Response {
    match response.extensions_mut().remove::<Used>() {
        Some(used) => ticket.expect(used),
        // Some of those who were asked may have served it.
        None if response.status().is_server_error() => {}
        None => ticket.expect(Used::known(0, 0)),
    }
    match ticket.is_held() {
        false => response,
        true => response.map(|body| Body::new(Held { body, ticket: Some(ticket) })),
    }
}

struct Held {
    body: Body,
    ticket: Option<Ticket>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) {
            self.ticket = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
