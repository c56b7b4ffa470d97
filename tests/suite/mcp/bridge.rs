//! The bridge, as MCP clients meet it at the gateway.

use journeys::{Shape, System};
use serde_json::json;
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
    let said = judge_through(&fixture.url, &format!("{}/mcp/fixture", system.url)).await;
    println!("{said}");
}
