//! A server at an address.

use reqwest::{Client, Url};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;

/// Returns a connection to `url`; nothing is sent yet.
pub(super) fn transport(url: &Url) -> reqwest::Result<StreamableHttpClientTransport<Client>> {
    let client = Client::builder()
        .tcp_nodelay(true)
        // A redirect could lead a private call elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()?;
    let config = StreamableHttpClientTransportConfig::with_uri(url.as_str());
    Ok(StreamableHttpClientTransport::with_client(client, config))
}
