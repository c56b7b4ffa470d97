//! Providers that answer, fail and dawdle.

use std::time::Duration;

use futures::StreamExt as _;
use journeys::{Shape, System, conversation, priced};
use reqwest::StatusCode;
use testkit::provider::Provider;

#[tokio::test]
async fn a_stream_is_whole_or_ends_in_an_honest_error() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let (status, stream) = system.chat("ping", true).await.unwrap();
        assert_eq!(status, 200);
        assert!(stream.contains("\"po\"") && stream.contains("\"ng\""), "{stream}");
        assert!(stream.ends_with("data: [DONE]\n\n") && !stream.contains("usage"), "{stream}");
        assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-12);

        let (status, stream) = system.chat("break", true).await.unwrap();
        assert_eq!(status, 200);
        assert!(stream.contains("\"po\"") && stream.contains("the stream ended early"), "{stream}");
        assert!(!stream.contains("[DONE]"), "{stream}");

        let (_, stream) = system.chat("late event", true).await.unwrap();
        assert!(stream.contains("\"po\"") && stream.contains("overloaded"), "{stream}");
        assert!(!stream.contains("[DONE]"), "{stream}");
    }
}

#[tokio::test]
async fn who_says_when_to_come_back_is_not_asked_before() {
    for status in ["status 429+", "status 529+", "status 503+"] {
        let provider = Provider::start().await.unwrap();
        let settings = format!("{}[router.retries]\ntimes = 0\n", priced(&provider.url));
        let system = System::start(Shape::One, &settings).await.unwrap();
        assert_eq!(system.chat(status, false).await.unwrap().0, 503);
        let (_, error) = system.chat("ping", false).await.unwrap();
        assert!(error.contains("mock/m: not asked"), "{error}");
        let back = async {
            while system.chat("ping", false).await.unwrap().0 != 200 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
        assert_eq!(provider.requests(), 2, "once before, once behind");
    }
}

#[tokio::test]
async fn who_is_down_for_a_moment_is_asked_again() {
    let provider = Provider::start().await.unwrap();
    let system = System::start(Shape::One, &priced(&provider.url)).await.unwrap();
    for stream in [false, true] {
        let (status, answer) = system.chat("stumble", stream).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    assert_eq!(provider.requests(), 4);
    assert!((system.spent("local").await.unwrap() - 0.008).abs() < 1e-12, "paid for once each");
    // One that wants to be left alone for a second is asked as soon as it may be.
    assert_eq!(system.chat("status 429+", false).await.unwrap().0, 503);
    assert_eq!(provider.requests(), 6);
}

/// Reads what a stream of chat completions says, and whether it ended well.
fn said(stream: &str) -> (String, bool) {
    let events = stream.split("\n\n").filter_map(|event| event.strip_prefix("data: "));
    let chunks = events.filter_map(|event| serde_json::from_str::<serde_json::Value>(event).ok());
    let texts = chunks
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned));
    (texts.collect(), stream.ends_with("data: [DONE]\n\n"))
}

