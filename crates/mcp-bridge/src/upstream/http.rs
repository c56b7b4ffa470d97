//! A server at an address.

use egress::Reach;
use reqwest::{Client, Url};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

/// Returns a connection to `url`; nothing is sent yet.
pub(super) fn transport(
    url: &Url,
    reach: Reach,
) -> reqwest::Result<StreamableHttpClientTransport<Client>> {
    let client = egress::client(reach).build()?;
    let config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
    Ok(StreamableHttpClientTransport::with_client(client, config))
}
