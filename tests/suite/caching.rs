//! Answers that are given again.

use std::time::Duration;

use journeys::{Shape, System, conversation, priced};
use reqwest::Response;
use serde_json::{Value, json};
use testkit::provider::Provider;

/// Asks with these headers; returns what the cache had, and the answer.
async fn ask(
    system: &System,
    path: &str,
    headers: &[(&'static str, &str)],
    body: &Value,
) -> (String, String) {
    let mut request = system.client().post(format!("{}{path}", system.url)).json(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = request.send().await.unwrap();
    let kept = header(&reply, "x-baton-cache");
    (kept, reply.text().await.unwrap())
}

fn header(reply: &Response, name: &str) -> String {
    let value = reply.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// Returns how many calls ended with this outcome's name in the row, once there are `calls` of them.
async fn rows(system: &System, calls: u64) -> Value {
    let told = async {
        loop {
            let (_, costs) = system.get("/api/v1/costs?group_by=model").await.unwrap();
            let rows = costs["costs"].as_array().unwrap();
            if rows.iter().filter_map(|row| row["calls"].as_u64()).sum::<u64>() == calls {
                return costs;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.unwrap()
}

const ALWAYS: &str = "[router.cache]\nmode = 'always'\n";

#[tokio::test]
async fn the_same_call_is_answered_again_at_no_cost_in_every_dialect_and_form() {
    let chat = "/v1/chat/completions";
    let messages = json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "ping" }] });
    // One that is kept is its own, and not given again.
    let responses = json!({ "model": "m", "input": "ping", "store": false });
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &(priced(&provider.url) + ALWAYS)).await.unwrap();
        let mut asked = 0;
        for (path, body) in [
            (chat, &conversation("ping", false)),
            ("/v1/messages", &messages),
            ("/v1/responses", &responses),
        ] {
            for stream in [false, true] {
                let mut body = body.clone();
                body["stream"] = stream.into();
                let first = ask(&system, path, &[], &body).await;
                assert_eq!(first.0, "miss", "{path} {stream} {}", first.1);
                asked += 1;
                for _ in 0..3 {
                    let again = ask(&system, path, &[], &body).await;
                    assert_eq!(again, ("hit".to_owned(), first.1.clone()), "{path} {stream}");
                }
                assert_eq!(provider.requests(), asked, "{path} {stream}");
            }
        }
        let all = rows(&system, 4 * asked as u64).await;
        assert_eq!(all["costs"][0]["failed"], 0, "{all}");
        let spent = system.spent("local").await.unwrap();
        let paid = all["costs"][0]["cost_usd"].as_f64().unwrap();
        assert!((spent - paid).abs() < 1e-12 && spent > 0.0, "{spent} {all}");
        let operations: Vec<_> = system.processes.iter().map(|one| &one.operations).collect();
        let mut told = String::new();
        for url in operations {
            let metrics = system.client().get(format!("{url}/metrics")).send().await.unwrap();
            told += &metrics.text().await.unwrap();
        }
        assert!(told.contains(r#"baton_cache_total{outcome="hit"} 18"#), "{told}");
        assert!(told.contains(r#"baton_cache_total{outcome="miss"} 6"#), "{told}");
    }
}

#[tokio::test]
async fn nothing_is_kept_of_what_failed_broke_or_was_given_up() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let more = "on_disconnect = 'cancel'\n[router.retries]\ntimes = 0\n";
        let settings = format!("[router]\n{more}{}{ALWAYS}", priced(&provider.url));
        let system = System::start(shape, &settings).await.unwrap();
        for (body, whole) in
            [("refuse", false), ("refuse", true), ("break", true), ("late event", true)]
        {
            let body = conversation(body, whole);
            for _ in 0..2 {
                let before = provider.requests();
                let (kept, _) = ask(&system, "/v1/chat/completions", &[], &body).await;
                assert!(kept != "hit", "{body}");
                assert_eq!(provider.requests(), before + 1, "{body}");
                let (_, pong) = system.chat("ping", false).await.unwrap();
                assert!(pong.contains("pong"), "a success closes the breaker: {pong}");
            }
        }
    }
}

#[tokio::test]
async fn tenants_private_calls_and_users_of_other_words_share_nothing() {
    let key = |name: &str, tenant: &str, more: &str| {
        format!(
            "[gateway.keys.{name}]\nsecret = 'sk-{name}-0123456789abcdef'\ntenant = '{tenant}'\nuser = '{name}'\n{more}\n"
        )
    };
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let settings = priced(&provider.url).replace("tier = 1", "tier = 0")
            + ALWAYS
            + &[key("one", "t", ""), key("two", "t", ""), key("other", "s", "")].concat()
            + &key("never", "t", "cache = false");
        let system = System::start(shape, &settings).await.unwrap();
        let call = async |name: &str, headers: &[(&'static str, &str)], body: &Value| {
            let bearer = format!("Bearer sk-{name}-0123456789abcdef");
            let mut all = vec![("authorization", bearer.as_str())];
            all.extend_from_slice(headers);
            ask(&system, "/v1/chat/completions", &all, body).await.0
        };
        let ping = conversation("ping", false);
        assert_eq!(call("one", &[], &ping).await, "miss");
        assert_eq!(call("two", &[], &ping).await, "hit", "a tenant's users share");
        assert_eq!(call("other", &[], &ping).await, "miss", "tenants do not");
        let private = [("x-baton-privacy", "private")];
        assert_eq!(call("one", &private, &ping).await, "miss", "nor private and public calls");
        assert_eq!(call("one", &private, &ping).await, "hit");
        assert_eq!(call("never", &[], &ping).await, "", "a key may forbid it");
        assert_eq!(call("never", &[("x-baton-cache", "on")], &ping).await, "");
        assert_eq!(call("one", &[("x-baton-cache", "off")], &ping).await, "");
        let mut named = ping.clone();
        named["user"] = "somebody".into();
        assert_eq!(call("one", &[], &named).await, "hit", "who asks changes no answer");
        let mut warmer = ping.clone();
        warmer["temperature"] = json!(1.5);
        assert_eq!(call("one", &[], &warmer).await, "miss");
    }
}

/// The same texts and the same questions at the same time, while an evaluation runs in the same directory: what a
/// tenant is answered is made of its own documents, and kept for it alone.
#[tokio::test]
async fn twenty_tenants_that_ask_the_same_are_answered_from_their_own() {
    const TENANTS: usize = 20;
    let questions = ["How do I roll back a release?", "Who pays for the pears?"];
    let keys = (0..TENANTS).map(|number| {
        format!(
            "[gateway.keys.k{number}]\nsecret = 'sk-{number}-0123456789abcdef'\ntenant = 't{number}'\nuser = 'u'\n"
        )
    });
    let keys: String = keys.collect();
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &(priced(&provider.url) + ALWAYS + &keys)).await.unwrap();
        let (system, place) = (&system, system.data());
        let judged = [
            ("corpus.jsonl", json!({ "_id": "a", "title": "", "text": "Who pays for the pears?" })),
            ("queries.jsonl", json!({ "_id": "q", "text": "pears" })),
        ];
        for (name, line) in judged {
            std::fs::write(place.join(name), line.to_string()).unwrap();
        }
        std::fs::write(place.join("qrels.tsv"), "query-id\tcorpus-id\tscore\nq\ta\t1\n").unwrap();
        let tenant = async |number: usize| {
            let bearer = format!("Bearer sk-{number}-0123456789abcdef");
            let json_of = async |path: &str, body: String| -> Value {
                let url = format!("{}{path}", system.url);
                let request = system.client().post(url).header("authorization", &bearer);
                let request = request.header("content-type", "application/json");
                let reply = request.body(body).send().await.unwrap();
                assert!(reply.status().is_success(), "{}", reply.status());
                reply.json().await.unwrap()
            };
            let text = "To roll back a release, run the script.\n\nAnn pays for the pears.";
            let put = json_of("/api/v1/documents?source=a.md", text.to_owned()).await;
            let twice = questions.map(|one| (one, "miss")).into_iter();
            for (question, kept) in twice.chain(questions.map(|one| (one, "hit"))) {
                let answer =
                    json_of("/api/v1/ask", json!({ "question": question }).to_string()).await;
                assert_eq!(answer["cache"], kept, "{answer}");
                let read = answer["found"].as_array().unwrap();
                assert!(!read.is_empty());
                assert!(read.iter().all(|one| one["document_id"] == put["id"]), "{answer}");
                let found =
                    json_of("/api/v1/search", json!({ "query": question }).to_string()).await;
                let hits = found["results"].as_array().unwrap();
                assert!(!hits.is_empty());
                assert!(hits.iter().all(|hit| hit["document_id"] == put["id"]), "{found}");
            }
        };
        let judging = tokio::process::Command::new(testkit::process::program("baton").unwrap())
            .args(["eval", ".", "--json"])
            .current_dir(place)
            .output();
        let (judged, _) =
            tokio::join!(judging, futures::future::join_all((0..TENANTS).map(tenant)));
        assert!(judged.unwrap().status.success());
        assert_eq!(provider.requests(), TENANTS * questions.len(), "once a tenant and question");
        for number in 0..TENANTS {
            let request = system.client().get(format!("{}/api/v1/documents", system.url));
            let request = request.bearer_auth(format!("sk-{number}-0123456789abcdef"));
            let shown: Value = request.send().await.unwrap().json().await.unwrap();
            assert_eq!(shown["documents"].as_array().unwrap().len(), 1, "{shown}");
        }
    }
}

#[tokio::test]
async fn it_is_off_unless_the_operator_says_and_the_call_may_ask() {
    let modes = "[router.cache]\nmode = 'asked'\n[router.cache.routes]\nfast = 'off'\n";
    for (cache, route, headers, wanted) in [
        ("", "m", &[("x-baton-cache", "on")], ""),
        (modes, "m", &[("x-baton-privacy", "public")], ""),
        (modes, "m", &[("x-baton-cache", "on")], "hit"),
        (modes, "fast", &[("x-baton-cache", "on")], ""),
    ] {
        let provider = Provider::start().await.unwrap();
        let settings = priced(&provider.url) + cache;
        let system = System::start(Shape::One, &settings).await.unwrap();
        let mut body = conversation("ping", false);
        body["model"] = route.into();
        for _ in 0..2 {
            ask(&system, "/v1/chat/completions", headers, &body).await;
        }
        let (kept, _) = ask(&system, "/v1/chat/completions", headers, &body).await;
        assert_eq!(kept, wanted, "{cache} {route} {headers:?}");
        assert_eq!(provider.requests(), if wanted == "hit" { 1 } else { 3 });
        let fault = ask(&system, "/v1/chat/completions", &[("x-baton-cache", "yes")], &body).await;
        assert!(fault.1.contains("neither on nor off"), "{}", fault.1);
    }
}
