//! The chunks of a chat completion, put together again.

use serde_json::{Map, Value};

use crate::dialects::calls::{Calls, Place};

/// What is said once, and repeated by some.
const ONCE: [&str; 4] = ["role", "id", "type", "name"];

/// A chat completion of which chunks have come; of one choice.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    completion: Map<String, Value>,
    choice: Map<String, Value>,
    message: Map<String, Value>,
    calls: Calls,
}

impl Whole {
    /// Takes a chunk.
    pub(crate) fn push(&mut self, chunk: Value) {
        let Value::Object(chunk) = chunk else { return };
        for (name, value) in chunk {
            match value {
                Value::Null => {}
                Value::Array(choices) if name == "choices" => {
                    choices.into_iter().for_each(|choice| self.choose(choice));
                }
                value => drop(self.completion.insert(name, value)),
            }
        }
    }

    fn choose(&mut self, choice: Value) {
        let Value::Object(choice) = choice else { return };
        for (name, value) in choice {
            match value {
                Value::Null => {}
                Value::Object(mut delta) if name == "delta" => {
                    self.number(&mut delta);
                    merge(&mut self.message, delta);
                }
                value => drop(self.choice.insert(name, value)),
            }
        }
    }

    /// Numbers the pieces of calls, as not every server does.
    fn number(&mut self, delta: &mut Map<String, Value>) {
        let calls = delta.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            let (Place::New(place) | Place::Known(place)) = self.calls.take(call);
            if let Value::Object(call) = call {
                call.insert("index".to_owned(), place.into());
            }
        }
    }

    /// Returns the completion; `None` if no choice has come.
    pub(crate) fn finish(mut self) -> Option<Value> {
        if self.choice.is_empty() && self.message.is_empty() {
            return None;
        }
        for call in
            self.message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten()
        {
            if let Some(call) = call.as_object_mut() {
                call.remove("index");
            }
        }
        self.message.entry("role").or_insert_with(|| "assistant".into());
        self.message.entry("content").or_insert(Value::Null);
        self.choice.entry("finish_reason").or_insert(Value::Null);
        self.choice.insert("index".to_owned(), 0.into());
        self.choice.insert("message".to_owned(), self.message.into());
        self.completion.insert("object".to_owned(), "chat.completion".into());
        self.completion.insert("choices".to_owned(), vec![Value::Object(self.choice)].into());
        Some(self.completion.into())
    }
}

fn merge(into: &mut Map<String, Value>, delta: Map<String, Value>) {
    for (name, value) in delta {
        let once = ONCE.contains(&name.as_str());
        match (into.get_mut(&name), value) {
            (Some(_), Value::Null) => {}
            (Some(_), Value::String(nothing)) if once && nothing.is_empty() => {}
            (Some(Value::String(so_far)), Value::String(more)) if !once => so_far.push_str(&more),
            (Some(Value::Array(so_far)), Value::Array(more)) => {
                more.into_iter().for_each(|item| add(so_far, item));
            }
            (Some(Value::Object(so_far)), Value::Object(more)) => merge(so_far, more),
            (_, Value::Array(items)) => {
                let mut list = Vec::new();
                items.into_iter().for_each(|item| add(&mut list, item));
                into.insert(name, list.into());
            }
            (_, value) => drop(into.insert(name, value)),
        }
    }
}

/// Adds an item of a list, or what it says more of the one with the same index.
fn add(list: &mut Vec<Value>, item: Value) {
    let index = item.get("index").filter(|index| index.is_u64()).cloned();
    let known = index.and_then(|index| list.iter_mut().find(|one| one["index"] == index));
    match (known, item) {
        (Some(Value::Object(known)), Value::Object(item)) => merge(known, item),
        (_, item) => list.push(item),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn whole(deltas: &[Value]) -> Value {
        let mut whole = Whole::default();
        for delta in deltas {
            let choice = json!({ "index": 0, "delta": delta, "finish_reason": null });
            whole.push(json!({ "id": "1", "object": "chat.completion.chunk", "created": 7,
                "model": "m", "choices": [choice], "usage": null }));
        }
        let end = json!({ "index": 0, "delta": {}, "finish_reason": "stop" });
        whole.push(json!({ "id": "1", "choices": [end] }));
        whole.push(json!({ "id": "1", "choices": [], "usage": { "prompt_tokens": 3 } }));
        whole.finish().unwrap()
    }

    #[test]
    fn a_text_is_whole_again() {
        let first = json!({ "role": "assistant", "content": "" });
        let told = whole(&[first, json!({ "content": "po" }), json!({ "content": "ng" })]);
        let wanted = json!({
            "id": "1", "object": "chat.completion", "created": 7, "model": "m",
            "choices": [{ "index": 0, "finish_reason": "stop",
                "message": { "role": "assistant", "content": "pong" } }],
            "usage": { "prompt_tokens": 3 },
        });
        assert_eq!(told, wanted);
    }

    #[test]
    fn calls_of_tools_and_thoughts_are_whole_again() {
        let begun = |index: u64, name: &str| {
            json!({ "tool_calls": [{ "index": index, "id": name, "type": "function",
                "function": { "name": name, "arguments": "" } }] })
        };
        let more = |index: u64, part: &str| json!({ "tool_calls": [{ "index": index, "function": { "arguments": part } }] });
        let unnumbered = json!({ "tool_calls": [{ "id": "c", "type": "function",
            "function": { "name": "c", "arguments": "{}" } }] });
        let told = whole(&[
            json!({ "reasoning_content": "h" }),
            json!({ "reasoning_content": "m", "content": null }),
            begun(0, "a"),
            more(0, "{\"x\":"),
            begun(1, "b"),
            more(1, "{}"),
            more(0, "1}"),
            unnumbered,
        ]);
        let message = &told["choices"][0]["message"];
        let call = |name: &str, arguments: &str| {
            json!({ "id": name, "type": "function",
                "function": { "name": name, "arguments": arguments } })
        };
        assert_eq!(message["reasoning_content"], "hm");
        assert_eq!(message["content"], Value::Null);
        let calls = json!([call("a", "{\"x\":1}"), call("b", "{}"), call("c", "{}")]);
        assert_eq!(message["tool_calls"], calls);
    }

    #[test]
    fn a_stream_without_a_choice_is_no_completion() {
        let mut whole = Whole::default();
        whole.push(json!({ "id": "1", "choices": [], "usage": { "prompt_tokens": 3 } }));
        assert_eq!(whole.finish(), None);
    }
}
