//! What MCP clients are told of who gives tokens for the gateway (RFC 9728, April 2025).

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};
use types::ErrorKind;

use crate::{App, Error};

const PATH: &str = "/.well-known/oauth-protected-resource/mcp";

/// Says which identity providers' tokens are taken at `/mcp`, where the operator says how it is reached.
#[utoipa::path(get, operation_id = "mcp_authorization",
    path = "/.well-known/oauth-protected-resource/mcp", tag = "tools",
    responses((status = 200, description = "Metadata of a protected resource, as RFC 9728 has it"),
        (status = 404, description = "No tokens are taken, or gateway.mcp_url is not set")))]
pub(crate) async fn protected(State(app): State<App>) -> Result<Json<Value>, Error> {
    let issuers: Vec<_> = app.config.jwt.values().map(|one| one.issuer.as_str()).collect();
    match &app.config.mcp_url {
        Some(url) if !issuers.is_empty() => Ok(Json(json!({
            "resource": url,
            "resource_name": "Baton",
            "authorization_servers": issuers,
            "bearer_methods_supported": ["header"],
        }))),
        _ => Err(Error::new(ErrorKind::NotFound, "no identity provider's tokens are taken")),
    }
}

/// Tells a client that is not let in at `/mcp` where it learns who gives tokens.
pub(crate) fn challenge(app: &App, path: &str, mut response: Response) -> Response {
    let mcp = path == "/mcp" || path.starts_with("/mcp/");
    if mcp
        && response.status() == StatusCode::UNAUTHORIZED
        && !app.config.jwt.is_empty()
        && let Some(place) = app.config.mcp_url.as_deref().and_then(place)
        && let Ok(value) = HeaderValue::from_str(&format!("Bearer resource_metadata=\"{place}\""))
    {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

/// Returns where the metadata of the resource at `url` is.
fn place(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split('/').next()?;
    Some(format!("{scheme}://{host}{PATH}"))
}

/// Checks where `/mcp` is said to be reached.
///
/// # Errors
/// If it is not such an address.
pub(crate) fn check(url: &str) -> anyhow::Result<()> {
    let uri = url.parse::<axum::http::Uri>().ok();
    let good = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("https" | "http"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.path().ends_with("/mcp")
            && uri.query().is_none()
    });
    anyhow::ensure!(good, "gateway.mcp_url: {url:?} is none such as https://baton.example.com/mcp");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_of_the_route() {
        for good in ["https://baton.example.com/mcp", "http://127.0.0.1:8000/mcp"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for wrong in ["baton.example.com/mcp", "https://h", "https://h/mcp?x=1", "ftp://h/mcp", ""]
        {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            place("https://h:8443/mcp").unwrap(),
            "https://h:8443/.well-known/oauth-protected-resource/mcp"
        );
    }
}
