//! Responses with tools of MCP servers, which it has items and events of its own for.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};
use types::ResponseId;

use super::{Asked, Gave, Speech, Stop, Turn, add, choice};
use crate::tools::offer::Toolbox;

/// What a client says about a call that it was asked about.
#[derive(Debug)]
pub(in crate::tools) struct Approval {
    /// Where it says so, as a JSON pointer.
    pub(in crate::tools) at: String,
    pub(in crate::tools) id: String,
    pub(in crate::tools) approves: bool,
    /// The request, where the client brings it along.
    pub(in crate::tools) request: Option<Value>,
}

pub(in crate::tools) struct Responses {
    body: Map<String, Value>,
    /// The tools as the client named them.
    tools: Value,
    id: String,
    /// Everything that was said since: what the model is told behind the input.
    more: Vec<Value>,
    output: Vec<Value>,
    sequence: u64,
    /// The client knows of the response.
    begun: bool,
    /// What it sees once it does.
    waiting: Vec<Value>,
    /// Where the items of this turn are in the output.
    places: HashMap<u64, usize>,
    /// Events of this turn's calls: whose they are is known at its end.
    held: BTreeMap<u64, Vec<Value>>,
    /// The last turn's response.
    last: Value,
    usage: Value,
    turns: u32,
}

impl Responses {
    /// `tools` are those of the request as its client sent it.
    pub(in crate::tools) fn new(body: Map<String, Value>, tools: Value, offered: &Toolbox) -> Self {
        let mut this = Self {
            body,
            tools,
            id: ResponseId::generate().to_string(),
            more: Vec::new(),
            output: Vec::new(),
            sequence: 0,
            begun: false,
            waiting: Vec::new(),
            places: HashMap::new(),
            held: BTreeMap::new(),
            last: Value::Null,
            usage: Value::Null,
            turns: 0,
        };
        this.list(offered);
        this
    }

    /// Returns what the client answers to requests for approval, unless the calls are made already.
    pub(in crate::tools) fn approvals(&self) -> Vec<Approval> {
        let input = self.body.get("input").and_then(Value::as_array);
        let input = input.map(Vec::as_slice).unwrap_or_default();
        let of = |kind: &'static str| input.iter().filter(move |item| item["type"] == kind);
        let answers = input.iter().enumerate();
        let answers = answers.filter(|(_, item)| item["type"] == "mcp_approval_response");
        let answers = answers.filter_map(|(index, item)| {
            let id = &item["approval_request_id"];
            if of("mcp_call").any(|call| call["approval_request_id"] == *id) {
                return None;
            }
            Some(Approval {
                at: format!("/input/{index}/approval_request_id"),
                id: id.as_str().unwrap_or_default().to_owned(),
                approves: item["approve"] == true,
                request: of("mcp_approval_request").find(|one| one["id"] == *id).cloned(),
            })
        });
        answers.collect()
    }

    /// Reads an approved call.
    pub(in crate::tools) fn approved(
        &self,
        approval: &Approval,
        request: &Value,
        tools: &Toolbox,
    ) -> Option<Asked> {
        let (server, name) = (request["server_label"].as_str()?, request["name"].as_str()?);
        Some(Asked {
            id: self.call_id(&approval.id),
            tool: tools.of_server(server, name)?.clone(),
            arguments: request["arguments"].as_str().unwrap_or_default().to_owned(),
            besides: besides(request),
            approval: Some(approval.id.clone()),
        })
    }

    /// Tells the model that its client refused a call.
    pub(in crate::tools) fn refused(&mut self, approval: &Approval, request: &Value) {
        let mut call = request.clone();
        call["type"] = "mcp_call".into();
        call["id"] = self.call_id(&approval.id).into();
        call["error"] = "the user did not approve this call".into();
        self.more.push(call);
    }

    fn call_id(&self, of: &str) -> String {
        let id = of.trim_start_matches("mcpr_").trim_start_matches("call_");
        format!("mcp_{id}")
    }

