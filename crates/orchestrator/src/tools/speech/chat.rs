//! Chat completions with tools of MCP servers. They have no words for calls that are made on the other
//! side: those are told in `baton.tool_calls` of the answer, or of the chunk that ends it.

use serde_json::{Map, Value, json};

use super::{Asked, Gave, Speech, Stop, Turn, add, choice};
use crate::tools::offer::Toolbox;

pub(in crate::tools) struct Chat {
    body: Map<String, Value>,
    wants_usage: bool,
    /// The first chunk, of which every other has the id.
    first: Option<Map<String, Value>>,
    model: Value,
    /// The turn's message, as far as it has come.
    message: Map<String, Value>,
    calls: Vec<Value>,
    finish: Value,
    /// What the model said in all turns.
    said: String,
    usage: Value,
    told: Vec<Value>,
    turns: u32,
}

impl Chat {
    pub(in crate::tools) fn new(body: Map<String, Value>) -> Self {
        let wants_usage = body.get("stream_options").is_some_and(|o| o["include_usage"] == true);
        Self {
            body,
            wants_usage,
            first: None,
            model: Value::Null,
            message: Map::new(),
            calls: Vec::new(),
            finish: Value::Null,
            said: String::new(),
            usage: Value::Null,
            told: Vec::new(),
            turns: 0,
        }
    }

    fn say(&mut self, message: Value) {
        if let Some(Value::Array(messages)) = self.body.get_mut("messages") {
            messages.push(message);
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = self.first.clone().unwrap_or_default();
        chunk.insert("choices".to_owned(), choices);
        chunk.insert("model".to_owned(), self.model.clone());
        chunk.remove("usage");
        Value::Object(chunk)
    }
}

impl Speech for Chat {
    fn body(&self, tools: &Toolbox, last: bool) -> Value {
        let mut body = self.body.clone();
        let function = |name: &str| json!({ "type": "function", "function": { "name": name } });
        let offered = tools.tools.iter().map(|tool| {
            json!({ "type": "function", "function": {
                "name": tool.offered, "description": tool.description, "parameters": tool.schema,
            } })
        });
        if let Value::Array(all) = body.entry("tools").or_insert_with(|| json!([])) {
            all.extend(offered);
        }
        let chosen = match last {
            true => Some("none".into()),
            false => choice(body.get("tool_choice"), tools, self.turns == 0, function),
        };
        match chosen {
            Some(chosen) => body.insert("tool_choice".to_owned(), chosen),
            None => body.remove("tool_choice"),
        };
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        Value::Object(body)
    }

