//! The server as a client meets it, and as an attacker does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::os::unix::fs::symlink;
use std::path::Path;

use mcp_filesystem::{Config, Filesystem};
use mcp_server::Access;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::RunningService;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

type Client = RunningService<RoleClient, ()>;

/// A directory `data` beside a file and a directory that are not to be reached.
fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let make = |path: &str, text: &[u8]| {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    make("data/notes.txt", b"one\ntwo\nthree\n");
    make("data/sub/inner.txt", b"inner");
    make("data/binary", &[0xff, 0xfe]);
    make("data/large", &[b'x'; 2000]);
    make("data_evil/secret.txt", b"secret");
    make("secret.txt", b"secret");
    place
}

async fn serve(root: &Path) -> (String, DropGuard) {
    runtime::http::use_ring();
    let config = Config { root: root.to_owned(), max_file_bytes: 1000, ..Config::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let handler = Filesystem::open(&config).unwrap();
    tokio::spawn(mcp_server::serve(handler, Access::default(), listener, stop.clone()));
    (url, stop.drop_guard())
}

async fn connect(root: &Path) -> (Client, DropGuard) {
    let (url, guard) = serve(root).await;
    (().serve(StreamableHttpClientTransport::from_uri(url)).await.unwrap(), guard)
}

async fn call(client: &Client, tool: &'static str, arguments: Value) -> CallToolResult {
    let arguments = arguments.as_object().unwrap().clone();
    client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
}

async fn read(client: &Client, path: &str) -> Result<String, String> {
    let answer = call(client, "read_text_file", json!({ "path": path })).await;
    match answer.structured_content {
        Some(content) => Ok(content["content"].as_str().unwrap().to_owned()),
        None => Err(answer.content[0].as_text().unwrap().text.clone()),
    }
}

#[tokio::test]
async fn files_are_listed_and_read() {
    let place = place();
    let root = place.path().join("data");
    let (client, _guard) = connect(&root).await;
    let tools = client.list_all_tools().await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(names, ["list_allowed_directories", "list_directory", "read_text_file"]);
    assert!(tools.iter().all(|t| t.annotations.as_ref().unwrap().read_only_hint == Some(true)));

    let list = call(&client, "list_directory", json!({ "path": "." })).await;
    let list = list.structured_content.unwrap();
    assert_eq!(list["content"], "[FILE] binary\n[FILE] large\n[FILE] notes.txt\n[DIR] sub");
    assert_eq!(read(&client, "sub/inner.txt").await.unwrap(), "inner");
    let absolute = root.canonicalize().unwrap().join("sub/../sub/inner.txt");
    assert_eq!(read(&client, absolute.to_str().unwrap()).await.unwrap(), "inner");
    for (part, wanted) in [("head", "one\ntwo\n"), ("tail", "two\nthree\n")] {
        let answer = call(&client, "read_text_file", json!({ "path": "notes.txt", part: 2 })).await;
        assert_eq!(answer.structured_content.unwrap()["content"], wanted);
    }
    let both = json!({ "path": "notes.txt", "head": 1, "tail": 1 });
    assert_eq!(call(&client, "read_text_file", both).await.is_error, Some(true));
}

#[tokio::test]
async fn what_is_not_a_text_file_of_the_directory_is_refused_by_name() {
    let place = place();
    let root = place.path().join("data");
    symlink("../secret.txt", root.join("link")).unwrap();
    symlink("../data_evil", root.join("door")).unwrap();
    symlink("../nowhere", root.join("dangling")).unwrap();
    symlink(place.path().join("secret.txt"), root.join("absolute")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    symlink("sub/inner.txt", root.join("inside")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(root.join("fifo")).status().unwrap();
    assert!(fifo.success());
    let secret = place.path().canonicalize().unwrap().join("secret.txt");
    let evil = place.path().canonicalize().unwrap().join("data_evil/secret.txt");

    let (client, _guard) = connect(&root).await;
    for (path, fault) in [
        ("../secret.txt", "outside"),
        ("sub/../../secret.txt", "outside"),
        (secret.to_str().unwrap(), "outside"),
        (evil.to_str().unwrap(), "outside"),
        ("/etc/passwd", "outside"),
        ("link", "outside"),
        ("door/secret.txt", "outside"),
        ("dangling", "outside"),
        ("absolute", "outside"),
        ("magic/etc/passwd", "outside"),
        ("missing", "does not exist"),
        ("notes.txt/x", "not a directory"),
        ("sub", "not a regular file"),
        ("fifo", "not a regular file"),
        ("large", "more than 1000 bytes"),
        ("binary", "not UTF-8"),
        ("nul\0", "nul"),
    ] {
        let told = read(&client, path).await.unwrap_err();
        assert!(told.contains(fault), "{path}: {told}");
    }
    assert_eq!(read(&client, "inside").await.unwrap(), "inner", "a link that stays is followed");
    let list = call(&client, "list_directory", json!({ "path": "door" })).await;
    assert_eq!(list.is_error, Some(true));
}

#[tokio::test]
async fn it_speaks_over_stdio() {
    let place = place();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-filesystem"));
    command.arg("--stdio").env("BATON_MCP_FILESYSTEM__ROOT", place.path().join("data"));
    let client = ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
    assert_eq!(read(&client, "sub/inner.txt").await.unwrap(), "inner");
}

#[tokio::test]
async fn another_host_or_origin_is_refused() {
    let place = place();
    let (url, _guard) = serve(&place.path().join("data")).await;
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
    #[expect(clippy::disallowed_methods, reason = "a client from outside")]
    let client = reqwest::Client::new();
    let post = || {
        let accept = "application/json, text/event-stream";
        client.post(&url).header("accept", accept).json(&list)
    };
    for (header, value) in [("host", "x.example"), ("origin", "https://x.example")] {
        let reply = post().header(header, value).send().await.unwrap();
        assert_eq!(reply.status(), 403, "{header}");
    }
    assert!(post().send().await.unwrap().status() != 403);
}

#[tokio::test]
async fn what_misses_the_schema_is_pointed_at_and_an_unknown_tool_has_its_neighbours_named() {
    let place = place();
    let (client, _guard) = connect(&place.path().join("data")).await;
    for (arguments, fault) in [
        (json!({}), "missing field `path`"),
        (json!({ "path": 1 }), "/path: invalid type: integer"),
        (json!({ "path": "notes.txt", "heads": 1 }), "unknown field `heads`"),
    ] {
        let answer = call(&client, "read_text_file", arguments).await;
        assert_eq!(answer.is_error, Some(true));
        let told = &answer.content[0].as_text().unwrap().text;
        assert!(told.contains(fault), "{told}");
    }
    for (name, hint) in [("read_txt_file", "there is read_text_file"), ("x", "unknown tool")] {
        let told = client.call_tool(CallToolRequestParams::new(name)).await.unwrap_err();
        assert!(told.to_string().contains(hint), "{told}");
    }
}
