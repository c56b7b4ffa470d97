//! Searches whose question a model words differently.

use journeys::{Shape, System, priced};
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::provider::Provider;

async fn search(system: &System, query: &str, privacy: &str) -> (StatusCode, Value) {
    let body = json!({ "query": query, "rewrite": true, "explain": true });
    let request = system.client().post(format!("{}/api/v1/search", system.url)).json(&body);
    let reply = request.header("x-baton-privacy", privacy).send().await.unwrap();
    (reply.status(), reply.json().await.unwrap())
}

fn sources(found: &Value) -> Vec<&str> {
    let hits = found["results"].as_array().unwrap().iter();
    hits.map(|hit| hit["source"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn other_wordings_find_more_and_without_them_the_question_is_searched_as_it_is() {
    let provider = Provider::start().await.unwrap();
    let settings = format!("{}[retriever.rewriting]\nroute = 'm'\n", priced(&provider.url));
    for shape in Shape::ALL {
        let system = System::start(shape, &settings).await.unwrap();
        system.upload("a.txt", "Zebras refuse.").await.unwrap();
        system.upload("b.txt", "It says pong.").await.unwrap();
        // Whatever it is asked, the model says `pong`.
        let (status, found) = search(&system, "zebra", "public").await;
        assert_eq!((status, &found["wordings"]), (StatusCode::OK, &json!(["pong"])), "{found}");
        let mut both = sources(&found);
        both.sort_unstable();
        assert_eq!(both, ["a.txt", "b.txt"]);
        let first = &found["results"][0];
        assert_eq!(first["score"], first["explanation"]["wordings"], "{found}");
        assert!((system.spent("local").await.unwrap() - 0.004).abs() < 1e-9);
        for (query, privacy, why) in [
            ("refuse", "public", "no provider answered"),
            ("zebra", "private", "has no local candidate"),
        ] {
            let (status, found) = search(&system, query, privacy).await;
            assert_eq!((status, sources(&found)), (StatusCode::OK, vec!["a.txt"]), "{found}");
            let warning = found["warnings"][0].as_str().unwrap();
            assert!(
                warning.starts_with("not worded differently: ") && warning.contains(why),
                "{warning}"
            );
            assert_eq!(found["wordings"], Value::Null);
        }
        let plain = json!({ "query": "zebra" });
        let (_, plain) = system.post("/api/v1/search", &plain).await.unwrap();
        assert_eq!(
            sources(&serde_json::from_str(&plain).unwrap()),
            ["a.txt"],
            "it is off by default"
        );
    }
}

#[tokio::test]
async fn nobody_words_a_question_where_there_is_no_model() {
    let system = System::start(Shape::One, "").await.unwrap();
    let (status, told) = search(&system, "zebra", "public").await;
    assert_eq!(status, 400, "{told}");
    assert!(told.to_string().contains("/rewrite: no rewriting is configured"), "{told}");
    let always = "[retriever.rewriting]\nroute = 'auto'\nalways = true\n";
    let system = System::start(Shape::One, always).await.unwrap();
    system.upload("a.txt", "Zebras refuse.").await.unwrap();
    let (_, found) = system.post("/api/v1/search", &json!({ "query": "zebra" })).await.unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(sources(&found), ["a.txt"]);
    assert_eq!(
        found["warnings"],
        json!(["not worded differently: \"auto\" has no model that could"])
    );
}