    fn piece(&mut self, mut chunk: Value) -> Vec<Value> {
        if chunk["usage"].is_object() {
            add(&mut self.usage, &chunk["usage"]);
        }
        if let Value::Object(fields) = &chunk {
            self.first.get_or_insert_with(|| fields.clone());
            self.model = chunk["model"].clone();
        }
        let Some(choice) = chunk.pointer_mut("/choices/0").map(Value::take) else {
            return Vec::new();
        };
        if !choice["finish_reason"].is_null() {
            self.finish = choice["finish_reason"].clone();
        }
        let Value::Object(mut delta) = choice["delta"].clone() else { return Vec::new() };
        for call in delta.remove("tool_calls").iter().flat_map(Value::as_array).flatten() {
            merge(&mut self.calls, call);
        }
        let news = delta.iter().any(|(name, value)| {
            name != "role" && !value.is_null() && value.as_str().is_none_or(|text| !text.is_empty())
        });
        if let Some(text) = delta.get_mut("content").filter(|text| text.is_string()) {
            let mut piece = text.as_str().unwrap_or_default().to_owned();
            if !piece.is_empty() && self.message.get("content").is_none() && !self.said.is_empty() {
                // What was said before a call ended as a message of its own.
                piece.insert_str(0, "\n\n");
            }
            self.said.push_str(&piece);
            *text = piece.into();
        }
        for (name, value) in &delta {
            match (self.message.get_mut(name), value.as_str()) {
                (Some(Value::String(text)), Some(more)) if name != "role" => text.push_str(more),
                _ if value.is_null() || value == "" => {}
                _ => {
                    self.message.insert(name.clone(), value.clone());
                }
            }
        }
        if !news {
            return Vec::new();
        }
        vec![self.chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]))]
    }

    fn turn(&mut self, tools: &Toolbox) -> Turn {
        self.turns += 1;
        let mut message = std::mem::take(&mut self.message);
        message.insert("role".to_owned(), "assistant".into());
        let mut turn = Turn::default();
        let name = |call: &Value| call["function"]["name"].as_str().unwrap_or_default().to_owned();
        let all = std::mem::take(&mut self.calls);
        let (ours, theirs): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|call| tools.find(&name(call)).is_some());
        // Their client answers its own calls, and the model asks for the others again. What was cut
        // off is not called.
        if !theirs.is_empty() || self.finish == "length" || self.finish == "content_filter" {
            self.calls = theirs;
            turn.over = true;
            return turn;
        }
        if ours.is_empty() {
            return turn;
        }
        for (place, call) in ours.iter().enumerate() {
            let Some(tool) = tools.find(&name(call)) else { continue };
            let id = call["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
            turn.calls.push(Asked {
                id: id.unwrap_or_else(|| format!("call_{}_{place}", self.turns)),
                tool: tool.clone(),
                arguments: call["function"]["arguments"].as_str().unwrap_or_default().to_owned(),
                besides: Map::new(),
                approval: None,
            });
        }
        let mut calls = ours;
        for (call, asked) in calls.iter_mut().zip(&turn.calls) {
            call["id"] = asked.id.as_str().into();
            if let Value::Object(call) = call {
                call.remove("index");
            }
        }
        message.entry("content").or_insert(Value::Null);
        message.insert("tool_calls".to_owned(), calls.into());
        self.say(Value::Object(message));
        turn
    }

    fn calling(&mut self, _: &Asked) -> Vec<Value> {
        Vec::new()
    }

    fn called(&mut self, call: &Asked, gave: &Gave) -> Vec<Value> {
        let output = gave.output.as_ref();
        let content = types::tool_result(output.map(String::as_str).map_err(String::as_str));
        self.say(json!({ "role": "tool", "tool_call_id": call.id, "content": content }));
        self.told.push(json!({
            "id": call.id,
            "server_label": call.tool.server,
            "name": call.tool.name,
            "arguments": call.arguments,
            "outcome": gave.outcome,
            "error": gave.output.as_ref().err(),
            "took_ms": gave.took_ms,
        }));
        Vec::new()
    }

    fn answer(&mut self, stop: Stop, run: &str) -> Value {
        let mut message = json!({ "role": "assistant", "content": null });
        if !self.said.is_empty() {
            message["content"] = self.said.as_str().into();
        }
        let mut finish = self.finish.clone();
        if !self.calls.is_empty() {
            message["tool_calls"] = std::mem::take(&mut self.calls).into();
        } else if stop == Stop::Limit {
            finish = "length".into();
        }
        let mut answer = self.chunk(
            json!([{ "index": 0, "message": message, "finish_reason": finish, "logprobs": null }]),
        );
        answer["object"] = "chat.completion".into();
        answer["usage"] = self.usage.clone();
        answer["baton"] = json!({
            "run_id": run,
            "tool_calls": self.told,
            "stopped": (stop == Stop::Limit).then_some("step_limit"),
        });
        answer
    }

    fn end(&mut self, answer: &Value) -> Vec<Value> {
        let choice = &answer["choices"][0];
        let mut events = Vec::new();
        if let Value::Array(calls) = &choice["message"]["tool_calls"] {
            let calls = calls.iter().enumerate().map(|(index, call)| {
                let mut call = call.clone();
                call["index"] = index.into();
                call
            });
            let delta = json!({ "tool_calls": calls.collect::<Vec<_>>() });
            events.push(self.chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }])));
        }
        let end = json!([{ "index": 0, "delta": {}, "finish_reason": choice["finish_reason"] }]);
        let mut end = self.chunk(end);
        end["baton"] = answer["baton"].clone();
        events.push(end);
        if self.wants_usage {
            let mut last = self.chunk(json!([]));
            last["usage"] = self.usage.clone();
            events.push(last);
        }
        events
    }

    fn text(&self, _: &Value) -> String {
        self.said.clone()
    }
}

