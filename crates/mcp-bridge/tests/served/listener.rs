//! The bridge's own listener.

use mcp_bridge::Config;
use runtime::metrics::Metrics;
use serde_json::{Value, json};

fn config(listen: &str, clients: Value) -> Config {
    serde_json::from_value(
        json!({ "listen": listen, "clients": clients, "store": "sqlite::memory:" }),
    )
    .unwrap()
}

#[tokio::test]
async fn its_own_listener_lets_in_whom_it_knows() {
    let token = "0123456789abcdef0123456789abcdef";
    let tokens = json!({ "tokens": { "ci": { "token": token, "tenant": "t", "user": "u" } } });
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "raw", "version": "1" } } });
    for clients in [json!({}), tokens] {
        let closed = clients != json!({});
        let bridge =
            mcp_bridge::server(config("127.0.0.1:0", clients), &Metrics::default()).await.unwrap();
        let own = format!("http://{}", bridge.listening().unwrap());
        let bearer = format!("Bearer {token}");
        for (header, value, status) in [
            ("x-nothing", "", if closed { 401 } else { 200 }),
            ("authorization", bearer.as_str(), 200),
            (
                "authorization",
                "Bearer 0123456789abcdef0123456789abcdeX",
                if closed { 401 } else { 200 },
            ),
            ("baton-tenant-bin", "b3RoZXI", if closed { 401 } else { 200 }),
            ("host", "evil.example", 403),
            ("origin", "http://evil.example", 403),
            ("origin", "null", 403),
            ("origin", own.as_str(), if closed { 401 } else { 200 }),
        ] {
            let request = http.post(format!("{own}/mcp")).json(&body).header(header, value);
            let request = request.header("accept", "application/json, text/event-stream");
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{header}: {value}, {closed}");
        }
    }
}

#[tokio::test]
async fn two_tokens_of_one_user_are_two_callers() {
    let token = |name: char| name.to_string().repeat(32);
    let client = |name| json!({ "token": token(name), "tenant": "t", "user": "u" });
    let clients = json!({ "tokens": { "a": client('a'), "b": client('b') } });
    let bridge =
        mcp_bridge::server(config("127.0.0.1:0", clients), &Metrics::default()).await.unwrap();
    let url = format!("http://{}/mcp", bridge.listening().unwrap());
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let ask = async |name, session: &str, method: &str| {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": { "name": "raw", "version": "1" } } });
        let request = http.post(&url).json(&body).bearer_auth(token(name));
        let request = request.header("accept", "application/json, text/event-stream");
        let request = match session {
            "" => request,
            id => request.header("mcp-session-id", id),
        };
        request.send().await.unwrap()
    };
    let begun = ask('a', "", "initialize").await;
    let session = begun.headers()["mcp-session-id"].to_str().unwrap();
    assert_eq!(ask('b', session, "ping").await.status().as_u16(), 404, "it is the other's");
    assert_eq!(ask('a', session, "ping").await.status().as_u16(), 200);
}

#[tokio::test]
async fn it_does_not_serve_others_without_tokens() {
    for (listen, clients, fault) in [
        ("0.0.0.0:0", json!({}), "no tokens"),
        (
            "127.0.0.1:0",
            json!({ "tokens": { "a": { "token": "short", "tenant": "t", "user": "u" } } }),
            "32",
        ),
    ] {
        let refused = mcp_bridge::server(config(listen, clients), &Metrics::default()).await;
        let refused = refused.err().unwrap();
        assert!(refused.to_string().contains(fault), "{refused:#}");
    }
}
