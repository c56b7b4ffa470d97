//! Server-sent events, cut out of bytes as they come. Pure.

use memchr::memchr2;

/// The longest event: more is not an answer.
const LONGEST: usize = 4 * 1024 * 1024;

/// Some begin with it, and it means nothing.
pub(crate) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Collects bytes and returns the data of whole events.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
    after_cr: bool,
    begun: bool,
}

impl Decoder {
    /// Takes bytes, cut anywhere, and returns the data of the events that they complete; `None` when
    /// an event is longer than 4 MiB.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
        let (mut events, mut rest) = (Vec::new(), bytes);
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.line.extend_from_slice(rest);
                break;
            };
            self.after_cr = rest[end] == b'\r';
            if self.line.is_empty() {
                events.extend(self.end_line(&rest[..end]));
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..end]);
                events.extend(self.end_line(&line));
            }
            rest = &rest[end + 1..];
            if self.data.len() > LONGEST {
                return None;
            }
        }
        (self.line.len() + self.data.len() <= LONGEST).then_some(events)
    }

    fn end_line(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let begun = std::mem::replace(&mut self.begun, true);
        let line = match line.strip_prefix(BYTE_ORDER_MARK) {
            Some(line) if !begun => line,
            _ => line,
        };
        if line.is_empty() {
            self.has_data = false;
            let data = std::mem::take(&mut self.data);
            // One that is empty says nothing: it keeps the connection.
            return Some(data).filter(|data| !data.trim_ascii().is_empty());
        }
        // Comments and other fields carry nothing that counts here.
        if let Some(value) = line.strip_prefix(b"data:") {
            if std::mem::replace(&mut self.has_data, true) {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = "\u{feff}: hello\r\n\r\ndata: {\"a\":\"ü\"}\r\n\r\ndata:\n\ndata\n\nevent: x\ndata:1\ndata: 2\n\n\u{feff}data: x\n\ndata: [DONE]\n\n";
        let wanted: [&[u8]; 3] = ["{\"a\":\"ü\"}".as_bytes(), b"1\n2", b"[DONE]"];
        for size in 1..text.len() {
            let mut decoder = Decoder::default();
            let cut = text.as_bytes().chunks(size);
            let events: Vec<_> = cut.flat_map(|bytes| decoder.push(bytes).unwrap()).collect();
            assert_eq!(events, wanted, "{size}");
        }
    }

    #[test]
    fn an_endless_event_is_given_up() {
        let mut decoder = Decoder::default();
        assert!(decoder.push(&vec![b'x'; LONGEST + 1]).is_none());
    }
}
