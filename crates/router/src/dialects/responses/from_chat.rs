//! A chat completion, whole or in chunks, as Responses gives it.

use serde_json::{Map, Value, json};

/// What an answer repeats of its request, and what it says when the request did not.
fn repeated() -> [(&'static str, Value); 12] {
    [
        ("instructions", Value::Null),
        ("max_output_tokens", Value::Null),
        ("metadata", json!({})),
        ("parallel_tool_calls", true.into()),
        ("reasoning", json!({ "effort": null, "summary": null })),
        ("temperature", Value::Null),
        ("text", json!({ "format": { "type": "text" } })),
        ("tool_choice", "auto".into()),
        ("tools", json!([])),
        ("top_p", Value::Null),
        ("truncation", "disabled".into()),
        ("user", Value::Null),
    ]
}

/// Writes a chat completion as a response to `request`, made at `now` (seconds since 1970).
pub(crate) fn response(chat: &Value, request: &Map<String, Value>, now: i64) -> Value {
    let mut events = Events::new(request.clone(), now);
    let choice = &chat["choices"][0];
    let message = &choice["message"];
    let mut calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
    for (index, call) in calls.iter_mut().enumerate() {
        call["index"] = index.into();
    }
    let chunk = json!({
        "id": chat["id"], "model": chat["model"], "usage": chat["usage"],
        "choices": [{
            "delta": {
                "content": message["content"], "reasoning_content": message["reasoning_content"],
                "tool_calls": calls,
            },
            "finish_reason": choice["finish_reason"],
        }],
    });
    events.push(&chunk);
    events.finish().pop().map(|mut last| last["response"].take()).unwrap_or_default()
}

/// Writes chat completion chunks as the events of a response.
#[derive(Debug)]
pub(crate) struct Events {
    request: Map<String, Value>,
    now: i64,
    id: String,
    model: Value,
    sequence: u64,
    started: bool,
    output: Vec<Value>,
    open: Option<Open>,
    finish: Value,
    usage: Value,
}

/// What is being written: the last of the output; a call by its place among the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Reasoning,
    Text,
    Call(u64),
}

impl Events {
    pub(crate) fn new(request: Map<String, Value>, now: i64) -> Self {
        Self {
            request,
            now,
            id: String::new(),
            model: Value::Null,
            sequence: 0,
            started: false,
            output: Vec::new(),
            open: None,
            finish: Value::Null,
            usage: Value::Null,
        }
    }

    /// Takes one chunk and returns the events that it makes.
    pub(crate) fn push(&mut self, chunk: &Value) -> Vec<Value> {
        let mut events = Vec::new();
        if !self.started {
            self.started = true;
            self.id = chunk["id"].as_str().unwrap_or("0").replace("chatcmpl-", "");
            self.model = chunk["model"].clone();
            for kind in ["response.created", "response.in_progress"] {
                let response = self.whole("in_progress");
                events.push(self.event(kind, json!({ "response": response })));
            }
        }
        if chunk["usage"].is_object() {
            self.usage = usage(&chunk["usage"]);
        }
        let choice = &chunk["choices"][0];
        if !choice["finish_reason"].is_null() {
            self.finish = choice["finish_reason"].clone();
        }
        let delta = &choice["delta"];
        let text = |name: &str| delta[name].as_str().filter(|text| !text.is_empty());
        if let Some(thought) = text("reasoning_content") {
            self.open(Open::Reasoning, &Value::Null, &mut events);
            self.add("/summary/0/text", thought);
            let delta = json!({ "summary_index": 0, "delta": thought });
            events.push(self.at("response.reasoning_summary_text.delta", delta));
        }
        if let Some(said) = text("content") {
            self.open(Open::Text, &Value::Null, &mut events);
            self.add("/content/0/text", said);
            let delta = json!({ "content_index": 0, "delta": said, "logprobs": [] });
            events.push(self.at("response.output_text.delta", delta));
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.open(Open::Call(call["index"].as_u64().unwrap_or_default()), call, &mut events);
            if let Some(part) = call["function"]["arguments"].as_str().filter(|p| !p.is_empty()) {
                self.add("/arguments", part);
                let delta = json!({ "delta": part });
                events.push(self.at("response.function_call_arguments.delta", delta));
            }
        }
        events
    }

    /// Returns the events that end the stream; the last carries the whole response.
    pub(crate) fn finish(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        self.close(&mut events);
        let (kind, status) = match self.finish.as_str() {
            Some("length" | "content_filter") => ("response.incomplete", "incomplete"),
            _ => ("response.completed", "completed"),
        };
        let response = self.whole(status);
        events.push(self.event(kind, json!({ "response": response })));
        events
    }

