//! Who is asking.

mod configured;
mod grant;
mod kept;
mod roles;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{RawPathParams, Request};
use axum::http::{HeaderMap, HeaderName, header};
use identity::Issuers;
use sha2::{Digest as _, Sha256};
use types::{Caching, Classify as _, ErrorKind, Privacy, RequestId, Role, TenantId, UserId};

pub use self::configured::Keys;
pub(crate) use self::grant::{Grant, Rates};
pub(crate) use self::kept::Kept;
pub(crate) use self::roles::is_route;
use crate::{App, Error, limiter};

const PRIVACY: HeaderName = HeaderName::from_static("x-baton-privacy");
const CACHE: HeaderName = HeaderName::from_static("x-baton-cache");
/// Where clients of Anthropic's API put their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const USER: HeaderName = HeaderName::from_static("x-baton-user");

/// Returns whom the headers' credential stands for. Where nobody needs one, whoever shows none is an
/// admin of tenant `local`, by the user's name that they give; a key of ours counts there too.
async fn who(app: &App, headers: &HeaderMap, shown: Option<&str>) -> Result<Arc<Grant>, Error> {
    if let Some(grant) = shown.and_then(|secret| app.keys.find(secret)) {
        return Ok(grant);
    }
    match shown.filter(|secret| Kept::is_one(secret)) {
        Some(secret) => app.kept.find(secret).await,
        None if shown.is_some_and(|secret| !app.issuers.is_empty() && Issuers::is_one(secret)) => {
            Ok(Arc::new(app.issuers.find(shown.unwrap_or_default()).await?.into()))
        }
        None if app.is_open() => {
            let user = UserId::new(text(headers, &USER)?.unwrap_or("local"))?;
            let grant = Grant::new(TenantId::new("local")?, user, Role::Admin);
            Ok(Arc::new(Grant { runs_it: true, ..grant }))
        }
        None => Err(Error::new(
            ErrorKind::Unauthenticated,
            match shown {
                Some(_) => "the key is unknown",
                None => "send a key as Authorization: Bearer KEY or x-api-key: KEY",
            },
        )),
    }
}

/// Returns the credential that the headers show.
fn shown(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let bearer = text(headers, &header::AUTHORIZATION)?;
    let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
    Ok(bearer.or(text(headers, &API_KEY)?).map(str::trim))
}

/// Credentials that were good, each with where it came from.
pub(crate) type Familiar = moka::sync::Cache<(IpAddr, [u8; 32]), ()>;

/// How many of them are remembered.
pub(crate) const FAMILIAR: u64 = 10_000;

/// As [`who`]; an address that shows too many credentials that are none is not heard for a while, but
/// for those that were good there before. So nobody learns by guessing, and nobody is kept out by the
/// guesses of others.
async fn known(
    app: &App,
    headers: &HeaderMap,
    client: Option<IpAddr>,
) -> Result<Arc<Grant>, Error> {
    let shown = shown(headers)?;
    let Some(client) = client else { return who(app, headers, shown).await };
    let credential = shown.map(|secret| (limiter::network(client), hash(secret)));
    let is_familiar = credential.is_some_and(|known| app.familiar.contains_key(&known));
    if !is_familiar {
        limiter::heard(&app.limiter, client)?;
    }
    let found = who(app, headers, shown).await;
    if let (Ok(_), Some(good), false) = (&found, credential, is_familiar) {
        app.familiar.insert(good, ());
    }
    if found.as_ref().is_err_and(|fault| fault.kind() == ErrorKind::Unauthenticated) {
        limiter::failed(&app.limiter, &app.config, client).await?;
    }
    found
}

/// Returns the request with its call's context, or refuses: whoever is not known, and whoever may not.
pub(crate) async fn require(
    app: &App,
    route: &str,
    named: Option<RawPathParams>,
    mut request: Request,
) -> Result<Request, Error> {
    let client = limiter::client_of(&request, &app.config.trusted_proxies);
    let headers = request.headers();
    let grant = known(app, headers, client).await?;
    let right = roles::right(request.method(), route);
    let named = named.as_ref().and_then(|named| named.iter().next()).map(|(_, value)| value);
    roles::check(&grant, right, named)?;
    let id = request.extensions().get::<RequestId>();
    let mut context = grant.context(id.cloned().unwrap_or_else(RequestId::generate));
    context.privacy = context.privacy.raised_to(match text(headers, &PRIVACY)? {
        None | Some("public") => Privacy::Public,
        Some("private") => Privacy::Private,
        Some(other) => {
            let fault = format!("x-baton-privacy: {other:?} is neither public nor private");
            return Err(Error::invalid(fault));
        }
    });
    context.caching = match text(headers, &CACHE)? {
        None => context.caching,
        Some("off") => Caching::Never,
        // What the key forbids, the call cannot ask for.
        Some("on") if context.caching == Caching::Never => Caching::Never,
        Some("on") => Caching::Asked,
        Some(other) => {
            return Err(Error::invalid(format!("x-baton-cache: {other:?} is neither on nor off")));
        }
    };
    // What does not say that it is public is told to nobody elsewhere.
    tracing::Span::current().record(runtime::spans::PRIVACY, context.privacy.as_str());
    let idempotency = HeaderName::from_static("idempotency-key");
    context.idempotency_key = text(headers, &idempotency)?.map(str::to_owned);
    context.deadline = Some(Instant::now() + Duration::from_millis(app.config.request_timeout_ms));
    request.extensions_mut().insert(context);
    request.extensions_mut().insert(grant);
    Ok(request)
}

/// Without keys, refuses what a web page of another site could send through its visitor's browser.
pub(crate) fn same_site(app: &App, headers: &HeaderMap) -> Result<(), Error> {
    if app.is_open() {
        let allowed =
            |host: &str| is_loopback(host) || app.config.allowed_hosts.iter().any(|h| h == host);
        let host = text(headers, &header::HOST)?.map(host_of);
        if !host.is_some_and(allowed) {
            let fault = format!("host {:?} is not allowed without a key", host.unwrap_or_default());
            return Err(Error::new(ErrorKind::Denied, fault));
        }
        if let Some(origin) = text(headers, &header::ORIGIN)? {
            let host = origin.split_once("://").map_or("", |(_, rest)| host_of(rest));
            if !allowed(host) {
                let fault = format!("origin {origin:?} is not allowed without a key");
                return Err(Error::new(ErrorKind::Denied, fault));
            }
        }
    }
    Ok(())
}

fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Error> {
    let value = headers.get(name).map(|value| std::str::from_utf8(value.as_bytes()));
    value.transpose().map_err(|_| Error::invalid(format!("header {name} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_ports() {
        for (authority, host) in
            [("localhost:8000", "localhost"), ("[::1]:80", "::1"), ("127.0.0.1", "127.0.0.1")]
        {
            assert_eq!(host_of(authority), host);
            assert!(is_loopback(host), "{host}");
        }
        assert!(!is_loopback("127.0.0.1.example.com"));
    }
}
