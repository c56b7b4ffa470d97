//! A kept answer: what the router said, as it said it.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use proto::Message as _;
use proto::router::stream_complete_response::Event;
use proto::router::{Receipt, StreamCompleteResponse};

/// A whole answer, in the dialect of its call: one chunk, or those of its stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Who answered.
    pub(crate) receipt: Receipt,
    pub(crate) chunks: Vec<Bytes>,
}

impl Entry {
    /// Writes it with the time in milliseconds since 1970 until which it is good.
    pub(super) fn to_bytes(&self, until_ms: i64) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_i64(until_ms);
        let said = std::iter::once(Event::Started(self.receipt.clone()));
        let said = said.chain(self.chunks.iter().cloned().map(Event::Chunk));
        // Or one that was cut between two chunks would be taken for whole.
        let end = std::iter::once(Event::Finished(Receipt::default()));
        for event in said.chain(end) {
            let event = StreamCompleteResponse { event: Some(event) };
            // Bytes take whatever there is memory for.
            let _ = event.encode_length_delimited(&mut bytes);
        }
        bytes.freeze()
    }

    /// Reads one that is still good.
    pub(super) fn read(mut bytes: Bytes, now_ms: i64) -> Option<Self> {
        if bytes.remaining() < 8 || bytes.get_i64() <= now_ms {
            return None;
        }
        let mut next = || {
            let more = bytes.has_remaining();
            more.then(|| StreamCompleteResponse::decode_length_delimited(&mut bytes).ok()?.event)
        };
        let Event::Started(receipt) = next()?? else { return None };
        let mut chunks = Vec::new();
        loop {
            match next()?? {
                Event::Chunk(chunk) => chunks.push(chunk),
                Event::Finished(_) => break,
                Event::Started(_) | Event::Failed(_) => return None,
            }
        }
        (!chunks.is_empty()).then_some(Self { receipt, chunks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written_until_its_time() {
        let receipt = Receipt { provider: "p".to_owned(), ..Receipt::default() };
        let entry = Entry { receipt, chunks: vec!["one".into(), "two".into()] };
        let bytes = entry.to_bytes(1_000);
        assert_eq!(Entry::read(bytes.clone(), 999), Some(entry));
        assert_eq!(Entry::read(bytes.clone(), 1_000), None, "its time is over");
        for end in 0..bytes.len() {
            assert_eq!(Entry::read(bytes.slice(..end), 0), None, "cut at {end}");
        }
    }
}
