//! Whose memory a call is about.

use ring::digest::{SHA256, digest};
use rmcp::RoleServer;
use rmcp::service::RequestContext;
use secrecy::{ExposeSecret as _, SecretString};
use types::TenantId;

use crate::Error;

/// The header that says it.
const HEADER: &str = "x-baton-tenant";

/// Who may say whose memory a call is about.
#[derive(Debug, Clone)]
pub(crate) struct Tenants {
    /// Of whom it is where no header says it.
    pub(crate) own: TenantId,
    /// What a header's sender has to show; nobody may send one when absent.
    pub(crate) token: Option<SecretString>,
}

impl Tenants {
    /// Returns the tenant of a call. Over standard input and output, and without a token, that is
    /// the configured one; with a token, the one that the header names.
    pub(crate) fn of(&self, context: &RequestContext<RoleServer>) -> Result<TenantId, Error> {
        match context.extensions.get::<http::request::Parts>() {
            Some(request) => self.named(&request.headers),
            None => Ok(self.own.clone()),
        }
    }

    fn named(&self, headers: &http::HeaderMap) -> Result<TenantId, Error> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let Some(token) = &self.token else {
            return match headers.contains_key(HEADER) {
                true => Err(Error::Denied(
                    "x-baton-tenant is believed nobody: mcp_memory.bridge_token is not set",
                )),
                false => Ok(self.own.clone()),
            };
        };
        let hash = |text: &str| digest(&SHA256, text.as_bytes()).as_ref().to_vec();
        let shown = text("authorization").and_then(|shown| shown.strip_prefix("Bearer "));
        if shown.map(hash) != Some(hash(token.expose_secret())) {
            return Err(Error::Denied("the bearer token is missing or wrong"));
        }
        if headers.get_all(HEADER).iter().count() != 1 {
            return Err(Error::Denied("x-baton-tenant has to be there, once"));
        }
        let named = text(HEADER).unwrap_or_default();
        TenantId::new(named).map_err(|fault| Error::Invalid(format!("x-baton-tenant: {fault}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> http::HeaderMap {
        let header = |(name, value): &(&'static str, &'static str)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        };
        all.iter().map(header).collect()
    }

    #[test]
    fn a_header_is_believed_who_shows_the_token_alone() {
        let own = TenantId::new("local").unwrap();
        let open = Tenants { own: own.clone(), token: None };
        assert_eq!(open.named(&headers(&[])).unwrap().as_str(), "local");
        assert!(open.named(&headers(&[(HEADER, "acme")])).is_err());

        let closed = Tenants { own, token: Some("a-token".into()) };
        let right = ("authorization", "Bearer a-token");
        assert_eq!(closed.named(&headers(&[right, (HEADER, "acme")])).unwrap().as_str(), "acme");
        for wrong in [
            &[][..],
            &[(HEADER, "acme")],
            &[right],
            &[right, (HEADER, "")],
            &[("authorization", "Bearer a-toke"), (HEADER, "acme")],
            &[("authorization", "Basic a-token"), (HEADER, "acme")],
        ] {
            assert!(closed.named(&headers(wrong)).is_err(), "{wrong:?}");
        }
        let mut twice = headers(&[right, (HEADER, "acme")]);
        twice.append(HEADER, http::HeaderValue::from_static("other"));
        assert!(closed.named(&twice).is_err());
    }
}
