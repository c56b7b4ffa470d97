//! From a provider's dialect to the client's. The same dialect passes through as it is.

use bytes::Bytes;
use proto::router::Dialect;
use serde_json::Value;

use super::anthropic::{events, from_chat};
use super::responses;
use crate::request::ChatRequest;

/// A whole answer, as it came and as chat completions say it.
pub(crate) struct Answer {
    /// As the provider said it, unless it speaks chat completions.
    wire: Option<Value>,
    /// As chat completions say it.
    pub(crate) chat: Value,
    now: i64,
}

impl Answer {
    /// Takes an answer that was made at `now` (seconds since 1970).
    pub(crate) fn new(dialect: Dialect, answer: Value, now: i64) -> Self {
        match dialect {
            Dialect::Messages => {
                let chat = from_chat::response(&answer, now);
                Self { wire: Some(answer), chat, now }
            }
            Dialect::ChatCompletions
            | Dialect::Responses
            | Dialect::Embeddings
            | Dialect::Unspecified => Self { wire: None, chat: answer, now },
        }
    }

    /// Says it in the dialect of `request`.
    pub(crate) fn to(self, request: &ChatRequest) -> Value {
        match (request.dialect, self.wire) {
            (Dialect::Messages, Some(wire)) => wire,
            (Dialect::Messages, None) => events::response(&self.chat),
            (Dialect::Responses, _) => {
                let id = &request.response_id;
                responses::from_chat::response(&self.chat, request.wire(), id, self.now)
            }
            (Dialect::ChatCompletions | Dialect::Embeddings | Dialect::Unspecified, _) => self.chat,
        }
    }
}

/// A stream under way from a provider to a client.
pub(crate) struct Rendering {
    reader: Option<from_chat::Chunks>,
    writer: Writer,
}

/// What a client gets of a stream.
enum Writer {
    /// What came, as it came.
    Same,
    ChatCompletions,
    Messages(events::Events),
    Responses(Box<responses::from_chat::Events>),
}

impl Rendering {
    pub(crate) fn new(provider: Dialect, request: &ChatRequest, now: i64) -> Self {
        let messages = provider == Dialect::Messages;
        let writer = match request.dialect {
            Dialect::Messages if messages => Writer::Same,
            Dialect::Messages => Writer::Messages(events::Events::default()),
            Dialect::Responses => {
                let (wire, id) = (request.wire(), &request.response_id);
                Writer::Responses(Box::new(responses::from_chat::Events::new(wire, id, now)))
            }
            Dialect::ChatCompletions | Dialect::Unspecified if messages => Writer::ChatCompletions,
            Dialect::ChatCompletions | Dialect::Embeddings | Dialect::Unspecified => Writer::Same,
        };
        Self { reader: messages.then(|| from_chat::Chunks::new(now)), writer }
    }

    /// Tells whether chunks of chat completions pass through as they are.
    pub(crate) fn passes(&self) -> bool {
        self.reader.is_none() && matches!(self.writer, Writer::Same)
    }

    /// Returns a provider's chunk as chat completions say it; null when it says nothing there.
    pub(crate) fn chat(&mut self, chunk: Value) -> Value {
        match &mut self.reader {
            Some(reader) => reader.push(&chunk).unwrap_or_default(),
            None => chunk,
        }
    }

    /// Adds what the client gets for a chunk: `wire` as it came, `chat` as chat completions say it. What
    /// is `hidden` a client of chat completions did not ask for.
    pub(crate) fn push(&mut self, wire: Bytes, chat: &Value, hidden: bool, told: &mut Vec<Bytes>) {
        match &mut self.writer {
            Writer::Same if hidden && self.reader.is_none() => {}
            Writer::Same => told.push(wire),
            _ if chat.is_null() => {}
            Writer::ChatCompletions if hidden => {}
            Writer::ChatCompletions => told.push(written(chat)),
            Writer::Messages(events) => told.extend(events.push(chat).iter().map(written)),
            Writer::Responses(events) => told.extend(events.push(chat).iter().map(written)),
        }
    }

    /// Returns the last event of a stream whose provider left it out.
    pub(crate) fn missing_end(&self) -> Option<Bytes> {
        let reader = self.reader.as_ref().filter(|reader| !reader.is_stopped)?;
        Some(written(&reader.end()))
    }

    /// Returns what the client gets when the stream is whole; of Responses, the last of it holds all
    /// that was said.
    pub(crate) fn finish(&mut self) -> Vec<Value> {
        match &mut self.writer {
            Writer::Same | Writer::ChatCompletions => Vec::new(),
            Writer::Messages(events) => events.finish(),
            Writer::Responses(events) => events.finish(),
        }
    }
}

pub(crate) fn written(value: &Value) -> Bytes {
    value.to_string().into()
}
