//! Whether a request left: what was never sent was never served, and cannot have a cost.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Tells whether a body was asked for: that is when a connection stands and the headers are written.
pub(super) struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Returns a body of these bytes, and what tells whether it left.
    pub(super) fn new(bytes: Bytes) -> (reqwest::Body, Self) {
        let left = Arc::new(AtomicBool::new(false));
        let body = Watched { bytes: Some(bytes), left: Arc::clone(&left) };
        (reqwest::Body::wrap(body), Self(left))
    }

    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

struct Watched {
    bytes: Option<Bytes>,
    left: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.left.store(true, Ordering::Relaxed);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
