//! The bridge behind something that knows callers, and a server that waits.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::Request;
use mcp_bridge::Config;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{DecidePinRequest, ListCallsRequest, ListPinsRequest, PinState};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
    ContentBlock, ErrorData, Implementation, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, RoleClient, ServerHandler};
use runtime::metrics::Metrics;
use runtime::transport::{Peer, in_process};
use serde_json::{Value, json};
use testkit::mcp::{Served, serve};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower::Service as _;
use types::{CallContext, TenantId, UserId};

/// The bridge behind something that knows callers, as the gateway does: by `x-tenant`, `x-user` and
/// `x-tools`, the one pattern that the caller's key allows.
pub(crate) struct Bridge {
    pub(crate) url: String,
    bridge: mcp_bridge::Bridge,
    task: JoinHandle<()>,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bridge {
    pub(crate) async fn new(servers: Value) -> Self {
        Self::configured(json!({ "servers": servers })).await
    }

    pub(crate) async fn configured(mut config: Value) -> Self {
        if config["store"].is_null() {
            config["store"] = json!("sqlite::memory:");
        }
        let config: Config = serde_json::from_value(config).unwrap();
        let bridge = mcp_bridge::server(config, &Metrics::default()).await.unwrap();
        let service = bridge.clone();
        let answer = move |request: Request| {
            let mut bridge = service.clone();
            async move {
                let headers = request.headers().clone();
                let said = |name: &str, or: &str| {
                    let said = headers.get(name);
                    said.map_or(or, |said| said.to_str().unwrap()).to_owned()
                };
                let tenant = TenantId::new(said("x-tenant", "t")).unwrap();
                let mut context =
                    CallContext::new(tenant, UserId::new(said("x-user", "ann")).unwrap());
                context.tools =
                    headers.contains_key("x-tools").then(|| [said("x-tools", "")].into());
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
            bridge,
            task: tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
        }
    }

    /// Returns the calls of tenant `t` until now, the oldest first, as tool, rule and outcome.
    pub(crate) async fn calls(&self) -> Vec<[String; 3]> {
        self.bridge.finish().await;
        let request = ListCallsRequest { before: None, limit: 0 };
        let listed = self.service().list_calls(runtime::context::request(&ann(), request)).await;
        let calls = listed.unwrap().into_inner().calls.into_iter().rev();
        calls.map(|call| [call.tool, call.rule, call.outcome]).collect()
    }

    /// Approves the definition that waits under a name.
    pub(crate) async fn approve(&self, name: &str) {
        self.decide(name, PinState::Waiting, true).await;
    }

    /// Rejects the definition that is approved under a name.
    pub(crate) async fn reject(&self, name: &str) {
        self.decide(name, PinState::Approved, false).await;
    }

    async fn decide(&self, name: &str, state: PinState, approve: bool) {
        let request = ListPinsRequest { name: name.to_owned(), state: state.into() };
        let listed = self.service().list_pins(runtime::context::request(&ann(), request)).await;
        let pin = listed.unwrap().into_inner().pins.remove(0).pin;
        let request = DecidePinRequest { name: name.to_owned(), pin, approve };
        self.service().decide_pin(runtime::context::request(&ann(), request)).await.unwrap();
    }

    fn service(&self) -> BridgeServiceClient<Peer> {
        BridgeServiceClient::new(in_process(self.bridge.clone()))
    }

    pub(crate) async fn client(&self, path: &str, modern: bool) -> Client {
        self.client_as(client(ClientCapabilities::default()), path, modern).await
    }

    /// Connects a client that answers what it is asked.
    pub(crate) async fn client_as<H: ClientHandler>(
        &self,
        client: H,
        path: &str,
        modern: bool,
    ) -> RunningService<RoleClient, H> {
        self.client_with(client, path, modern, None).await
    }

    /// Connects a client whose key allows what one pattern says.
    pub(crate) async fn client_with<H: ClientHandler>(
        &self,
        client: H,
        path: &str,
        modern: bool,
        tools: Option<&'static str>,
    ) -> RunningService<RoleClient, H> {
        let lifecycle = match modern {
            true => ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            },
            false => ClientLifecycleMode::Initialize,
        };
        let url = format!("{}{path}", self.url);
        let shown = tools.map(|tools| {
            (http::HeaderName::from_static("x-tools"), http::HeaderValue::from_static(tools))
        });
        let config = StreamableHttpClientTransportConfig::with_uri(url);
        let config = config.custom_headers(shown.into_iter().collect());
        let http = egress::client(egress::Reach::Anywhere).build().unwrap();
        let transport = StreamableHttpClientTransport::with_client(http, config);
        client.serve_with_lifecycle(transport, lifecycle).await.unwrap()
    }
}

fn ann() -> CallContext {
    CallContext::new(TenantId::new("t").unwrap(), UserId::new("ann").unwrap())
}

pub(crate) type Client = RunningService<RoleClient, ClientConfig>;

/// Returns a client that can be asked what it says.
pub(crate) fn client(capabilities: ClientCapabilities) -> ClientConfig {
    let mut client = ClientConfig::new(capabilities, Implementation::new("test", "1"));
    client.protocol_version = ProtocolVersion::V_2025_11_25;
    client
}

/// A server that says what it was told, and can be made to wait.
#[derive(Clone, Default)]
pub(crate) struct Slow {
    pub(crate) began: Arc<Notify>,
    pub(crate) cancelled: Arc<Notify>,
    /// It speaks 2026-07-28 and nothing else.
    pub(crate) modern: bool,
}

impl ServerHandler for Slow {
    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        match self.modern {
            true => Cow::Borrowed(&[ProtocolVersion::V_2026_07_28]),
            false => Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS),
        }
    }

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
        Ok(ListToolsResult::with_all_items(["wait", "session", "meta", "shown"].map(tool).to_vec()))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let text = match call.name.as_ref() {
            "wait" => {
                self.began.notify_one();
                context.ct.cancelled().await;
                self.cancelled.notify_one();
                "nobody reads this".to_owned()
            }
            "meta" => serde_json::to_string(&context.meta).unwrap(),
            name => {
                let parts = context.extensions.get::<http::request::Parts>().unwrap();
                let shown = |header: &str| parts.headers.get(header).map(|it| it.to_str().unwrap());
                match name {
                    "session" => format!("{:?}", shown("mcp-session-id")),
                    _ => format!("{:?} {:?}", shown("x-baton-tenant"), shown("authorization")),
                }
            }
        };
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

pub(crate) async fn slow() -> (Slow, Served) {
    let server = Slow::default();
    let served = serve(server.clone(), StreamableHttpServerConfig::default()).await.unwrap();
    (server, served)
}

pub(crate) async fn call(client: &Client, tool: &'static str) -> String {
    let result = client.call_tool(CallToolRequestParams::new(tool)).await.unwrap();
    result.content[0].as_text().unwrap().text.clone()
}

/// Calls a tool of the server `slow` in revision 2026-07-28 and returns its text.
pub(crate) async fn raw(
    bridge: &Bridge,
    tool: &str,
    meta: Value,
    headers: &[(&str, &str)],
) -> String {
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let mut params = json!({ "name": tool, "arguments": {}, "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": {}, "experimental": { "x": {} } },
    } });
    params["_meta"].as_object_mut().unwrap().extend(meta.as_object().unwrap().clone());
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params });
    let mut request = http.post(format!("{}/slow", bridge.url)).json(&body);
    for (name, value) in [
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", tool),
        ("authorization", "Bearer the-callers-own"),
    ]
    .iter()
    .chain(headers)
    {
        request = request.header(*name, *value);
    }
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    answer["result"]["content"][0]["text"].as_str().unwrap().to_owned()
}