#[tokio::test]
async fn of_a_thousand_streams_of_which_three_in_ten_fail_no_token_is_lost_or_told_twice() {
    let provider = Provider::start().await.unwrap();
    let other = priced(&provider.url).replace("mock", "other").replace("'m'", "'n'");
    let routes = "[router.routes]\nboth = ['mock/m', 'other/n']\n";
    let settings = format!("{}{other}{routes}", priced(&provider.url));
    let all: String = (0..10).map(|at| format!("{at} ")).collect();
    for (shape, streams) in [(Shape::One, 800), (Shape::Separate, 200)] {
        let system = System::start(shape, &settings).await.unwrap();
        let asked = futures::stream::iter(0..streams).map(|number| {
            let mut body = conversation(&format!("flaky {number}"), true);
            body["model"] = "both".into();
            let system = &system;
            async move { (number, system.post("/v1/chat/completions", &body).await.unwrap()) }
        });
        let mut asked = asked.buffer_unordered(16);
        while let Some((number, (status, stream))) = asked.next().await {
            assert_eq!(status, 200, "{stream}");
            let (text, whole) = said(&stream);
            match (number % 10, whole) {
                // In the middle nobody else is asked: half of it, and an honest error. A candidate
                // that is left alone for what others met was not asked at all.
                (2, false) => {
                    assert_eq!(text, all[..10], "{stream}");
                    assert!(stream.contains("the stream ended early"), "{stream}");
                }
                (2, true) | (_, true) => assert_eq!(text, all, "{number}: {stream}"),
                (_, false) => panic!("{number}: {stream}"),
            }
        }
        drop(asked);
        // Nothing is held, and what broke off costs what came of it: less than a whole one.
        let (spent, most) = (system.spent("local").await.unwrap(), 0.004 * f64::from(streams));
        assert!(spent > 0.85 * most && spent <= most, "{spent} of {most}");
    }
}

#[tokio::test]
async fn nobody_waits_for_one_that_hangs_when_another_model_can_answer() {
    let provider = Provider::start().await.unwrap();
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", hanging.local_addr().unwrap());
    let other = priced(&provider.url).replace("mock", "other").replace("'m'", "'n'");
    // It would take a minute longer than a client of the test waits.
    let patient = "[router.timeouts]\nfirst_token_ms = 120000\nanswer_ms = 120000\n";
    let routes = "[router.routes]\nboth = ['mock/m', 'other/n']\n";
    let settings = format!("{}{other}{routes}{patient}", priced(&nobody));
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        for stream in [true, false] {
            let mut body = conversation("ping", stream);
            body["model"] = "both".into();
            let reply = system.send("/v1/chat/completions", &body).await.unwrap();
            assert_eq!(reply.headers()["x-baton-provider"], "other");
            let answer = reply.text().await.unwrap();
            assert!(if stream { said(&answer).1 } else { answer.contains("pong") }, "{answer}");
        }
    }
}

#[tokio::test]
async fn what_one_provider_refuses_another_may_take() {
    let provider = Provider::start().await.unwrap();
    let other = priced(&provider.url).replace("mock", "other").replace("'m'", "'n'");
    let routes = "[router.routes]\nboth = ['mock/m', 'other/n']\n";
    let settings = format!("{}{other}{routes}", priced(&provider.url));
    let system = System::start(Shape::One, &settings).await.unwrap();
    for stream in [false, true] {
        let mut body = conversation("picky", stream);
        body["model"] = "both".into();
        let reply = system.send("/v1/chat/completions", &body).await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["x-baton-provider"]),
            (200, &"other".parse().unwrap())
        );
        let (status, told) = system.chat("picky", stream).await.unwrap();
        assert_eq!(status, 400, "nobody else could take it");
        assert!(told.contains("400 not now"), "{told}");
    }
    assert!((system.spent("local").await.unwrap() - 0.008).abs() < 1e-12);
}

