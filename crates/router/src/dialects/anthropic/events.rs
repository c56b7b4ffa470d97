//! A chat completion, whole or in chunks, as Messages gives it.

use serde_json::{Value, json};

use super::ENDS;
use crate::dialects::calls::{Calls, Place};
use crate::dialects::said::{Said, first_choice};
use crate::dialects::thought;
use crate::usage::Usage;

/// Writes a chat completion as Anthropic's answer.
pub(crate) fn response(chat: &Value) -> Value {
    let choice = first_choice(chat).unwrap_or(&Value::Null);
    let message = &choice["message"];
    let said = Said::of(message);
    let mut content = message["thinking_blocks"].as_array().cloned().unwrap_or_default();
    if content.is_empty() && !said.thought.is_empty() {
        content.push(json!({ "type": "thinking", "thinking": said.thought, "signature": "" }));
    }
    for text in [&*said.text, said.refusal] {
        if !text.is_empty() {
            content.push(json!({ "type": "text", "text": text }));
        }
    }
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (place, call) in calls.iter().enumerate() {
        let function = &call["function"];
        content.extend(thought::block(call));
        content.push(json!({
            "type": "tool_use", "id": call_id(call, chat, place), "name": function["name"],
            "input": input(function["arguments"].as_str().unwrap_or_default()),
        }));
    }
    let refused = !said.refusal.is_empty();
    json!({
        "id": id(chat),
        "type": "message",
        "role": "assistant",
        "model": chat["model"],
        "content": content,
        "stop_reason": stop(&choice["finish_reason"], !calls.is_empty(), refused),
        "stop_sequence": null,
        "usage": told(Usage::of(chat).unwrap_or_default()),
    })
}

/// Reads arguments. What is no object is told under the name that Anthropic has for it: a tool that
/// was called with other arguments than were written could do anything.
fn input(arguments: &str) -> Value {
    match serde_json::from_str(arguments) {
        Ok(input @ Value::Object(_)) => input,
        Ok(Value::Null) => json!({}),
        _ if arguments.trim().is_empty() => json!({}),
        _ => json!({ "INVALID_JSON": arguments }),
    }
}

fn id(chat: &Value) -> String {
    format!("msg_{}", id_of(chat))
}

/// Returns a call's id; one that has none is called by its place.
fn call_id(call: &Value, chat: &Value, place: usize) -> String {
    let id = call["id"].as_str().filter(|id| !id.is_empty());
    id.map_or_else(|| format!("toolu_{}_{place}", id_of(chat)), str::to_owned)
}

fn id_of(chat: &Value) -> &str {
    chat["id"].as_str().unwrap_or("0")
}

/// Returns why it stopped. There are servers that end calls with `stop`, and reasons of their own:
/// the client goes on by what it finds here.
fn stop(finish: &Value, called: bool, refused: bool) -> &'static str {
    let finish = finish.as_str();
    let known = ENDS.iter().find(|(_, chat)| Some(*chat) == finish);
    match known.map_or("end_turn", |(theirs, _)| theirs) {
        "end_turn" if called => "tool_use",
        "end_turn" if refused => "refusal",
        stop => stop,
    }
}

/// Counts as Messages does, where what was cached stands beside what was read.
fn told(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input.saturating_sub(usage.cached).saturating_sub(usage.stored),
        "cache_read_input_tokens": usage.cached,
        "cache_creation_input_tokens": usage.stored,
        "output_tokens": usage.output,
    })
}

/// Writes chat completion chunks as the events of a stream.
#[derive(Debug, Default)]
pub(crate) struct Events {
    started: bool,
    /// How many have begun.
    blocks: usize,
    /// The block of text or thoughts that is being written.
    open: Option<(Block, usize)>,
    calls: Calls,
    /// The block of each call.
    call_blocks: Vec<usize>,
    finish: Value,
    refused: bool,
    usage: Usage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
}