    fn open(&mut self, what: Open, call: &Value, events: &mut Vec<Value>) {
        if self.open == Some(what) {
            return;
        }
        self.close(events);
        self.open = Some(what);
        let index = self.output.len();
        let id = |kind: &str| format!("{kind}_{}_{index}", self.id);
        let function = &call["function"];
        let item = match what {
            Open::Reasoning => {
                json!({ "type": "reasoning", "id": id("rs"), "summary": [] })
            }
            Open::Text => json!({
                "type": "message", "id": id("msg"), "status": "in_progress", "role": "assistant",
                "content": [],
            }),
            Open::Call(_) => json!({
                "type": "function_call", "id": id("fc"), "status": "in_progress",
                "call_id": call["id"], "name": function["name"], "arguments": "",
            }),
        };
        self.output.push(item.clone());
        events.push(self.at("response.output_item.added", json!({ "item": item })));
        match what {
            Open::Reasoning => {
                let part = json!({ "type": "summary_text", "text": "" });
                self.set("/summary", json!([part]));
                let added = json!({ "summary_index": 0, "part": part });
                events.push(self.at("response.reasoning_summary_part.added", added));
            }
            Open::Text => {
                let part =
                    json!({ "type": "output_text", "text": "", "annotations": [], "logprobs": [] });
                self.set("/content", json!([part]));
                let added = json!({ "content_index": 0, "part": part });
                events.push(self.at("response.content_part.added", added));
            }
            Open::Call(_) => {}
        }
    }

    fn close(&mut self, events: &mut Vec<Value>) {
        let Some(what) = self.open.take() else { return };
        let item = self.output.last().cloned().unwrap_or_default();
        let done = match what {
            Open::Reasoning => {
                let part = item["summary"][0].clone();
                let text = json!({ "summary_index": 0, "text": part["text"] });
                events.push(self.at("response.reasoning_summary_text.done", text));
                let part = json!({ "summary_index": 0, "part": part });
                Some(self.at("response.reasoning_summary_part.done", part))
            }
            Open::Text => {
                let part = item["content"][0].clone();
                let text = json!({ "content_index": 0, "text": part["text"], "logprobs": [] });
                events.push(self.at("response.output_text.done", text));
                let part = json!({ "content_index": 0, "part": part });
                Some(self.at("response.content_part.done", part))
            }
            Open::Call(_) => {
                let done = json!({ "name": item["name"], "arguments": item["arguments"] });
                Some(self.at("response.function_call_arguments.done", done))
            }
        };
        events.extend(done);
        if what != Open::Reasoning {
            self.set("/status", "completed".into());
        }
        let item = self.output.last().cloned().unwrap_or_default();
        events.push(self.at("response.output_item.done", json!({ "item": item })));
    }

    fn set(&mut self, at: &str, value: Value) {
        if let Some(place) = self.output.last_mut().and_then(|item| item.pointer_mut(at)) {
            *place = value;
        }
    }

    fn add(&mut self, at: &str, more: &str) {
        let place = self.output.last_mut().and_then(|item| item.pointer_mut(at));
        if let Some(Value::String(text)) = place {
            text.push_str(more);
        }
    }

    /// Makes an event about the item that is being written.
    fn at(&mut self, kind: &str, mut event: Value) -> Value {
        let index = self.output.len().saturating_sub(1);
        event["output_index"] = index.into();
        event["item_id"] = self.output.last().map_or(Value::Null, |item| item["id"].clone());
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
            "usage": self.usage,
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

fn usage(usage: &Value) -> Value {
    let count = |at: &str| usage.pointer(at).and_then(Value::as_u64).unwrap_or_default();
    let (input, output) = (count("/prompt_tokens"), count("/completion_tokens"));
    json!({
        "input_tokens": input,
        "input_tokens_details": { "cached_tokens": count("/prompt_tokens_details/cached_tokens") },
        "output_tokens": output,
        "output_tokens_details": {
            "reasoning_tokens": count("/completion_tokens_details/reasoning_tokens"),
        },
        "total_tokens": input + output,
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
        let whole = response(&chat, &Map::new(), 7);
        let kinds: Vec<_> =
            whole["output"].as_array().unwrap().iter().map(|o| &o["type"]).collect();
        assert_eq!(kinds, ["reasoning", "message", "function_call"]);
        assert_eq!(whole["usage"]["total_tokens"], 5);

        let mut events = Events::new(Map::new(), 7);
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
