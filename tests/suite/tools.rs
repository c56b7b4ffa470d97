//! From a question to a file, through a tool; and which tools may be used.

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

#[tokio::test]
async fn a_tool_is_called_once_somebody_has_approved_it_and_the_call_is_audited() {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("hello.txt"), "hello").unwrap();
    let settings = format!(
        "[mcp_bridge.pins]\npolicy = 'manual'\n\
         [[mcp_bridge.rules]]\nname = 'readers'\nallow = ['files__read_*']\n\
         arguments = {{ properties = {{ path = {{ pattern = '[.]txt$' }} }} }}\n\
         [mcp_bridge.servers.files]\ncommand = '{}'\nargs = ['--stdio']\n\
         env = {{ BATON_MCP_FILESYSTEM__ROOT = '{}' }}\nsandbox = {{ write = ['{}'] }}\n",
        program("mcp-filesystem").unwrap().display(),
        files.path().display(),
        files.path().display(),
    );
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        let (_, list) = system.get("/api/v1/tools").await.unwrap();
        assert_eq!(list["tools"], json!([]), "{list}");
        let refused = list["refused"].as_array().unwrap();
        assert!(refused.len() > 10 && refused[0]["reason"].as_str().unwrap().contains("waits"));
        let read = "/api/v1/tools/files__read_text_file";
        let hello = json!({ "path": "hello.txt" });
        let (status, told) = system.post(read, &hello).await.unwrap();
        assert!(status == 403 && told.contains("waits for an approval"), "{told}");

        let pins = "/api/v1/tools/pins/files__read_text_file";
        let (_, known) = system.get(pins).await.unwrap();
        let pin = &known["pins"][0];
        assert_eq!(
            (&pin["state"], &pin["definition"]["name"]),
            (&json!("waiting"), &json!("read_text_file"))
        );
        let tools = async |arguments: &[&str]| {
            let mut command = tokio::process::Command::new(program("baton").unwrap());
            command.arg("tools").args(arguments).args(["--url", &system.url]).kill_on_drop(true);
            let ended = command.output().await.unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (ended.status.code().unwrap(), text(ended.stdout), text(ended.stderr))
        };
        let (code, shown, errors) = tools(&["diff"]).await;
        assert!(code == 0 && shown.contains("files__read_text_file"), "{shown}{errors}");
        let (code, shown, errors) = tools(&["approve", "files__read_text_file"]).await;
        assert!(
            code == 0 && shown.contains("files__read_text_file is approved"),
            "{shown}{errors}"
        );
        let (code, shown, errors) =
            tools(&["call", "files__read_text_file", &hello.to_string()]).await;
        assert_eq!((code, shown.trim()), (0, "hello"), "{errors}");

        // Another one's pin is none of this tool's, and a rule has its say.
        let other = json!({ "pin": "0".repeat(64) });
        assert_eq!(system.post(&format!("{pins}/reject"), &other).await.unwrap().0, 404);
        let (status, told) = system.post(read, &json!({ "path": "hello.key" })).await.unwrap();
        assert!(status == 403 && told.contains("readers") && told.contains("/path"), "{told}");

        // Rows are written behind the calls.
        let audited = async {
            loop {
                let (_, page) = system.get("/api/v1/tools/calls").await.unwrap();
                let calls = page["calls"].as_array().unwrap().clone();
                if calls.len() == 3 {
                    return calls;
                }
            }
        };
        let calls =
            tokio::time::timeout(std::time::Duration::from_secs(60), audited).await.unwrap();
        let decided: Vec<_> = calls.iter().map(|call| (&call["outcome"], &call["rule"])).collect();
        let (denied, ok) = (json!("denied"), json!("ok"));
        let (readers, waits) = (json!("readers"), json!("pin"));
        assert_eq!(decided, [(&denied, &readers), (&ok, &readers), (&denied, &waits)]);
        assert_eq!(calls[1]["pin"], pin["pin"]);
    }
}
