//! Whether a request left: what was never sent was never served, and cannot have a cost.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Tells whether a body was asked for: that is when a connection stands and the headers are written.
#[derive(Debug)]
pub struct Sent(Arc<AtomicBool>);

impl Sent {
    /// Tells it as it is now.
    #[must_use]
    pub fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request's body.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Option<Bytes>,
    left: Arc<AtomicBool>,
}

impl Outgoing {
    /// Returns a body of these bytes, and what tells whether it left.
    #[must_use]
    pub fn new(bytes: Bytes) -> (Self, Sent) {
        let left = Arc::new(AtomicBool::new(false));
        (Self { bytes: Some(bytes), left: Arc::clone(&left) }, Sent(left))
    }
}

impl Body for Outgoing {
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
