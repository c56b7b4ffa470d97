//! Responses that are kept: whose they are, and what they survive.

use std::time::Duration;

use futures::StreamExt as _;
use journeys::{Shape, System, priced};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::provider::Provider;

/// The keys of two tenants.
const KEYS: [&str; 2] = ["a-key-of-twenty-or-more-1", "a-key-of-twenty-or-more-2"];

fn two_tenants() -> String {
    let key = |(name, secret)| {
        format!(
            "[gateway.keys.{name}]\nsecret = '{secret}'\ntenant = 'tenant {name}'\nuser = 'u'\n"
        )
    };
    ["a", "b"].into_iter().zip(KEYS).map(key).collect()
}

/// Posts a Responses request and returns what came of it.
async fn ask(system: &System, body: &Value) -> (StatusCode, Value) {
    let (status, answer) = system.post("/v1/responses", body).await.unwrap();
    (status, serde_json::from_str(&answer).unwrap())
}

fn path(response: &Value) -> String {
    format!("/v1/responses/{}", response["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_response_is_its_tenants_alone() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = format!("{}{}", two_tenants(), priced(&provider.url));
        let system = System::start(shape, &settings).await.unwrap();
        let call = async |key: usize, method: Method, path: &str, body: Value| {
            let request = system.client().request(method, format!("{}{path}", system.url));
            let reply = request.bearer_auth(KEYS[key]).json(&body).send().await.unwrap();
            (reply.status().as_u16(), reply.json::<Value>().await.unwrap())
        };
        let first = json!({ "model": "m", "input": "ping" });
        let (status, first) = call(0, Method::POST, "/v1/responses", first).await;
        assert!(status == 200 && first["store"] == true, "{first}");
        let items = format!("{}/input_items", path(&first));
        for (method, path) in
            [(Method::GET, &path(&first)), (Method::GET, &items), (Method::DELETE, &path(&first))]
        {
            let (status, told) = call(1, method, path, Value::Null).await;
            assert_eq!((status, &told["error"]["code"]), (404, &json!("not_found")), "{told}");
        }
        let next = json!({ "model": "m", "input": "turns", "previous_response_id": first["id"] });
        let asked = provider.requests();
        let (status, told) = call(1, Method::POST, "/v1/responses", next.clone()).await;
        assert!(status == 400 && told.to_string().contains("/previous_response_id"), "{told}");
        assert_eq!(provider.requests(), asked, "nobody was asked");
        let (status, second) = call(0, Method::POST, "/v1/responses", next).await;
        assert_eq!((status, &second["output"][0]["content"][0]["text"]), (200, &json!("3 turns")));
        let (status, kept) = call(0, Method::GET, &path(&second), Value::Null).await;
        assert_eq!((status, kept), (200, second));
    }
}

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let (_, plain) = ask(&system, &json!({ "model": "m", "input": "ping" })).await;
        let streamed = json!({ "model": "m", "input": "ping", "stream": true });
        let (_, stream) = system.post("/v1/responses", &streamed).await.unwrap();
        let last = stream.rsplit("data: ").next().unwrap();
        let streamed = serde_json::from_str::<Value>(last).unwrap()["response"].take();
        let data = system.kill().await.unwrap();
        let system = System::start_in(data, shape, &priced(&provider.url)).await.unwrap();
        for one in [plain, streamed] {
            assert_eq!(system.get(&path(&one)).await.unwrap(), (StatusCode::OK, one));
        }
    }
}

#[tokio::test]
async fn a_stream_whose_client_went_away_is_kept_whole() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let asked = json!({ "model": "m", "input": "wait", "stream": true });
        let reply = system.send("/v1/responses", &asked).await.unwrap();
        let mut bytes = reply.bytes_stream();
        let mut told = String::new();
        while !told.contains("\n\n") {
            told.push_str(&String::from_utf8_lossy(&bytes.next().await.unwrap().unwrap()));
        }
        let created = told.split("data: ").nth(1).unwrap().split('\n').next().unwrap();
        let response = serde_json::from_str::<Value>(created).unwrap()["response"].take();
        assert_eq!(system.get(&path(&response)).await.unwrap().0, 404, "it is not whole yet");
        drop(bytes);
        provider.go_on();
        let kept = async {
            loop {
                let (status, kept) = system.get(&path(&response)).await.unwrap();
                if status == 200 {
                    return kept;
                }
                tokio::task::yield_now().await;
            }
        };
        let kept = tokio::time::timeout(Duration::from_secs(60), kept).await.unwrap();
        assert_eq!(kept["output"][0]["content"][0]["text"], "pong");
        assert_eq!(kept["status"], "completed");

        // Half an answer is none.
        let broken = json!({ "model": "m", "input": "break", "stream": true });
        let (_, stream) = system.post("/v1/responses", &broken).await.unwrap();
        let created = stream.split("data: ").nth(1).unwrap().split('\n').next().unwrap();
        let response = serde_json::from_str::<Value>(created).unwrap()["response"].take();
        assert_eq!(system.get(&path(&response)).await.unwrap().0, 404);
    }
}

#[tokio::test]
async fn what_continues_a_private_call_is_private() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let local = format!(
            "[router.providers.here]\nkind = 'openai'\nbase_url = '{}/v1'\ntier = 0\n\
             models = [{{ name = 'local' }}]\n",
            provider.url
        );
        let settings = format!("{local}{}", priced(&provider.url));
        let system = System::start(shape, &settings).await.unwrap();
        let url = format!("{}/v1/responses", system.url);
        let first = json!({ "model": "local", "input": "ping" });
        let private = system.client().post(url).header("x-baton-privacy", "private").json(&first);
        let first: Value = private.send().await.unwrap().json().await.unwrap();
        let next = |model: &str| json!({ "model": model, "input": "turns", "previous_response_id": first["id"] });
        let asked = provider.requests();
        let (status, told) = ask(&system, &next("m")).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{told}");
        assert_eq!(provider.requests(), asked, "nobody was asked");
        let (status, second) = ask(&system, &next("local")).await;
        assert_eq!(status, 200, "{second}");
        // And so on.
        let third = json!({ "model": "m", "input": "x", "previous_response_id": second["id"] });
        assert_eq!(ask(&system, &third).await.0, StatusCode::FORBIDDEN);
        let public = json!({ "model": "m", "input": "ping" });
        assert_eq!(ask(&system, &public).await.0, 200);
    }
}

#[tokio::test]
async fn without_its_store_the_router_answers_what_needs_none() {
    let provider = Provider::start().await.unwrap();
    let database = testkit::Postgres::start().unwrap();
    let store = format!("[router.responses]\nstore = '{}'\n", database.url());
    let settings = format!("{store}{}", priced(&provider.url));
    let system = System::start(Shape::One, &settings).await.unwrap();
    let (_, first) = ask(&system, &json!({ "model": "m", "input": "ping" })).await;
    assert_eq!(system.get(&path(&first)).await.unwrap(), (StatusCode::OK, first.clone()));
    drop(database);

    let (status, answer) = ask(&system, &json!({ "model": "m", "input": "ping" })).await;
    assert!(status == 200 && answer["store"] == false, "{answer}");
    let spent = system.spent("local").await.unwrap();
    let next = json!({ "model": "m", "input": "ping", "previous_response_id": first["id"] });
    let reply = system.send("/v1/responses", &next).await.unwrap();
    assert_eq!(reply.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.headers().contains_key("retry-after"));
    assert_eq!(system.spent("local").await.unwrap(), spent);
    assert_eq!(system.get(&path(&first)).await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
}
