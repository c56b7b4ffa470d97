//! The bridge before real servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::time::Duration;

use mcp_bridge::Config;
use mcp_filesystem::Filesystem;
use mcp_server::Access;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{CallToolRequest, CallToolResponse, ListToolsRequest, ListToolsResponse};
use runtime::metrics::Metrics;
use runtime::transport::{Peer, in_process};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::process::program;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Code;
use types::{CallContext, Privacy, TenantId, UserId};

struct Bridge(BridgeServiceClient<Peer>);

impl Bridge {
    async fn new(servers: Value) -> Self {
        let config = json!({ "servers": servers, "store": "sqlite::memory:" });
        let config: Config = serde_json::from_value(config).unwrap();
        let server = mcp_bridge::server(config, &Metrics::default()).await.unwrap();
        Self(BridgeServiceClient::new(in_process(server)))
    }

    async fn list(&self, privacy: Privacy) -> ListToolsResponse {
        let request = runtime::context::request(&context(privacy), ListToolsRequest {});
        self.0.clone().list_tools(request).await.unwrap().into_inner()
    }

    async fn call(&self, name: &str, arguments: &str) -> tonic::Result<CallToolResponse> {
        self.call_as(Privacy::Public, name, arguments).await
    }

    async fn call_as(
        &self,
        privacy: Privacy,
        name: &str,
        arguments: &str,
    ) -> tonic::Result<CallToolResponse> {
        let call = CallToolRequest { name: name.to_owned(), arguments_json: arguments.to_owned() };
        let request = runtime::context::request(&context(privacy), call);
        Ok(self.0.clone().call_tool(request).await?.into_inner())
    }
}

fn context(privacy: Privacy) -> CallContext {
    let mut context = CallContext::new(TenantId::new("t").unwrap(), UserId::new("u").unwrap());
    context.privacy = privacy;
    context
}

fn place() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("hello.txt"), "hello").unwrap();
    place
}

