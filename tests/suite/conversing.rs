//! Models that call tools of MCP servers, for clients that name them.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use journeys::{Shape, System, priced};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::process::program;
use testkit::provider::Provider;
use tokio::process::Command;

use crate::packages::{run, script};
use crate::sdk::python;

const READ: &str = r#"files__read_text_file {"path": "hello.txt"}"#;

fn files() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    std::fs::write(files.path().join("hello.txt"), "hello").unwrap();
    files
}

/// A model, a server of files, and one that is dead.
fn settings(provider: &Provider, files: &Path, more: &str) -> String {
    format!(
        "{}[orchestrator.tools]\nsteps = 3\n\
         [mcp_bridge.servers.dead]\nurl = 'http://127.0.0.1:1/mcp'\n\
         [mcp_bridge.servers.files]\ncommand = '{}'\nargs = ['--stdio']\n{more}\
         env = {{ BATON_MCP_FILESYSTEM__ROOT = '{root}' }}\nsandbox = {{ write = ['{root}'] }}\n",
        priced(&provider.url),
        program("mcp-filesystem").unwrap().display(),
        root = files.display(),
    )
}

fn conversation(said: &str) -> Value {
    json!({
        "model": "m",
        "messages": [{ "role": "user", "content": said }],
        "tools": [{ "type": "mcp", "server_label": "files" }],
    })
}

#[tokio::test]
async fn the_sdk_has_tools_called_in_responses_and_in_chat_completions() {
    let (provider, files) = (Provider::start().await.unwrap(), files());
    for shape in Shape::ALL {
        let system = System::start(shape, &settings(&provider, files.path(), "")).await.unwrap();
        let script = script("mcp_tools.py");
        run(Command::new(python().await).arg(script).arg(format!("{}/v1", system.url))).await;
    }
}

#[tokio::test]
async fn every_step_is_in_the_journal_and_the_whole_is_paid_as_one() {
    let (provider, files) = (Provider::start().await.unwrap(), files());
    for shape in Shape::ALL {
        let system = System::start(shape, &settings(&provider, files.path(), "")).await.unwrap();
        let asked = conversation(&format!("call {READ}"));
        let reply = system.send("/v1/chat/completions", &asked).await.unwrap();
        assert_eq!(reply.status(), 200);
        let header = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
        let (run, cost) = (header("x-baton-run"), header("x-baton-cost-usd"));
        assert_eq!(cost, "0.008", "two calls of a thousand tokens");
        let answer: Value = reply.json().await.unwrap();
        assert_eq!(answer["baton"]["run_id"], run.as_str());
        let (_, journal) = system.get(&format!("/api/v1/runs/{run}/events")).await.unwrap();
        let events = journal["events"].as_array().unwrap();
        let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
        let expected =
            ["started", "offered", "turn", "tool_called", "tool_answered", "turn", "completed"];
        assert_eq!(kinds, expected, "{journal}");
        assert_eq!(events[3]["data"]["tool"], "files__read_text_file");
        assert_eq!(events[4]["data"]["outcome"], "ok");
        assert_eq!(system.spent("local").await.unwrap(), 0.008);
    }
}

#[tokio::test]
async fn a_model_is_offered_what_the_callers_key_may_use() {
    let (provider, files) = (Provider::start().await.unwrap(), files());
    for shape in Shape::ALL {
        let system = System::start(shape, &settings(&provider, files.path(), "")).await.unwrap();
        let asked = conversation(&format!("call {READ}"));
        for (tools, good) in [("files__read_*", true), ("files__list_*", false), ("git__*", false)]
        {
            let key = json!({ "name": tools, "tools": [tools] });
            let (_, key) = system.post("/api/v1/keys", &key).await.unwrap();
            let key: Value = serde_json::from_str(&key).unwrap();
            let request = system.client().post(format!("{}/v1/chat/completions", system.url));
            let reply = request.bearer_auth(key["secret"].as_str().unwrap()).json(&asked).send();
            let reply = reply.await.unwrap();
            let run =
                reply.headers().get("x-baton-run").map(|run| run.to_str().unwrap().to_owned());
            let told = reply.text().await.unwrap();
            let events = match run {
                Some(run) => system.get(&format!("/api/v1/runs/{run}/events")).await.unwrap().1,
                None => Value::Null,
            };
            let outcome = events["events"].as_array().and_then(|all| {
                all.iter().find(|one| one["event"] == "tool_answered")?["data"]["outcome"].as_str()
            });
            assert_eq!(outcome == Some("ok"), good, "{tools}: {told} {events}");
        }
    }
}

#[tokio::test]
async fn a_budget_that_runs_out_between_two_steps_ends_the_run() {
    let (provider, files) = (Provider::start().await.unwrap(), files());
    let limit = "[budget.default_limits.run]\ntotal = 0.005\n";
    for shape in Shape::ALL {
        let settings = settings(&provider, files.path(), "") + limit;
        let system = System::start(shape, &settings).await.unwrap();
        let mut asked = conversation(&format!("call {READ}"));
        let (status, told) = system.post("/v1/chat/completions", &asked).await.unwrap();
        assert!(status == 402 && told.contains("budget_exceeded"), "{status} {told}");
        asked["stream"] = true.into();
        let (status, told) = system.post("/v1/chat/completions", &asked).await.unwrap();
        assert!(status == 200 && told.contains("budget_exceeded"), "{status} {told}");
        assert!(told.contains("Let me see.") && !told.contains("[DONE]"), "{told}");
        // A call that needs no tool has a run of its own each time.
        let (status, _) = system.chat("ping", false).await.unwrap();
        assert_eq!(status, 200);
    }
}

