//! A batch's input, read a line at a time. Pure.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Endpoint, Fault, MAX_FAULTS, MAX_LINES};

/// How many characters a fault's message has at most.
const LONGEST_FAULT: usize = 300;

/// A line that is a good request.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: u32,
    pub(crate) custom_id: String,
    /// As the client wrote it.
    pub(crate) body: Vec<u8>,
}

/// Reads lines from pieces of a file, and gathers what is wrong with them.
#[derive(Debug)]
pub(crate) struct Reader {
    endpoint: Endpoint,
    rest: Vec<u8>,
    number: u32,
    requests: u32,
    seen: HashSet<String>,
    faults: Vec<Fault>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    custom_id: Option<serde_json::Value>,
    method: Option<serde_json::Value>,
    url: Option<serde_json::Value>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl Reader {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            rest: Vec::new(),
            number: 0,
            requests: 0,
            seen: HashSet::new(),
            faults: Vec::new(),
        }
    }

    /// Returns the good requests of the lines that end in `piece`.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut piece = piece;
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            self.rest.extend_from_slice(&piece[..end]);
            piece = &piece[end + 1..];
            lines.extend(self.line());
        }
        self.rest.extend_from_slice(piece);
        lines
    }

    /// Returns the request of the last line, which may lack its end.
    pub(crate) fn last(&mut self) -> Option<Line> {
        let last = if self.rest.is_empty() { None } else { self.line() };
        if self.requests == 0 && self.faults.is_empty() {
            self.fault("empty_file", None, "the input file has no requests", None);
        }
        last
    }

    /// Returns what is wrong; nothing may be asked when there is something.
    pub(crate) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Returns true when more reading tells nothing more.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.faults.len() >= MAX_FAULTS || self.requests > MAX_LINES
    }

    fn line(&mut self) -> Option<Line> {
        self.number += 1;
        let line = std::mem::take(&mut self.rest);
        if line.trim_ascii().is_empty() || self.is_hopeless() {
            return None;
        }
        self.requests += 1;
        if self.requests > MAX_LINES {
            let message = format!("at most {MAX_LINES} requests are allowed");
            self.fault("too_many_requests", None, &message, None);
            return None;
        }
        match self.parse(&line) {
            Ok((custom_id, body)) => Some(Line { number: self.number, custom_id, body }),
            Err((code, message, param)) => {
                self.fault(code, Some(self.number), &message, param);
                None
            }
        }
    }

    #[allow(clippy::type_complexity, reason = "a code, a message, a field")]
    fn parse(
        &mut self,
        line: &[u8],
    ) -> Result<(String, Vec<u8>), (&'static str, String, Option<&'static str>)> {
        let wire: Wire<'_> = serde_json::from_slice(line).map_err(|fault| {
            ("invalid_json_line", format!("the line is not a JSON object: {fault}"), None)
        })?;
        let missing =
            |field| ("missing_required_parameter", format!("{field} is required"), Some(field));
        let custom_id = match wire.custom_id {
            None => return Err(missing("custom_id")),
            Some(serde_json::Value::String(id)) if (1..=512).contains(&id.len()) => id,
            Some(_) => {
                let message = "custom_id is not a text of 1 to 512 bytes".to_owned();
                return Err(("invalid_custom_id", message, Some("custom_id")));
            }
        };
        let method = wire.method.ok_or_else(|| missing("method"))?;
        if method != "POST" {
            let message = format!("method {method} is not \"POST\"");
            return Err(("invalid_method", message, Some("method")));
        }
        let url = wire.url.ok_or_else(|| missing("url"))?;
        if url != self.endpoint.path() {
            let message =
                format!("url {url} is not the batch's endpoint {:?}", self.endpoint.path());
            return Err(("mismatched_url", message, Some("url")));
        }
        let body = wire.body.ok_or_else(|| missing("body"))?;
        if !body.get().starts_with('{') {
            return Err(("invalid_body", "body is not a JSON object".to_owned(), Some("body")));
        }
        #[derive(Deserialize)]
        struct Peek {
            stream: Option<serde_json::Value>,
        }
        let streams = serde_json::from_str(body.get()).map(|peek: Peek| peek.stream);
        if matches!(streams, Ok(Some(serde_json::Value::Bool(true)))) {
            let message = "a batch's answers are whole: stream must not be true".to_owned();
            return Err(("invalid_body", message, Some("body.stream")));
        }
        if !self.seen.insert(custom_id.clone()) {
            let message = format!("custom_id {custom_id:?} is another line's too");
            return Err(("duplicate_custom_id", message, Some("custom_id")));
        }
        Ok((custom_id, body.get().as_bytes().to_vec()))
    }

    fn fault(&mut self, code: &str, line: Option<u32>, message: &str, param: Option<&str>) {
        self.faults.push(Fault {
            code: code.to_owned(),
            line,
            // A line may be as long as its file, and is quoted.
            message: message.chars().take(LONGEST_FAULT).collect(),
            param: param.map(str::to_owned),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str) -> String {
        format!(
            r#"{{"custom_id": "{id}", "method": "POST", "url": "/v1/chat/completions", "body": {{"model":  "m"}}}}"#
        )
    }

    /// Reads `text` in pieces of every small size, which must not matter.
    fn read(text: &str) -> (Vec<Line>, Vec<Fault>) {
        let read_by = |size: usize| {
            let mut reader = Reader::new(Endpoint::Chat);
            let mut lines: Vec<_> =
                text.as_bytes().chunks(size).flat_map(|piece| reader.push(piece)).collect();
            lines.extend(reader.last());
            (lines, reader.faults().to_vec())
        };
        let whole = read_by(text.len().max(1));
        for size in 1..8 {
            let pieces = read_by(size);
            assert_eq!(pieces.1, whole.1);
            assert_eq!(pieces.0.len(), whole.0.len());
        }
        whole
    }

    #[test]
    fn lines_are_read_as_they_are_and_empty_ones_are_none() {
        let text = format!("{}\r\n\n{}", line("a"), line("ö"));
        let (lines, faults) = read(&text);
        assert!(faults.is_empty(), "{faults:?}");
        let numbers: Vec<_> = lines.iter().map(|line| line.number).collect();
        assert_eq!(numbers, [1, 3]);
        assert_eq!(lines[1].custom_id, "ö");
        assert_eq!(lines[0].body, br#"{"model":  "m"}"#);
    }

    #[test]
    fn every_fault_names_its_line() {
        let good = line("a");
        for (bad, code, param) in [
            ("{", "invalid_json_line", None),
            ("[]", "invalid_json_line", None),
            ("\u{0}", "invalid_json_line", None),
            (&good.replace("custom_id", "id"), "missing_required_parameter", Some("custom_id")),
            (&good.replace("\"a\"", "7"), "invalid_custom_id", Some("custom_id")),
            (&good.replace("\"a\"", "\"\""), "invalid_custom_id", Some("custom_id")),
            (&good.replace("POST", "GET"), "invalid_method", Some("method")),
            (&good.replace("chat/completions", "responses"), "mismatched_url", Some("url")),
            (&good.replace("\"body\"", "\"data\""), "missing_required_parameter", Some("body")),
            (&good.replace("{\"model\":  \"m\"}", "[]"), "invalid_body", Some("body")),
            (
                &good.replace("{\"model\":  \"m\"}", "{\"stream\": true}"),
                "invalid_body",
                Some("body.stream"),
            ),
            (&line("first"), "duplicate_custom_id", Some("custom_id")),
        ] {
            let (lines, faults) = read(&format!("{}\n{bad}\n", line("first")));
            assert_eq!(lines.len(), 1);
            let [fault] = faults.as_slice() else { panic!("{bad}: {faults:?}") };
            assert_eq!((fault.code.as_str(), fault.line), (code, Some(2)), "{bad}");
            assert_eq!(fault.param.as_deref(), param, "{bad}");
        }
    }

    #[test]
    fn a_fault_quotes_no_more_of_a_line_than_can_be_read() {
        let text = line("a").replace("/v1/chat", &"u".repeat(100_000));
        let (_, faults) = read(&text);
        assert_eq!(faults[0].message.chars().count(), LONGEST_FAULT);
    }

    #[test]
    fn a_file_without_requests_is_a_fault_of_no_line() {
        for text in ["", "\n", " \n\r\n"] {
            let (_, faults) = read(text);
            assert_eq!((faults[0].code.as_str(), faults[0].line), ("empty_file", None));
        }
    }

    #[test]
    fn too_many_lines_and_too_many_faults_end_the_reading() {
        let mut reader = Reader::new(Endpoint::Chat);
        for number in 0..MAX_LINES {
            assert_eq!(reader.push(format!("{}\n", line(&number.to_string())).as_bytes()).len(), 1);
        }
        assert!(!reader.is_hopeless());
        assert!(reader.push(format!("{}\n", line("one too many")).as_bytes()).is_empty());
        assert!(reader.is_hopeless());
        assert_eq!(reader.faults()[0].code, "too_many_requests");
        let (_, faults) = read(&"{\n".repeat(1000));
        assert_eq!(faults.len(), MAX_FAULTS);
    }
}
