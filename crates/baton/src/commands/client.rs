//! The HTTP API of a running system, as commands call it.

use std::time::Duration;

use anyhow::anyhow;
use egress::Reach;
use reqwest::{Method, RequestBuilder, StatusCode, header};
use serde_json::Value;

use crate::cli::Failure;

/// Where a running system is, and who asks it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Server {
    /// Where the system's HTTP API is
    #[arg(long, default_value = "http://127.0.0.1:8000")]
    pub(crate) url: String,
    /// An API key, better from the environment than from here
    #[arg(long, env = "BATON_API_KEY", hide_env_values = true)]
    pub(crate) key: Option<String>,
}

impl Server {
    /// Asks for `path` and returns the answer's JSON; null when there is none.
    ///
    /// # Errors
    /// If nobody answers, or what is asked for is refused, in the system's own words.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let text = self.text(method, path, body.map(Value::to_string), None).await?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Sends a body of JSON to `path`, or none, and returns the answer as it was written. With the same
    /// idempotency key it may be sent again.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub(crate) async fn text(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        idempotency_key: Option<&str>,
    ) -> Result<String, Failure> {
        let mut request = self.request(method, path)?;
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        }
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let reply = self.send(request).await?;
        match reply.status.as_u16() {
            200..300 => Ok(reply.text),
            401..=403 => Err(Failure::refused(reply.told())),
            _ => Err(anyhow!(reply.told()).into()),
        }
    }

    /// Returns a request with the key, to be completed.
    pub(crate) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Failure> {
        let client = egress::client(Reach::Anywhere).timeout(Duration::from_secs(60)).build();
        let client = client.map_err(anyhow::Error::from)?;
        let request = client.request(method, format!("{}{path}", self.url));
        Ok(match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        })
    }

    /// Sends a request and returns an answer that is good, to be read as it comes.
    ///
    /// # Errors
    /// As [`Server::ask`].
    pub(crate) async fn begin(
        &self,
        request: RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        let gone = |_| Failure::unreachable(format!("{} does not answer", self.url));
        let reply = request.send().await.map_err(gone)?;
        let status = reply.status();
        if status.is_success() {
            return Ok(reply);
        }
        let reply = Reply { status, after: None, text: reply.text().await.map_err(gone)? };
        match status.as_u16() {
            401..=403 => Err(Failure::refused(reply.told())),
            _ => Err(anyhow!(reply.told()).into()),
        }
    }

    /// Sends a request and returns whatever is answered.
    ///
    /// # Errors
    /// If nobody answers.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        let gone = |_| Failure::unreachable(format!("{} does not answer", self.url));
        let reply = request.send().await.map_err(gone)?;
        let status = reply.status();
        let after = reply.headers().get(header::RETRY_AFTER);
        let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
        let text = reply.text().await.map_err(gone)?;
        Ok(Reply { status, after: after.map(Duration::from_secs), text })
    }
}

/// What a system answered.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// When to ask again, if it said so.
    pub(crate) after: Option<Duration>,
    text: String,
}

impl Reply {
    /// Returns what it says is wrong.
    pub(crate) fn told(&self) -> String {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let message = body["error"]["message"].as_str();
        message.map_or_else(|| self.status.to_string(), str::to_owned)
    }
}

/// Writes a name as one segment of a path, whatever it holds.
pub(crate) fn segment(name: &str) -> String {
    let one = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    name.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_within_its_segment() {
        for (name, wanted) in
            [("a-b_c", "a-b_c"), ("..", "%2E%2E"), ("a/b?c", "a%2Fb%3Fc"), ("ü", "%C3%BC")]
        {
            assert_eq!(segment(name), wanted);
        }
    }
}