#[tokio::test]
async fn nothing_is_fetched_from_elsewhere_for_a_private_request() {
    let provider = Provider::start().await.unwrap();
    let local = priced(&provider.url).replace("tier = 1", "tier = 0");
    let system = System::start(Shape::One, &local).await.unwrap();
    let ask = async |url: &str, privacy: &str| {
        let part = serde_json::json!({ "type": "image_url", "image_url": { "url": url } });
        let mut body = conversation("", false);
        body["messages"][0]["content"] = serde_json::json!([part]);
        let request = system.client().post(format!("{}/v1/chat/completions", system.url));
        let reply = request.header("x-baton-privacy", privacy).json(&body).send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    };
    let (status, told) = ask("https://example.com/?q=secret", "private").await;
    assert_eq!(status, 400);
    assert!(told.contains("/messages/0/content/0: what stands elsewhere"), "{told}");
    assert_eq!(ask("data:image/png;base64,AA", "private").await.0, 200);
    assert_eq!(ask("https://example.com/?q=open", "public").await.0, 200);
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn what_comes_in_pieces_to_be_early_is_whole_for_the_client() {
    let provider = Provider::start().await.unwrap();
    let other = priced(&provider.url).replace("mock", "other").replace("'m'", "'n'");
    let routes = "[router.routes]\nboth = ['mock/m', 'other/n']\n";
    let settings = format!("{}{other}{routes}", priced(&provider.url));
    let system = System::start(Shape::One, &settings).await.unwrap();
    for (asked, model) in [("ping", "m"), ("tool", "m"), ("break", "n")] {
        let direct: serde_json::Value =
            serde_json::from_str(&system.chat(asked, false).await.unwrap().1).unwrap();
        let spent = system.spent("local").await.unwrap();
        let mut body = conversation(asked, false);
        body["model"] = "both".into();
        let (status, whole) = system.post("/v1/chat/completions", &body).await.unwrap();
        let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
        assert_eq!((status.as_u16(), &whole["model"]), (200, &"m".into()), "{whole}");
        // The provider's own "model" is always m; who answered is in what it cost.
        let message = &whole["choices"][0];
        assert_eq!(message["message"]["content"], direct["choices"][0]["message"]["content"]);
        let called =
            |answer: &serde_json::Value| answer["message"]["tool_calls"][0]["function"].clone();
        assert_eq!(called(message), called(&direct["choices"][0]));
        assert_eq!(message["finish_reason"], direct["choices"][0]["finish_reason"]);
        let cost = system.spent("local").await.unwrap() - spent;
        // Half an answer of the first has its cost, about a token, before the second is asked.
        let halves = if model == "n" { 0.004..0.005 } else { 0.0039..0.004_000_001 };
        assert!(halves.contains(&cost), "{asked} {cost}");
    }
}

#[tokio::test]
async fn a_second_model_is_asked_while_the_first_is_late_and_both_are_paid_for() {
    let (slow, quick) = (Provider::start().await.unwrap(), Provider::start().await.unwrap());
    let other = priced(&quick.url).replace("mock", "other").replace("'m'", "'n'");
    let routes = "[router]\nhedged_routes = ['both']\n[router.timeouts]\nfailover_ms = 20\n\
                  [router.routes]\nboth = ['mock/m', 'other/n']\n";
    let settings = format!("{}{other}{routes}", priced(&slow.url));
    let system = System::start(Shape::One, &settings).await.unwrap();
    for (number, stream) in [(1, true), (2, false)] {
        quick.go_on();
        let mut body = conversation("late", stream);
        body["model"] = "both".into();
        let reply = system.send("/v1/chat/completions", &body).await.unwrap();
        assert_eq!(
            (reply.status().as_u16(), &reply.headers()["x-baton-provider"]),
            (200, &"other".parse().unwrap())
        );
        reply.bytes().await.unwrap();
        assert_eq!((slow.requests(), quick.requests()), (number, number));
        // The first answers at last; nobody hears it, and it has its cost.
        slow.go_on();
        let paid = 0.008 * f64::from(u32::try_from(number).unwrap());
        assert!((system.spent("local").await.unwrap() - paid).abs() < 1e-12);
    }
    let (_, costs) = system.get("/api/v1/costs?group_by=provider").await.unwrap();
    assert_eq!(costs["costs"].as_array().map(Vec::len), Some(2), "{costs}");
}

#[tokio::test]
async fn a_user_of_a_split_route_gets_the_same_model_and_the_other_behind_it() {
    let provider = Provider::start().await.unwrap();
    let other = priced(&provider.url).replace("mock", "other").replace("'m'", "'n'");
    let routes = "[router.routes]\ntrial = ['halves']\n\
                  [router.splits.halves]\n'mock/m' = 1\n'other/n' = 1\n";
    let settings = format!("{}{other}{routes}", priced(&provider.url));
    let system = System::start(Shape::One, &settings).await.unwrap();
    let ask = async |user: String| {
        let mut body = conversation("ping", false);
        body["model"] = "trial".into();
        let request = system.client().post(format!("{}/v1/chat/completions", system.url));
        let reply = request.header("x-baton-user", user).json(&body).send().await.unwrap();
        let header = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
        (header("x-baton-provider"), header("x-baton-reason"))
    };
    let mut firsts = std::collections::BTreeSet::new();
    for user in 0..16 {
        let (first, reason) = ask(user.to_string()).await;
        assert!(reason.contains("halves: ") && reason.contains("(1 of 2)"), "{reason}");
        assert_eq!(ask(user.to_string()).await.0, first);
        firsts.insert(first);
    }
    assert_eq!(firsts.len(), 2, "each has some");
}

#[tokio::test]
async fn the_next_candidate_answers_when_the_first_fails() {
    let (bad, good) = (Provider::start().await.unwrap(), Provider::start().await.unwrap());
    let other = priced(&good.url).replace("mock", "other").replace("'m'", "'n'");
    let routes = "[router.routes]\nauto = ['mock/m', 'other/n']\n";
    let bad_url = "http://127.0.0.1:1";
    let settings = format!("{}{other}{routes}", priced(bad_url));
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        for stream in [false, true] {
            let mut body = conversation("ping", stream);
            body["model"] = "auto".into();
            let reply = system.send("/v1/chat/completions", &body).await.unwrap();
            assert_eq!(reply.headers()["x-baton-provider"], "other");
            assert_eq!(reply.status(), 200);
        }
    }
    assert_eq!((bad.requests(), good.requests()), (0, 4));
}

