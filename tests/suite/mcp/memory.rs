use serde_json::json;
use tempfile::TempDir;
use testkit::Process;

use super::clients::{Call, list_and_call};
use super::conformance::judge;

/// Starts a server of ours over HTTP that remembers nothing yet.
async fn serve() -> (TempDir, Process, String) {
    let directory = tempfile::tempdir().unwrap();
    let process = Process::service("mcp-memory", |command| {
        let store = format!("sqlite:{}", directory.path().join("memory.db").display());
        command.env("BATON_MCP_MEMORY__STORE", store);
    });
    let process = process.await.unwrap();
    let url = format!("{}/mcp", process.url);
    (directory, process, url)
}

#[tokio::test]
async fn clients_of_others_list_and_call_the_memory_server_in_every_era() {
    let (_directory, _process, url) = serve().await;
    let arguments = json!({ "query": "anything" });
    list_and_call(&url, &Call { tool: "search_nodes", arguments, answer: "entities" }).await;
}

#[tokio::test]
async fn the_memory_server_conforms_as_far_as_it_can_be_asked() {
    let (_directory, _process, url) = serve().await;
    judge(&url).await;
}
