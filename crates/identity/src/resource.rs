//! What MCP clients are told of who gives tokens (RFC 9728, April 2025).

use serde_json::{Value, json};

use crate::Issuers;

/// A resource at an address whose path is `/mcp`, and who gives tokens for it.
#[derive(Debug, Clone)]
pub struct Resource {
    url: String,
    metadata_url: String,
    issuers: Vec<String>,
}

impl Resource {
    /// Where its metadata is served.
    pub const PATH: &str = "/.well-known/oauth-protected-resource/mcp";

    /// Describes the resource that clients reach at `url`, such as `https://baton.example.com/mcp`.
    ///
    /// # Errors
    /// If that is no such address; the message says what it is.
    pub fn new(url: &str, issuers: &Issuers) -> anyhow::Result<Self> {
        let uri = url.parse::<http::Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("https" | "http"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.path().ends_with("/mcp")
                && uri.query().is_none()
        });
        let told = || anyhow::anyhow!("{url:?} is none such as https://baton.example.com/mcp");
        let uri = uri.ok_or_else(told)?;
        let (scheme, authority) = uri.scheme_str().zip(uri.authority()).ok_or_else(told)?;
        let metadata_url = format!("{scheme}://{authority}{}", Self::PATH);
        let issuers = issuers.names().map(str::to_owned).collect();
        Ok(Self { url: url.to_owned(), metadata_url, issuers })
    }

    /// Returns its metadata.
    #[must_use]
    pub fn metadata(&self) -> Value {
        json!({
            "resource": self.url,
            "resource_name": "Baton",
            "authorization_servers": self.issuers,
            "bearer_methods_supported": ["header"],
        })
    }

    /// Returns what `WWW-Authenticate` says to a client that is not let in.
    #[must_use]
    pub fn challenge(&self) -> String {
        format!("Bearer resource_metadata=\"{}\"", self.metadata_url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_the_route() {
        let resource = |url: &str| Resource::new(url, &Issuers::default());
        for good in ["https://baton.example.com/mcp", "http://127.0.0.1:8000/mcp"] {
            assert!(resource(good).is_ok(), "{good}");
        }
        for wrong in ["baton.example.com/mcp", "https://h", "https://h/mcp?x=1", "ftp://h/mcp", ""]
        {
            assert!(resource(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            resource("https://h:8443/mcp").unwrap().challenge(),
            "Bearer resource_metadata=\"https://h:8443/.well-known/oauth-protected-resource/mcp\""
        );
    }
}
