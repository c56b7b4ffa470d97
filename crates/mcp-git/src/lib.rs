//! An MCP server for the git repositories of one directory.
//!
//! Tools and their texts are those of the reference git server, with `git_blame` and `git_search`
//! besides. It reads unless it may write, executes nothing that a repository contains, and never
//! leaves its root. Faults are results with `isError`, so that a model reads them and goes on.

mod blame;
mod branches;
mod change;
mod checkout;
mod config;
mod date;
mod diff;
mod error;
mod head;
mod log;
mod output;
mod place;
mod revision;
mod sandbox;
mod search;
mod show;
mod stage;
mod status;
mod tool;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;

pub use config::Config;
pub use error::Error;
use tool::{Effect, Entry, TOOLS};
use worker::Workers;

/// The server.
#[derive(Debug, Clone)]
pub struct Git {
    workers: Arc<Workers>,
}

impl Git {
    /// Opens the directory that `config` names.
    ///
    /// # Errors
    /// If it does not exist or cannot be read, or a limit is zero.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        Ok(Self { workers: Arc::new(Workers::new(config.clone().checked()?)) })
    }

    fn may(&self, tool: &Entry) -> bool {
        self.workers.config().write || tool.effect == Effect::Reads
    }

    async fn call(&self, tool: &'static Entry, arguments: Value) -> Result<String, Error> {
        if !self.may(tool) {
            return Err(Error::ReadOnly(tool.name));
        }
        let repo_path = (tool.check)(&arguments)?;
        self.workers.run(tool, repo_path, arguments).await
    }
}

/// Does one call's work, as a process of its own: what `mcp-git worker` runs.
#[must_use]
pub fn work() -> ExitCode {
    worker::work()
}

impl ServerHandler for Git {
    fn get_info(&self) -> ServerConfig {
        let name = Implementation::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(name)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = TOOLS.iter().filter(|tool| self.may(tool)).map(Entry::listed);
        Ok(ListToolsResult::with_all_items(tools.collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = Entry::find(&request.name) else {
            let known = TOOLS.iter().filter(|tool| self.may(tool)).map(|tool| tool.name);
            return Err(mcp_server::unknown(&request.name, known));
        };
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let result = match self.call(tool, arguments).await {
            Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Err(fault) => {
                let told = format!("Error executing tool {}: {fault}", tool.name);
                CallToolResult::error(vec![ContentBlock::text(told)])
            }
        };
        Ok(result.into())
    }
}