impl Events {
    /// Takes one chunk and returns the events that it makes.
    pub(crate) fn push(&mut self, chunk: &Value) -> Vec<Value> {
        let mut events = Vec::new();
        self.usage = Usage::of(chunk).unwrap_or(self.usage);
        // Azure begins with a chunk of what its filters found, which has no name.
        let Some(choice) = first_choice(chunk) else { return events };
        self.start(chunk, &mut events);
        if !choice["finish_reason"].is_null() {
            self.finish = choice["finish_reason"].clone();
        }
        let delta = &choice["delta"];
        let said = Said::of(delta);
        if !said.thought.is_empty() {
            let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
            let index = self.open(Block::Thinking, &block, &mut events);
            events.push(part(index, json!({ "type": "thinking_delta", "thinking": said.thought })));
        }
        if let Some(signature) = delta["reasoning_signature"].as_str()
            && let Some((Block::Thinking, index)) = self.open
        {
            events.push(part(index, json!({ "type": "signature_delta", "signature": signature })));
        }
        self.refused |= !said.refusal.is_empty();
        for text in [&*said.text, said.refusal] {
            if !text.is_empty() {
                let index =
                    self.open(Block::Text, &json!({ "type": "text", "text": "" }), &mut events);
                events.push(part(index, json!({ "type": "text_delta", "text": text })));
            }
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call, chunk, &mut events);
        }
        events
    }

    fn call(&mut self, call: &Value, chunk: &Value, events: &mut Vec<Value>) {
        let function = &call["function"];
        let place = match self.calls.take(call) {
            Place::Known(place) => place,
            Place::New(place) => {
                self.close(false, events);
                if let Some(block) = thought::block(call) {
                    let index = self.begin(&block, events);
                    events.push(json!({ "type": "content_block_stop", "index": index }));
                }
                let block = json!({
                    "type": "tool_use", "id": call_id(call, chunk, place),
                    "name": function["name"], "input": {},
                });
                let index = self.begin(&block, events);
                self.call_blocks.push(index);
                place
            }
        };
        let arguments = function["arguments"].as_str().filter(|part| !part.is_empty());
        let Some(arguments) = arguments else { return };
        if self.calls.add(place, arguments)
            && let Some(index) = self.call_blocks.get(place)
        {
            let delta = json!({ "type": "input_json_delta", "partial_json": arguments });
            events.push(part(*index, delta));
        }
    }

    /// Returns the events that end the stream.
    pub(crate) fn finish(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        self.start(&Value::Null, &mut events);
        self.close(true, &mut events);
        let stop = stop(&self.finish, self.calls.len() > 0, self.refused);
        let delta = json!({ "stop_reason": stop, "stop_sequence": null });
        events.push(json!({ "type": "message_delta", "delta": delta, "usage": told(self.usage) }));
        events.push(json!({ "type": "message_stop" }));
        events
    }

    fn start(&mut self, chunk: &Value, events: &mut Vec<Value>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let message = json!({
            "id": id(chunk), "type": "message", "role": "assistant", "model": chunk["model"],
            "content": [], "stop_reason": null, "stop_sequence": null,
            "usage": told(Usage::default()),
        });
        events.push(json!({ "type": "message_start", "message": message }));
    }

    /// Returns the block of text or thoughts to go on with.
    fn open(&mut self, kind: Block, block: &Value, events: &mut Vec<Value>) -> usize {
        match self.open {
            Some((open, index)) if open == kind => index,
            _ => {
                self.close(false, events);
                let index = self.begin(block, events);
                self.open = Some((kind, index));
                index
            }
        }
    }

    fn begin(&mut self, block: &Value, events: &mut Vec<Value>) -> usize {
        let index = self.blocks;
        self.blocks += 1;
        events
            .push(json!({ "type": "content_block_start", "index": index, "content_block": block }));
        index
    }

    /// Closes what is whole; a call of which more may come only when `all` is over.
    fn close(&mut self, all: bool, events: &mut Vec<Value>) {
        let open = self.open.take().map(|(_, index)| index);
        let calls = self.calls.close(all);
        let calls = calls.iter().filter_map(|place| self.call_blocks.get(*place).copied());
        let closed = open.into_iter().chain(calls);
        events.extend(closed.map(|index| json!({ "type": "content_block_stop", "index": index })));
    }
}

fn part(index: usize, delta: Value) -> Value {
    json!({ "type": "content_block_delta", "index": index, "delta": delta })
}