/// Adds a piece of a call to the calls of a turn.
fn merge(calls: &mut Vec<Value>, piece: &Value) {
    let index = piece["index"].as_u64().and_then(|index| usize::try_from(index).ok());
    let index = index.unwrap_or(calls.len()).min(calls.len());
    if index == calls.len() {
        calls.push(json!({ "type": "function", "function": { "name": "", "arguments": "" } }));
    }
    let (Some(Value::Object(call)), Value::Object(piece)) = (calls.get_mut(index), piece) else {
        return;
    };
    for (name, value) in piece {
        match (name.as_str(), value) {
            ("index", _) | (_, Value::Null) => {}
            ("function", Value::Object(function)) => {
                for name in ["name", "arguments"] {
                    let more = function.get(name).and_then(Value::as_str).unwrap_or_default();
                    if let Some(Value::String(text)) =
                        call.get_mut("function").and_then(|function| function.get_mut(name))
                    {
                        text.push_str(more);
                    }
                }
            }
            _ => {
                call.insert(name.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::tools::offer::Tool;

    fn tools() -> Toolbox {
        let tool = Tool {
            offered: "files__read".to_owned(),
            bridged: "files__read".to_owned(),
            server: "files".to_owned(),
            name: "read".to_owned(),
            description: String::new(),
            schema: json!({ "type": "object" }),
            asks: false,
            private: false,
        };
        Toolbox { tools: vec![Arc::new(tool)] }
    }

    fn chat(choice: &str) -> Chat {
        let body = json!({
            "model": "m", "messages": [{ "role": "user", "content": "x" }], "tool_choice": choice,
        });
        let Value::Object(body) = body else { panic!("{body}") };
        Chat::new(body)
    }

    fn turn(chat: &mut Chat, names: &[&str], finish: &str) -> Turn {
        let calls = names.iter().enumerate().map(|(index, name)| {
            json!({ "index": index, "id": format!("c{index}"), "extra_content": { "a": 1 },
                "function": { "name": name, "arguments": "{}" } })
        });
        let delta = json!({ "role": "assistant", "content": "hm", "tool_calls": calls.collect::<Vec<_>>() });
        let chunk = json!({ "id": "1", "model": "m", "choices": [{ "delta": delta, "finish_reason": finish }] });
        chat.piece(chunk);
        chat.turn(&tools())
    }

    #[test]
    fn a_call_of_a_server_is_made_and_one_of_the_client_ends_the_answer() {
        let mut chat = chat("required");
        assert_eq!(chat.body(&tools(), false)["tool_choice"], "required");
        let first = turn(&mut chat, &["files__read"], "tool_calls");
        assert!(first.calls.len() == 1 && !first.over, "{first:?}");
        let gave = Gave { output: Err("gone".to_owned()), outcome: "failed", took_ms: 1 };
        chat.called(&first.calls[0], &gave);
        let body = chat.body(&tools(), false);
        assert!(body.get("tool_choice").is_none(), "it was chosen once: {body}");
        let said = body["messages"].as_array().unwrap();
        assert_eq!(said[1]["tool_calls"][0]["extra_content"]["a"], 1, "it gets its thought back");
        assert_eq!(said[2]["content"], types::tool_result(Err("gone")));

        let second = turn(&mut chat, &["files__read", "add"], "tool_calls");
        assert!(second.calls.is_empty() && second.over, "{second:?}");
        let answer = chat.answer(Stop::Answered, "r");
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["tool_calls"].as_array().unwrap().len(), 1);
        assert_eq!(message["tool_calls"][0]["function"]["name"], "add");
        assert_eq!(message["content"], "hm\n\nhm");
        assert_eq!(answer["baton"]["tool_calls"][0]["error"], "gone");
    }

    #[test]
    fn what_was_cut_off_is_not_called() {
        let mut chat = chat("auto");
        let cut = turn(&mut chat, &["files__read"], "length");
        assert!(cut.calls.is_empty() && cut.over, "{cut:?}");
        let answer = chat.answer(Stop::Answered, "r");
        assert_eq!(answer["choices"][0]["finish_reason"], "length");
        assert!(answer["choices"][0]["message"].get("tool_calls").is_none(), "{answer}");
    }
}
