//! How the server is reached, whose memory it is, and what comes in and goes out.

use std::process::Output;

use rmcp::ServiceExt as _;
use rmcp::model::{ProtocolVersion, ReadResourceRequestParams};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::{ClientLifecycleMode, ClientServiceExt as _};
use serde_json::{Value, json};
use testkit::Process;

use crate::support::{Client, call, serve, sqlite, told};

fn ada() -> Value {
    json!({ "entities": [{ "name": "Ada", "entityType": "person", "observations": ["counts"] }] })
}

#[tokio::test]
async fn it_is_discovered_over_http_and_the_graph_is_a_resource() {
    runtime::http::use_ring();
    let directory = tempfile::tempdir().unwrap();
    let process = Process::service("mcp-memory", |command| {
        command.env("BATON_MCP_MEMORY__STORE", sqlite(directory.path()));
    });
    let process = process.await.unwrap();
    let transport = StreamableHttpClientTransport::from_uri(format!("{}/mcp", process.url));
    let discover =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = ().serve_with_lifecycle(transport, discover).await.unwrap();
    call(&client, "create_entities", ada()).await;
    let resources = client.list_all_resources().await.unwrap();
    assert_eq!(resources[0].uri, "memory://knowledge-graph");
    let read = async |uri: &str| client.read_resource(ReadResourceRequestParams::new(uri)).await;
    let graph = json!(read("memory://knowledge-graph").await.unwrap());
    assert_eq!(graph["contents"][0]["mimeType"], "application/json");
    let graph: Value =
        serde_json::from_str(graph["contents"][0]["text"].as_str().unwrap()).unwrap();
    let mut wanted = ada();
    wanted["relations"] = json!([]);
    assert_eq!(graph, wanted);
    assert!(read("memory://other").await.unwrap_err().to_string().contains("unknown resource"));
    drop(client);
    let (status, log) = process.stop().await.unwrap();
    assert!(status.success(), "{status} {log}");
}

#[tokio::test]
async fn a_header_says_whose_memory_it_is_with_the_token_alone() {
    runtime::http::use_ring();
    let directory = tempfile::tempdir().unwrap();
    let process = Process::service("mcp-memory", |command| {
        command.env("BATON_MCP_MEMORY__STORE", sqlite(directory.path()));
        command.env("BATON_MCP_MEMORY__BRIDGE_TOKEN", "a-token");
    });
    let process = process.await.unwrap();
    let connect = async |tenant: &str, token: &str| -> Client {
        let headers = [("x-baton-tenant", tenant)].map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
        });
        let config = StreamableHttpClientTransportConfig::with_uri(format!("{}/mcp", process.url))
            .auth_header(token)
            .custom_headers(headers.into());
        ().serve(StreamableHttpClientTransport::from_config(config)).await.unwrap()
    };
    let acme = connect("acme", "a-token").await;
    call(&acme, "create_entities", ada()).await;
    let count = async |client: &Client| {
        let graph = call(client, "read_graph", json!({})).await.structured_content.unwrap();
        graph["entities"].as_array().unwrap().len()
    };
    assert_eq!(count(&acme).await, 1);
    assert_eq!(count(&connect("other", "a-token").await).await, 0);
    let thief = connect("acme", "another").await;
    let answer = call(&thief, "read_graph", json!({})).await;
    assert!(told(&answer).contains("bearer token is missing or wrong"));
    let resource = ReadResourceRequestParams::new("memory://knowledge-graph");
    assert!(thief.read_resource(resource).await.is_err());
}

