use std::sync::Arc;

use super::*;
use crate::tools::offer::Tool;

/// A server with a tool that is called at once, and one that its client is asked about.
fn tools() -> Toolbox {
    let tool = |name: &str, asks: bool| {
        Arc::new(Tool {
            offered: format!("files__{name}"),
            bridged: format!("files__{name}"),
            server: "files".to_owned(),
            name: name.to_owned(),
            description: String::new(),
            schema: json!({ "type": "object" }),
            asks,
            private: false,
        })
    };
    Toolbox { tools: vec![tool("read", false), tool("write", true)] }
}

fn responses(body: Value) -> Responses {
    let Value::Object(body) = body else { panic!("{body}") };
    Responses::new(body, json!([{ "type": "mcp", "server_label": "files" }]), &tools())
}

fn asked(choice: &str) -> Responses {
    responses(json!({ "model": "m", "input": "hi", "tool_choice": choice }))
}

fn message(text: &str) -> Value {
    let content = json!([{ "type": "output_text", "text": text }]);
    json!({ "id": "msg", "type": "message", "role": "assistant", "content": content })
}

fn call(id: &str, name: &str) -> Value {
    json!({ "id": "fc", "type": "function_call", "call_id": format!("call_{id}"), "name": name,
        "arguments": "{}", "extra_content": { "thought": id } })
}

/// Streams a turn of a model, and returns what the client sees of it before it ends.
fn stream(said: &mut Responses, items: &[Value], status: &str) -> Vec<Value> {
    let response = |status: &str| {
        json!({ "id": "theirs", "status": status,
        "usage": { "input_tokens": 3, "output_tokens_details": { "reasoning_tokens": 1 } } })
    };
    let mut chunks = vec![
        json!({ "type": "response.created", "response": response("in_progress") }),
        json!({ "type": "response.in_progress", "response": response("in_progress") }),
    ];
    for (place, item) in items.iter().enumerate() {
        let event =
            |kind: &str| json!({ "type": format!("response.{kind}"), "output_index": place });
        let mut added = event("output_item.added");
        let mut done = event("output_item.done");
        (added["item"], done["item"]) = (item.clone(), item.clone());
        chunks.extend([added, event("delta"), done]);
    }
    chunks.push(json!({ "type": format!("response.{status}"), "response": response(status) }));
    chunks.into_iter().flat_map(|chunk| said.piece(chunk)).collect()
}

/// Events as `kind place`, without what all begin with.
fn kinds(events: &[Value]) -> Vec<String> {
    let kind = |event: &Value| {
        let kind = event["type"].as_str().unwrap().trim_start_matches("response.").to_owned();
        let place = event["output_index"].as_u64();
        place.map_or(kind.clone(), |place| format!("{kind} {place}"))
    };
    events.iter().map(kind).collect()
}

fn types(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["type"].as_str().unwrap()).collect()
}

fn gave(output: Result<&str, &str>) -> Gave {
    let output = output.map(str::to_owned).map_err(str::to_owned);
    Gave { output, outcome: "ok", took_ms: 1 }
}

