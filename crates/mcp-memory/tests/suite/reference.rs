//! The reference server beside ours: the same tools, the same answers.

use std::path::Path;

use rmcp::ServiceExt as _;
use rmcp::transport::TokioChildProcess;
use serde_json::{Map, Value, json};
use tokio::process::Command;

use crate::support::{Client, call, serve, sqlite};

/// Pinned, so that a release elsewhere breaks no test here.
const PACKAGE: &str = "@modelcontextprotocol/server-memory@2026.8.31";

async fn reference(directory: &Path) -> Client {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("server-memory");
    let install = ["install", "--loglevel=error", "--no-fund", "--no-audit", "--prefix"];
    let output = Command::new("npm").args(install).arg(&place).arg(PACKAGE).output().await.unwrap();
    assert!(output.status.success(), "npm: {}", String::from_utf8_lossy(&output.stderr));
    let mut server = Command::new("node");
    server.arg(place.join("node_modules/@modelcontextprotocol/server-memory/dist/index.js"));
    server.env("MEMORY_FILE_PATH", directory.join("reference.jsonl"));
    ().serve(TokioChildProcess::new(server).unwrap()).await.unwrap()
}

/// What a client goes by: names, types, and what has to be given. Ours may bound and name more.
fn shape(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let kept = |key: &str| matches!(key, "type" | "properties" | "items" | "required");
            let shape = |(key, value): (&String, &Value)| match key.as_str() {
                "properties" => {
                    let ours = |name: &str| matches!(name, "limit" | "cursor" | "nextCursor");
                    let fields = value.as_object().unwrap().iter();
                    let fields = fields.filter(|(name, _)| !ours(name));
                    let mut fields: Vec<_> =
                        fields.map(|(name, value)| (name.clone(), shape(value))).collect();
                    fields.sort_by(|a, b| a.0.cmp(&b.0));
                    (key.clone(), Value::Object(fields.into_iter().collect()))
                }
                _ => (key.clone(), shape(value)),
            };
            let fields: Map<_, _> = fields.iter().filter(|(key, _)| kept(key)).map(shape).collect();
            let mut keys: Vec<_> = fields.into_iter().collect();
            keys.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(keys.into_iter().collect())
        }
        Value::Array(all) => {
            let mut all: Vec<_> = all.iter().map(shape).collect();
            all.sort_by_key(Value::to_string);
            Value::Array(all)
        }
        other => other.clone(),
    }
}

#[tokio::test]
async fn tools_and_answers_are_those_of_the_reference() {
    let directory = tempfile::tempdir().unwrap();
    let theirs = reference(directory.path()).await;
    let ours = serve(&sqlite(directory.path())).await;
    let list = async |client: &Client| {
        let mut tools = client.list_all_tools().await.unwrap();
        tools.sort_by(|a, b| a.name.cmp(&b.name));
        json!(tools).as_array().unwrap().clone()
    };
    let (their_tools, mut our_tools) = (list(&theirs).await, list(&ours).await);
    our_tools.retain(|tool| tool["name"] != "restore_entities");
    assert_eq!(our_tools.len(), 9);
    for (theirs, ours) in their_tools.iter().zip(&our_tools) {
        for key in ["name", "title", "description", "annotations"] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
        for key in ["inputSchema", "outputSchema"] {
            let (ours_, theirs_) = (shape(&ours[key]), shape(&theirs[key]));
            assert_eq!(ours_, theirs_, "{key} of {}", ours["name"]);
        }
    }

    let ada = json!({ "name": "Ada", "entityType": "person", "observations": ["counts", "ü%_"] });
    let bob = json!({ "name": "Bob", "entityType": "Robot", "observations": [] });
    let eve = json!({ "name": "Eve", "entityType": "person", "observations": ["listens"] });
    let knows = json!({ "from": "Ada", "to": "Bob", "relationType": "knows" });
    let hears = json!({ "from": "Eve", "to": "Ada", "relationType": "hears" });
    let seen = json!([{ "entityName": "Bob", "contents": ["1", "2"] }, { "entityName": "Ada", "contents": ["counts", "3"] }]);
    for (tool, arguments) in [
        ("read_graph", json!({})),
        ("create_entities", json!({ "entities": [] })),
        ("create_entities", json!({ "entities": [ada, bob] })),
        ("create_entities", json!({ "entities": [ada, eve] })),
        ("create_relations", json!({ "relations": [knows, hears] })),
        ("create_relations", json!({ "relations": [knows] })),
        ("add_observations", json!({ "observations": seen })),
        ("read_graph", json!({})),
        ("search_nodes", json!({ "query": "ROBOT" })),
        ("search_nodes", json!({ "query": "Ü" })),
        ("search_nodes", json!({ "query": "%" })),
        ("search_nodes", json!({ "query": "" })),
        ("search_nodes", json!({ "query": "nowhere" })),
        ("open_nodes", json!({ "names": ["Eve", "nobody"] })),
        ("open_nodes", json!({ "names": [] })),
        (
            "delete_observations",
            json!({ "deletions": [{ "entityName": "Ada", "observations": ["3"] }] }),
        ),
        ("delete_relations", json!({ "relations": [hears] })),
        ("read_graph", json!({})),
        ("delete_entities", json!({ "entityNames": ["Bob"] })),
        ("read_graph", json!({})),
    ] {
        let (ours, theirs) = (
            call(&ours, tool, arguments.clone()).await,
            call(&theirs, tool, arguments.clone()).await,
        );
        assert_eq!(ours.structured_content, theirs.structured_content, "{tool} {arguments}");
        assert_eq!(json!(ours.content), json!(theirs.content), "{tool} {arguments}");
        assert_ne!(ours.is_error, Some(true));
    }
    let nobody = json!({ "observations": [{ "entityName": "Nobody", "contents": ["x"] }] });
    let (ours_, theirs_) = (
        call(&ours, "add_observations", nobody.clone()).await,
        call(&theirs, "add_observations", nobody).await,
    );
    assert_eq!((ours_.is_error, theirs_.is_error), (Some(true), Some(true)));
    assert_eq!(json!(ours_.content), json!(theirs_.content));
    // What the reference takes, and should not.
    let dangling =
        json!({ "relations": [{ "from": "Ada", "to": "Nobody", "relationType": "is" }] });
    assert_eq!(call(&ours, "create_relations", dangling.clone()).await.is_error, Some(true));
    assert_ne!(call(&theirs, "create_relations", dangling).await.is_error, Some(true));

    // And what it keeps comes in.
    let file = directory.path().join("reference.jsonl");
    let mut import = Command::new(env!("CARGO_BIN_EXE_mcp-memory"));
    import.args(["import", "--tenant", "theirs"]).arg(file);
    let said =
        import.env("BATON_MCP_MEMORY__STORE", sqlite(directory.path())).output().await.unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert_eq!(
        said,
        "2 entities, 3 observations, 0 relations are new; 1 dangling relations left out\n"
    );
}
