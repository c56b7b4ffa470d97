//! Names, sessions, and what a server is told.

use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{CallToolRequestParams, GetPromptRequestParams, ReadResourceRequestParams};
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use serde_json::{Value, json};

use crate::support::{Bridge, Slow, call, raw, slow};

#[tokio::test]
async fn all_servers_are_one_and_each_is_itself_in_both_eras() {
    let (_, first) = slow().await;
    let second = testkit::mcp::judged().await.unwrap();
    let bridge = Bridge::new(json!({
        "slow": { "url": first.url },
        "judged": { "url": second.url },
        "dead": { "url": "http://127.0.0.1:1/mcp" },
    }))
    .await;
    for modern in [true, false] {
        let client = bridge.client("", modern).await;
        let listed = client.list_tools(None).await.unwrap();
        let names: Vec<_> = listed.tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert!(names.contains(&"slow__wait") && names.contains(&"judged__test_simple_text"));
        let degraded = &listed.meta.unwrap().0["baton/degraded"];
        assert_eq!(degraded[0]["server"], "dead", "{degraded}");
        assert!(call(&client, "judged__test_simple_text").await.starts_with("This is"));

        // An address is read as it was listed, whatever server it is of.
        let resources = client.list_all_resources().await.unwrap();
        let uri = resources[0].uri.clone();
        assert_eq!(uri, "mcp+judged+test://static-text");
        let read = client.read_resource_once(ReadResourceRequestParams::new(uri)).await.unwrap();
        assert!(format!("{read:?}").contains("mcp+judged+test://static-text"), "{read:?}");
        let prompts = client.list_all_prompts().await.unwrap();
        assert!(prompts.iter().any(|one| one.name == "judged__test_simple_prompt"));

        let one = bridge.client("/judged", modern).await;
        let tools = one.list_all_tools().await.unwrap();
        assert!(tools.iter().any(|tool| tool.name == "test_simple_text"));
        assert_eq!(one.list_all_resources().await.unwrap()[0].uri, "test://static-text");
        // A name that is nearly right is told the right one.
        let wrong = CallToolRequestParams::new("judged__test_simple_txt");
        let fault = client.call_tool(wrong).await.unwrap_err().to_string();
        assert!(fault.contains("judged__test_simple_text"), "{fault}");
    }
}

#[tokio::test]
async fn what_a_caller_may_not_use_is_named_and_never_an_empty_list_alone() {
    let (_, served) = slow().await;
    let config = json!({
        "servers": { "slow": { "url": served.url } }, "pins": { "policy": "manual" },
    });
    let bridge = Bridge::configured(config).await;
    for modern in [true, false] {
        let client = bridge.client("", modern).await;
        let listed = client.list_tools(None).await.unwrap();
        assert!(listed.tools.is_empty(), "{:?}", listed.tools);
        let refused = &listed.meta.unwrap().0["baton/refused"];
        assert_eq!(refused[0]["name"], "slow__wait", "{refused}");
        let result = client.call_tool(CallToolRequestParams::new("slow__meta")).await.unwrap();
        let text = &result.content[0].as_text().unwrap().text;
        assert!(result.is_error == Some(true) && text.contains("slow"), "{text}");
    }
}

