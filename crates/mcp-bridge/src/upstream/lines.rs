//! Lines of others, of which none is too long.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader, ReadBuf};

use super::Reason;

/// How much of a line of a program's log is kept together, in bytes.
const LOGGED: u64 = 2048;

/// How many lines of a program's log go into ours in a second.
const LOGGED_PER_SECOND: u32 = 50;

/// Says that a message has more than `most` bytes.
pub(super) fn too_long(most: usize) -> String {
    format!("it sent a message of more than {most} bytes")
}

/// Reads until a line has more than so many bytes, which is an error, and the reason.
#[derive(Debug)]
pub(super) struct Bounded<R> {
    inner: R,
    reason: Reason,
    most: usize,
    length: usize,
}

impl<R> Bounded<R> {
    pub(super) fn new(inner: R, reason: Reason, most: usize) -> Self {
        Self { inner, reason, most, length: 0 }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Bounded<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        for piece in buffer.filled()[before..].split_inclusive(|byte| *byte == b'\n') {
            self.length += piece.len();
            if self.length > self.most {
                self.reason.get_or_init(|| too_long(self.most));
                // An error has read nothing.
                buffer.set_filled(before);
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            if piece.ends_with(b"\n") {
                self.length = 0;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes what a program says about itself into our log, until it says no more. Much of it is left out,
/// and counted.
pub(super) async fn log(server: String, from: impl AsyncRead + Unpin) {
    let mut from = BufReader::new(from);
    let (mut line, mut second, mut logged, mut left_out) = (Vec::new(), None, 0, 0_u64);
    loop {
        line.clear();
        match (&mut from).take(LOGGED).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let now = tokio::time::Instant::now();
        if second.is_none_or(|begun| now.duration_since(begun).as_secs() > 0) {
            if left_out > 0 {
                tracing::warn!(server, left_out, "an MCP server says too much");
            }
            (second, logged, left_out) = (Some(now), 0, 0);
        }
        if logged == LOGGED_PER_SECOND {
            left_out += 1;
            continue;
        }
        logged += 1;
        // Escaped: it must not look like lines of ours, nor drive a terminal.
        let said = String::from_utf8_lossy(line.trim_ascii_end());
        tracing::info!(server, said = %said.escape_debug(), "an MCP server says");
    }
    if left_out > 0 {
        tracing::warn!(server, left_out, "an MCP server says too much");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &[u8], most: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Bounded::new(text, Reason::default(), most).read_to_end(&mut bytes).await.map(|_| bytes)
    }

    #[tokio::test]
    async fn a_line_may_have_so_many_bytes_however_many_lines_there_are() {
        let lines = b"abc\n".repeat(100_000);
        assert_eq!(read(&lines, 4).await.unwrap(), lines);
        assert!(read(b"abc\nabcd\n", 4).await.is_err());
        assert!(read(&[b'x'; 100_000], 50_000).await.is_err(), "also without an end");
    }
}
