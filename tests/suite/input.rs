//! What bad input gets.

use journeys::{Shape, System};
use serde_json::{Value, json};

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
async fn a_page_of_another_site_is_refused() {
    let system = System::start(Shape::One, "").await.unwrap();
    let models = || system.client().get(format!("{}/v1/models", system.url));
    let foreign = models().header("origin", "https://x.example").send().await.unwrap();
    assert_eq!(foreign.status(), 403);
    assert_eq!(models().header("host", "x.example").send().await.unwrap().status(), 403);
    assert_eq!(models().send().await.unwrap().status(), 200);
}
