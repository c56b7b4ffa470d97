//! How it is reached, and what it says to what is no call.

use mcp_filesystem::{Filesystem, Roots};
use rmcp::ServiceExt as _;
use rmcp::model::CallToolRequestParams;
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};

use super::Place;

#[tokio::test]
async fn it_speaks_over_stdio() {
    let place = Place::new();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-filesystem"));
    command.arg("--stdio").env("BATON_MCP_FILESYSTEM__ROOT", place.root());
    let client = ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
    let arguments = json!({ "path": "sub/inner.txt" }).as_object().unwrap().clone();
    let request = CallToolRequestParams::new("read_text_file").with_arguments(arguments);
    let answer = client.call_tool(request).await.unwrap();
    assert_eq!(answer.structured_content.unwrap()["content"], "inner");
}

#[tokio::test]
async fn another_host_or_origin_is_refused() {
    let place = Place::new();
    let server = place.connect().await;
    let own = server.url.trim_end_matches("/mcp");
    let named = own.replace("127.0.0.1", "localhost");
    for (header, value, is_refused) in [
        ("host", "x.example", true),
        ("origin", "https://x.example", true),
        ("origin", "http://localhost:1", true),
        ("origin", "null", true),
        ("origin", own, false),
        ("origin", &named, false),
    ] {
        let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
        let reply = post(&server.url, list.to_string()).header(header, value).send().await.unwrap();
        assert_eq!(reply.status() == 403, is_refused, "{header} {value}");
    }
}

#[tokio::test]
async fn a_name_that_is_no_unicode_is_no_json_and_the_next_call_is_answered() {
    let place = Place::new();
    let server = place.connect().await;
    let before = place.everything();
    let call = |path: &[u8]| {
        let head = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write_file","arguments":{"content":"x","path":""#;
        [head.as_bytes(), path, br#""}}}"#].concat()
    };
    for path in [&b"caf\xe9"[..], br"\ud800", b"a\nb"] {
        let reply = post(&server.url, call(path)).send().await.unwrap();
        assert!(reply.status().is_client_error(), "{path:?}: {}", reply.status());
    }
    assert!(place.everything() == before, "something was touched");
    assert_eq!(server.read("sub/inner.txt").await.unwrap(), "inner");
}

#[tokio::test]
async fn what_misses_the_schema_is_pointed_at_and_an_unknown_tool_has_its_neighbours_named() {
    let place = Place::new();
    let server = place.connect().await;
    let edits = |edit: Value| json!({ "path": "notes.txt", "edits": [edit] });
    for (tool, arguments, fault) in [
        ("read_text_file", json!({}), "missing field `path`"),
        ("read_text_file", json!({ "path": 1 }), "/path: invalid type: integer"),
        ("read_text_file", json!({ "path": "notes.txt", "heads": 1 }), "unknown field `heads`"),
        ("read_text_file", json!({ "path": "notes.txt", "head": -1 }), "/head: -1 is not a number"),
        (
            "read_text_file",
            json!({ "path": "notes.txt", "tail": 1.5 }),
            "/tail: 1.5 is not a number",
        ),
        ("read_text_file", json!({ "path": "notes.txt", "tail": 1, "head": 1 }), "at once"),
        ("read_multiple_files", json!({ "paths": [] }), "/paths: 0 files"),
        ("read_multiple_files", json!({ "paths": ["x", null] }), "/paths/1: invalid type: null"),
        ("list_directory_with_sizes", json!({ "path": ".", "sortBy": "age" }), "/sortBy: unknown"),
        ("search_files", json!({ "path": ".", "pattern": "[" }), "pattern"),
        ("search_files", json!({ "path": ".", "pattern": "x".repeat(1025) }), "1024 bytes"),
        (
            "directory_tree",
            json!({ "path": ".", "excludePatterns": vec!["x"; 257] }),
            "257 patterns",
        ),
        ("edit_file", edits(json!({ "oldText": "x" })), "/edits/0: missing field `newText`"),
        (
            "edit_file",
            edits(json!({ "oldText": "", "newText": "x" })),
            "edit 1 of \"notes.txt\": oldText is empty",
        ),
    ] {
        let told = server.ask(tool, arguments).await.unwrap_err();
        assert!(told.contains(fault), "{tool}: {told}");
    }
    for (name, hint) in
        [("read_txt_file", "there is read_file, read_text_file"), ("x", "unknown tool \"x\"")]
    {
        let told = server.client.call_tool(CallToolRequestParams::new(name)).await.unwrap_err();
        assert!(told.to_string().contains(hint), "{told}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_good_does_not_start() {
    let place = Place::new();
    let good = place.config();
    let with = |root: Roots| mcp_filesystem::Config { root, ..good.clone() };
    for (config, word) in [
        (with(Roots::Many(Vec::new())), "no directory is given"),
        (with(place.at("nowhere").into()), "nowhere"),
        (with(place.at("secret.txt").into()), "secret.txt"),
        (mcp_filesystem::Config { max_depth: 257, ..good.clone() }, "max_depth"),
        (mcp_filesystem::Config { forbidden: vec!["a/b".into()], ..good.clone() }, "is a path"),
        (mcp_filesystem::Config { forbidden: vec!["[".into()], ..good.clone() }, "forbidden"),
    ] {
        let fault = format!("{:#}", Filesystem::open(&config).unwrap_err());
        assert!(fault.contains(word), "{fault}");
    }
}

fn post(url: &str, body: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
    #[expect(clippy::disallowed_methods, reason = "a client from outside")]
    let client = reqwest::Client::new();
    let accept = "application/json, text/event-stream";
    client.post(url).header("accept", accept).header("content-type", "application/json").body(body)
}