#[tokio::test]
async fn what_is_given_is_bounded_whatever_gave_it() {
    let fixture = testkit::mcp::judged().await.unwrap();
    let config = json!({ "servers": { "judged": { "url": fixture.url } }, "max_result_bytes": 20 });
    let bridge = Bridge::configured(config).await;
    for modern in [true, false] {
        let client = bridge.client("/judged", modern).await;
        let read = ReadResourceRequestParams::new("test://static-text");
        let faults = [
            client.read_resource(read).await.unwrap_err().to_string(),
            client
                .get_prompt(GetPromptRequestParams::new("test_simple_prompt"))
                .await
                .unwrap_err()
                .to_string(),
        ];
        for fault in faults {
            assert!(fault.contains("at most 20 are passed on"), "{fault}");
        }
        let result = client.call_tool(CallToolRequestParams::new("test_simple_text")).await;
        assert!(format!("{result:?}").contains("at most 20 are passed on"), "{result:?}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_ends_the_call_at_its_server() {
    let (server, served) = slow().await;
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    let client = bridge.client("/slow", true).await;
    let waiting = tokio::spawn(async move { call(&client, "wait").await });
    server.began.notified().await;
    waiting.abort();
    tokio::time::timeout(Duration::from_secs(30), server.cancelled.notified()).await.unwrap();
}

#[tokio::test]
async fn a_call_takes_no_longer_than_its_server_may() {
    let (server, served) = slow().await;
    let bridge = Bridge::new(json!({ "slow": { "url": served.url, "timeout_ms": 1000 } })).await;
    for modern in [true, false] {
        let client = bridge.client("/slow", modern).await;
        let result = client.call_tool(CallToolRequestParams::new("wait")).await.unwrap();
        let text = &result.content[0].as_text().unwrap().text;
        assert!(
            result.is_error == Some(true) && text.contains("\"slow\" did not answer"),
            "{text}"
        );
        tokio::time::timeout(Duration::from_secs(30), server.cancelled.notified()).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_has_expired_is_opened_again() {
    let sessions = Arc::new(LocalSessionManager::default());
    let config = StreamableHttpServerConfig::default();
    let served = testkit::mcp::serve_with(Slow::default(), config, Arc::clone(&sessions));
    let served = served.await.unwrap();
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    let client = bridge.client("/slow", false).await;
    let first = call(&client, "session").await;
    sessions.sessions.write().await.clear();
    let second = call(&client, "session").await;
    assert!(second.contains("Some") && first != second, "{first} {second}");
}

#[tokio::test]
async fn a_client_of_before_reaches_a_server_that_is_nothing_but_modern() {
    let server = Slow { modern: true, ..Slow::default() };
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false);
    let served = testkit::mcp::serve(server, config).await.unwrap();
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    for _ in 0..2 {
        let client = bridge.client("/slow", false).await;
        assert_eq!(call(&client, "session").await, "None");
    }
}

#[tokio::test]
async fn no_session_is_anothers() {
    let (_, served) = slow().await;
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    // Each client of before has a session of its own at the server, and keeps it.
    let (one, other) = (bridge.client("/slow", false).await, bridge.client("/slow", false).await);
    let (first, second) = (call(&one, "session").await, call(&other, "session").await);
    assert!(first.contains("Some") && second.contains("Some") && first != second, "{first}");
    assert_eq!(call(&one, "session").await, first);

    // Whoever finds out a session's name has nothing of it.
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let url = format!("{}/slow", bridge.url);
    let post = |user: &str, session: Option<&str>, body: Value| {
        let request = http.post(&url).header("x-user", user).json(&body);
        let request = request.header("accept", "application/json, text/event-stream");
        match session {
            Some(session) => request.header("mcp-session-id", session),
            None => request,
        }
    };
    let begin = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "raw", "version": "1" } } });
    let begun = post("ann", None, begin).send().await.unwrap();
    let session = begun.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    let ping = || json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" });
    let status = async |user: &str| {
        post(user, Some(&session), ping()).send().await.unwrap().status().as_u16()
    };
    assert_eq!((status("ann").await, status("bob").await), (200, 404));
    for request in [http.get(&url), http.delete(&url)] {
        let request = request.header("x-user", "bob").header("mcp-session-id", &session);
        let request = request.header("accept", "text/event-stream");
        let status = request.send().await.unwrap().status().as_u16();
        assert!(status == 404 || status == 202, "{status}");
    }
    assert_eq!(status("ann").await, 200, "another's end is none of it");
}

#[tokio::test]
async fn a_server_is_shown_its_own_token_and_told_the_callers_tenant() {
    let (_, served) = slow().await;
    let described = json!({ "url": served.url, "token": "of-ours", "tenant_header": true });
    let bridge = Bridge::new(json!({ "slow": described })).await;
    for tenant in ["acme", "other", "acme"] {
        let shown = raw(&bridge, "shown", json!({}), &[("x-tenant", tenant)]).await;
        assert_eq!(shown, format!("Some({tenant:?}) Some(\"Bearer of-ours\")"));
    }
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    assert_eq!(raw(&bridge, "shown", json!({}), &[]).await, "None None");
}

#[tokio::test]
async fn a_server_is_told_what_concerns_it_and_no_more() {
    let (_, served) = slow().await;
    let bridge = Bridge::new(json!({ "slow": { "url": served.url } })).await;
    let meta = json!({ "example.com/of-ours": 7, "progressToken": "mine",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" });
    let told: Value = serde_json::from_str(&raw(&bridge, "meta", meta, &[]).await).unwrap();
    assert_eq!(told["example.com/of-ours"], 7, "{told}");
    assert!(told["traceparent"].as_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    let client = &told["io.modelcontextprotocol/clientCapabilities"];
    assert!(client.get("elicitation").is_some() && client.get("experimental").is_none(), "{told}");
    assert_ne!(told["progressToken"], "mine", "{told}");
    assert_eq!(told["io.modelcontextprotocol/clientInfo"]["name"], "baton-mcp-bridge");
}

#[tokio::test]
async fn one_callers_sessions_are_counted_and_come_back() {
    let bridge = Bridge::configured(json!({ "sessions": 1 })).await;
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let begin = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "raw", "version": "1" } } });
    let begun = async |user: &str| {
        let request = http.post(&bridge.url).header("x-user", user).json(&begin);
        let request = request.header("accept", "application/json, text/event-stream");
        let answer = request.send().await.unwrap();
        let session = answer.headers().get("mcp-session-id").map(|one| one.to_owned());
        (session, answer.text().await.unwrap())
    };
    let (session, answer) = begun("ann").await;
    assert!(answer.contains("serverInfo"), "{answer}");
    let refused = begun("ann").await.1;
    assert!(refused.contains("the caller has 1 sessions here"), "{refused}");
    let other = begun("bob").await.1;
    assert!(other.contains("serverInfo"), "{other}");
    let end = http.delete(&bridge.url).header("x-user", "ann");
    end.header("mcp-session-id", session.unwrap()).send().await.unwrap();
    let again = async { while !begun("ann").await.1.contains("serverInfo") {} };
    tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
}
