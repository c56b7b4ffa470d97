//! What goes between a client and a server beside question and answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Json;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
    ContentBlock, ElicitRequestParams, ElicitResult, ElicitationAction, ErrorData,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams,
    ReadResourceResponse, Resource, ServerCapabilities, ServerConfig, SubscriptionFilter, Tool,
};
use rmcp::service::{
    NotificationContext, RequestContext, RoleClient, RoleServer, SubscriptionContext,
    SubscriptionSink,
};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::{ClientHandler, ServerHandler};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify};

use crate::support::{Bridge, client};

/// A client that a person sits at.
#[derive(Clone, Default)]
struct Person {
    asked: Arc<AtomicUsize>,
    /// A list of tools has changed.
    changed: Arc<Notify>,
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        client(ClientCapabilities::builder().enable_elicitation().build())
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let content = json!({ "name": "Zoë", "color": "blue", "ok": "yes" });
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }
}

#[tokio::test]
async fn a_client_of_before_is_asked_what_a_server_since_wants_to_know() {
    let judged = testkit::mcp::judged().await.unwrap();
    // It speaks 2026-07-28 alone.
    let bridge = Bridge::new(json!({ "judged": { "url": judged.url, "shared": true } })).await;
    let person = Person::default();
    let client = bridge.client_as(person.clone(), "/judged", false).await;
    for (tool, times) in [
        ("test_input_required_result_elicitation", 1),
        ("test_input_required_result_multi_round", 3),
        ("test_input_required_result_request_state", 4),
    ] {
        let result = client.call_tool(CallToolRequestParams::new(tool)).await.unwrap();
        assert_ne!(result.is_error, Some(true), "{result:?}");
        assert_eq!(person.asked.load(Ordering::SeqCst), times, "{tool}");
    }
    // What it did not say that it can be asked, it is not.
    let sampled = CallToolRequestParams::new("test_input_required_result_sampling");
    let result = client.call_tool(sampled).await.unwrap();
    let text = &result.content[0].as_text().unwrap().text;
    assert!(result.is_error == Some(true) && text.contains("a sampled message"), "{text}");
}

#[tokio::test]
async fn a_servers_state_comes_back_sealed_and_from_its_caller_alone() {
    let judged = testkit::mcp::judged().await.unwrap();
    let bridge = Bridge::new(json!({ "judged": { "url": judged.url } })).await;
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let ask = async |user: &str, tool: &str, state: Option<&str>| {
        let mut params = json!({ "name": tool, "arguments": {}, "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} } } });
        if let Some(state) = state {
            params["requestState"] = json!(state);
            params["inputResponses"] = json!({ "confirm": { "action": "accept" } });
        }
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
        let request = http.post(format!("{}/judged", bridge.url)).json(&body);
        let request = request
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/call")
            .header("mcp-name", tool)
            .header("x-user", user);
        request.send().await.unwrap().json::<serde_json::Value>().await.unwrap()
    };
    let tool = "test_input_required_result_request_state";
    let first = ask("ann", tool, None).await;
    assert_eq!(first["result"]["resultType"], "input_required", "{first}");
    let state = first["result"]["requestState"].as_str().unwrap();
    let done = ask("ann", tool, Some(state)).await;
    assert_eq!(done["result"]["resultType"], "complete", "{done}");
    let twin = "test_input_required_result_tampered_state";
    for (user, tool) in [("bob", tool), ("ann", twin)] {
        let refused = ask(user, tool, Some(state)).await;
        assert_eq!(refused["error"]["code"], -32602, "{user} {tool}: {refused}");
    }
}

/// A server whose list and resource change when it is told so.
#[derive(Clone, Default)]
struct Changing {
    changes: Arc<AtomicUsize>,
    listening: Arc<Mutex<Vec<SubscriptionSink>>>,
    listened: Arc<Notify>,
    /// It tells nobody any more.
    ended: Arc<Notify>,
}

impl Changing {
    async fn change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        for sink in self.listening.lock().await.iter() {
            let _ = sink.notify_tool_list_changed().await;
            let _ = sink.notify_resource_updated("test://one").await;
        }
    }
}

impl ServerHandler for Changing {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let name = format!("tool{}", self.changes.load(Ordering::SeqCst));
        let schema = json!({ "type": "object" }).as_object().unwrap().clone();
        let tools = vec![Tool::new(name, "", schema)];
        Ok(ListToolsResult { ttl_ms: Some(3_600_000), ..ListToolsResult::with_all_items(tools) })
    }

    async fn call_tool(
        &self,
        _: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::success(vec![ContentBlock::text("done")]).into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(vec![Resource::new("test://one", "one")]))
    }

    async fn read_resource(
        &self,
        read: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        Err(ErrorData::resource_not_found(read.uri, None))
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.listening.lock().await.push(context.sink().clone());
        self.listened.notify_one();
        tokio::select! {
            () = context.cancelled() => {}
            () = self.ended.notified() => {}
        }
        Ok(())
    }
}