#[test]
fn what_a_model_says_in_a_turn_is_called_asked_for_or_the_clients() {
    let (read, write, own) =
        (call("1", "files__read"), call("2", "files__write"), call("3", "add"));
    struct Row<'a> {
        says: &'a [&'a Value],
        status: &'a str,
        calls: &'a [&'a str],
        over: bool,
        /// What the client sees at the turn's end.
        shown: &'a [&'a str],
        /// What the output has behind what servers offer.
        output: &'a [&'a str],
    }
    let text = message("hm");
    let (request, function) = (["mcp_approval_request"], ["function_call"]);
    for row in [
        Row {
            says: &[&text],
            status: "completed",
            calls: &[],
            over: false,
            shown: &[],
            output: &["message"],
        },
        Row {
            says: &[&read],
            status: "completed",
            calls: &["mcp_1"],
            over: false,
            shown: &[],
            output: &[],
        },
        Row {
            says: &[&text, &read, &read],
            status: "completed",
            calls: &["mcp_1", "mcp_1"],
            over: false,
            shown: &[],
            output: &["message"],
        },
        Row {
            says: &[&write],
            status: "completed",
            calls: &[],
            over: true,
            shown: &["output_item.added 1", "output_item.done 1"],
            output: &request,
        },
        Row {
            says: &[&own],
            status: "completed",
            calls: &[],
            over: true,
            shown: &["output_item.added 1", "delta 1", "output_item.done 1"],
            output: &function,
        },
        // The calls of servers are made, and then the client has the word.
        Row {
            says: &[&read, &own],
            status: "completed",
            calls: &["mcp_1"],
            over: true,
            shown: &["output_item.added 1", "delta 1", "output_item.done 1"],
            output: &function,
        },
        // What was cut off is not called.
        Row {
            says: &[&read],
            status: "incomplete",
            calls: &[],
            over: true,
            shown: &[],
            output: &[],
        },
        Row {
            says: &[&text],
            status: "failed",
            calls: &[],
            over: true,
            shown: &[],
            output: &["message"],
        },
    ] {
        let mut said = asked("auto");
        let items: Vec<Value> = row.says.iter().map(|&item| item.clone()).collect();
        let told = format!("{:?} {}", types(&items), row.status);
        stream(&mut said, &items, row.status);
        let turn = said.turn(&tools());
        let calls: Vec<_> = turn.calls.iter().map(|call| call.id.as_str()).collect();
        assert_eq!((calls.as_slice(), turn.over), (row.calls, row.over), "{told}");
        assert_eq!(kinds(&turn.events), row.shown, "{told}");
        assert_eq!(types(&said.output)[1..], *row.output, "{told}");
    }
}

#[test]
fn a_client_sees_one_response_of_several_turns_in_order() {
    let mut said = asked("auto");
    let mut seen =
        stream(&mut said, &[message("Let me see."), call("1", "files__read")], "completed");
    let turn = said.turn(&tools());
    seen.extend(turn.events);
    seen.extend(said.calling(&turn.calls[0]));
    seen.extend(said.called(&turn.calls[0], &gave(Ok("text"))));
    seen.extend(stream(&mut said, &[message("Done.")], "completed"));
    seen.extend(said.turn(&tools()).events);
    let answer = said.answer(Stop::Answered, "run");
    seen.extend(said.end(&answer));
    assert_eq!(
        kinds(&seen),
        [
            "created",
            "in_progress",
            "output_item.added 0",
            "mcp_list_tools.in_progress 0",
            "mcp_list_tools.completed 0",
            "output_item.done 0",
            "output_item.added 1",
            "delta 1",
            "output_item.done 1",
            "output_item.added 2",
            "mcp_call.in_progress 2",
            "mcp_call_arguments.delta 2",
            "mcp_call_arguments.done 2",
            "mcp_call.completed 2",
            "output_item.done 2",
            "output_item.added 3",
            "delta 3",
            "output_item.done 3",
            "completed",
        ]
    );
    let numbers: Vec<_> = seen.iter().map(|event| event["sequence_number"].as_u64()).collect();
    assert_eq!(numbers, (0..19).map(Some).collect::<Vec<_>>());
    let id = &seen[0]["response"]["id"];
    assert!(*id == answer["id"] && *id != "theirs", "{id}");
    let output = answer["output"].as_array().unwrap();
    assert_eq!(types(output), ["mcp_list_tools", "message", "mcp_call", "message"]);
    assert_eq!(output[2]["output"], "text");
    assert_eq!(said.text(&answer), "Let me see.\n\nDone.");
    assert_eq!(answer["tools"], json!([{ "type": "mcp", "server_label": "files" }]));
    let usage = json!({ "input_tokens": 6, "output_tokens_details": { "reasoning_tokens": 2 } });
    assert_eq!(answer["usage"], usage);
}

