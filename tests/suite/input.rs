//! What bad input gets.

use journeys::{Shape, System, conversation, priced};
use serde_json::{Value, json};
use testkit::provider::Provider;

#[tokio::test]
async fn bad_input_is_told_what_is_wrong_and_changes_nothing() {
    for shape in Shape::ALL {
        let settings = "[gateway]\nmax_body_bytes = 100000\n";
        let system = System::start(shape, settings).await.unwrap();
        let limit = |period: &str, limit: Value| json!({ "user_id": "u", "period": period, "limit": limit });
        let hello = json!([{ "role": "user", "content": "x" }]);
        let unknown = json!({ "model": "none", "messages": hello });
        let large = "x".repeat(200_000);
        for (path, body, code, fault) in [
            ("/api/v1/budget/limit", limit("daily", json!(-1)), 400, "negative"),
            ("/api/v1/budget/limit", limit("hourly", json!(1)), 400, "hourly"),
            ("/api/v1/budget/limit", limit("daily", json!(1e-10)), 400, "nine decimal places"),
            ("/v1/chat/completions", unknown, 400, "/model"),
            (
                "/v1/chat/completions",
                json!({ "model": "auto", "messages": large }),
                413,
                "at most 100000",
            ),
            ("/api/v1/ask", json!({ "question": "" }), 400, "/question"),
            ("/api/v1/ask", json!({ "question": large }), 413, "at most 100000"),
            ("/api/v1/search", json!({ "query": "x", "top_k": 0 }), 400, "/top_k"),
            ("/api/v1/search", json!({ "query": "x", "k": 1 }), 400, "unknown field `k`"),
        ] {
            let (status, error) = system.post(path, &body).await.unwrap();
            assert!(status == code && error.contains(fault), "{path} {status} {error}");
            let error: Value = serde_json::from_str(&error).unwrap();
            assert!(error["error"]["message"].is_string(), "{error}");
        }
        let malformed = system.client().post(format!("{}/v1/chat/completions", system.url));
        let malformed = malformed.body("{\"model\": ").send().await.unwrap();
        assert_eq!(malformed.status(), 400);
        let upload = format!("{}/api/v1/documents?source=a.bin", system.url);
        let binary =
            system.client().post(upload).body(vec![0xff, 0xfe, 0x00]).send().await.unwrap();
        assert!(binary.status().is_client_error(), "{}", binary.status());

        let (_, documents) = system.get("/api/v1/documents").await.unwrap();
        assert_eq!(documents["documents"], json!([]), "{documents}");
        let (_, state) = system.get("/api/v1/budget/user/u?period=daily").await.unwrap();
        assert_eq!(state["limit"], Value::Null, "{state}");
        for path in ["/nowhere", "/api/v1/documents/none"] {
            assert_eq!(system.get(path).await.unwrap().0, 404, "{path}");
        }
        assert_eq!(system.get("/api/v1/budget/user/u?period=hourly").await.unwrap().0, 400);
        assert_eq!(system.get("/health/ready").await.unwrap().0, 200, "it lives");
    }
}

#[tokio::test]
async fn what_no_candidate_takes_is_refused_before_money_is_held() {
    let provider = Provider::start().await.unwrap();
    let small = "max_output_tokens = 1000, vision = false, context_tokens = 1000";
    let settings = priced(&provider.url).replace("max_output_tokens = 1000", small);
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        let image =
            json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } });
        let with = |field: &str, value: Value| {
            let mut body = conversation("ping", false);
            body[field] = value;
            body
        };
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let long = json!([{ "role": "user", "content": "x".repeat(50_000) }]);
        for (body, fault) in [
            (with("model", json!("mock/n")), "near are mock/m"),
            (
                with("messages", json!([{ "role": "user", "content": [image] }])),
                "/messages/0/content/0: a picture",
            ),
            (with("messages", long), "/messages: about 12"),
            (with("max_tokens", json!(0)), "/max_tokens: 0 is not"),
        ] {
            let (status, error) = system.post("/v1/chat/completions", &body).await.unwrap();
            assert!(status == 400 && error.contains(fault), "{fault}: {status} {error}");
        }
        let url = format!("{}/v1/chat/completions", system.url);
        for body in [deep.into_bytes(), b"{\"model\": \"\xff\"}".to_vec()] {
            let reply = system.client().post(&url).body(body).send().await.unwrap();
            assert_eq!(reply.status(), 400);
        }
        assert!(system.spent("local").await.unwrap().abs() < 1e-12);
    }
    assert_eq!(provider.requests(), 0);
}

#[tokio::test]
async fn a_page_of_another_site_is_refused() {
    let system = System::start(Shape::One, "").await.unwrap();
    let models = || system.client().get(format!("{}/v1/models", system.url));
    let foreign = models().header("origin", "https://x.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    assert_eq!(models().header("host", "x.example").send().await.unwrap().status(), 403);
    assert_eq!(models().send().await.unwrap().status(), 200);
}