    fn item_id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.id.trim_start_matches("resp_"), self.output.len())
    }

    /// Says what each server offers.
    fn list(&mut self, offered: &Toolbox) {
        let mut servers: Vec<&str> = Vec::new();
        for tool in &offered.tools {
            if !servers.contains(&tool.server.as_str()) {
                servers.push(&tool.server);
            }
        }
        for server in servers {
            let tools = offered.tools.iter().filter(|tool| tool.server == server).map(|tool| {
                json!({
                    "name": tool.name, "description": tool.description,
                    "input_schema": tool.schema, "annotations": null,
                })
            });
            let item = json!({
                "id": self.item_id("mcpl"), "type": "mcp_list_tools", "server_label": server,
                "tools": tools.collect::<Vec<_>>(), "error": null,
            });
            let mut empty = item.clone();
            empty["tools"] = json!([]);
            let place = self.add(item.clone(), empty);
            for kind in ["in_progress", "completed"] {
                self.tell(place, &format!("response.mcp_list_tools.{kind}"), json!({}));
            }
            self.done(place, item);
        }
    }

    /// Begins an item, which its client sees as `shown`.
    fn add(&mut self, item: Value, shown: Value) -> usize {
        let place = self.output.len();
        self.output.push(item);
        self.waiting.push(json!({
            "type": "response.output_item.added", "output_index": place, "item": shown,
        }));
        place
    }

    fn tell(&mut self, place: usize, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["item_id"] = self.output[place]["id"].clone();
        event["output_index"] = place.into();
        self.waiting.push(event);
    }

    fn done(&mut self, place: usize, item: Value) {
        self.output[place] = item.clone();
        self.waiting.push(json!({
            "type": "response.output_item.done", "output_index": place, "item": item,
        }));
    }

    /// Returns what waits, numbered, once the client knows of the response.
    fn flush(&mut self) -> Vec<Value> {
        if !self.begun {
            return Vec::new();
        }
        let mut events = std::mem::take(&mut self.waiting);
        for event in &mut events {
            event["sequence_number"] = self.sequence.into();
            self.sequence += 1;
        }
        events
    }

    /// Makes a turn's response the client's.
    fn dress(&self, response: &mut Value) {
        response["id"] = self.id.as_str().into();
        response["tools"] = self.tools.clone();
        response["tool_choice"] =
            self.body.get("tool_choice").cloned().unwrap_or_else(|| "auto".into());
        response["store"] = self.body.get("store").is_none_or(|store| store != false).into();
    }
}