#[test]
fn what_a_call_gave_stands_in_its_item_and_goes_back_to_the_model() {
    for (output, end, field, text) in
        [(Ok("text"), "completed", "output", "text"), (Err("gone"), "failed", "error", "gone")]
    {
        let mut said = asked("required");
        assert_eq!(said.body(&tools(), false)["tool_choice"], "required");
        stream(&mut said, &[message("hm"), call("1", "files__read")], "completed");
        let turn = said.turn(&tools());
        said.calling(&turn.calls[0]);
        let shown = said.called(&turn.calls[0], &gave(output));
        let end = [format!("mcp_call.{end} 2"), "output_item.done 2".to_owned()];
        assert_eq!(kinds(&shown), end);
        let item = &shown[1]["item"];
        assert_eq!((&item[field], &item["arguments"]), (&text.into(), &"{}".into()));

        let body = said.body(&tools(), false);
        let input = body["input"].as_array().unwrap();
        assert_eq!(types(input), ["message", "message", "mcp_call"]);
        assert_eq!((&input[0]["role"], &input[2]), (&"user".into(), item));
        assert_eq!(input[2]["extra_content"]["thought"], "1", "it gets its thought back");
        assert!(body.get("tool_choice").is_none(), "it was chosen once: {body}");
        assert_eq!((&body["store"], &body["stream"]), (&false.into(), &true.into()));
        let names: Vec<_> =
            body["tools"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        assert_eq!(names, ["files__read", "files__write"]);
        assert_eq!(said.body(&tools(), true)["tool_choice"], "none");
    }
}

#[test]
fn what_a_client_says_of_a_request_is_read_once() {
    let request = |id: &str| {
        json!({ "type": "mcp_approval_request", "id": id,
        "server_label": "files", "name": "write", "arguments": "{\"a\":1}" })
    };
    let answer = |id: &str, approve: bool| {
        json!({ "type": "mcp_approval_response",
        "approval_request_id": id, "approve": approve })
    };
    let called = json!({ "type": "mcp_call", "id": "mcp_1", "approval_request_id": "mcpr_1" });
    for (input, expected) in [
        (json!("hi"), vec![]),
        (json!([answer("mcpr_1", true)]), vec![("/input/0", "mcpr_1", true, false)]),
        (
            json!([request("mcpr_1"), answer("mcpr_1", false)]),
            vec![("/input/1", "mcpr_1", false, true)],
        ),
        (
            json!([answer("mcpr_1", true), answer("mcpr_2", false)]),
            vec![("/input/0", "mcpr_1", true, false), ("/input/1", "mcpr_2", false, false)],
        ),
        // It is called already.
        (json!([request("mcpr_1"), answer("mcpr_1", true), called]), vec![]),
    ] {
        let said = responses(json!({ "model": "m", "input": input }));
        let read = said.approvals();
        let read: Vec<_> = read
            .iter()
            .map(|one| {
                let at = one.at.trim_end_matches("/approval_request_id");
                (at, one.id.as_str(), one.approves, one.request.is_some())
            })
            .collect();
        assert_eq!(read, expected, "{input}");
    }

    let input = json!([request("mcpr_1"), answer("mcpr_1", true), answer("mcpr_2", false)]);
    let mut said = responses(json!({ "model": "m", "input": input }));
    let read = said.approvals();
    let call = said.approved(&read[0], &request("mcpr_1"), &tools()).unwrap();
    assert_eq!((call.id.as_str(), call.tool.name.as_str()), ("mcp_1", "write"));
    assert_eq!(call.arguments, "{\"a\":1}");
    let mut other = request("mcpr_1");
    other["name"] = "delete".into();
    assert!(said.approved(&read[0], &other, &tools()).is_none(), "it is not offered");
    // The model is told of what was refused.
    said.refused(&read[1], &request("mcpr_2"));
    let body = said.body(&tools(), false);
    let told = body["input"].as_array().unwrap().last().unwrap();
    assert_eq!((&told["type"], &told["id"]), (&"mcp_call".into(), &"mcp_2".into()));
    assert_eq!(told["error"], "the user did not approve this call");
}

#[test]
fn a_model_that_asks_for_ever_more_is_stopped() {
    let mut said = asked("auto");
    stream(&mut said, &[call("1", "files__read")], "completed");
    said.turn(&tools());
    let answer = said.answer(Stop::Limit, "run");
    assert_eq!(answer["status"], "incomplete");
    assert_eq!(answer["incomplete_details"]["reason"], "max_tool_calls");
    assert_eq!(kinds(&said.end(&answer)), ["incomplete"]);
}