/// Starts the filesystem server over HTTP and returns its address.
async fn over_http(place: &TempDir) -> (String, DropGuard) {
    let config =
        mcp_filesystem::Config { root: place.path().to_owned().into(), ..Default::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let handler = Filesystem::open(&config).unwrap();
    tokio::spawn(mcp_server::serve(handler, Access::default(), listener, stop.clone()));
    (url, stop.drop_guard())
}

/// Describes the filesystem server as a program.
fn over_stdio(place: &TempDir) -> Value {
    json!({
        "command": program("mcp-filesystem").unwrap(),
        "args": ["--stdio"],
        "env": { "BATON_MCP_FILESYSTEM__ROOT": place.path() },
    })
}

/// So many tools has the server for files.
const TOOLS: usize = 14;
const HELLO: &str = r#"{ "path": "hello.txt" }"#;

#[tokio::test]
async fn tools_of_every_server_that_answers_are_one_list() {
    let place = place();
    let (url, _guard) = over_http(&place).await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}/mcp", silent.local_addr().unwrap());
    let bridge = Bridge::new(json!({
        "near": over_stdio(&place),
        "far": { "url": url },
        "dead": { "url": "http://127.0.0.1:1/mcp" },
        "missing": { "command": "/no/such/program" },
        "silent": { "url": silent_url, "timeout_ms": 300, "start_timeout_ms": 200 },
    }))
    .await;
    let listed = bridge.list(Privacy::Public).await;
    let names: Vec<_> = listed.tools.iter().map(|tool| tool.name.as_str()).collect();
    let of = |server: &str| -> Vec<&str> {
        names.iter().filter_map(|name| name.strip_prefix(server)?.strip_prefix("__")).collect()
    };
    let (far, near) = (of("far"), of("near"));
    assert_eq!((far.len(), far.len() + near.len()), (TOOLS, names.len()), "{names:?}");
    assert_eq!(far, near);
    assert!(far.contains(&"read_text_file") && names.is_sorted(), "{names:?}");
    let degraded: Vec<_> = listed.degraded.iter().map(|one| one.server.as_str()).collect();
    assert_eq!(degraded, ["dead", "missing", "silent"], "{:?}", listed.degraded);
    assert!(listed.degraded[2].reason.contains("did not answer within 200 ms"));

    for server in ["near", "far"] {
        let answer = bridge.call(&format!("{server}__read_text_file"), HELLO).await.unwrap();
        assert_eq!(answer.structured_json, r#"{"content":"hello"}"#);
        assert!(!answer.is_error);
    }
}

#[tokio::test]
async fn a_wrong_call_is_told_what_is_wrong() {
    let place = place();
    let (url, _guard) = over_http(&place).await;
    let bridge = Bridge::new(json!({ "files": { "url": url } })).await;
    for (name, arguments, code, fault) in [
        ("files", "", Code::NotFound, "\"files\""),
        ("nobody__read", "", Code::NotFound, "nobody__read"),
        ("files__write", "", Code::NotFound, "files__write"),
        ("files__read_text_file", "[]", Code::InvalidArgument, "arguments"),
        ("files__read_text_file", "{", Code::InvalidArgument, "arguments"),
    ] {
        let status = bridge.call(name, arguments).await.unwrap_err();
        assert_eq!(status.code(), code, "{name} {arguments}: {status:?}");
        assert!(status.message().contains(fault), "{name} {arguments}: {status:?}");
    }
    // What the tool itself refuses is its answer.
    for (arguments, fault) in [(r#"{"path":"../x"}"#, "outside"), ("{}", "path")] {
        let answer = bridge.call("files__read_text_file", arguments).await.unwrap();
        assert!(answer.is_error && answer.content_json.contains(fault), "{answer:?}");
    }
}

#[tokio::test]
async fn a_tool_is_listed_with_its_own_name_and_as_private_as_its_server() {
    let place = place();
    let (url, _guard) = over_http(&place).await;
    let servers = json!({ "open": { "url": url }, "secret": { "url": url, "private": true } });
    let listed = Bridge::new(servers).await.list(Privacy::Public).await.tools;
    assert_eq!(listed.len(), 2 * TOOLS);
    for tool in listed {
        assert_eq!(tool.name, format!("{}__{}", tool.server, tool.own_name));
        assert_eq!(tool.private, tool.server == "secret", "{}", tool.name);
    }
}

#[tokio::test]
async fn a_private_call_reaches_only_what_is_local() {
    let place = place();
    let (url, _guard) = over_http(&place).await;
    let bridge = Bridge::new(json!({
        "here": { "url": url },
        "away": { "url": url, "local": false },
    }))
    .await;
    let listed = bridge.list(Privacy::Private).await;
    assert!(listed.tools.iter().all(|tool| tool.server == "here") && !listed.tools.is_empty());
    let status = bridge.call_as(Privacy::Private, "away__read_text_file", HELLO).await;
    let status = status.unwrap_err();
    assert!(status.code() == Code::PermissionDenied && status.message().contains("away"));
    bridge.call_as(Privacy::Private, "here__read_text_file", HELLO).await.unwrap();
}

#[tokio::test]
async fn a_program_that_was_killed_is_started_again_and_leaves_nothing_behind() {
    let place = place();
    let bridge = Bridge::new(json!({ "files": over_stdio(&place) })).await;
    bridge.call("files__read_text_file", HELLO).await.unwrap();
    let first = children();
    assert_eq!(first.len(), 1, "{first:?}");
    kill_process(first[0], Signal::KILL).unwrap();
    // A call that finds the connection lost fails; once that is known, the next makes it anew.
    let again = async {
        while bridge.call("files__read_text_file", HELLO).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
    let listed = bridge.list(Privacy::Public).await;
    assert_eq!(listed.tools.len(), TOOLS, "{:?}", listed.degraded);

    drop(bridge);
    let gone = async {
        while !children().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}

/// Returns the programs that this test's thread started and that were not reaped.
fn children() -> Vec<Pid> {
    let list = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    list.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap()).unwrap()).collect()
}
