//! How much a client may send.

use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use futures::StreamExt as _;

use crate::Error;

/// How long a body that is refused is listened to.
const LINGER: Duration = Duration::from_secs(2);

/// Refuses a body that says that it is larger than `limit` bytes.
///
/// What comes of it all the same is read and dropped, up to twice the limit: a client that is cut off
/// while it writes never reads why.
pub(crate) async fn body(limit: usize, request: Request) -> Result<Request, Error> {
    let Some(bytes) = length(request.headers()).filter(|bytes| *bytes > limit as u64) else {
        return Ok(request);
    };
    // Who asked first has sent nothing yet.
    if !request.headers().contains_key(header::EXPECT) {
        let mut body = request.into_body().into_data_stream();
        let mut left = limit.saturating_mul(2);
        let drop_it = async {
            while let Some(Ok(part)) = body.next().await {
                let Some(rest) = left.checked_sub(part.len()) else { return };
                left = rest;
            }
        };
        // Late or not, the answer is the same.
        let _ = tokio::time::timeout(LINGER, drop_it).await;
    }
    let fault = format!("the body has {bytes} bytes, at most {limit} are allowed");
    Err(Error::with_status(StatusCode::PAYLOAD_TOO_LARGE, fault))
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
