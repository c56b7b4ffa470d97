//! Collections, filters and private documents, as an application meets them.

use journeys::{Shape, System, priced};
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::process::program;
use testkit::provider::Provider;
use tokio::process::Command;

/// Stores a document with more than its source.
async fn put(system: &System, query: &[(&str, &str)], text: &str) -> (StatusCode, Value) {
    let request = system.client().post(format!("{}/api/v1/documents", system.url)).query(query);
    let reply = request.body(text.to_owned()).send().await.unwrap();
    (reply.status(), reply.json().await.unwrap())
}

async fn search(system: &System, body: &Value) -> (StatusCode, Value) {
    let (status, text) = system.post("/api/v1/search", body).await.unwrap();
    (status, serde_json::from_str(&text).unwrap())
}

fn sources(found: &Value) -> Vec<&str> {
    let hits = found["results"].as_array().unwrap().iter();
    hits.map(|hit| hit["source"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_collection_is_made_filled_filtered_and_removed() {
    for shape in Shape::ALL {
        let system = System::start(shape, "").await.unwrap();
        let to = |collection| [("source", "a.md"), ("collection", collection)];
        let (status, fault) = put(&system, &to("handbook"), "x").await;
        assert_eq!(status, 404, "{fault}");
        for status in [201, 200] {
            let made = system.post("/api/v1/collections", &json!({ "name": "handbook" })).await;
            assert_eq!(made.unwrap().0, status);
        }
        for (source, attributes) in [
            ("old.md", r#"{ "tags": ["release", "draft"], "year": 1999, "day": "1999-12-31" }"#),
            ("new.md", r#"{ "tags": "release", "year": 2024.5, "day": "2024-02-01T10:00:00Z" }"#),
        ] {
            let query =
                [("source", source), ("collection", "handbook"), ("attributes", attributes)];
            let (status, document) = put(&system, &query, "How a release is made.").await;
            assert_eq!(status, 201, "{document}");
        }
        let ask = |filter: Value| {
            json!({
                "query": "release", "collection": "handbook", "filter": filter, "facets": ["tags"],
                "one_per_document": true, "explain": true,
            })
        };
        let is = |key: &str, value: Value| json!({ "type": "eq", "key": key, "value": value });
        let (status, found) = search(&system, &ask(is("tags", json!("draft")))).await;
        assert_eq!(status, 200, "{found}");
        assert_eq!(sources(&found), ["old.md"]);
        let hit = &found["results"][0];
        assert_eq!(
            hit["attributes"],
            json!({ "day": "1999-12-31", "tags": ["release", "draft"], "year": 1999 })
        );
        assert_eq!(hit["explanation"]["dense"], Value::Null);
        assert!(hit["explanation"]["keyword"].as_f64().unwrap() > 0.0);
        let draft =
            json!([{ "value": "draft", "documents": 1 }, { "value": "release", "documents": 1 }]);
        assert_eq!(found["facets"]["tags"], draft);
        let later = json!({ "type": "gt", "key": "day", "value": "2024-01-31" });
        let (_, found) = search(&system, &ask(later.clone())).await;
        assert_eq!(sources(&found), ["new.md"]);
        let (_, found) = search(&system, &ask(json!({ "type": "not", "filter": later }))).await;
        assert_eq!(sources(&found), ["old.md"]);

        let question = json!({ "question": "How is a release made?", "collection": "handbook",
            "filter": is("year", json!(1999)) });
        let (_, answer) = system.post("/api/v1/ask", &question).await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["citations"][0]["source"], "old.md", "{answer}");

        for (body, told) in [
            (ask(is("tag", json!("x"))), "/filter/key: no document has a field \"tag\""),
            (ask(is("year", json!("1999"))), "/filter/value: is a text, and \"year\" is a number"),
            (ask(json!({ "type": "like", "key": "tags", "value": "x" })), "/filter/type: \"like\""),
            (json!({ "query": "x", "top_k": 100_000 }), "/top_k: 100000 is not 1 to 100"),
            (json!({ "query": "x".repeat(100_000) }), "/query: has 100000 bytes"),
        ] {
            let (status, fault) = search(&system, &body).await;
            let message = fault["error"]["message"].as_str().unwrap();
            assert!(status == 400 && message.starts_with(told), "{status} {message}");
        }

        let (_, all) = system.get("/api/v1/collections").await.unwrap();
        let shown = &all["collections"][1];
        assert_eq!((&shown["name"], &shown["documents"]), (&json!("handbook"), &json!(2)));
        assert_eq!(shown["attributes"], json!({ "day": "text", "tags": "text", "year": "number" }));
        assert_eq!(system.delete("/api/v1/collections/handbook").await.unwrap(), 204);
        assert_eq!(system.delete("/api/v1/collections/handbook").await.unwrap(), 404);
        assert_eq!(search(&system, &ask(Value::Null)).await.0, 404);
    }
}

#[tokio::test]
async fn what_reads_a_private_document_stays_here() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &priced(&provider.url)).await.unwrap();
        let ask = async || {
            let question = json!({ "question": "What is the rollback script?", "route": "auto" });
            let (_, answer) = system.post("/api/v1/ask", &question).await.unwrap();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            answer["provider"].as_str().unwrap_or_default().to_owned()
        };
        let text = "The rollback script is roll.sh.";
        put(&system, &[("source", "a.md")], text).await;
        assert_eq!(ask().await, "mock");
        let (_, document) = put(&system, &[("source", "a.md"), ("privacy", "private")], text).await;
        assert_eq!((&document["privacy"], &document["changed"]), (&json!("private"), &json!(true)));
        assert_eq!(ask().await, "extractive");
        // Only who says so makes it public again.
        let (_, document) = put(&system, &[("source", "a.md")], text).await;
        assert_eq!(document["privacy"], json!("private"));
        put(&system, &[("source", "a.md"), ("privacy", "public")], text).await;
        assert_eq!(ask().await, "mock");
    }
}

#[tokio::test]
async fn a_way_to_rank_that_is_chosen_is_the_one_that_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("baton.toml");
    std::fs::write(&file, "[retriever.fusion]\nmethod = 'rrf'\n").unwrap();
    let mut command = Command::new(program("baton").unwrap());
    command.args(["up", "--print-config", "--config"]).arg(&file).current_dir(&directory);
    let shown = command.output().await.unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("[retriever.fusion]\nmethod = \"rrf\""), "{shown}");
    std::fs::write(&file, "[retriever.fusion]\nrrf = { k = 60.0 }\n").unwrap();
    let refused = command.output().await.unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
}
