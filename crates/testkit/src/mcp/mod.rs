//! A server with the tools, resources and prompts that the protocol's judges ask for, in both eras.

#![allow(deprecated, reason = "the judges also ask for what is deprecated")]
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

mod asking;
mod offered;

use std::sync::{Arc, Mutex};

use rmcp::ServerHandler;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CompletionInfo,
    ErrorData, GetPromptRequestParams, GetPromptResponse, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, RequestStateCodec, ServerCapabilities,
    ServerConfig, SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, RoleServer, SubscriptionContext, SubscriptionSink};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The server; its clones are one.
#[derive(Clone)]
pub(crate) struct Fixture {
    states: RequestStateCodec,
    listening: Arc<Mutex<Vec<SubscriptionSink>>>,
}

/// A server that is served until this is dropped.
#[derive(Debug)]
pub struct Served {
    /// Where it is.
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves what the judges ask for.
///
/// # Errors
/// If there is no free port.
pub async fn judged() -> anyhow::Result<Served> {
    let states = RequestStateCodec::new(*b"the fixture's own key, not a secret!");
    let fixture = Fixture { states, listening: Arc::default() };
    serve(fixture, StreamableHttpServerConfig::default().with_json_response(true)).await
}

/// Serves `handler` over HTTP.
///
/// # Errors
/// If there is no free port.
pub async fn serve<H: ServerHandler + Clone>(
    handler: H,
    config: StreamableHttpServerConfig,
) -> anyhow::Result<Served> {
    serve_with(handler, config, Arc::default()).await
}

/// As [`serve`], with sessions that the caller holds, too.
///
/// # Errors
/// As there.
pub async fn serve_with<H: ServerHandler + Clone>(
    handler: H,
    config: StreamableHttpServerConfig,
    sessions: Arc<LocalSessionManager>,
) -> anyhow::Result<Served> {
    let service = StreamableHttpService::new(move || Ok(handler.clone()), sessions, config);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/mcp", listener.local_addr()?);
    let router = axum::Router::new().route_service("/mcp", service);
    let task = tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    Ok(Served { url, task })
}

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_completions()
            .enable_logging()
            .enable_prompts()
            .enable_prompts_list_changed()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .enable_tools()
            .enable_tool_list_changed()
            .build();
        ServerConfig::new(capabilities)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        offered::tools().into_iter().find(|tool| tool.name == name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(offered::tools()))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match call.name.strip_prefix("test_input_required_result_") {
            Some(which) => asking::once_more(&self.states, which, &call, &context),
            None => self.answer(&call, &context).await,
        }
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(offered::resources()))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(offered::templates()))
    }

    async fn read_resource(
        &self,
        read: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        offered::read(&read.uri)
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(offered::prompts()))
    }

    async fn get_prompt(
        &self,
        get: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        match get.name.as_str() {
            "test_input_required_result_prompt" => asking::prompt(&get),
            _ => offered::prompt(&get),
        }
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let values = ["one", "two"].map(str::to_owned).to_vec();
        Ok(CompleteResult::new(CompletionInfo::new(values).unwrap()))
    }

    async fn set_level(
        &self,
        _: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(
        &self,
        _: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.listening.lock().unwrap().push(context.sink().clone());
        context.cancelled().await;
        self.listening.lock().unwrap().retain(|sink| sink.id() != context.sink().id());
        Ok(())
    }
}

impl Fixture {
    /// Tells all who listen that a list has changed, where they want to know it.
    async fn changed(&self, which: &str) {
        let listening = self.listening.lock().unwrap().clone();
        for sink in listening {
            let _ = match which {
                "tool" => sink.notify_tool_list_changed().await,
                _ => sink.notify_prompt_list_changed().await,
            };
        }
    }
}
