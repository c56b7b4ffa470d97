//! A server at an address.

use std::borrow::Cow;
use std::collections::HashMap;
use std::error::Error;

use egress::Reach;
use http::{HeaderName, HeaderValue};
use reqwest::{Client, Url};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransportConfig, StreamableHttpError,
};
use secrecy::{ExposeSecret as _, SecretString};
use types::TenantId;

use super::lines;

/// Says to a server of ours for which tenant a call is.
const TENANT: HeaderName = HeaderName::from_static("x-baton-tenant");

/// How many requests of one connection are under way at once; the others wait for one of them.
const AT_ONCE: usize = 256;

/// Where a server is, and what it is shown.
#[derive(Debug)]
pub(super) struct Address<'a> {
    pub(super) url: &'a Url,
    pub(super) token: Option<&'a SecretString>,
    pub(super) tenant: Option<&'a TenantId>,
    /// The largest message that is read, in bytes.
    pub(super) max_bytes: usize,
}

/// Makes the client of a server's connections.
///
/// # Errors
/// If the system's certificates cannot be read.
pub(super) fn client(reach: Reach) -> reqwest::Result<Client> {
    egress::client(reach).build()
}

/// Returns a connection to a server; nothing is sent yet.
///
/// # Errors
/// If the tenant's name cannot stand in a header.
pub(super) fn transport(
    client: Client,
    address: &Address<'_>,
) -> Result<StreamableHttpClientTransport<Client>, http::header::InvalidHeaderValue> {
    let mut config = StreamableHttpClientTransportConfig::with_uri(address.url.as_str())
        .max_concurrent_requests(AT_ONCE)
        .max_json_response_size(address.max_bytes)
        .max_sse_event_size(address.max_bytes);
    if let Some(token) = address.token {
        config = config.auth_header(token.expose_secret());
    }
    if let Some(tenant) = address.tenant {
        let value = HeaderValue::from_bytes(tenant.as_str().as_bytes())?;
        config = config.custom_headers(HashMap::from([(TENANT, value)]));
    }
    Ok(StreamableHttpClientTransport::with_client(client, config))
}

/// Says what a server answered that is no answer; none where there was no answer at all.
pub(super) fn reason(fault: &(dyn Error + Send + Sync + 'static)) -> Option<Cow<'static, str>> {
    type Fault = StreamableHttpError<reqwest::Error>;
    let status = |status: u16| Some(format!("it answered with HTTP status {status}").into());
    match fault.downcast_ref::<Fault>()? {
        Fault::ResponseBodyTooLarge { max_size } => Some(lines::too_long(*max_size).into()),
        Fault::HttpStatus(answer) => status(answer.status),
        Fault::Client(fault) => status(fault.status()?.as_u16()),
        Fault::AuthRequired(_) => status(401),
        Fault::InsufficientScope(_) => status(403),
        Fault::Deserialize(_)
        | Fault::UnexpectedContentType(_)
        | Fault::UnexpectedServerResponse(_) => Some("it answered what cannot be read".into()),
        _ => None,
    }
}
