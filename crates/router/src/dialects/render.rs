//! From a provider's dialect to the client's. The same dialect passes through as it is.

use bytes::Bytes;
use proto::router::Dialect;
use serde_json::Value;

use super::anthropic::{from_chat, to_chat};

/// A whole answer, as it came and as chat completions say it.
pub(crate) struct Answer {
    dialect: Dialect,
    /// As the provider said it, unless it speaks chat completions.
    wire: Option<Value>,
    /// As chat completions say it.
    pub(crate) chat: Value,
}

impl Answer {
    pub(crate) fn new(dialect: Dialect, answer: Value) -> Self {
        match dialect {
            Dialect::Messages => {
                let chat = from_chat::response(&answer);
                Self { dialect, wire: Some(answer), chat }
            }
            Dialect::ChatCompletions | Dialect::Unspecified => {
                Self { dialect: Dialect::ChatCompletions, wire: None, chat: answer }
            }
        }
    }

    /// Returns the length of the answer, for an estimate of its tokens.
    pub(crate) fn bytes(&self) -> usize {
        self.chat.to_string().len()
    }

    /// Says it in the client's dialect.
    pub(crate) fn into(self, client: Dialect) -> Value {
        match (client, self.wire) {
            (Dialect::Messages, Some(wire)) if self.dialect == Dialect::Messages => wire,
            (Dialect::Messages, _) => to_chat::response(&self.chat),
            _ => self.chat,
        }
    }
}

/// A stream under way from a provider to a client.
pub(crate) struct Rendering {
    same: bool,
    reader: Option<from_chat::Chunks>,
    writer: Option<to_chat::Events>,
}

impl Rendering {
    pub(crate) fn new(provider: Dialect, client: Dialect) -> Self {
        let (from, to) = (provider == Dialect::Messages, client == Dialect::Messages);
        Self {
            same: from == to,
            reader: from.then(from_chat::Chunks::default),
            writer: (to && !from).then(to_chat::Events::default),
        }
    }

    /// Returns a provider's chunk as chat completions say it; null when it says nothing there.
    pub(crate) fn chat(&mut self, chunk: Value) -> Value {
        match &mut self.reader {
            Some(reader) => reader.push(&chunk).unwrap_or_default(),
            None => chunk,
        }
    }

    /// Returns what the client gets for a chunk: `wire` as it came, `chat` as chat completions say
    /// it. What is `hidden` a client of chat completions did not ask for.
    pub(crate) fn push(&mut self, wire: Bytes, chat: &Value, hidden: bool) -> Vec<Bytes> {
        if let Some(writer) = &mut self.writer {
            return writer.push(chat).iter().map(written).collect();
        }
        match (self.same, self.reader.is_some()) {
            (true, true) => vec![wire],
            (true, false) if !hidden => vec![wire],
            (false, _) if !hidden && !chat.is_null() => vec![written(chat)],
            _ => Vec::new(),
        }
    }

    /// Returns what the client gets when the stream is whole.
    pub(crate) fn finish(&mut self) -> Vec<Bytes> {
        let last = self.writer.as_mut().map(to_chat::Events::finish);
        last.unwrap_or_default().iter().map(written).collect()
    }
}

fn written(value: &Value) -> Bytes {
    value.to_string().into()
}