impl Speech for Responses {
    fn body(&self, tools: &Toolbox, last: bool) -> Value {
        let mut body = self.body.clone();
        let function = |name: &str| json!({ "type": "function", "name": name });
        let offered = tools.tools.iter().map(|tool| {
            json!({
                "type": "function", "name": tool.offered, "description": tool.description,
                "parameters": tool.schema, "strict": false,
            })
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
        let input = body.entry("input").or_insert(Value::Null);
        if let Value::String(text) = input {
            *input = json!([{ "type": "message", "role": "user", "content": text }]);
        }
        if let Value::Array(items) = input {
            items.extend(self.more.iter().cloned());
        }
        // What is kept is the whole, at the end.
        body.insert("store".to_owned(), false.into());
        body.insert("stream".to_owned(), true.into());
        Value::Object(body)
    }

    fn piece(&mut self, mut event: Value) -> Vec<Value> {
        let kind = event["type"].as_str().unwrap_or_default().to_owned();
        let place = event["output_index"].as_u64();
        match (kind.as_str(), place) {
            ("response.created" | "response.in_progress", _) => {
                if self.turns > 0 || self.begun {
                    return Vec::new();
                }
                self.dress(&mut event["response"]);
                // It comes before everything else.
                let at = if kind == "response.created" { 0 } else { 1.min(self.waiting.len()) };
                self.waiting.insert(at, event);
                self.begun = kind == "response.in_progress";
            }
            ("response.completed" | "response.incomplete" | "response.failed", _) => {
                self.last = event["response"].take();
                add(&mut self.usage, &self.last["usage"]);
            }
            ("response.output_item.added", Some(place)) => {
                if event["item"]["type"] == "function_call" {
                    self.held.insert(place, vec![event]);
                } else {
                    self.places.insert(place, self.output.len());
                    event["output_index"] = self.output.len().into();
                    self.output.push(event["item"].clone());
                    self.waiting.push(event);
                }
            }
            (_, Some(place)) => {
                if let Some(held) = self.held.get_mut(&place) {
                    held.push(event);
                } else if let Some(place) = self.places.get(&place).copied() {
                    event["output_index"] = place.into();
                    if kind == "response.output_item.done" {
                        self.output[place] = event["item"].clone();
                        self.more.push(event["item"].clone());
                    }
                    self.waiting.push(event);
                }
            }
            _ => {}
        }
        self.flush()
    }

    fn turn(&mut self, tools: &Toolbox) -> Turn {
        self.turns += 1;
        self.places.clear();
        let mut turn = Turn::default();
        // What was cut off is not called.
        let whole = self.last["status"] == "completed";
        for (_, events) in std::mem::take(&mut self.held) {
            let item = events.last().map(|event| event["item"].clone()).unwrap_or_default();
            let tool = tools.find(item["name"].as_str().unwrap_or_default());
            let arguments = item["arguments"].as_str().unwrap_or_default().to_owned();
            match tool {
                Some(_) if !whole => turn.over = true,
                Some(tool) if tool.asks => {
                    turn.over = true;
                    let mut request = json!({
                        "id": self.item_id("mcpr"), "type": "mcp_approval_request",
                        "server_label": tool.server, "name": tool.name, "arguments": arguments,
                    });
                    if let Value::Object(request) = &mut request {
                        request.extend(besides(&item));
                    }
                    let place = self.add(request.clone(), request.clone());
                    self.done(place, request);
                }
                Some(tool) => {
                    turn.calls.push(Asked {
                        id: self.call_id(item["call_id"].as_str().unwrap_or_default()),
                        tool: tool.clone(),
                        arguments,
                        besides: besides(&item),
                        approval: None,
                    });
                }
                None => {
                    turn.over = true;
                    let place = self.output.len();
                    for mut event in events {
                        event["output_index"] = place.into();
                        self.waiting.push(event);
                    }
                    self.output.push(item);
                }
            }
        }
        turn.over |= !whole;
        turn.events = self.flush();
        turn
    }

    fn calling(&mut self, call: &Asked) -> Vec<Value> {
        let item = json!({
            "id": call.id, "type": "mcp_call", "server_label": call.tool.server,
            "name": call.tool.name, "arguments": "", "output": null, "error": null,
            "approval_request_id": call.approval, "status": "in_progress",
        });
        let place = self.add(item.clone(), item);
        self.tell(place, "response.mcp_call.in_progress", json!({}));
        let arguments = call.arguments.as_str();
        self.tell(place, "response.mcp_call_arguments.delta", json!({ "delta": arguments }));
        self.tell(place, "response.mcp_call_arguments.done", json!({ "arguments": arguments }));
        self.flush()
    }

    fn called(&mut self, call: &Asked, gave: &Gave) -> Vec<Value> {
        let Some(place) = self.output.iter().rposition(|item| item["id"] == call.id.as_str())
        else {
            return Vec::new();
        };
        let mut item = self.output[place].clone();
        item["arguments"] = call.arguments.as_str().into();
        let end = match &gave.output {
            Ok(output) => {
                item["output"] = output.as_str().into();
                "completed"
            }
            Err(fault) => {
                item["error"] = fault.as_str().into();
                "failed"
            }
        };
        item["status"] = end.into();
        if let Value::Object(item) = &mut item {
            item.extend(call.besides.clone());
        }
        self.more.push(item.clone());
        self.tell(place, &format!("response.mcp_call.{end}"), json!({}));
        self.done(place, item);
        self.flush()
    }

    fn answer(&mut self, stop: Stop, _: &str) -> Value {
        let mut answer = self.last.take();
        self.dress(&mut answer);
        answer["output"] = self.output.clone().into();
        answer["usage"] = self.usage.clone();
        if stop == Stop::Limit {
            answer["status"] = "incomplete".into();
            answer["incomplete_details"] = json!({ "reason": "max_tool_calls" });
        }
        answer
    }

    fn end(&mut self, answer: &Value) -> Vec<Value> {
        let status = answer["status"].as_str().unwrap_or("completed");
        let end = json!({ "type": format!("response.{status}"), "response": answer });
        self.waiting.push(end);
        self.begun = true;
        self.flush()
    }

    fn text(&self, answer: &Value) -> String {
        let items = answer["output"].as_array().into_iter().flatten();
        let parts = items.filter_map(|item| item["content"].as_array()).flatten();
        parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n\n")
    }
}

/// Returns what a model said with a call that is not the call, and wants back: the thought behind it.
fn besides(item: &Value) -> Map<String, Value> {
    let thought = item.get("extra_content").cloned();
    thought.map(|thought| ("extra_content".to_owned(), thought)).into_iter().collect()
}

#[cfg(test)]
mod tests;
