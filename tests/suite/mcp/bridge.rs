//! The bridge, as MCP clients meet it at the gateway.

use journeys::{Shape, System};
use serde_json::{Value, json};
use testkit::Process;
use testkit::process::program;

use super::clients::{Call, list_and_call};
use super::conformance::{judge, judge_through};

#[tokio::test]
async fn clients_of_others_list_and_call_through_the_gateway_in_every_era() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("hello.txt"), "hello, reader\n").unwrap();
    let settings = format!(
        "[mcp_bridge.servers.files]\ncommand = '{}'\nargs = ['--stdio']\n\
         env = {{ BATON_MCP_FILESYSTEM__ROOT = '{root}' }}\nsandbox = {{ write = ['{root}'] }}\n",
        program("mcp-filesystem").unwrap().display(),
        root = files.path().display(),
    );
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        for (path, tool) in [("mcp", "files__read_text_file"), ("mcp/files", "read_text_file")] {
            let url = format!("{}/{path}", system.url);
            let arguments = json!({ "path": "hello.txt", "head": 1 });
            list_and_call(&url, &Call { tool, arguments, answer: "hello, reader" }).await;
        }
    }
}

#[tokio::test]
async fn the_gateway_conforms_as_far_as_it_can_be_asked() {
    let fixture = testkit::mcp::judged().await.unwrap();
    let settings = format!("[mcp_bridge.servers.fixture]\nurl = '{}'\n", fixture.url);
    let system = System::start(Shape::One, &settings).await.unwrap();
    judge(&format!("{}/mcp", system.url)).await;
}

#[tokio::test]
async fn what_a_server_conforms_to_it_conforms_to_through_the_bridge() {
    let fixture = testkit::mcp::judged().await.unwrap();
    let settings = format!("[mcp_bridge.servers.fixture]\nurl = '{}'\n", fixture.url);
    let system = System::start(Shape::One, &settings).await.unwrap();
    judge_through(&fixture.url, &format!("{}/mcp/fixture", system.url)).await;
}

#[tokio::test]
async fn each_tenant_has_its_own_memory() {
    let directory = tempfile::tempdir().unwrap();
    let token = "a token that the bridge shows, not the caller";
    let memory = Process::service("mcp-memory", |command| {
        let store = format!("sqlite:{}", directory.path().join("memory.db").display());
        command.env("BATON_MCP_MEMORY__STORE", store).env("BATON_MCP_MEMORY__BRIDGE_TOKEN", token);
    });
    let memory = memory.await.unwrap();
    let key = |tenant: &str| format!("the key of {tenant}, long enough to be one");
    let tenants = ["acme", "other"];
    let keys = tenants.map(|tenant| {
        format!(
            "[gateway.keys.{tenant}]\nsecret = '{}'\ntenant = '{tenant}'\nuser = 'u'\n",
            key(tenant)
        )
    });
    let settings = format!(
        "[mcp_bridge.servers.memory]\nurl = '{}/mcp'\ntoken = '{token}'\ntenant_header = true\n{}",
        memory.url,
        keys.concat()
    );
    let system = System::start(Shape::One, &settings).await.unwrap();
    let call = async |tenant: &str, tool: &str, arguments: Value| {
        let url = format!("{}/api/v1/tools/memory__{tool}", system.url);
        let request = system.client().post(url).bearer_auth(key(tenant)).json(&arguments);
        let answer = request.send().await.unwrap().json::<Value>().await.unwrap();
        assert_eq!(answer["is_error"], false, "{answer}");
        answer["structured"]["entities"].clone()
    };
    let entity = json!({ "name": "ours", "entityType": "secret", "observations": [] });
    call("acme", "create_entities", json!({ "entities": [entity] })).await;
    assert_eq!(call("acme", "read_graph", json!({})).await[0]["name"], "ours");
    assert_eq!(call("other", "read_graph", json!({})).await, json!([]));
}
