//! A chat completion, whole or in chunks, as Responses gives it.

use serde_json::{Map, Value, json};

use crate::dialects::calls::{Calls, Place};
use crate::dialects::said::{Said, first_choice};
use crate::dialects::thought;
use crate::usage::Usage;

/// What an answer repeats of its request, and what it says when the request did not.
fn repeated() -> [(&'static str, Value); 14] {
    [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("previous_response_id", Value::Null),
        ("reasoning", json!({ "effort": null, "summary": null })),
        ("store", false.into()),
        ("temperature", Value::Null),
        ("text", json!({ "format": { "type": "text" } })),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_p", Value::Null),
        ("truncation", "disabled".into()),
        ("user", Value::Null),
    ]
}

/// Writes a chat completion as the response `id` to `request`, made at `now` (seconds since 1970).
pub(crate) fn response(chat: &Value, request: Map<String, Value>, id: &str, now: i64) -> Value {
    let mut events = Events::new(request, id, now);
    let choice = first_choice(chat).unwrap_or(&Value::Null);
    let mut message = choice["message"].clone();
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for (index, call) in calls.into_iter().flatten().enumerate() {
        if let Value::Object(call) = call {
            call.insert("index".to_owned(), index.into());
        }
    }
    let chunk = json!({
        "id": chat["id"], "model": chat["model"], "usage": chat["usage"],
        "choices": [{ "delta": message, "finish_reason": choice["finish_reason"] }],
    });
    events.push(&chunk);
    events.finish().pop().map(|mut last| last["response"].take()).unwrap_or_default()
}

/// Writes chat completion chunks as the events of a response.
#[derive(Debug)]
pub(crate) struct Events {
    request: Map<String, Value>,
    now: i64,
    /// Of the response, without its kind; its items' are made of it.
    id: String,
    model: Value,
    sequence: u64,
    started: bool,
    output: Vec<Value>,
    /// What is being written besides calls, and which of the output it is.
    open: Option<(Open, usize)>,
    calls: Calls,
    /// Which of the output each call is.
    call_items: Vec<usize>,
    finish: Value,
    usage: Option<Usage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Reasoning,
    Text,
    Refusal,
}

impl Events {
    pub(crate) fn new(request: Map<String, Value>, id: &str, now: i64) -> Self {
        Self {
            request,
            now,
            id: id.trim_start_matches("resp_").to_owned(),
            model: Value::Null,
            sequence: 0,
            started: false,
            output: Vec::new(),
            open: None,
            calls: Calls::default(),
            call_items: Vec::new(),
            finish: Value::Null,
            usage: None,
        }
    }

    /// Takes one chunk and returns the events that it makes.
    pub(crate) fn push(&mut self, chunk: &Value) -> Vec<Value> {
        let mut events = Vec::new();
        self.usage = Usage::of(chunk).or(self.usage);
        // Azure begins with a chunk of what its filters found, which has no name.
        let Some(choice) = first_choice(chunk) else { return events };
        self.start(chunk, &mut events);
        if !choice["finish_reason"].is_null() {
            self.finish = choice["finish_reason"].clone();
        }
        let said = Said::of(&choice["delta"]);
        if !said.thought.is_empty() {
            let item = self.open(Open::Reasoning, &mut events);
            self.add(item, "/summary/0/text", &said.thought);
            let delta = json!({ "summary_index": 0, "delta": said.thought });
            events.push(self.at(item, "response.reasoning_summary_text.delta", delta));
        }
        if !said.text.is_empty() {
            let item = self.open(Open::Text, &mut events);
            self.add(item, "/content/0/text", &said.text);
            let delta = json!({ "content_index": 0, "delta": said.text, "logprobs": [] });
            events.push(self.at(item, "response.output_text.delta", delta));
        }
        if !said.refusal.is_empty() {
            let item = self.open(Open::Refusal, &mut events);
            self.add(item, "/content/0/refusal", said.refusal);
            let delta = json!({ "content_index": 0, "delta": said.refusal });
            events.push(self.at(item, "response.refusal.delta", delta));
        }
        for call in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            self.call(call, &mut events);
        }
        events
    }

    /// Returns the events that end the stream; the last carries the whole response.
    pub(crate) fn finish(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        self.start(&Value::Null, &mut events);
        let (kind, status) = match self.finish.as_str() {
            Some("length" | "content_filter") => ("response.incomplete", "incomplete"),
            _ => ("response.completed", "completed"),
        };
        self.close(true, status, &mut events);
        let response = self.whole(status);
        events.push(self.event(kind, json!({ "response": response })));
        events
    }

    fn start(&mut self, chunk: &Value, events: &mut Vec<Value>) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        self.model = chunk["model"].clone();
        for kind in ["response.created", "response.in_progress"] {
            let response = self.whole("in_progress");
            events.push(self.event(kind, json!({ "response": response })));
        }
    }

    fn call(&mut self, call: &Value, events: &mut Vec<Value>) {
        let function = &call["function"];
        let place = match self.calls.take(call) {
            Place::Known(place) => place,
            Place::New(place) => {
                self.close(false, "completed", events);
                let given = call["id"].as_str().filter(|id| !id.is_empty());
                let id = given.map_or_else(|| format!("call_{}_{place}", self.id), str::to_owned);
                let mut item = json!({
                    "type": "function_call", "id": self.item_id("fc"), "status": "in_progress",
                    "call_id": id, "name": function["name"], "arguments": "",
                });
                if let Some(thought) = thought::of(call) {
                    thought::give(&mut item, thought);
                }
                let item = self.begin(item, events);
                self.call_items.push(item);
                place
            }
        };
        if let Some(part) = function["arguments"].as_str().filter(|part| !part.is_empty()) {
            self.arguments(place, part, events);
        }
    }

    fn arguments(&mut self, place: usize, part: &str, events: &mut Vec<Value>) {
        let Some(item) = self.call_items.get(place).copied() else { return };
        if self.calls.add(place, part) {
            self.add(item, "/arguments", part);
            let delta = json!({ "delta": part });
            events.push(self.at(item, "response.function_call_arguments.delta", delta));
        }
    }

    /// Returns which of the output to go on with.
    fn open(&mut self, what: Open, events: &mut Vec<Value>) -> usize {
        if let Some((open, item)) = self.open
            && open == what
        {
            return item;
        }
        self.close(false, "completed", events);
        let (kind, part) = match what {
            Open::Reasoning => ("rs", json!({ "type": "summary_text", "text": "" })),
            Open::Text => (
                "msg",
                json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] }),
            ),
            Open::Refusal => ("msg", json!({ "type": "refusal", "refusal": "" })),
        };
        let id = self.item_id(kind);
        let item = match what {
            Open::Reasoning => json!({ "type": "reasoning", "id": id, "summary": [] }),
            Open::Text | Open::Refusal => json!({
                "type": "message", "id": id, "status": "in_progress", "role": "assistant",
                "content": [],
            }),
        };
        let item = self.begin(item, events);
        self.open = Some((what, item));
        let added = match what {
            Open::Reasoning => {
                self.set(item, "/summary", json!([part]));
                let added = json!({ "summary_index": 0, "part": part });
                self.at(item, "response.reasoning_summary_part.added", added)
            }
            Open::Text | Open::Refusal => {
                self.set(item, "/content", json!([part]));
                let added = json!({ "content_index": 0, "part": part });
                self.at(item, "response.content_part.added", added)
            }
        };
        events.push(added);
        item
    }

    fn item_id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.id, self.output.len())
    }

    fn begin(&mut self, item: Value, events: &mut Vec<Value>) -> usize {
        let index = self.output.len();
        self.output.push(item.clone());
        events.push(self.at(index, "response.output_item.added", json!({ "item": item })));
        index
    }

    /// Closes what is whole; a call of which more may come only when `all` is over.
    fn close(&mut self, all: bool, status: &str, events: &mut Vec<Value>) {
        if let Some((what, item)) = self.open.take() {
            self.close_text(what, item, events);
            let status = (what != Open::Reasoning).then_some(status);
            self.done(item, status, events);
        }
        if all {
            // A call of nothing is told as OpenAI tells it.
            for place in 0..self.calls.len() {
                let item = self.call_items.get(place).and_then(|item| self.output.get(*item));
                if item.is_some_and(|item| item["arguments"] == "") {
                    self.arguments(place, "{}", events);
                }
            }
        }
        for place in self.calls.close(all) {
            let Some(item) = self.call_items.get(place).copied() else { continue };
            let call = &self.output[item];
            let done = json!({ "name": call["name"], "arguments": call["arguments"] });
            events.push(self.at(item, "response.function_call_arguments.done", done));
            self.done(item, Some(status), events);
        }
    }

    fn close_text(&mut self, what: Open, item: usize, events: &mut Vec<Value>) {
        let at = if what == Open::Reasoning { "/summary/0" } else { "/content/0" };
        let part = self.output[item].pointer(at).cloned().unwrap_or_default();
        let (kind, text, index) = match what {
            Open::Reasoning => (
                "response.reasoning_summary_text.done",
                json!({ "summary_index": 0, "text": part["text"] }),
                "summary_index",
            ),
            Open::Text => (
                "response.output_text.done",
                json!({ "content_index": 0, "text": part["text"], "logprobs": [] }),
                "content_index",
            ),
            Open::Refusal => (
                "response.refusal.done",
                json!({ "content_index": 0, "refusal": part["refusal"] }),
                "content_index",
            ),
        };
        events.push(self.at(item, kind, text));
        let kind = match what {
            Open::Reasoning => "response.reasoning_summary_part.done",
            Open::Text | Open::Refusal => "response.content_part.done",
        };
        let mut done = json!({ "part": part });
        done[index] = 0.into();
        events.push(self.at(item, kind, done));
    }

    fn done(&mut self, item: usize, status: Option<&str>, events: &mut Vec<Value>) {
        if let Some(status) = status {
            self.set(item, "/status", status.into());
        }
        let told = json!({ "item": self.output[item] });
        events.push(self.at(item, "response.output_item.done", told));
    }

    fn set(&mut self, item: usize, at: &str, value: Value) {
        if let Some(place) = self.output.get_mut(item).and_then(|item| item.pointer_mut(at)) {
            *place = value;
        }
    }

    fn add(&mut self, item: usize, at: &str, more: &str) {
        let place = self.output.get_mut(item).and_then(|item| item.pointer_mut(at));
        if let Some(Value::String(text)) = place {
            text.push_str(more);
        }
    }

    /// Makes an event about one of the output.
    fn at(&mut self, item: usize, kind: &str, mut event: Value) -> Value {
        event["output_index"] = item.into();
        event["item_id"] = self.output[item]["id"].clone();
        self.event(kind, event)
    }

    fn event(&mut self, kind: &str, mut event: Value) -> Value {
        event["type"] = kind.into();
        event["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        event
    }

    fn whole(&self, status: &str) -> Value {
        let reason = match self.finish.as_str() {
            Some("length") => json!({ "reason": "max_output_tokens" }),
            Some("content_filter") => json!({ "reason": "content_filter" }),
            _ => Value::Null,
        };
        let mut response = json!({
            "id": format!("resp_{}", self.id),
            "object": "response",
            "created_at": self.now,
            "status": status,
            "error": null,
            "incomplete_details": if status == "incomplete" { reason } else { Value::Null },
            "model": self.model,
            "output": self.output,
            "usage": self.usage.map(told),
            "previous_response_id": null,
            "store": false,
        });
        for (name, default) in repeated() {
            let said = self.request.get(name).filter(|value| !value.is_null());
            response[name] = said.cloned().unwrap_or(default);
        }
        response
    }
}

