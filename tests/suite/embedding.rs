//! Documents whose vectors are a provider's.

use std::time::Duration;

use journeys::{Shape, System, priced};
use reqwest::StatusCode;
use serde_json::{Value, json};
use testkit::provider::Provider;

/// A cloud provider with two models that embed, at $0.004 a request.
fn settings(provider: &str, route: &str) -> String {
    let model = |name: &str| {
        format!("{{ name = '{name}', embeddings = true, input_usd_per_million = '4' }}, ")
    };
    let models = format!("{}{}{{ name = 'm'", model("m-embed"), model("n-embed"));
    let provider = priced(provider).replace("{ name = 'm'", &models);
    format!(
        "{provider}[router.routes]\ntwo = ['mock/m-embed', 'mock/n-embed']\n\
         [retriever.embedding]\nroute = '{route}'\n"
    )
}

/// Sends a text to `path` with headers; returns the status and the answer.
async fn send(
    system: &System,
    path: &str,
    headers: &[(&'static str, &str)],
    body: String,
) -> (StatusCode, Value) {
    let mut request = system.client().post(format!("{}{path}", system.url)).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = request.send().await.unwrap();
    let status = reply.status();
    (status, reply.json().await.unwrap_or_default())
}

async fn search(system: &System, privacy: &str) -> (StatusCode, Value) {
    let headers = [("content-type", "application/json"), ("x-baton-privacy", privacy)];
    let body = json!({ "query": "kiwi", "explain": true }).to_string();
    send(system, "/api/v1/search", &headers, body).await
}

async fn begin(system: &System, user: &str) -> String {
    let headers = [("content-type", "application/json"), ("x-baton-user", user)];
    let (status, job) = send(system, "/api/v1/ingest", &headers, "{}".to_owned()).await;
    assert_eq!(status, 201, "{job}");
    job["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn vectors_are_bought_once_by_whoever_wants_them_and_never_of_what_is_private() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        provider.embed_as("kiwi", Some([1.0, 0.0]));
        provider.embed_as("\nApples are red.", Some([2.0, 0.0]));
        provider.embed_as("\nPears are green.", Some([0.0, 3.0]));
        let system = System::start(shape, &settings(&provider.url, "m-embed")).await.unwrap();
        system.upload("a.txt", "Apples are red.").await.unwrap();
        system.upload("b.txt", "Pears are green.").await.unwrap();
        system.upload("c.txt", "Apples are red.").await.unwrap();
        assert_eq!(provider.requests(), 2, "a text is embedded once");
        let (status, found) = search(&system, "public").await;
        assert_eq!(status, 200, "{found}");
        let hits = found["results"].as_array().unwrap().iter();
        let mut sources: Vec<_> = hits.map(|hit| hit["source"].as_str().unwrap()).collect();
        sources.sort_unstable();
        assert_eq!(sources, ["a.txt", "c.txt"], "{found}");
        assert_eq!(found["results"][0]["explanation"]["dense"], 1.0, "{found}");
        assert!((system.spent("local").await.unwrap() - 0.012).abs() < 1e-9);
        let (_, shown) = system.get("/api/v1/collections").await.unwrap();
        let collection = &shown["collections"][0];
        assert_eq!(
            (&collection["model"], &collection["dimension"]),
            (&json!("mock/m-embed"), &json!(2))
        );

        let private = "/api/v1/documents?source=d.txt&privacy=private";
        let (status, told) = send(&system, private, &[], "A secret.".to_owned()).await;
        assert_eq!(status, 403, "{told}");
        assert!(told.to_string().contains("has no local candidate"), "{told}");
        assert_eq!(search(&system, "private").await.0, 403);

        let job = begin(&system, "ann").await;
        for (source, privacy) in [("e.txt", "public"), ("f.txt", "private")] {
            let path = format!("/api/v1/ingest/{job}/documents?source={source}&privacy={privacy}");
            assert_eq!(send(&system, &path, &[], format!("About {source}.")).await.0, 202);
        }
        let shown = system.job(&job, |shown| shown["state"] == "ended").await.unwrap();
        let states: Vec<_> =
            shown["documents"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
        assert_eq!(states, ["done", "failed"], "{shown}");
        let reason = shown["documents"][1]["reason"].as_str().unwrap();
        assert!(reason.contains("has no local candidate"), "{reason}");
        assert_eq!(provider.requests(), 4, "what is private was not sent");
        assert!((system.spent("ann").await.unwrap() - 0.004).abs() < 1e-9, "who made the job pays");

        let data = system.kill().await.unwrap();
        let other = settings(&provider.url, "n-embed");
        let system = System::start_in(data, shape, &other).await.unwrap();
        let (status, told) = search(&system, "public").await;
        assert_eq!(status, 409, "{told}");
        let told = told.to_string();
        assert!(told.contains("mock/m-embed") && told.contains("mock/n-embed"), "{told}");
    }
}

#[tokio::test]
async fn documents_wait_for_a_model_that_is_away_and_one_of_two_is_none() {
    for shape in Shape::ALL {
        let system =
            System::start(shape, &settings("http://127.0.0.1:1", "m-embed")).await.unwrap();
        let job = begin(&system, "ann").await;
        let path = format!("/api/v1/ingest/{job}/documents?source=a.txt");
        assert_eq!(send(&system, &path, &[], "Apples.".to_owned()).await.0, 202);
        let waits = |shown: &Value| {
            let document = &shown["documents"][0];
            document["state"] == "queued"
                && document["reason"].as_str().is_some_and(|why| !why.is_empty())
        };
        let shown = system.job(&job, waits).await.unwrap();
        let reason = shown["documents"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("m-embed") && reason.contains("cannot connect"), "{reason}");
        let put = send(&system, "/api/v1/documents?source=b.txt", &[], "Pears.".to_owned()).await;
        assert_eq!(put.0, 503, "{}", put.1);
        let provider = Provider::start().await.unwrap();
        system.configure(&settings(&provider.url, "m-embed")).unwrap();
        system.hang_up().unwrap();
        let shown = system.job(&job, |shown| shown["state"] == "ended").await.unwrap();
        assert_eq!(shown["counts"]["done"], 1, "{shown}");

        let system = System::start(shape, &settings(&provider.url, "two")).await.unwrap();
        let put = send(&system, "/api/v1/documents?source=b.txt", &[], "Pears.".to_owned()).await;
        assert_eq!(put.0, 503, "{}", put.1);
        assert!(
            put.1.to_string().contains("more than one model (mock/m-embed, mock/n-embed)"),
            "{}",
            put.1
        );
    }
}

#[tokio::test]
async fn a_collection_goes_to_another_model_also_through_kill_9() {
    for shape in Shape::ALL {
        let provider = Provider::start().await.unwrap();
        let system = System::start(shape, &settings(&provider.url, "m-embed")).await.unwrap();
        for number in 0..20 {
            system.upload(&format!("{number}.txt"), &format!("Kiwi {number}.")).await.unwrap();
        }
        // One of them keeps the job from its end.
        provider.embed_as("\nKiwi 13.", None);
        let next = settings(&provider.url, "n-embed");
        let next = next + "[[retriever.former_embeddings]]\nroute = 'm-embed'\n";
        let data = system.kill().await.unwrap();
        let mut system = System::start_in(data, shape, &next).await.unwrap();
        let reindex = async |system: &System, name: &str| {
            let path = format!("/api/v1/collections/{name}/reindex");
            send(system, &path, &[], String::new()).await
        };
        assert_eq!(reindex(&system, "unknown").await.0, StatusCode::NOT_FOUND);
        let (status, job) = reindex(&system, "default").await;
        assert_eq!(status, StatusCode::ACCEPTED, "{job}");
        let (id, job) = (job["id"].as_str().unwrap().to_owned(), job);
        assert_eq!(reindex(&system, "default").await.0, StatusCode::CONFLICT, "{job}");
        let finds_ten = async |system: &System| {
            let (status, found) = search(system, "public").await;
            assert_eq!(status, 200, "{found}");
            let hits = found["results"].as_array().unwrap();
            assert_eq!(hits.len(), 10, "{found}");
            assert!(hits.iter().all(|hit| hit["explanation"]["dense"].is_number()), "{found}");
        };
        for kill in 0..3 {
            system.job(&id, |shown| shown["counts"]["running"] != 0).await.unwrap();
            finds_ten(&system).await;
            let data = system.kill().await.unwrap();
            if kill == 2 {
                provider.embed_as("\nKiwi 13.", Some([1.0, 2.0]));
            }
            system = System::start_in(data, shape, &next).await.unwrap();
        }
        let shown = system.job(&id, |shown| shown["state"] == "ended").await.unwrap();
        assert_eq!(shown["counts"]["done"], 20, "{shown}");
        let gone_over = async {
            loop {
                let (_, shown) = system.get("/api/v1/collections").await.unwrap();
                if shown["collections"][0]["model"] == "mock/n-embed" {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone_over).await.unwrap();
        finds_ten(&system).await;
    }
}
