//! The bridge before MCP clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::Request;
use mcp_bridge::Config;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
    ContentBlock, ErrorData, Implementation, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ReadResourceRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _, RoleClient, ServerHandler};
use serde_json::{Value, json};
use testkit::mcp::{Served, serve};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower::Service as _;
use types::{CallContext, TenantId, UserId};

/// The bridge behind something that knows callers, as the gateway does: by `x-user`.
struct Bridge {
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bridge {
    async fn new(servers: Value) -> Self {
        let config: Config = serde_json::from_value(json!({ "servers": servers })).unwrap();
        let bridge = mcp_bridge::server(config).await.unwrap();
        let answer = move |request: Request| {
            let mut bridge = bridge.clone();
            async move {
                let user = request.headers().get("x-user");
                let user = user.map_or("ann", |user| user.to_str().unwrap()).to_owned();
                let context =
                    CallContext::new(TenantId::new("t").unwrap(), UserId::new(user).unwrap());
                let mut request = request.map(tonic::body::Body::new);
                runtime::context::attach(&context, &mut request);
                bridge.call(request).await.unwrap().map(axum::body::Body::new)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer);
        Self {
            url,
            task: tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
        }
    }

    async fn client(&self, path: &str, modern: bool) -> Client {
        let name = Implementation::new("test", "1");
        let mut client = ClientConfig::new(ClientCapabilities::default(), name);
        client.protocol_version = ProtocolVersion::V_2025_11_25;
        let lifecycle = match modern {
            true => ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            },
            false => ClientLifecycleMode::Initialize,
        };
        let url = format!("{}{path}", self.url);
        let config = StreamableHttpClientTransportConfig::with_uri(url);
        let http = egress::client(egress::Reach::Anywhere).build().unwrap();
        let transport = StreamableHttpClientTransport::with_client(http, config);
        client.serve_with_lifecycle(transport, lifecycle).await.unwrap()
    }
}

type Client = RunningService<RoleClient, ClientConfig>;

/// A server that counts its sessions, and can be made to wait.
#[derive(Clone, Default)]
struct Slow {
    began: Arc<Notify>,
    cancelled: Arc<Notify>,
    calls: Arc<AtomicUsize>,
}

impl ServerHandler for Slow {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object" }).as_object().unwrap().clone();
        let tool = |name: &'static str| Tool::new(name, "", schema.clone());
        Ok(ListToolsResult::with_all_items(vec![tool("wait"), tool("session"), tool("meta")]))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let text = match call.name.as_ref() {
            "wait" => {
                self.began.notify_one();
                context.ct.cancelled().await;
                self.cancelled.notify_one();
                "nobody reads this".to_owned()
            }
            "meta" => serde_json::to_string(&context.meta).unwrap(),
            _ => {
                let parts = context.extensions.get::<http::request::Parts>().unwrap();
                format!("{:?}", parts.headers.get("mcp-session-id"))
            }
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

async fn slow() -> (Slow, Served) {
    let server = Slow::default();
    let served = serve(server.clone(), StreamableHttpServerConfig::default()).await.unwrap();
    (server, served)
}

async fn call(client: &Client, tool: &'static str) -> String {
    let result = client.call_tool(CallToolRequestParams::new(tool)).await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

#[tokio::test]
async fn all_servers_are_one_and_each_is_itself_in_both_eras() {
    let (_, first) = slow().await;
    let second = testkit::mcp::judged().await.unwrap();
    let bridge = Bridge::new(json!({
        "slow": { "url": first.url },
        "judged": { "url": second.url },
        "dead": { "url": "http://127.0.0.1:1/mcp" },
    }))
    .await;
    for modern in [true, false] {
        let client = bridge.client("", modern).await;
        let listed = client.list_tools(None).await.unwrap();
        let names: Vec<_> = listed.tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert!(names.contains(&"slow__wait") && names.contains(&"judged__test_simple_text"));
        let degraded = &listed.meta.unwrap().0["baton/degraded"];
        assert_eq!(degraded[0]["server"], "dead", "{degraded}");
        assert!(call(&client, "judged__test_simple_text").await.starts_with("This is"));

        // An address is read as it was listed, whatever server it is of.
        let resources = client.list_all_resources().await.unwrap();
        let uri = resources[0].uri.clone();
        assert_eq!(uri, "mcp+judged+test://static-text");
        let read = client.read_resource_once(ReadResourceRequestParams::new(uri)).await.unwrap();
        assert!(format!("{read:?}").contains("mcp+judged+test://static-text"), "{read:?}");
        let prompts = client.list_all_prompts().await.unwrap();
        assert!(prompts.iter().any(|one| one.name == "judged__test_simple_prompt"));

        let one = bridge.client("/judged", modern).await;
        let tools = one.list_all_tools().await.unwrap();
        assert!(tools.iter().any(|tool| tool.name == "test_simple_text"));
        assert_eq!(one.list_all_resources().await.unwrap()[0].uri, "test://static-text");
        // A name that is nearly right is told the right one.
        let wrong = CallToolRequestParams::new("judged__test_simple_txt");
        let fault = client.call_tool(wrong).await.unwrap_err().to_string();
        assert!(fault.contains("judged__test_simple_text"), "{fault}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call_at_its_server() {
    let (server, served) = slow().await;
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    let client = bridge.client("/slow", true).await;
    let waiting = tokio::spawn(async move { call(&client, "wait").await });
    server.began.notified().await;
    waiting.abort();
    tokio::time::timeout(Duration::from_secs(30), server.cancelled.notified()).await.unwrap();
}

#[tokio::test]
async fn a_call_takes_no_longer_than_its_server_may() {
    let (server, served) = slow().await;
    let bridge = Bridge::new(json!({ "slow": { "url": served.url, "timeout_ms": 50 } })).await;
    for modern in [true, false] {
        let client = bridge.client("/slow", modern).await;
        let result = client.call_tool(CallToolRequestParams::new("wait")).await.unwrap();
        let text = &result.content[0].as_text().unwrap().text;
        assert!(
            result.is_error == Some(true) && text.contains("\"slow\" did not answer"),
            "{text}"
        );
        tokio::time::timeout(Duration::from_secs(30), server.cancelled.notified()).await.unwrap();
    }
}

#[tokio::test]
async fn no_session_is_anothers() {
    let (_, served) = slow().await;
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    // Each client of before has a session of its own at the server, and keeps it.
    let (one, other) = (bridge.client("/slow", false).await, bridge.client("/slow", false).await);
    let (first, second) = (call(&one, "session").await, call(&other, "session").await);
    assert!(first.contains("Some") && second.contains("Some") && first != second, "{first}");
    assert_eq!(call(&one, "session").await, first);

    // Whoever finds out a session's name has nothing of it.
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let url = format!("{}/slow", bridge.url);
    let post = |user: &str, session: Option<&str>, body: Value| {
        let request = http.post(&url).header("x-user", user).json(&body);
        let request = request.header("accept", "application/json, text/event-stream");
        match session {
            Some(session) => request.header("mcp-session-id", session),
            None => request,
        }
    };
    let begin = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "raw", "version": "1" } } });
    let begun = post("ann", None, begin).send().await.unwrap();
    let session = begun.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let ping = || json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" });
    let status = async |user: &str| {
        post(user, Some(&session), ping()).send().await.unwrap().status().as_u16()
    };
    assert_eq!((status("ann").await, status("bob").await), (200, 404));
    for request in [http.get(&url), http.delete(&url)] {
        let request = request.header("x-user", "bob").header("mcp-session-id", &session);
        let request = request.header("accept", "text/event-stream");
        let status = request.send().await.unwrap().status().as_u16();
        assert!(status == 404 || status == 202, "{status}");
    }
    assert_eq!(status("ann").await, 200, "another's end is none of it");
}

#[tokio::test]
async fn a_server_is_told_what_concerns_it_and_no_more() {
    let (_, served) = slow().await;
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
        "name": "meta", "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": { "elicitation": {}, "experimental": { "x": {} } },
            "example.com/of-ours": 7, "progressToken": "mine",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" } } });
    let request = http.post(format!("{}/slow", bridge.url)).json(&body);
    let request = request
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2026-07-28")
        .header("mcp-method", "tools/call")
        .header("mcp-name", "meta")
        .header("authorization", "Bearer the-callers-own");
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let told = answer["result"]["content"][0]["text"].as_str().unwrap();
    let told: Value = serde_json::from_str(told).unwrap();
    assert_eq!(told["example.com/of-ours"], 7, "{told}");
    assert!(told["traceparent"].as_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    let client = &told["io.modelcontextprotocol/clientCapabilities"];
    assert!(client.get("elicitation").is_some() && client.get("experimental").is_none(), "{told}");
    assert_ne!(told["progressToken"], "mine", "{told}");
    assert_eq!(told["io.modelcontextprotocol/clientInfo"]["name"], "baton-mcp-bridge");
}
