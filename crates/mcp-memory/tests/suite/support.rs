//! A clock, graphs, and clients of servers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use mcp_memory::graph::{Addition, Change, Entity, Page, Query, Relation, Which};
use mcp_memory::{Error, Store};
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::RunningService;
use rmcp::transport::TokioChildProcess;
use rmcp::{RoleClient, ServiceExt as _};
use serde_json::Value;
use types::{Clock, TenantId};

pub(crate) type Client = RunningService<RoleClient, ()>;

/// A clock that stands until it is moved.
pub(crate) struct Hands(AtomicI64);

impl Hands {
    pub(crate) fn start() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(1_700_000_000_000)))
    }

    pub(crate) fn move_days(&self, days: i64) {
        self.0.fetch_add(days * 24 * 3_600_000, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

pub(crate) fn entity(name: &str, kind: &str, observations: &[&str]) -> Entity {
    let observations = observations.iter().map(|&text| text.to_owned()).collect();
    Entity { name: name.to_owned(), entity_type: kind.to_owned(), observations }
}

pub(crate) fn relation(from: &str, kind: &str, to: &str) -> Relation {
    Relation { from: from.to_owned(), to: to.to_owned(), relation_type: kind.to_owned() }
}

pub(crate) fn adding(name: &str, contents: &[&str]) -> Change {
    let contents = contents.iter().map(|&text| text.to_owned()).collect();
    Change::AddObservations(vec![Addition { entity_name: name.to_owned(), contents }])
}

pub(crate) fn names(of: &[&str]) -> Vec<String> {
    of.iter().map(|&name| name.to_owned()).collect()
}

pub(crate) async fn all(store: &dyn Store, tenant: &TenantId) -> Page {
    read(store, tenant, Which::All).await.unwrap()
}

pub(crate) async fn read(
    store: &dyn Store,
    tenant: &TenantId,
    which: Which,
) -> Result<Page, Error> {
    store.read(tenant, &Query { which, limit: None, cursor: 0 }).await
}

/// Returns the names of a page's entities.
pub(crate) fn named(page: &Page) -> Vec<&str> {
    page.entities.iter().map(|entity| entity.name.as_str()).collect()
}

/// Starts the server over standard input and output, on a store.
pub(crate) async fn serve(store: &str) -> Client {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-memory"));
    command.arg("--stdio").env("BATON_MCP_MEMORY__STORE", store);
    ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap()
}

pub(crate) fn sqlite(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("memory.db").display())
}

pub(crate) async fn call(client: &Client, tool: &'static str, arguments: Value) -> CallToolResult {
    let arguments = arguments.as_object().unwrap().clone();
    client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap()
}

/// Returns the text of a result that is an error.
pub(crate) fn told(result: &CallToolResult) -> &str {
    assert_eq!(result.is_error, Some(true), "{result:?}");
    &result.content[0].as_text().unwrap().text
}
