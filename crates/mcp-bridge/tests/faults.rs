//! Servers that do what no server should: their callers are told, and the others notice nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure here is a failed test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt as _;
use mcp_bridge::Config;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{CallToolRequest, CallToolResponse, ListToolsRequest, ListToolsResponse};
use runtime::metrics::Metrics;
use runtime::transport::{Peer, in_process};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use types::{CallContext, TenantId, UserId};

const MIB: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NeverAnswers,
    NeverListens,
    BreaksOff,
    AnswersAnother,
    AnswersHugely,
    AnswersNoJson,
    FailsWithAPage,
    OffersTenThousand,
    OffersPagesForEver,
    OffersNonsense,
    OffersSomethingElseEachTime,
    ClosesEachConnection,
}

/// What is expected of a call of the tool `act`, and of the list.
struct Expected {
    fault: Fault,
    /// In the error, or in the result.
    call: Result<&'static str, &'static str>,
    /// How many of its tools are listed.
    tools: usize,
}

const TABLE: [Expected; 13] = {
    use Fault::*;
    const fn row(fault: Fault, call: Result<&'static str, &'static str>, tools: usize) -> Expected {
        Expected { fault, call, tools }
    }
    [
        row(None, Ok("done"), 1),
        row(NeverAnswers, Err("\"bad\" did not answer within 300 ms"), 1),
        row(NeverListens, Err("\"bad\" did not answer within 500 ms"), 0),
        row(BreaksOff, Err("the connection was lost"), 1),
        row(AnswersAnother, Err("\"bad\" did not answer within 300 ms"), 1),
        row(AnswersHugely, Err("the connection was lost"), 1),
        row(AnswersNoJson, Err("the connection was lost"), 1),
        row(FailsWithAPage, Err("the connection was lost"), 1),
        row(OffersTenThousand, Ok("done"), 5_000),
        row(OffersPagesForEver, Ok("done"), 100),
        row(OffersNonsense, Ok("done"), 1),
        row(OffersSomethingElseEachTime, Ok("done"), 1),
        row(ClosesEachConnection, Ok("done"), 1),
    ]
};

/// A server with a fault, and how often it was asked for its list.
async fn serve(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let lists = Arc::new(AtomicUsize::new(0));
    let answer = move |request: Request| {
        let lists = Arc::clone(&lists);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let asked: Value = serde_json::from_slice(&body).unwrap();
            let mut answer = match asked["method"].as_str().unwrap() {
                "server/discover" => result(&asked, discovered()),
                "tools/list" => result(&asked, list(fault, &asked, &lists)),
                "tools/call" => return call(fault, &asked).await,
                _ => response(json!({ "jsonrpc": "2.0", "id": asked["id"],
                    "error": { "code": -32601, "message": "what is that" } })),
            };
            if fault == Fault::ClosesEachConnection {
                answer.headers_mut().insert("connection", "close".parse().unwrap());
            }
            answer
        }
    };
    if fault == Fault::NeverListens {
        // It takes connections, and reads nothing of them.
        tokio::spawn(async move {
            let _kept = listener;
            std::future::pending::<()>().await;
        });
        return url;
    }
    let router = axum::Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

fn discovered() -> Value {
    json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } })
}

fn list(fault: Fault, asked: &Value, lists: &AtomicUsize) -> Value {
    let tool = |name: String| json!({ "name": name, "inputSchema": { "type": "object" } });
    let count = lists.fetch_add(1, Ordering::SeqCst);
    let from: usize = asked["params"]["cursor"].as_str().map_or(0, |from| from.parse().unwrap());
    match fault {
        Fault::OffersTenThousand => {
            let named =
                |number| tool(if number == 0 { "act".into() } else { format!("n{number}") });
            let next = (from + 1_000 < 10_000).then(|| (from + 1_000).to_string());
            json!({ "tools": (from..from + 1_000).map(named).collect::<Vec<_>>(), "nextCursor": next })
        }
        Fault::OffersPagesForEver => {
            let name = if from == 0 { "act".into() } else { format!("n{from}") };
            json!({ "tools": [tool(name)], "nextCursor": (from + 1).to_string() })
        }
        Fault::OffersNonsense => json!({ "tools": [
            { "inputSchema": { "type": "object" } }, 7, null, { "name": "a", "inputSchema": "object" },
            { "name": "b", "inputSchema": { "type": "array" } }, { "name": "c d", "inputSchema": { "type": "object" } },
            tool("act".into()), tool("act".into()),
        ] }),
        Fault::OffersSomethingElseEachTime => {
            let extra = tool(format!("other{count}"));
            json!({ "tools": if count == 0 { vec![tool("act".into())] } else { vec![tool("act".into()), extra] } })
        }
        _ => json!({ "tools": [tool("act".into())] }),
    }
}

