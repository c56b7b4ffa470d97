//! From a question to a file, through a tool.

use journeys::{Shape, System};
use serde_json::{Value, json};
use testkit::process::program;

#[tokio::test]
async fn a_tool_is_listed_and_called_and_a_dead_server_is_named() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("hello.txt"), "hello").unwrap();
    let settings = format!(
        "[mcp_bridge.servers.dead]\nurl = 'http://127.0.0.1:1/mcp'\n\
         [mcp_bridge.servers.files]\ncommand = '{}'\nargs = ['--stdio']\n\
         env = {{ BATON_MCP_FILESYSTEM__ROOT = '{root}' }}\nsandbox = {{ write = ['{root}'] }}\n",
        program("mcp-filesystem").unwrap().display(),
        root = files.path().display(),
    );
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        let (status, list) = system.get("/api/v1/tools").await.unwrap();
        assert_eq!(status, 200);
        let names: Vec<_> = list["tools"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
        assert!(names.contains(&&json!("files__read_text_file")), "{list}");
        assert_eq!(list["degraded"][0]["server"], "dead", "{list}");

        let read = "/api/v1/tools/files__read_text_file";
        let (status, answer) = system.post(read, &json!({ "path": "hello.txt" })).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["structured"]["content"], "hello");
        let (_, answer) = system.post(read, &json!({ "path": "/etc/passwd" })).await.unwrap();
        assert!(answer.contains("outside") && answer.contains("\"is_error\":true"), "{answer}");
        let unknown = system.post("/api/v1/tools/nobody__read", &json!({})).await.unwrap();
        assert!(unknown.0 == 404 && unknown.1.contains("nobody__read"), "{unknown:?}");
        assert_eq!(system.post(read, &json!([])).await.unwrap().0, 400);
    }
}
