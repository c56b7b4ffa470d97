//! Programs of before 2026-07-28.

use std::path::Path;
use std::time::Duration;

use rmcp::ClientHandler;
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult,
    ErrorData,
};
use rmcp::service::{RequestContext, RoleClient};
use serde_json::json;

use crate::support::{Bridge, client, raw};

/// A server that ends when it is asked what it does not know, as some of before do.
const SERVER: &str = r#"
while IFS= read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  answer() { printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$1"; }
  case "$line" in
    *'"server/discover"'*) exit 1 ;;
    *'"initialize"'*)
      echo begun >>"$LOG"
      answer '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}' ;;
    *'"tools/list"'*)
      answer '{"tools":[{"name":"pid","inputSchema":{"type":"object"}},{"name":"wait","inputSchema":{"type":"object"}},{"name":"ask","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*'"ask"'*)
      printf '%s\n' '{"jsonrpc":"2.0","id":99,"method":"elicitation/create","params":{"mode":"form","message":"who?","requestedSchema":{"type":"object","properties":{}}}}' ;;
    *'while its call went on'*) echo told >>"$LOG" ;;
    *'"notifications/cancelled"'*) echo cancelled >>"$LOG" ;;
    *'"tools/call"'*'"pid"'*) answer '{"content":[{"type":"text","text":"'$$'"}]}' ;;
    *'"tools/call"'*) echo waiting >>"$LOG" ;;
  esac
done
"#;

async fn logged(log: &Path, word: &str) {
    let read = async {
        while !std::fs::read_to_string(log).is_ok_and(|log| log.lines().any(|line| line == word)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), read).await.unwrap();
}

#[tokio::test]
async fn a_program_is_one_callers_and_is_told_when_nobody_waits() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let described =
        json!({ "command": "sh", "args": ["-c", SERVER], "env": { "LOG": log }, "restart_ms": 0 });
    let bridge = Bridge::new(json!({ "slow": described })).await;
    let pid = async |user: &str| raw(&bridge, "pid", json!({}), &[("x-user", user)]).await;
    let (ann, bob) = (pid("ann").await, pid("bob").await);
    assert!(ann.parse::<u32>().is_ok() && ann != bob, "{ann} {bob}");
    assert_eq!((pid("ann").await, pid("bob").await), (ann, bob));

    let has = async |word: &str| logged(&log, word).await;
    tokio::select! {
        text = raw(&bridge, "wait", json!({}), &[]) => panic!("{text}"),
        () = has("waiting") => {}
    }
    has("cancelled").await;
    let begun = std::fs::read_to_string(&log).unwrap();
    // One for each of the two, and one that lists.
    assert_eq!(begun.lines().filter(|line| *line == "begun").count(), 3, "{begun}");
}

/// A program that ends when it is started the third and the fourth time.
const FRAGILE: &str = r#"
echo >>"$STARTS"
case $(wc -l <"$STARTS") in 3|4) exit 1 ;; esac
"#;

#[tokio::test]
async fn a_program_that_ends_for_one_caller_is_there_for_another() {
    let place = tempfile::tempdir().unwrap();
    let described = json!({
        "command": "sh", "args": ["-c", format!("{FRAGILE}{SERVER}")],
        "env": { "LOG": place.path().join("log"), "STARTS": place.path().join("starts") },
        "restart_ms": 60_000,
    });
    // The bridge's own is the first two: one to find out what it speaks, one that lists.
    let bridge = Bridge::new(json!({ "slow": described })).await;
    let pid = async |user: &str| raw(&bridge, "pid", json!({}), &[("x-user", user)]).await;
    for fault in ["cannot be reached", "cannot be reached", "it ended 2 times in a row"] {
        let text = pid("ann").await;
        assert!(text.contains(fault), "{text}");
    }
    let text = pid("bob").await;
    assert!(text.parse::<u32>().is_ok(), "{text}");
}

/// A client whose person went home.
struct Absent;

impl ClientHandler for Absent {
    fn get_info(&self) -> ClientConfig {
        client(ClientCapabilities::builder().enable_elicitation().build())
    }

    async fn create_elicitation(
        &self,
        _: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_a_server_asks_is_not_waited_for_longer_than_its_call() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let described = json!({
        "command": "sh", "args": ["-c", SERVER], "env": { "LOG": log }, "timeout_ms": 500,
    });
    let bridge = Bridge::new(json!({ "slow": described })).await;
    let client = bridge.client_as(Absent, "/slow", false).await;
    let result = client.call_tool(CallToolRequestParams::new("ask")).await.unwrap();
    let text = &result.content[0].as_text().unwrap().text;
    assert!(text.contains("did not answer within 500 ms"), "{text}");
    logged(&log, "told").await;
}
