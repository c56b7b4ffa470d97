//! An MCP server for the files of one directory.
//!
//! Tools and their shapes are those of the reference filesystem server; what it cannot do yet is
//! write. Faults are results with `isError`, so that a model reads them and goes on.

mod config;
mod error;
mod root;

use std::sync::Arc;

use mcp_server::Parameters;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    JsonObject, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, tool, tool_handler, tool_router};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

pub use config::Config;
pub use error::Error;
use root::Root;

/// The server.
#[derive(Debug, Clone)]
pub struct Filesystem {
    root: Arc<Root>,
    max_file_bytes: u64,
    max_entries: usize,
}

/// Which file, and how much of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadTextFile {
    /// Relative to the allowed directory, or absolute and in it
    path: String,
    /// Only the first lines, so many
    head: Option<u32>,
    /// Only the last lines, so many
    tail: Option<u32>,
}

/// Which directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ListDirectory {
    /// Relative to the allowed directory, or absolute and in it
    path: String,
}

#[tool_router]
impl Filesystem {
    /// Opens the directory that `config` names.
    ///
    /// # Errors
    /// If it does not exist or cannot be read.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let root = Root::open(&config.root).map_err(|fault| {
            anyhow::anyhow!("mcp_filesystem.root: {}: {fault}", config.root.display())
        })?;
        Ok(Self {
            root: Arc::new(root),
            max_file_bytes: config.max_file_bytes,
            max_entries: config.max_entries,
        })
    }

    /// Read the complete contents of a text file, or its first or last lines
    #[tool(
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn read_text_file(
        &self,
        Parameters(ReadTextFile { path, head, tail }): Parameters<ReadTextFile>,
    ) -> CallToolResult {
        let limit = self.max_file_bytes;
        self.answer(move |root| {
            if head.is_some() && tail.is_some() {
                return Err(Error::Invalid("head and tail cannot be given at once"));
            }
            Ok(part(root.read(&path, limit)?, head, tail))
        })
        .await
    }

    /// List the names in a directory: [FILE] and [DIR] tell files from directories
    #[tool(
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_directory(
        &self,
        Parameters(ListDirectory { path }): Parameters<ListDirectory>,
    ) -> CallToolResult {
        let limit = self.max_entries;
        self.answer(move |root| {
            let entries = root.list(&path, limit)?;
            let line = |entry: &root::Entry| match entry.is_directory {
                true => format!("[DIR] {}", entry.name),
                false => format!("[FILE] {}", entry.name),
            };
            Ok(entries.iter().map(line).collect::<Vec<_>>().join("\n"))
        })
        .await
    }

    /// List the directories that can be reached
    #[tool(
        output_schema = content_schema(),
        annotations(read_only_hint = true, open_world_hint = false)
    )]
    async fn list_allowed_directories(&self) -> CallToolResult {
        text(format!("Allowed directories:\n{}", self.root.path().display()))
    }

    /// Asks the file system, apart from the threads that serve.
    async fn answer(
        &self,
        ask: impl FnOnce(&Root) -> Result<String, Error> + Send + 'static,
    ) -> CallToolResult {
        let root = Arc::clone(&self.root);
        match tokio::task::spawn_blocking(move || ask(&root)).await {
            Ok(Ok(answer)) => text(answer),
            Ok(Err(fault)) => failed(&fault.to_string()),
            Err(_) => failed("the file system could not be asked"),
        }
    }
}

#[tool_handler]
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
        mcp_server::call(&Self::tool_router(), self, request, context).await
    }
}

/// Returns the shape of every structured answer.
fn content_schema() -> Arc<JsonObject> {
    let schema = json!({
        "type": "object",
        "properties": { "content": { "type": "string" } },
        "required": ["content"],
        "additionalProperties": false,
    });
    Arc::new(schema.as_object().cloned().unwrap_or_default())
}

fn text(answer: String) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(&answer)]);
    result.structured_content = Some(json!({ "content": answer }));
    result
}

fn failed(fault: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(format!("Error: {fault}"))])
}

/// Returns the first or last lines of a text, or all of it.
fn part(text: String, head: Option<u32>, tail: Option<u32>) -> String {
    let lines = || text.split_inclusive('\n');
    match (head, tail) {
        (Some(count), _) => lines().take(count as usize).collect(),
        (None, Some(count)) => {
            let skipped = lines().count().saturating_sub(count as usize);
            lines().skip(skipped).collect()
        }
        (None, None) => text,
    }
}
