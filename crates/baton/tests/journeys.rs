//! Requests through the gateway, with every service behind it in one process.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use baton::node::{Config, Node};
use reqwest::{Client, StatusCode};
use runtime::metrics::Metrics;
use runtime::probes::Health;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A system of its own; it stops when the test ends.
struct System {
    url: String,
    client: Client,
    stop: CancellationToken,
    _data: TempDir,
}

impl Drop for System {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts Baton with a provider at `provider` of which a request costs $0.004: at most a thousand
/// tokens out, at $4 a million.
async fn start(provider: &str) -> System {
    let data = tempfile::tempdir().unwrap();
    let text = format!(
        "[router.providers.mock]\nkind = 'openai'\nbase_url = '{provider}/v1'\ntier = 1\n\
         models = [{{ name = 'm', input_usd_per_million = '0', output_usd_per_million = '4', \
         max_output_tokens = 1000 }}]\n"
    );
    let file = data.path().join("baton.toml");
    std::fs::write(&file, text).unwrap();
    let mut config: Config = runtime::config::load(Some(&file)).unwrap();
    config.place(data.path());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let node = Node::start(&config).await.unwrap();
    let stop = CancellationToken::new();
    let (stopped, health) = (stop.clone(), Health::default());
    tokio::spawn(async move {
        node.serve(config, listener, health, &Metrics::default(), stopped).await
    });
    // The router installs the TLS provider; a client may be made only after it.
    let client = Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
    System { url, client, stop, _data: data }
}

/// A provider that answers `pong` for exactly $0.004, plain or in two chunks; for the user message
/// "break" it ends its stream early, for "refuse" it answers 500.
async fn provider() -> String {
    async fn answer(Json(body): Json<Value>) -> Response {
        let asked = body["messages"][0]["content"].as_str().unwrap_or_default();
        if asked == "refuse" {
            return (axum::http::StatusCode::INTERNAL_SERVER_ERROR, "no").into_response();
        }
        let usage = json!({ "prompt_tokens": 1000, "completion_tokens": 1000 });
        if body["stream"] != true {
            let message = json!({ "role": "assistant", "content": "pong" });
            let choice = json!({ "index": 0, "message": message, "finish_reason": "stop" });
            return Json(json!({ "choices": [choice], "usage": usage })).into_response();
        }
        let chunk = |text: &str| {
            let delta = json!({ "content": text });
            let chunk = json!({ "choices": [{ "index": 0, "delta": delta }] });
            format!("data: {chunk}\r\n\r\n")
        };
        let mut stream = format!(": hello\n\n{}", chunk("po"));
        if asked != "break" {
            let last = json!({ "choices": [], "usage": usage });
            stream += &format!("{}data: {last}\n\ndata: [DONE]\n\n", chunk("ng"));
        }
        ([("content-type", "text/event-stream")], stream).into_response()
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().route("/v1/chat/completions", post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

impl System {
    async fn post(&self, path: &str, body: &Value) -> (StatusCode, String) {
        let reply = self.client.post(format!("{}{path}", self.url)).json(body).send();
        let reply = reply.await.unwrap();
        (reply.status(), reply.text().await.unwrap())
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let reply = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (reply.status(), reply.json().await.unwrap_or_default())
    }

    async fn chat(&self, asked: &str, stream: bool) -> (StatusCode, String) {
        let messages = json!([{ "role": "user", "content": asked }]);
        let body = json!({ "model": "m", "messages": messages, "stream": stream });
        self.post("/v1/chat/completions", &body).await
    }

    /// Waits until a user holds nothing: settlements and releases are made behind the answer.
    async fn spent(&self, user: &str) -> f64 {
        loop {
            let (_, state) = self.get(&format!("/api/v1/budget/user/{user}?period=daily")).await;
            if state["held"] == 0.0 {
                return state["current_spend"].as_f64().unwrap();
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_document_is_uploaded_asked_and_removed() {
    let system = start("http://127.0.0.1:1").await;
    let upload = system.client.post(format!("{}/api/v1/documents?source=guide.md", system.url));
    let text = "# Guide\n\nIntro.\n\n## Rollback\n\nTo roll back a release, run the script.\n";
    let reply = upload.body(text).send().await.unwrap();
    assert_eq!(reply.status(), StatusCode::CREATED);
    let document: Value = reply.json().await.unwrap();

    let question = json!({ "question": "How do I roll back a release?", "route": "extractive" });
    let (status, answer) = system.post("/api/v1/ask", &question).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["answer"], "To roll back a release, run the script. [1]");
    let citation = &answer["citations"][0];
    assert_eq!(citation["quote"], "To roll back a release, run the script.");
    assert_eq!(
        (citation["start_line"].as_u64(), citation["source"].as_str()),
        (Some(7), Some("guide.md"))
    );
    assert_eq!(answer["confidence"], 1.0);

    let run = answer["run_id"].as_str().unwrap();
    let (_, journal) = system.get(&format!("/api/v1/runs/{run}/events")).await;
    let events = journal["events"].as_array().unwrap().iter().map(|event| event["event"].as_str());
    let wanted = ["started", "retrieved", "delta", "completed"].map(Some);
    assert_eq!(events.collect::<Vec<_>>(), wanted);

    let id = document["id"].as_str().unwrap();
    let delete = system.client.delete(format!("{}/api/v1/documents/{id}", system.url));
    assert_eq!(delete.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(system.get(&format!("/api/v1/documents/{id}")).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn of_ten_requests_at_once_the_limit_pays_two() {
    let system = start(&provider().await).await;
    let limit = json!({ "user_id": "local", "period": "daily", "limit": 0.01 });
    assert_eq!(system.post("/api/v1/budget/limit", &limit).await.0, StatusCode::CREATED);
    let answers = futures::future::join_all((0..10).map(|_| system.chat("ping", false))).await;
    let count = |wanted: StatusCode| answers.iter().filter(|answer| answer.0 == wanted).count();
    assert_eq!(count(StatusCode::OK), 2, "{answers:?}");
    assert_eq!(count(StatusCode::PAYMENT_REQUIRED), 8, "{answers:?}");
    let refused = answers.iter().find(|answer| answer.0 == StatusCode::PAYMENT_REQUIRED).unwrap();
    assert!(refused.1.contains("budget_exceeded"), "{}", refused.1);
    assert!((system.spent("local").await - 0.008).abs() < 1e-12);
}

#[tokio::test]
async fn a_stream_is_whole_or_ends_in_an_honest_error() {
    let system = start(&provider().await).await;
    let (status, stream) = system.chat("ping", true).await;
    assert_eq!(status, StatusCode::OK);
    assert!(stream.contains("\"po\"") && stream.contains("\"ng\""), "{stream}");
    assert!(stream.ends_with("data: [DONE]\n\n") && !stream.contains("usage"), "{stream}");
    assert!((system.spent("local").await - 0.004).abs() < 1e-12);

    let (status, stream) = system.chat("break", true).await;
    assert_eq!(status, StatusCode::OK);
    assert!(stream.contains("\"po\"") && stream.contains("the stream ended early"), "{stream}");
    assert!(!stream.contains("[DONE]"), "{stream}");

    let (status, error) = system.chat("refuse", true).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{error}");
    assert!(error.contains("mock/m: 500"), "{error}");
}

#[tokio::test]
async fn bad_input_is_told_what_is_wrong() {
    let system = start("http://127.0.0.1:1").await;
    let negative = json!({ "user_id": "u", "period": "daily", "limit": -1 });
    let hourly = json!({ "user_id": "u", "period": "hourly", "limit": 1 });
    let fine = json!({ "user_id": "u", "period": "daily", "limit": 0.000_000_000_1 });
    let unknown = json!({ "model": "none", "messages": [{ "role": "user", "content": "x" }] });
    for (path, body, fault) in [
        ("/api/v1/budget/limit", &negative, "negative"),
        ("/api/v1/budget/limit", &hourly, "hourly"),
        ("/api/v1/budget/limit", &fine, "nine decimal places"),
        ("/v1/chat/completions", &unknown, "/model"),
        ("/api/v1/ask", &json!({ "question": "" }), "/question"),
        ("/api/v1/search", &json!({ "query": "x", "top_k": 0 }), "/top_k"),
        ("/api/v1/search", &json!({ "query": "x", "k": 1 }), "unknown field `k`"),
    ] {
        let (status, error) = system.post(path, body).await;
        assert!(status.is_client_error() && error.contains(fault), "{path} {status} {error}");
        assert!(serde_json::from_str::<Value>(&error).unwrap()["error"]["message"].is_string());
    }
    let foreign = system
        .client
        .get(format!("{}/v1/models", system.url))
        .header("origin", "https://x.example");
    assert_eq!(foreign.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(system.get("/nowhere").await.0, StatusCode::NOT_FOUND);
    assert_eq!(system.get("/health/ready").await.0, StatusCode::OK);
    assert_eq!(system.get("/openapi.json").await.1["info"]["title"], "Baton");
}
