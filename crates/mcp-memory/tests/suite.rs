//! The server as a client meets it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use rmcp::model::ProtocolVersion;
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientLifecycleMode, ClientServiceExt as _, RoleClient, ServiceExt as _};
use testkit::Process;
use testkit::process::program;

#[tokio::test]
async fn it_is_discovered_over_http_and_has_no_tools() {
    runtime::http::use_ring();
    let process = Process::service("mcp-memory", |_| {}).await.unwrap();
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp", process.url));
    let discover =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = ().serve_with_lifecycle(transport, discover).await.unwrap();
    nothing_is_listed(&client).await;
    let (status, log) = process.stop().await.unwrap();
    assert!(status.success(), "{status} {log}");
}

#[tokio::test]
async fn an_older_client_initializes_it_over_stdio() {
    let mut command = tokio::process::Command::new(program("mcp-memory").unwrap());
    command.arg("--stdio");
    let client = ().serve(TokioChildProcess::new(command).unwrap()).await.unwrap();
    nothing_is_listed(&client).await;
}

async fn nothing_is_listed(client: &rmcp::service::RunningService<RoleClient, ()>) {
    let server = client.peer_info().unwrap();
    assert!(format!("{server:?}").contains("mcp-memory"), "{server:?}");
    assert!(client.list_all_tools().await.unwrap().is_empty());
}