#[tokio::test]
async fn what_changes_at_a_server_is_told_and_asked_for_anew() {
    let server = Changing::default();
    let config = StreamableHttpServerConfig::default();
    let served = testkit::mcp::serve(server.clone(), config).await.unwrap();
    let bridge = Bridge::new(json!({ "changing": { "url": served.url } })).await;
    let modern = bridge.client("", true).await;
    assert_eq!(modern.list_all_tools().await.unwrap()[0].name, "changing__tool0");
    let person = Person::default();
    let legacy = bridge.client_as(person.clone(), "", false).await;
    // The bridge listens, too.
    server.listened.notified().await;

    let filter = SubscriptionFilter::builder()
        .tools_list_changed()
        .resource_subscriptions(["mcp+changing+test://one"; 2])
        .build();
    let mut told = modern.listen(filter).await.unwrap();
    server.listened.notified().await;
    server.change().await;
    let wait = Duration::from_secs(30);
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let change = tokio::time::timeout(wait, told.next()).await.unwrap().unwrap().unwrap();
        heard.push(serde_json::to_value(&change).unwrap());
    }
    heard.sort_by_key(|one| one["method"].to_string());
    assert_eq!(heard[0]["params"]["uri"], "mcp+changing+test://one", "{heard:?}");
    assert_eq!(heard[1]["method"], "notifications/tools/list_changed", "{heard:?}");
    tokio::time::timeout(wait, person.changed.notified()).await.unwrap();
    for client in [&legacy.list_all_tools().await.unwrap(), &modern.list_all_tools().await.unwrap()]
    {
        assert_eq!(client[0].name, "changing__tool1");
    }
    // The bridge for itself, and for the client what it named twice.
    assert_eq!(server.listening.lock().await.len(), 2);
    server.ended.notify_waiters();
    assert!(tokio::time::timeout(wait, told.next()).await.unwrap().unwrap().is_none());
}

#[tokio::test]
async fn what_is_listened_to_has_its_place_until_it_ends() {
    let server = Changing::default();
    let config = StreamableHttpServerConfig::default();
    let served = testkit::mcp::serve(server.clone(), config).await.unwrap();
    let rules = json!([{ "name": "one", "allow": ["changing__resource:*"], "concurrency": 1 }]);
    let bridge = json!({ "servers": { "changing": { "url": served.url } }, "rules": rules });
    let bridge = Bridge::configured(bridge).await;
    let client = bridge.client("/changing", true).await;
    let read = async || {
        let asked = ReadResourceRequestParams::new("test://one");
        client.read_resource(asked).await.unwrap_err().to_string()
    };
    let filter = SubscriptionFilter::builder().resource_subscription("test://one").build();
    let mut told = client.listen(filter).await.unwrap();
    let wait = Duration::from_secs(30);
    // The first that is told says that it has begun.
    let first = async {
        loop {
            server.change().await;
            if let Ok(change) = tokio::time::timeout(Duration::from_millis(50), told.next()).await {
                return change.unwrap();
            }
        }
    };
    assert!(tokio::time::timeout(wait, first).await.unwrap().is_some());
    let fault = read().await;
    assert!(fault.contains("rule \"one\" has 1 calls of a caller under way"), "{fault}");
    server.ended.notify_waiters();
    while tokio::time::timeout(wait, told.next()).await.unwrap().unwrap().is_some() {}
    let fault = read().await;
    assert!(fault.contains("-32602: test://one"), "the server's own: {fault}");
}

#[tokio::test]
async fn a_server_that_never_says_that_it_will_tell_is_not_waited_for() {
    let answer = |asked: Json<Value>| async move {
        let result = match asked["method"].as_str().unwrap() {
            "server/discover" => json!({
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private",
                "supportedVersions": ["2026-07-28"],
                "capabilities": { "resources": { "subscribe": true } },
            }),
            _ => std::future::pending().await,
        };
        Json(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }))
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let bridge = Bridge::new(json!({ "silent": { "url": url, "timeout_ms": 300 } })).await;
    let client = bridge.client("", true).await;
    let filter =
        SubscriptionFilter::builder().resource_subscription("mcp+silent+test://one").build();
    let ended = async {
        let fault = match client.listen(filter).await {
            Ok(mut told) => told.next().await.unwrap_err(),
            Err(fault) => fault,
        };
        fault.to_string()
    };
    let fault = tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
    assert!(fault.contains("did not answer within 300 ms"), "{fault}");
}
