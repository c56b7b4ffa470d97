//! An MCP server for a knowledge graph that agents remember by.
//!
//! Tools and their shapes are those of the reference memory server, with `restore_entities` besides
//! (docs/mcp-memory.md says what differs and why). A call is one transaction; tenants share nothing.
//! Faults are results with `isError`, so that a model reads them and goes on.

mod command;
mod config;
mod error;
pub mod graph;
mod jsonl;
mod keys;
mod store;
mod tenant;
mod tools;
mod watchers;

use std::sync::Arc;
use std::time::Duration;

use rmcp::handler::server::tool::ToolRouter;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, Implementation, ListResourcesResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult,
    Resource, ResourceContents, ServerCapabilities, ServerConfig, SubscribeRequestParams,
    UnsubscribeRequestParams,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool_handler};
use types::{Clock, SystemClock};

pub use command::{is_command, run_command};
pub use config::Config;
pub use error::Error;
pub use jsonl::{Imported, export, import};
pub use store::{Postgres, Rules, Sqlite, Store};

use graph::{Query, Which};
use tenant::Tenants;
use watchers::Watchers;

/// The whole graph, as a resource.
const RESOURCE: &str = "memory://knowledge-graph";

/// The server.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "a store has nothing to show")]
pub struct Memory {
    store: Arc<dyn Store>,
    tenants: Tenants,
    watchers: Watchers,
    tools: ToolRouter<Self>,
}

impl Memory {
    /// Opens the store that `config` names, and sweeps it as long as the server lives.
    ///
    /// # Errors
    /// If the store cannot be opened or a setting is wrong; the message names it.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let own = config.check()?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = store::open(config, clock).await?;
        let every = Duration::from_millis(config.sweep_ms);
        tokio::spawn(store::sweep(Arc::downgrade(&store), every));
        let tenants = Tenants { own, token: config.bridge_token.clone() };
        Ok(Self { store, tenants, watchers: Watchers::default(), tools: Self::tool_router() })
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Memory {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities).with_server_info(name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        mcp_server::call(&self.tools, self, request, context).await
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let graph = Resource::new(RESOURCE, "knowledge-graph")
            .with_title("Knowledge Graph")
            .with_description("The full knowledge graph with all entities and relations")
            .with_mime_type("application/json");
        Ok(ListResourcesResult::with_all_items(vec![graph]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        is_known(&request.uri)?;
        let fault = |fault: Error| ErrorData::invalid_params(fault.to_string(), None);
        let tenant = self.tenants.of(&context).map_err(fault)?;
        let all = Query { which: Which::All, limit: None, cursor: 0 };
        let page = self.store.read(&tenant, &all).await.map_err(fault)?;
        let text = serde_json::to_string_pretty(&page).unwrap_or_default();
        let contents = ResourceContents::text(text, RESOURCE).with_mime_type("application/json");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        is_known(&request.uri)?;
        let fault = |fault: Error| ErrorData::invalid_params(fault.to_string(), None);
        let tenant = self.tenants.of(&context).map_err(fault)?;
        match self.watchers.add(tenant, context.peer.clone()) {
            true => Ok(()),
            false => Err(ErrorData::internal_error("too many have subscribed", None)),
        }
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        is_known(&request.uri)?;
        let fault = |fault: Error| ErrorData::invalid_params(fault.to_string(), None);
        self.watchers.remove(&self.tenants.of(&context).map_err(fault)?);
        Ok(())
    }
}

fn is_known(uri: &str) -> Result<(), ErrorData> {
    match uri == RESOURCE {
        true => Ok(()),
        false => Err(ErrorData::resource_not_found(format!("unknown resource {uri:?}"), None)),
    }
}