async fn call(fault: Fault, asked: &Value) -> Response {
    let done = json!({ "content": [{ "type": "text", "text": "done" }] });
    match fault {
        Fault::NeverAnswers => std::future::pending().await,
        Fault::BreaksOff => {
            let parts = [Ok(Bytes::from("{\"jsonrpc\":")), Err(io::Error::other("gone"))];
            streamed(Body::from_stream(stream::iter(parts)))
        }
        Fault::AnswersAnother => result(&json!({ "id": "another" }), done),
        Fault::AnswersHugely => {
            let head = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{{\"content\":[{{\"type\":\"text\",\"text\":\"",
                asked["id"]
            );
            let text = (0..100).map(|_| Bytes::from(vec![b'x'; MIB]));
            let all = [Bytes::from(head)].into_iter().chain(text).chain([Bytes::from("\"}]}}")]);
            streamed(Body::from_stream(stream::iter(all.map(Ok::<_, io::Error>))))
        }
        Fault::AnswersNoJson => streamed(Body::from("{ this is none")),
        Fault::FailsWithAPage => Response::builder()
            .status(500)
            .header("content-type", "text/html")
            .body(Body::from("<h1>Oh no</h1>"))
            .unwrap(),
        _ => result(asked, done),
    }
}

fn result(asked: &Value, mut result: Value) -> Response {
    result["resultType"] = json!("complete");
    (result["ttlMs"], result["cacheScope"]) = (json!(0), json!("private"));
    response(json!({ "jsonrpc": "2.0", "id": asked["id"], "result": result }))
}

fn response(body: Value) -> Response {
    streamed(Body::from(body.to_string()))
}

fn streamed(body: Body) -> Response {
    Response::builder().header("content-type", "application/json").body(body).unwrap()
}

struct Bridge(BridgeServiceClient<Peer>);

impl Bridge {
    /// A bridge before both; the bad one has little time where it is to be given up.
    async fn before(fault: Fault, bad: &str, good: &str) -> Self {
        let (mut call, mut start) = (30_000, 30_000);
        match fault {
            Fault::NeverAnswers | Fault::AnswersAnother => call = 300,
            Fault::NeverListens => start = 500,
            _ => {}
        }
        let config: Config =
            serde_json::from_value(json!({ "store": "sqlite::memory:", "servers": {
            "bad": {
                "url": bad, "timeout_ms": call, "start_timeout_ms": start, "list_wait_ms": 30_000,
            },
            "good": { "url": good },
        } }))
            .unwrap();
        let bridge = mcp_bridge::server(config, &Metrics::default()).await.unwrap();
        Self(BridgeServiceClient::new(in_process(bridge)))
    }

    async fn list(&self) -> ListToolsResponse {
        let request = runtime::context::request(&context(), ListToolsRequest {});
        self.0.clone().list_tools(request).await.unwrap().into_inner()
    }

    async fn call(&self, name: &str) -> tonic::Result<CallToolResponse> {
        let call = CallToolRequest { name: name.to_owned(), arguments_json: String::new() };
        let request = runtime::context::request(&context(), call);
        Ok(self.0.clone().call_tool(request).await?.into_inner())
    }
}

fn context() -> CallContext {
    CallContext::new(TenantId::new("t").unwrap(), UserId::new("u").unwrap())
}

/// The most memory that this process had at once so far, in bytes.
fn most_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_does_its_caller_is_told_and_the_others_notice_nothing() {
    let good = serve(Fault::None).await;
    let before = most_memory();
    for Expected { fault, call, tools } in TABLE {
        let bridge = Bridge::before(fault, &serve(fault).await, &good).await;
        let bad = async { bridge.call("bad__act").await };
        let fine = async {
            for _ in 0..20 {
                let answer = bridge.call("good__act").await.unwrap();
                assert!(answer.content_json.contains("done"), "{fault:?}: {answer:?}");
            }
        };
        let both = async { tokio::join!(bad, fine).0 };
        let called = tokio::time::timeout(Duration::from_secs(30), both).await.unwrap();
        match (called, call) {
            (Ok(answer), Ok(text)) => {
                assert!(answer.content_json.contains(text), "{fault:?}: {answer:?}");
            }
            (Err(status), Err(text)) => {
                assert!(status.message().contains(text), "{fault:?}: {status:?}");
            }
            (called, _) => panic!("{fault:?}: {called:?}"),
        }
        let listed = bridge.list().await;
        let of = |server: &str| listed.tools.iter().filter(|tool| tool.server == server).count();
        assert_eq!((of("bad"), of("good")), (tools, 1), "{fault:?}: {:?}", listed.degraded);
        let named = listed.degraded.iter().any(|one| one.server == "bad");
        let cut = matches!(fault, Fault::OffersTenThousand | Fault::OffersPagesForEver);
        assert_eq!(named, cut || tools == 0, "{fault:?}: {:?}", listed.degraded);
    }
    // A hundred megabytes were sent, and 10,000 tools offered.
    let grown = most_memory().saturating_sub(before);
    assert!(grown < 96 * MIB, "{} MiB", grown / MIB);
}