#[tokio::test]
async fn texts_are_embedded_and_paid_for_and_only_where_they_may() {
    let provider = Provider::start().await.unwrap();
    let embeds =
        "{ name = 'm-embed', embeddings = true, input_usd_per_million = '4' }, { name = 'm'";
    let settings = priced(&provider.url).replace("{ name = 'm'", embeds);
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        let ask = async |model: &str, input: serde_json::Value| {
            let body = serde_json::json!({ "model": model, "input": input });
            let (status, answer) = system.post("/v1/embeddings", &body).await.unwrap();
            (status.as_u16(), serde_json::from_str(&answer).unwrap_or_default())
        };
        let (status, told): (_, serde_json::Value) = ask("m-embed", ["one", "three"].into()).await;
        assert_eq!(
            (status, &told["data"][1]["embedding"]),
            (200, &serde_json::json!([5, 0.5])),
            "{told}"
        );
        assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-12);
        assert_eq!(ask("m", "one".into()).await.0, 400, "it converses");
        assert_eq!(ask("m-embed", 1.into()).await.0, 400);
        let mut talk = conversation("ping", false);
        talk["model"] = "m-embed".into();
        assert_eq!(system.post("/v1/chat/completions", &talk).await.unwrap().0, 400);
        let url = format!("{}/v1/embeddings", system.url);
        let body = serde_json::json!({ "model": "m-embed", "input": "x" });
        let private = system.client().post(url).header("x-baton-privacy", "private").json(&body);
        assert_eq!(private.send().await.unwrap().status(), 403);
    }
    assert_eq!(provider.requests(), 2);
}

#[tokio::test]
async fn a_local_server_is_found_and_used() {
    let provider = Provider::start().await.unwrap();
    let settings = format!("local_models = {{ ollama = '', jan = '{}/v1' }}\n", provider.url);
    let system = System::start(Shape::One, &settings).await.unwrap();
    let mut body = conversation("ping", false);
    body["model"] = "auto".into();
    let (status, answer) = system.post("/v1/chat/completions", &body).await.unwrap();
    assert!(status == 200 && answer.contains("pong"), "{status} {answer}");
}

