use serde_json::json;
use tempfile::TempDir;
use testkit::Process;
use tokio::process::Command;

use super::clients::{Call, list_and_call};
use super::conformance::judge;
use crate::packages::run;

/// Starts a server of ours over HTTP on a directory with one repository.
async fn serve() -> (TempDir, Process, String) {
    let root = tempfile::tempdir().unwrap();
    run(Command::new("git").args(["init", "--quiet"]).arg(root.path().join("repo"))).await;
    let process = Process::service("mcp-git", |command| {
        command.env("BATON_MCP_GIT__ROOT", root.path());
    });
    let process = process.await.unwrap();
    let url = format!("{}/mcp", process.url);
    (root, process, url)
}

#[tokio::test]
async fn clients_of_others_list_and_call_the_git_server_in_every_era() {
    let (_root, _process, url) = serve().await;
    let arguments = json!({ "repo_path": "repo" });
    let answer = "Repository status:";
    list_and_call(&url, &Call { tool: "git_status", arguments, answer }).await;
}

#[tokio::test]
async fn the_git_server_conforms_as_far_as_it_can_be_asked() {
    let (_root, _process, url) = serve().await;
    judge(&url).await;
}