#[tokio::test]
async fn who_subscribes_is_told_of_changes() {
    #[derive(Clone)]
    struct Listener(tokio::sync::mpsc::UnboundedSender<String>);

    impl rmcp::ClientHandler for Listener {
        async fn on_resource_updated(
            &self,
            changed: rmcp::model::ResourceUpdatedNotificationParam,
            _: rmcp::service::NotificationContext<rmcp::RoleClient>,
        ) {
            let _ = self.0.send(changed.uri);
        }
    }

    let directory = tempfile::tempdir().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-memory"));
    command.arg("--stdio").env("BATON_MCP_MEMORY__STORE", sqlite(directory.path()));
    let transport = rmcp::transport::TokioChildProcess::new(command).unwrap();
    let client = Listener(tell).serve(transport).await.unwrap();
    let graph = "memory://knowledge-graph";
    #[expect(deprecated, reason = "what older clients do")]
    client.subscribe(rmcp::model::SubscribeRequestParams::new(graph)).await.unwrap();
    let all = ada().as_object().unwrap().clone();
    let request = rmcp::model::CallToolRequestParams::new("create_entities").with_arguments(all);
    client.call_tool(request).await.unwrap();
    assert_eq!(told.recv().await.unwrap(), graph);
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_pointed_at() {
    let directory = tempfile::tempdir().unwrap();
    let client = serve(&sqlite(directory.path())).await;
    for (tool, arguments, wanted) in [
        ("create_entities", json!({ "entities": [{ "name": "a" }] }), "/entities/0"),
        ("create_entities", json!({}), "missing field `entities`"),
        ("read_graph", json!({ "cursor": "x" }), "/cursor"),
        ("read_graph", json!({ "limit": -1 }), "/limit"),
        ("read_graph", json!({ "limit": 0 }), "/limit: 0 is not 1 to 10000"),
        (
            "add_observations",
            json!({ "observations": [{ "entityName": "Eve", "contents": ["x"] }] }),
            "Entity with name Eve not found",
        ),
    ] {
        let answer = call(&client, tool, arguments).await;
        assert!(told(&answer).contains(wanted), "{answer:?}");
    }
    let unknown = rmcp::model::CallToolRequestParams::new("read_grap");
    assert!(
        client.call_tool(unknown).await.unwrap_err().to_string().contains("there is read_graph")
    );
}

#[tokio::test]
async fn a_graph_of_the_reference_comes_in_and_goes_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let run = async |arguments: &[&str]| -> Output {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_mcp-memory"));
        command.args(arguments).env("BATON_MCP_MEMORY__STORE", sqlite(directory.path()));
        command.output().await.unwrap()
    };
    // Twice the same entity, and a relation that dangles: the reference keeps both.
    let many: Vec<String> = (0..250).map(|n| n.to_string()).collect();
    let lines = [
        json!({ "type": "entity", "name": "Ada", "entityType": "person", "observations": many }),
        json!({ "type": "entity", "name": "Bob", "entityType": "person", "observations": [] }),
        json!({ "type": "entity", "name": "Ada", "entityType": "person", "observations": ["0", "ü"] }),
        json!({ "type": "relation", "from": "Ada", "to": "Bob", "relationType": "knows" }),
        json!({ "type": "relation", "from": "Ada", "to": "Eve", "relationType": "knows" }),
    ];
    let text = lines.map(|line| line.to_string()).join("\n");
    std::fs::write(path("in.jsonl"), &text).unwrap();
    let file = path("in.jsonl").display().to_string();
    let said = run(&["import", &file]).await;
    let counts =
        "2 entities, 251 observations, 1 relations are new; 1 dangling relations left out\n";
    assert_eq!(String::from_utf8_lossy(&said.stdout), counts, "{said:?}");
    let said = run(&["import", &file]).await;
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("0 entities, 0 observations, 0 rel"));
    let out = path("out.jsonl").display().to_string();
    assert!(run(&["export", &out]).await.status.success());
    let shown = run(&["export"]).await.stdout;
    assert_eq!(shown, std::fs::read(&out).unwrap());
    let lines: Vec<Value> = shown
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["observations"].as_array().unwrap().len(), 251);
    assert_eq!(
        lines[2],
        json!({ "type": "relation", "from": "Ada", "to": "Bob", "relationType": "knows" })
    );
    // Into another's, whole.
    assert!(run(&["import", &out, "--tenant", "other"]).await.status.success());
    assert_eq!(run(&["export", "--tenant", "other"]).await.stdout, shown);

    for (bad, wanted) in [
        ("{", "line 2"),
        (r#"{"type":"entity","name":"","entityType":"t","observations":[]}"#, "line 2"),
        (r#"{"type":"thing"}"#, "unknown variant `thing`"),
    ] {
        let first = r#"{"type":"entity","name":"new","entityType":"t","observations":[]}"#;
        std::fs::write(path("bad.jsonl"), format!("{first}\n{bad}\n")).unwrap();
        let said = run(&["import", &path("bad.jsonl").display().to_string()]).await;
        assert_eq!(said.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&said.stderr).contains(wanted), "{said:?}");
    }
    assert_eq!(run(&["export"]).await.stdout, shown, "nothing of a bad file is there");
}