#[tokio::test]
async fn a_tool_of_a_private_server_makes_the_whole_run_private() {
    let (provider, files) = (Provider::start().await.unwrap(), files());
    for shape in Shape::ALL {
        let settings = settings(&provider, files.path(), "private = true\n");
        let system = System::start(shape, &settings).await.unwrap();
        let asked = provider.requests();
        // The only model is elsewhere: it reads nothing of the server's, not even what its tools are.
        let call = conversation(&format!("call {READ}"));
        let (status, told) = system.post("/v1/chat/completions", &call).await.unwrap();
        assert!(status != 200 && told.contains("private"), "{status} {told}");
        assert_eq!(provider.requests(), asked);
    }
}

#[tokio::test]
async fn what_continues_a_private_response_calls_local_tools_alone() {
    let (provider, files) = (Provider::start().await.unwrap(), files());
    let here = settings(&provider, files.path(), "").replace("tier = 1", "tier = 0");
    let away = "[mcp_bridge.servers.away]\ncommand = 'mcp-filesystem'\nlocal = false\n";
    let system = System::start(Shape::One, &(here + away)).await.unwrap();
    let first = json!({ "model": "m", "input": "ping" });
    let request = system.client().post(format!("{}/v1/responses", system.url));
    let first = request.header("x-baton-privacy", "private").json(&first).send().await.unwrap();
    let first: Value = first.json().await.unwrap();
    let next = |server: &str| {
        json!({
            "model": "m", "input": format!("call {READ}"), "previous_response_id": first["id"],
            "tools": [{ "type": "mcp", "server_label": server, "require_approval": "never" }],
        })
    };
    let (status, told) = system.post("/v1/responses", &next("away")).await.unwrap();
    assert!(status == 400 && told.contains("may not see it"), "{status} {told}");
    let (status, told) = system.post("/v1/responses", &next("files")).await.unwrap();
    assert!(status == 200 && told.contains("hello"), "{status} {told}");
    let mut unknown = next("files");
    unknown["previous_response_id"] = "resp_none".into();
    let (status, told) = system.post("/v1/responses", &unknown).await.unwrap();
    assert!(status == 400 && told.contains("/previous_response_id"), "{status} {told}");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_run() {
    let (provider, files) = (Provider::start().await.unwrap(), files());
    let settings = settings(&provider, files.path(), "").replace("steps = 3", "steps = 1000000");
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        let mut asked = conversation(&format!("again {READ}"));
        asked["stream"] = true.into();
        let reply = system.send("/v1/chat/completions", &asked).await.unwrap();
        let run = reply.headers()["x-baton-run"].to_str().unwrap().to_owned();
        drop(reply);
        let ended = async {
            loop {
                let (_, journal) = system.get(&format!("/api/v1/runs/{run}/events")).await.unwrap();
                let last = journal["events"].as_array().unwrap().last().unwrap().clone();
                if last["event"] == "failed" {
                    return last;
                }
                tokio::task::yield_now().await;
            }
        };
        let last = tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
        assert!(last.to_string().contains("the client is gone"), "{last}");
        // What it had asked for is paid all the same.
        assert!(system.spent("local").await.unwrap() > 0.0);
    }
}

#[tokio::test]
async fn messages_are_told_where_tools_of_servers_are_called() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &priced(&provider.url)).await.unwrap();
    let asked = json!({
        "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }],
        "tools": [{ "type": "mcp", "server_label": "files" }],
    });
    let (status, told) = system.post("/v1/messages", &asked).await.unwrap();
    assert!(status == 400 && told.contains("chat completions and Responses"), "{status} {told}");
}

#[tokio::test]
async fn the_command_line_converses_with_tools() {
    let (provider, files) = (Provider::start().await.unwrap(), files());
    let system = System::start(Shape::One, &settings(&provider, files.path(), "")).await.unwrap();
    let chat = async |arguments: &[&str]| {
        let mut command = Command::new(program("baton").unwrap());
        command.arg("chat").args(["--url", &system.url, "--model", "m"]).args(arguments);
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let asked = format!("call {READ}");
    let (code, out, errors) = chat(&["--tools", "files__read_*", &asked]).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains("They gave: ") && out.trim_end().ends_with("hello"), "{out}");
    assert!(errors.contains("files__read_text_file") && errors.contains("ok"), "{errors}");
    let (code, out, _) = chat(&["--json", "--tools", "files__read_*", &asked]).await;
    let answer: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &answer["baton"]["tool_calls"][0]["outcome"]), (Some(0), &json!("ok")));
    let (code, _, errors) = chat(&["--tools", "nobody__*", "ping"]).await;
    assert!(code == Some(1) && errors.contains("nobody__*"), "{errors}");
    let (code, out, _) = chat(&["ping"]).await;
    assert_eq!((code, out.trim()), (Some(0), "pong"));
}
