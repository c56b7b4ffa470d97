//! The bridge's own listener.

use mcp_bridge::Config;
use proto::bridge::ListCallsRequest;
use proto::bridge::bridge_service_client::BridgeServiceClient;
use rmcp::ServiceExt as _;
use rmcp::model::ClientCapabilities;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use runtime::metrics::Metrics;
use runtime::transport::in_process;
use serde_json::{Value, json};
use testkit::token::Signer;
use types::{CallContext, TenantId, UserId};

use crate::support::{call, client, slow};

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

/// What RFC 9728 has for clients, and a token for another audience, role or issuer.
#[tokio::test]
async fn a_token_of_an_identity_provider_is_taken_by_its_audience_and_goes_no_further() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("keys.json");
    let signer = Signer::ed();
    std::fs::write(&file, json!({ "keys": [signer.public("one")] }).to_string()).unwrap();
    let url = "https://mcp.example.com/mcp";
    let jwt = json!({ "issuer": "https://id", "audience": [url], "jwks": file, "tenant_claim": "org",
        "role_claim": "role" });
    let (_server, slow) = slow().await;
    let bridge: Config = serde_json::from_value(json!({
        "listen": "127.0.0.1:0", "store": "sqlite::memory:", "servers": { "slow": { "url": slow.url } },
        "clients": { "url": url, "jwt": { "id": jwt }, "tokens": { "dotted": {
            "token": "0123456789.0123456789.0123456789", "tenant": "t", "user": "u" } } },
    }))
    .unwrap();
    let bridge = mcp_bridge::server(bridge, &Metrics::default()).await.unwrap();
    let own = format!("http://{}", bridge.listening().unwrap());
    let http = egress::client(egress::Reach::Anywhere).build().unwrap();
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": { "name": "raw", "version": "1" } } });
    let ask = async |token: Option<String>| {
        let request = http.post(format!("{own}/mcp")).json(&body);
        let request = request.header("accept", "application/json, text/event-stream");
        match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
        .send()
        .await
        .unwrap()
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let token = |signer: &Signer, more: Value| {
        let mut claims = json!({ "iss": "https://id", "aud": url, "exp": now.as_secs() + 600,
            "sub": "ann", "org": "acme", "role": "member" });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signer.token(&json!({ "alg": "EdDSA", "kid": "one" }), &claims)
    };
    let good = token(&signer, json!({}));
    for (shown, status, told) in [
        (Some(good.clone()), 200, ""),
        (Some("0123456789.0123456789.0123456789".to_owned()), 200, ""),
        (Some("9876543210.0123456789.0123456789".to_owned()), 401, "malformed"),
        (None, 401, "missing or wrong"),
        (Some("0123456789abcdef0123456789abcdef".to_owned()), 401, "missing or wrong"),
        (Some(token(&signer, json!({ "aud": "https://other/mcp" }))), 401, "for another audience"),
        (Some(token(&signer, json!({ "iss": "https://evil" }))), 401, "whose none are taken"),
        (Some(token(&signer, json!({ "exp": now.as_secs() - 600 }))), 401, "has expired"),
        (Some(token(&Signer::ed(), json!({}))), 401, "not its issuer's"),
        (Some(token(&signer, json!({ "role": "read_only" }))), 403, "may not call tools"),
        (Some(token(&signer, json!({ "role": null }))), 403, "no role here"),
    ] {
        let answer = ask(shown).await;
        let challenge = answer.headers().get("www-authenticate").map(|it| it.to_str().unwrap());
        let challenge = challenge.unwrap_or_default().to_owned();
        let said = (answer.status().as_u16(), answer.text().await.unwrap());
        assert!(said.0 == status && said.1.contains(told), "{status} {told}: {said:?}");
        let metadata = "https://mcp.example.com/.well-known/oauth-protected-resource/mcp";
        assert_eq!(challenge.contains(metadata), status == 401, "{challenge}");
    }
    let metadata = http.get(format!("{own}/.well-known/oauth-protected-resource/mcp"));
    let metadata: Value = metadata.send().await.unwrap().json().await.unwrap();
    assert_eq!(metadata["resource"], url);
    assert_eq!(metadata["authorization_servers"], json!(["https://id"]));

    // Who it stands for is in the audit; the server behind is shown nothing of it.
    let config = StreamableHttpClientTransportConfig::with_uri(format!("{own}/mcp/slow"));
    let transport =
        StreamableHttpClientTransport::with_client(http.clone(), config.auth_header(good));
    let client = client(ClientCapabilities::default()).serve(transport).await.unwrap();
    assert_eq!(call(&client, "shown").await, "None None");
    bridge.finish().await;
    let mut service = BridgeServiceClient::new(in_process(bridge));
    let acme = CallContext::new(TenantId::new("acme").unwrap(), UserId::new("x").unwrap());
    let request = ListCallsRequest { before: None, limit: 0 };
    let calls = service.list_calls(runtime::context::request(&acme, request)).await.unwrap();
    let calls = calls.into_inner().calls;
    assert_eq!((calls.len(), calls[0].user.as_str(), &calls[0].key), (1, "ann", &None));
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
        (
            "127.0.0.1:0",
            json!({ "jwt": { "id": { "issuer": "i", "audience": ["a"], "jwks": "k", "tenant": "t",
                "role": "member" } } }),
            "clients.url is needed",
        ),
        ("127.0.0.1:0", json!({ "url": "here" }), "mcp_bridge.clients.url"),
        ("0.0.0.0:0", json!({ "url": "https://h/mcp" }), "no jwt"),
        (
            "127.0.0.1:0",
            json!({ "url": "https://h/mcp", "jwt": { "id": { "issuer": "i", "audience": [],
                "jwks": "k", "tenant": "t", "role": "member" } } }),
            "mcp_bridge.clients.jwt.id",
        ),
    ] {
        let refused = mcp_bridge::server(config(listen, clients), &Metrics::default()).await;
        let refused = refused.err().unwrap();
        assert!(format!("{refused:#}").contains(fault), "{refused:#}");
    }
}
