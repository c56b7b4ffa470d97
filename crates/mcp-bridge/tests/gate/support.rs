//! A server whose tools change as a test says, and a bridge before it.

use std::sync::{Arc, Mutex};

use mcp_bridge::Config;
use mcp_server::Access;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{
    CallToolRequest, CallToolResponse, DecidePinRequest, ListCallsRequest, ListPinsRequest,
    ListToolsRequest, ListToolsResponse, Pin, ToolCall,
};
use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse as Answer, CallToolResult, ErrorData, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{RequestContext, RoleServer};
use runtime::metrics::Metrics;
use runtime::transport::{Peer, in_process};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use types::{CallContext, TenantId, UserId};

/// A server that lists what it is told to, and answers every call with its arguments.
#[derive(Clone, Default)]
pub(crate) struct Fickle {
    tools: Arc<Mutex<Vec<Tool>>>,
    structured: Arc<Mutex<Option<Value>>>,
    calls: Arc<Mutex<Vec<Value>>>,
}

impl Fickle {
    /// Starts it with one tool a name and definition, and returns where it is.
    pub(crate) async fn start(tools: &[(&str, Value)]) -> (Self, String, DropGuard) {
        let server = Self::default();
        server.offer(tools);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(mcp_server::serve(server.clone(), Access::default(), listener, stop.clone()));
        (server, url, stop.drop_guard())
    }

    pub(crate) fn offer(&self, tools: &[(&str, Value)]) {
        let tool = |(name, definition): &(&str, Value)| {
            let mut tool = json!({ "name": name, "inputSchema": { "type": "object" } });
            tool.as_object_mut().unwrap().extend(definition.as_object().unwrap().clone());
            serde_json::from_value(tool).unwrap()
        };
        *self.tools.lock().unwrap() = tools.iter().map(tool).collect();
    }

    pub(crate) fn answer(&self, structured: Value) {
        *self.structured.lock().unwrap() = Some(structured);
    }

    /// Returns the arguments of every call that has reached it.
    pub(crate) fn reached(&self) -> Vec<Value> {
        self.calls.lock().unwrap().clone()
    }
}

impl ServerHandler for Fickle {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.lock().unwrap().clone()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<Answer, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        self.calls.lock().unwrap().push(arguments.clone());
        let structured = self.structured.lock().unwrap().clone();
        Ok(Answer::Complete(CallToolResult::structured(structured.unwrap_or(arguments))))
    }
}

pub(crate) struct Bridge {
    service: BridgeServiceClient<Peer>,
    bridge: mcp_bridge::Bridge,
    pub(crate) metrics: Metrics,
}

impl Bridge {
    /// Starts one whose server `s` is at `url`, with other settings besides.
    pub(crate) async fn new(url: &str, settings: Value) -> Self {
        let mut config = json!({ "servers": { "s": { "url": url } }, "store": "sqlite::memory:" });
        config.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let config: Config = serde_json::from_value(config).unwrap();
        let metrics = Metrics::default();
        let bridge = mcp_bridge::server(config, &metrics).await.unwrap();
        let service = BridgeServiceClient::new(in_process(bridge.clone()));
        Self { service, bridge, metrics }
    }

    pub(crate) async fn list(&self, context: &CallContext) -> ListToolsResponse {
        let request = runtime::context::request(context, ListToolsRequest {});
        self.service.clone().list_tools(request).await.unwrap().into_inner()
    }

    /// Returns the names of the tools that are shown.
    pub(crate) async fn shown(&self, context: &CallContext) -> Vec<String> {
        self.list(context).await.tools.into_iter().map(|tool| tool.name).collect()
    }

    pub(crate) async fn call(
        &self,
        context: &CallContext,
        name: &str,
        arguments: &str,
    ) -> tonic::Result<CallToolResponse> {
        let call = CallToolRequest { name: name.to_owned(), arguments_json: arguments.to_owned() };
        let request = runtime::context::request(context, call);
        Ok(self.service.clone().call_tool(request).await?.into_inner())
    }

    /// Returns why a call is refused.
    pub(crate) async fn refusal(&self, context: &CallContext, name: &str) -> String {
        let status = self.call(context, name, "{}").await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
        status.message().to_owned()
    }

    pub(crate) async fn pins(&self, name: &str) -> Vec<Pin> {
        let request = ListPinsRequest { name: name.to_owned(), state: 0 };
        let request = runtime::context::request(&caller("t", "ada"), request);
        self.service.clone().list_pins(request).await.unwrap().into_inner().pins
    }

    pub(crate) async fn decide(&self, name: &str, pin: &str, approve: bool) -> tonic::Result<()> {
        let request = DecidePinRequest { name: name.to_owned(), pin: pin.to_owned(), approve };
        let request = runtime::context::request(&caller("t", "ada"), request);
        self.service.clone().decide_pin(request).await.map(|_| ())
    }

    /// Returns a tenant's calls until now.
    pub(crate) async fn calls(&self, tenant: &str) -> Vec<ToolCall> {
        self.bridge.finish().await;
        let request = ListCallsRequest { before: None, limit: 0 };
        let request = runtime::context::request(&caller(tenant, "ada"), request);
        self.service.clone().list_calls(request).await.unwrap().into_inner().calls
    }

    pub(crate) async fn finish(&self) {
        self.bridge.finish().await;
    }
}

pub(crate) fn caller(tenant: &str, user: &str) -> CallContext {
    CallContext::new(TenantId::new(tenant).unwrap(), UserId::new(user).unwrap())
}