#[tokio::test]
async fn a_stream_in_flight_is_finished_before_the_process_ends() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let mut system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let body = conversation("wait", true);
        let mut reply = system.send("/v1/chat/completions", &body).await.unwrap();
        let first = reply.chunk().await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&first).contains("po"));

        let gateway = system.processes.remove(0);
        let address = gateway.url.trim_start_matches("http://").to_owned();
        let stopped = tokio::spawn(gateway.stop());
        // It takes nobody new, …
        let refused = async {
            while tokio::net::TcpStream::connect(&address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
        // … and keeps whom it has.
        provider.go_on();
        let rest = reply.text().await.unwrap();
        assert!(rest.contains("ng") && rest.ends_with("data: [DONE]\n\n"), "{rest}");
        let (status, log) = stopped.await.unwrap().unwrap();
        assert!(status.success(), "{status} {log}");
    }
}

#[tokio::test]
async fn who_goes_away_pays_for_what_was_asked() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        for (stream, wanted) in [(false, 0.004), (true, 0.008)] {
            let before = provider.requests();
            let body = conversation("wait", stream);
            let reached = async {
                while provider.requests() == before {
                    tokio::task::yield_now().await;
                }
            };
            let asked = system.send("/v1/chat/completions", &body);
            // The first that is done drops the other: the client hangs up.
            futures::future::select(Box::pin(asked), Box::pin(reached)).await;
            provider.go_on();
            let spent = system.spent("local").await.unwrap();
            assert!((spent - wanted).abs() < 1e-12, "{shape:?} {stream} {spent}");
        }
    }
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_left_alone() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let before = provider.requests();
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        for _ in 0..8 {
            let (status, error) = system.chat("refuse", false).await.unwrap();
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{error}");
        }
        let (_, error) = system.chat("ping", false).await.unwrap();
        assert!(error.contains("mock/m: not asked"), "{error}");
        assert_eq!(provider.requests() - before, 5);
        let (_, list) = system.get("/api/v1/providers").await.unwrap();
        assert_eq!(list["providers"][1]["name"], "mock", "{list}");
        let model = &list["providers"][1]["models"][0];
        assert_eq!(model["circuit"], "open", "{list}");
        assert_eq!((&model["calls"], &model["answered"]), (&5.into(), &0.into()), "{list}");
    }
}

#[tokio::test]
async fn an_estimate_names_who_would_be_asked_and_asks_nobody() {
    let provider = Provider::start().await.unwrap();
    for shape in Shape::ALL {
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let mut body = conversation("ping", false);
        body["model"] = "auto".into();
        let (status, told) = system.post("/api/v1/estimate", &body).await.unwrap();
        assert_eq!(status, 200, "{told}");
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let candidates = told["candidates"].as_array().unwrap();
        let names: Vec<_> = candidates.iter().map(|one| one["provider"].as_str()).collect();
        assert_eq!(names, [Some("mock"), Some("extractive")]);
        assert_eq!(
            (&candidates[0]["min_cost_usd"], &candidates[0]["max_cost_usd"]),
            (&0.0.into(), &0.004.into())
        );
        assert_eq!(told["reason"], "complexity 0.00: tier 0", "{told}");
        body["dry_run"] = true.into();
        let (_, dry) = system.post("/v1/chat/completions", &body).await.unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&dry).unwrap(), told);
        let message = serde_json::json!({ "model": "auto", "max_tokens": 1000, "dry_run": true,
            "stream": true, "messages": body["messages"] });
        let (_, dry) = system.post("/v1/messages", &message).await.unwrap();
        let dry: serde_json::Value = serde_json::from_str(&dry).unwrap();
        assert_eq!(dry["candidates"][0]["max_cost_usd"], 0.004, "{dry}");
        body["model"] = "none".into();
        assert_eq!(system.post("/api/v1/estimate", &body).await.unwrap().0, 400);
        assert_eq!(system.post("/v1/chat/completions", &body).await.unwrap().0, 400);
        assert!(system.spent("local").await.unwrap().abs() < 1e-12);
    }
    assert_eq!(provider.requests(), 0);
}