fn told(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": { "cached_tokens": usage.cached },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": usage.reasoning },
        "total_tokens": usage.input.saturating_add(usage.output),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_with_the_response_that_is_told_whole() {
        let chat = json!({
            "id": "chatcmpl-1", "model": "m",
            "choices": [{ "finish_reason": "tool_calls", "message": {
                "content": "pong", "reasoning_content": "hm",
                "tool_calls": [{ "id": "c1", "function": { "name": "add", "arguments": "{}" } }],
            } }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 2 },
        });
        let whole = response(&chat, Map::new(), "resp_1", 7);
        assert_eq!(whole["id"], "resp_1");
        let kinds: Vec<_> =
            whole["output"].as_array().unwrap().iter().map(|o| &o["type"]).collect();
        assert_eq!(kinds, ["reasoning", "message", "function_call"]);
        assert_eq!(whole["usage"]["total_tokens"], 5);

        let mut events = Events::new(Map::new(), "resp_1", 7);
        let chunk = |delta: Value, end: Value| json!({ "id": "chatcmpl-1", "model": "m", "choices": [{ "delta": delta, "finish_reason": end }] });
        let mut told = Vec::new();
        for delta in [
            json!({ "reasoning_content": "hm" }),
            json!({ "content": "po" }),
            json!({ "content": "ng" }),
            json!({ "tool_calls": [{ "index": 0, "id": "c1", "function": { "name": "add", "arguments": "{" } }] }),
            json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "}" } }] }),
        ] {
            told.extend(events.push(&chunk(delta, Value::Null)));
        }
        told.extend(events.push(&chunk(json!({}), "tool_calls".into())));
        let mut last = json!({ "id": "1", "choices": [] });
        last["usage"] = chat["usage"].clone();
        told.extend(events.push(&last));
        told.extend(events.finish());
        assert_eq!(told.last().unwrap()["response"], whole);
        let numbers: Vec<_> = told.iter().map(|event| event["sequence_number"].as_u64()).collect();
        assert_eq!(numbers, (0..told.len() as u64).map(Some).collect::<Vec<_>>());
    }
}
