//! An MCP server for the files of a few directories.
//!
//! Tools and their shapes are those of the reference filesystem server (docs/mcp-filesystem.md says
//! what differs and why). Nothing outside the directories can be reached, by no link and by no race.
//! Faults are results with `isError`, so that a model reads them and goes on.

mod config;
mod diff;
mod edit;
mod error;
mod files;
mod info;
mod list;
mod media;
mod policy;
mod read;
mod root;
mod tools;
mod walk;
mod write;

use std::sync::Arc;
use std::time::Duration;

use mcp_server::{Blocking, Deadline};
use rmcp::handler::server::tool::ToolRouter;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool_handler};
use serde_json::json;

pub use config::{Config, Roots};
pub use error::Error;
use files::Files;

/// The server.
#[derive(Debug, Clone)]
pub struct Filesystem {
    files: Arc<Files>,
    blocking: Blocking,
    tools: ToolRouter<Self>,
}

impl Filesystem {
    /// Opens the directories that `config` names.
    ///
    /// # Errors
    /// If one does not exist or cannot be read, or a pattern is none.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let files = Arc::new(Files::open(config)?);
        let limit = Duration::from_millis(config.timeout_ms);
        let mut tools = Self::reading();
        if !config.read_only {
            tools += Self::writing();
        }
        Ok(Self { files, blocking: Blocking::new(config.max_concurrent, limit), tools })
    }

    /// Asks the file system for text.
    async fn text(
        &self,
        ask: impl FnOnce(&Files, &Deadline) -> Result<String, Error> + Send + 'static,
    ) -> CallToolResult {
        self.answer(ask, |text| {
            let mut result = CallToolResult::success(vec![ContentBlock::text(&text)]);
            result.structured_content = Some(json!({ "content": text }));
            result
        })
        .await
    }

    /// Asks the file system, apart from the threads that serve.
    async fn answer<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Files, &Deadline) -> Result<T, Error> + Send + 'static,
        told: impl FnOnce(T) -> CallToolResult,
    ) -> CallToolResult {
        let files = Arc::clone(&self.files);
        let fault = match self.blocking.run(move |deadline| ask(&files, deadline)).await {
            Ok(Ok(answer)) => return told(answer),
            Ok(Err(fault)) => fault.to_string(),
            Err(unfinished) => unfinished.to_string(),
        };
        CallToolResult::error(vec![ContentBlock::text(fault)])
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Filesystem {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        mcp_server::call(&self.tools, self, request, context).await
    }
}
