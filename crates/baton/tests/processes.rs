//! The same path with each service as a process of its own, over TCP.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

/// A running service; it is killed when the test ends.
struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    url: String,
}

impl Process {
    async fn start(name: &str, data: &TempDir, settings: &[(&str, &str)]) -> Self {
        let tests = std::env::current_exe().unwrap();
        let program = tests.ancestors().nth(2).unwrap().join(name);
        assert!(program.is_file(), "{name} is not built: cargo build --workspace --bins");
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0", "--operations", "127.0.0.1:0"])
            .current_dir(data.path())
            .env("BATON_TELEMETRY__LOG", "info,runtime=debug")
            .envs(settings.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        // The log is JSON, as it is not on a terminal; the first line names the addresses.
        let line = log.next_line().await.unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name}: {line}"));
        let url = format!("http://{}", line["listen"].as_str().unwrap());
        Self { child, log, url }
    }

    /// Stops the service as an operator does and returns what it logged.
    async fn stop(mut self) -> String {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let mut log = String::new();
        while let Some(line) = self.log.next_line().await.unwrap() {
            log += &line;
            log.push('\n');
        }
        assert!(self.child.wait().await.unwrap().success(), "{log}");
        log
    }
}

#[tokio::test]
async fn one_question_is_one_trace_in_every_service() {
    let data = tempfile::tempdir().unwrap();
    let budget = Process::start("budget", &data, &[]).await;
    let retriever = Process::start("retriever", &data, &[]).await;
    let peers = [("BATON_ROUTER__PEERS__BUDGET", budget.url.as_str())];
    let router = Process::start("router", &data, &peers).await;
    let peers = [
        ("BATON_ORCHESTRATOR__PEERS__ROUTER", router.url.as_str()),
        ("BATON_ORCHESTRATOR__PEERS__RETRIEVER", retriever.url.as_str()),
    ];
    let orchestrator = Process::start("orchestrator", &data, &peers).await;
    let peers = [
        ("BATON_GATEWAY__PEERS__BUDGET", budget.url.as_str()),
        ("BATON_GATEWAY__PEERS__ROUTER", router.url.as_str()),
        ("BATON_GATEWAY__PEERS__RETRIEVER", retriever.url.as_str()),
        ("BATON_GATEWAY__PEERS__ORCHESTRATOR", orchestrator.url.as_str()),
    ];
    let gateway = Process::start("gateway", &data, &peers).await;

    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let upload = client.post(format!("{}/api/v1/documents?source=a.txt", gateway.url));
    let reply = upload.body("To roll back a release, run the script.").send().await.unwrap();
    assert_eq!(reply.status(), 201);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ask = client.post(format!("{}/api/v1/ask", gateway.url));
    let ask = ask.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let question = json!({ "question": "How do I roll back a release?" });
    let answer: Value = ask.json(&question).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["citations"][0]["source"], "a.txt", "{answer}");

    for process in [gateway, orchestrator, router, retriever, budget] {
        let log = process.stop().await;
        assert!(log.contains(trace), "{log}");
    }
}
