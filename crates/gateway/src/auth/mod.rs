//! Who is asking.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::bail;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use types::{Caching, CallContext, ErrorKind, KeyId, Privacy, RequestId, TenantId, UserId};

use crate::config::Key;
use crate::{App, Error};

const PRIVACY: HeaderName = HeaderName::from_static("x-baton-privacy");
const CACHE: HeaderName = HeaderName::from_static("x-baton-cache");
/// Where clients of Anthropic's API put their key.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const USER: HeaderName = HeaderName::from_static("x-baton-user");

/// The configured keys by the hash of their secrets; others may take their place.
#[derive(Debug, Default)]
pub struct Keys(RwLock<Arc<ByHash>>);

type ByHash = BTreeMap<[u8; 32], Owner>;

#[derive(Debug, Clone)]
struct Owner {
    key: KeyId,
    tenant: TenantId,
    user: UserId,
    caching: Caching,
}

impl Keys {
    pub(crate) fn new(keys: &BTreeMap<String, Key>) -> anyhow::Result<Self> {
        let mut by_hash = BTreeMap::new();
        for (name, key) in keys {
            let secret = key.secret.expose_secret();
            if secret.len() < 20 {
                bail!(
                    "gateway.keys.{name}.secret has {} characters, at least 20 are needed",
                    secret.len()
                );
            }
            let owner = Owner {
                key: KeyId::new(name.clone())?,
                tenant: TenantId::new(key.tenant.clone())?,
                user: UserId::new(key.user.clone())?,
                caching: if key.cache { Caching::AsConfigured } else { Caching::Never },
            };
            if by_hash.insert(hash(secret), owner).is_some() {
                bail!("gateway.keys.{name}.secret is another key's too");
            }
        }
        Ok(Self(RwLock::new(Arc::new(by_hash))))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.now().is_empty()
    }

    /// Checks that `other` keys may take the place of these.
    ///
    /// # Errors
    /// If there are none where there were some: half a file must not let everybody in.
    pub fn allow(&self, other: &Self) -> anyhow::Result<()> {
        if other.is_empty() && !self.is_empty() {
            anyhow::bail!("gateway.keys: that the last key goes takes a restart");
        }
        Ok(())
    }

    /// Takes `other` keys for the requests that come from now on, which [`Keys::allow`] has checked.
    pub fn replace(&self, other: &Self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other.now();
    }

    fn now(&self) -> Arc<ByHash> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the context of a call by who sent `headers`: with keys the owner of the one shown,
    /// without any the user that they name, or `local`.
    fn owner(&self, headers: &HeaderMap) -> Result<CallContext, Error> {
        let keys = self.now();
        if keys.is_empty() {
            let user = text(headers, &USER)?.unwrap_or("local");
            return Ok(CallContext::new(TenantId::new("local")?, UserId::new(user)?));
        }
        let unknown = |message| Error::new(ErrorKind::Unauthenticated, message);
        let bearer = text(headers, &header::AUTHORIZATION)?;
        let bearer = bearer.and_then(|value| value.strip_prefix("Bearer "));
        let shown = bearer
            .or(text(headers, &API_KEY)?)
            .ok_or_else(|| unknown("send a key as Authorization: Bearer KEY or x-api-key: KEY"))?;
        let owner = keys.get(&hash(shown.trim())).ok_or_else(|| unknown("the key is unknown"))?;
        let mut context = CallContext::new(owner.tenant.clone(), owner.user.clone());
        (context.key, context.caching) = (Some(owner.key.clone()), owner.caching);
        Ok(context)
    }
}

/// Makes the call's context for the handler, or refuses.
pub(crate) async fn require(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, Error> {
    let headers = request.headers();
    let mut context = app.keys.owner(headers)?;
    if let Some(id) = request.extensions().get::<RequestId>() {
        context.request_id = id.clone();
    }
    context.privacy = match text(headers, &PRIVACY)? {
        None | Some("public") => Privacy::Public,
        Some("private") => Privacy::Private,
        Some(other) => {
            let fault = format!("x-baton-privacy: {other:?} is neither public nor private");
            return Err(Error::invalid(fault));
        }
    };
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
    Ok(next.run(request).await)
}

/// Without keys, refuses what a web page of another site could send through its visitor's browser.
pub(crate) async fn same_site(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    if app.keys.is_empty() {
        let headers = request.headers();
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
    Ok(next.run(request).await)
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

    fn key(secret: &str) -> anyhow::Result<Keys> {
        let (tenant, user) = ("t".to_owned(), "u".to_owned());
        let key = Key { secret: secret.into(), tenant, user, cache: true };
        Keys::new(&BTreeMap::from([("k".to_owned(), key)]))
    }

    #[test]
    fn a_short_key_is_refused() {
        assert!(key("sk-1234").is_err());
    }

    #[test]
    fn the_last_key_does_not_go_by_a_reload() {
        let (one, other) = (key(&"a1".repeat(16)).unwrap(), key(&"b2".repeat(16)).unwrap());
        let none = Keys::new(&BTreeMap::new()).unwrap();
        assert!(one.allow(&other).is_ok() && none.allow(&one).is_ok() && none.allow(&none).is_ok());
        assert!(one.allow(&none).is_err());
    }
}
