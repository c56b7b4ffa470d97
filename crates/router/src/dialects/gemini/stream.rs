//! The pieces of Gemini's stream, as chat completion chunks.

use serde_json::{Map, Value, json};

use super::response::{Calls, frame, said, usage};

/// Writes the pieces of a stream as chat completion chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    now: i64,
    calls: Calls,
    /// A reason to end was given: the end of the connection is the end of the stream.
    pub(crate) is_whole: bool,
    begun: bool,
    /// The last chunk, without its choices.
    frame: Value,
    usage: Option<Value>,
}

impl Chunks {
    /// Begins a stream at `now` (seconds since 1970), with at most so many calls of tools.
    pub(crate) fn new(most_calls: usize, now: i64) -> Self {
        let calls = Calls::up_to(most_calls);
        Self { now, calls, is_whole: false, begun: false, frame: Value::Null, usage: None }
    }

    /// Returns the chunk that a piece makes, if it says anything.
    pub(crate) fn push(&mut self, wire: &Value) -> Option<Value> {
        let (mut delta, finish) = said(wire, &mut self.calls);
        self.is_whole |= !finish.is_null();
        if let Some(usage) = usage(&wire["usageMetadata"]) {
            self.usage = Some(usage);
        }
        let is_empty = delta.as_object().is_none_or(Map::is_empty) && finish.is_null();
        if is_empty {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            delta["role"] = "assistant".into();
        }
        let mut chunk = frame(wire, "chat.completion.chunk", self.now);
        self.frame = chunk.clone();
        chunk["choices"] = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        Some(chunk)
    }

    /// Returns the last chunk of a stream that has begun: Gemini counts on with every piece, and chat
    /// completions count once.
    pub(crate) fn counted(&mut self) -> Option<Value> {
        let mut chunk = self.begun.then(|| self.frame.take())?;
        chunk["choices"] = json!([]);
        chunk["usage"] = self.usage.take()?;
        Some(chunk)
    }
}
