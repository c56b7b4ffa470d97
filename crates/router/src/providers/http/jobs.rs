//! What a batch API needs of HTTP beside calls: an upload, a beginning that must not be repeated
//! blindly, looks, and a download that is read line by line.

use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::HeaderValue;
use serde_json::Value;
use types::CallContext;

use super::{Http, JSON, LARGEST, Response, late, parsed, read, told, within};
use crate::providers::Fault;
use crate::providers::batches::NotBegun;

/// How long a download takes at most: what a call may take is too little for a large file, and what
/// says nothing is given up long before.
const DOWNLOAD: Duration = Duration::from_secs(24 * 3600);

impl Http {
    /// Uploads a body of a type.
    pub(crate) async fn upload(
        &self,
        context: &CallContext,
        path: &str,
        kind: String,
        body: Vec<u8>,
    ) -> Result<Value, Fault> {
        let kind = HeaderValue::try_from(kind)
            .map_err(|fault| Fault::Provider(format!("the type of a body: {fault}")))?;
        let (request, _) = self.post(path, kind, body.into())?;
        let wait = context.time_left(self.timeouts.answer());
        let response = within(wait, self.ask(request)).await?.map_err(|fault| told(&fault))?;
        let response = self.good(context, response).await?;
        parsed(&read(response, context.time_left(self.timeouts.idle())).await?)
    }

    /// Posts what would be bought again if it was posted again, and tells whether it may have had its
    /// effect when it fails.
    pub(crate) async fn begin(
        &self,
        context: &CallContext,
        path: &str,
        body: &Value,
    ) -> Result<Value, NotBegun> {
        let (request, _) =
            self.post(path, JSON, body.to_string().into()).map_err(NotBegun::Surely)?;
        let wait = context.time_left(self.timeouts.answer());
        let response = match within(wait, self.ask(request)).await.map_err(NotBegun::Perhaps)? {
            Ok(response) => response,
            Err(fault @ egress::Error::Broken(_)) => return Err(NotBegun::Perhaps(told(&fault))),
            Err(fault) => return Err(NotBegun::Surely(told(&fault))),
        };
        let status = response.status;
        // A proxy's time may be over while the provider goes on.
        let refused = status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT;
        let response = self.good(context, response).await.map_err(|fault| match refused {
            true => NotBegun::Surely(fault),
            false => NotBegun::Perhaps(fault),
        })?;
        let body = read(response, context.time_left(self.timeouts.idle())).await;
        body.and_then(|body| parsed(&body)).map_err(NotBegun::Perhaps)
    }

    /// Returns what is at `path`; none when nothing is.
    pub(crate) async fn look(
        &self,
        context: &CallContext,
        path: &str,
    ) -> Result<Option<Value>, Fault> {
        let request = self.get(path)?;
        let wait = context.time_left(self.timeouts.answer());
        let response = within(wait, self.ask(request)).await?.map_err(|fault| told(&fault))?;
        if response.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let response = self.good(context, response).await?;
        parsed(&read(response, context.time_left(self.timeouts.idle())).await?).map(Some)
    }

    /// Begins to download a file of lines, which may take as long as something comes of it.
    pub(crate) async fn download(&self, context: &CallContext, path: &str) -> Result<Lines, Fault> {
        let request = self.get(path)?;
        let wait = context.time_left(self.timeouts.answer());
        let response = within(wait, self.ask(request)).await?.map_err(|fault| told(&fault))?;
        let mut response = self.good(context, response).await?;
        response.until = Instant::now() + DOWNLOAD;
        Ok(Lines { response, rest: Vec::new(), is_over: false, idle: self.timeouts.idle() })
    }
}

/// A file that is read as it comes.
pub(crate) struct Lines {
    response: Response,
    rest: Vec<u8>,
    is_over: bool,
    idle: Duration,
}

impl Lines {
    /// Returns the next line, which may be empty; none behind the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.rest[searched..].iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=searched + end).collect();
                line.pop();
                return Ok(Some(line));
            }
            if self.is_over {
                let last = std::mem::take(&mut self.rest);
                return Ok((!last.is_empty()).then_some(last));
            }
            if self.rest.len() > LARGEST {
                return Err(Fault::Provider(format!("a line has more than {LARGEST} bytes")));
            }
            searched = self.rest.len();
            match self.response.more(self.idle, late).await? {
                Some(come) => come.iter().for_each(|part| self.rest.extend_from_slice(part)),
                None => self.is_over = true,
            }
        }
    }
}
