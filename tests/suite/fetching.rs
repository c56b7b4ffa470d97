//! Documents that are fetched from addresses, and those that are not.

use journeys::{Shape, System};
use serde_json::{Value, json};
use testkit::web::Web;

/// What lets a test's own site be fetched from.
const HERE: &str = "[retriever.fetch]\nlocal_networks = ['127.0.0.1/32']\n";

async fn begin(system: &System, body: &Value) -> String {
    let (status, job) = system.post("/api/v1/ingest", body).await.unwrap();
    assert_eq!(status, 201, "{job}");
    serde_json::from_str::<Value>(&job).unwrap()["id"].as_str().unwrap().to_owned()
}

/// Fetches addresses and returns what became of each.
async fn fetched(system: &System, body: &Value) -> Vec<Value> {
    let job = begin(system, body).await;
    let mut shown = system.job(&job, |shown| shown["state"] == "ended").await.unwrap();
    shown["documents"].as_array_mut().unwrap().drain(..).collect()
}

/// Fetches one address and returns why it was not fetched.
async fn refused(system: &System, url: &str) -> String {
    let [document] = &fetched(system, &json!({ "urls": [url] })).await[..] else { panic!() };
    assert_eq!((&document["state"], &document["source"]), (&json!("failed"), &json!(url)));
    document["reason"].as_str().unwrap().to_owned()
}

async fn documents(system: &System) -> Vec<Value> {
    let (_, mut listed) = system.get("/api/v1/documents").await.unwrap();
    listed["documents"].as_array_mut().unwrap().drain(..).collect()
}

async fn found(system: &System, query: &str) -> Vec<String> {
    let body = json!({ "query": query, "one_per_document": true });
    let (_, found) = system.post("/api/v1/search", &body).await.unwrap();
    let found: Value = serde_json::from_str(&found).unwrap();
    let hits = found["results"].as_array().unwrap().iter();
    hits.map(|hit| hit["source"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_page_is_fetched_and_fetched_again_when_it_has_changed() {
    for shape in Shape::ALL {
        let web = Web::start().await.unwrap();
        web.write("/guide", "text/html; charset=utf-8", "<h1>Guide</h1><p>Turn the valve.</p>");
        web.write("/notes.md", "text/plain", "# Notes\n\nNothing of it.");
        web.lead("/moved", "/notes.md");
        let system = System::start(shape, HERE).await.unwrap();
        let urls = ["guide", "moved"].map(|path| format!("{}/{path}", web.url));
        let body = json!({ "urls": urls, "attributes": { "site": "docs" } });
        let ended = fetched(&system, &body).await;
        let states: Vec<_> = ended.iter().map(|one| (&one["source"], &one["state"])).collect();
        let done = json!("done");
        assert_eq!(states, [(&json!(urls[0]), &done), (&json!(urls[1]), &done)], "{ended:?}");
        let stored = documents(&system).await;
        let kinds: Vec<_> = stored.iter().map(|one| &one["media_type"]).collect();
        assert_eq!(kinds, ["text/html", "text/markdown"]);
        assert_eq!(stored[0]["attributes"], json!({ "site": "docs" }));
        assert_eq!(found(&system, "valve").await, [urls[0].clone()]);

        web.write("/guide", "text/html", "<h1>Guide</h1><p>Push the lever.</p>");
        fetched(&system, &body).await;
        assert_eq!(found(&system, "valve").await, Vec::<String>::new());
        assert_eq!(found(&system, "lever").await, [urls[0].clone()]);
        let again = documents(&system).await;
        assert_eq!((again.len(), &again[1]), (2, &stored[1]), "what is the same stays as it was");
        assert_eq!((web.asked("/guide"), web.asked("/notes.md")), (2, 2));

        // A failed one is fetched anew when it is tried again.
        let job = begin(&system, &json!({ "urls": [format!("{}/late", web.url)] })).await;
        system.job(&job, |shown| shown["counts"]["failed"] == 1).await.unwrap();
        web.write("/late", "text/plain", "Late, but here.");
        let retried =
            system.post(&format!("/api/v1/ingest/{job}/retry"), &json!({})).await.unwrap();
        assert_eq!(retried.1, json!({ "queued": 1 }).to_string());
        system.job(&job, |shown| shown["counts"]["done"] == 1).await.unwrap();
        assert_eq!(found(&system, "late").await.len(), 1);
    }
}

#[tokio::test]
async fn what_cannot_be_fetched_is_told_with_its_reason() {
    let web = Web::start().await.unwrap();
    web.write("/large", "text/plain", &"word ".repeat(500));
    web.write("/image", "image/png", "x");
    web.write("/binary", "application/octet-stream", "nul \0");
    web.lead("/loop", "/loop");
    web.lead("/file", "file:///etc/passwd");
    let at = |path: &str| format!("{}{path}", web.url);
    web.lead("/inside", &at("/secret").replace("127.0.0.1", "127.0.0.2"));
    web.lead("/metadata", "http://169.254.169.254/latest/meta-data/");
    let settings = format!("{HERE}[retriever]\nmax_document_bytes = 1000\n");
    let system = System::start(Shape::One, &settings).await.unwrap();
    for (path, told) in [
        ("/none", "answered 404 Not Found"),
        ("/large", "has more than the 1000 bytes that are allowed"),
        ("/image", "media type \"image/png\" is none of"),
        ("/binary", "is NUL"),
        ("/loop", "leads elsewhere more than 5 times"),
        ("/file", "leads to what cannot be fetched: only http and https"),
        ("/inside", "127.0.0.2"),
        ("/inside", "is not fetched: its address is not public"),
        ("/metadata", "/latest/meta-data/ is not fetched: its address is not public"),
    ] {
        let reason = refused(&system, &at(path)).await;
        assert!(reason.contains(told), "{path}: {reason}");
    }
    assert_eq!(web.asked("/loop"), 6, "the first, and where it led five times");
    let gone = refused(&system, "http://127.0.0.1:1/").await;
    assert!(gone.contains("cannot connect"), "{gone}");
    assert!(documents(&system).await.is_empty());

    for (body, status, told) in [
        (json!({ "urls": ["ftp://x/y"] }), 400, "only http and https are"),
        (json!({ "urls": [at("/a"), "http://ann:b@x/"] }), 400, "a name or a password"),
        (json!({ "urls": [format!("http://x/{}", "a".repeat(1024))] }), 400, "1 to 1024 bytes"),
        (json!({ "urls": vec!["http://x/"; 1001] }), 400, "/urls: has 1001"),
        (json!({ "privacy": "private" }), 400, "of urls, of which there are none"),
        (json!({ "urls": [at("/a")], "privacy": "secret" }), 400, "neither public nor private"),
        (json!({ "urls": [at("/a")], "attributes": { "a": [] } }), 400, "/attributes/a"),
        (json!({ "urls": [at("/a")], "collection": "none" }), 404, "\"none\" does not exist"),
    ] {
        let (is, fault) = system.post("/api/v1/ingest", &body).await.unwrap();
        assert!(
            is == status && fault.contains(told.escape_default().to_string().as_str()),
            "{fault}"
        );
    }
    let (_, jobs) = system.get("/api/v1/ingest?page_size=1000").await.unwrap();
    assert_eq!(jobs["jobs"].as_array().unwrap().len(), 10, "what was refused made none");
    assert_eq!(web.asked("/a"), 0);
}

#[tokio::test]
async fn this_machine_is_fetched_from_only_where_the_configuration_says_so() {
    for shape in Shape::ALL {
        let web = Web::start().await.unwrap();
        web.write("/a", "text/plain", "A secret of this machine.");
        let port = web.url.rsplit_once(':').unwrap().1.to_owned();
        let system = System::start(shape, "").await.unwrap();
        for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "[::1]"] {
            let reason = refused(&system, &format!("http://{host}:{port}/a")).await;
            let told = "its address is not public, nor in one of retriever.fetch.local_networks";
            assert!(reason.ends_with(told), "{reason}");
        }
        let private = json!({ "urls": [format!("{}/a", web.url)], "privacy": "private" });
        let reason = fetched(&system, &private).await.remove(0)["reason"].take();
        assert!(reason.as_str().unwrap().contains("it is private, and its address"), "{reason}");
        assert_eq!(web.asked("/a"), 0, "nobody asked");

        let only = format!("{HERE}public = false\n");
        let system = System::start(shape, &only).await.unwrap();
        let ended = fetched(&system, &private).await.remove(0);
        assert_eq!(ended["state"], "done", "{ended}");
        assert_eq!(documents(&system).await[0]["privacy"], "private");
        let reason = refused(&system, "http://192.0.2.1/").await;
        assert!(reason.contains("in none of retriever.fetch.local_networks"), "{reason}");
    }
}

#[tokio::test]
async fn a_document_that_is_worked_on_when_its_job_is_deleted_is_not_stored() {
    let web = Web::start().await.unwrap();
    web.hold("/held");
    web.write("/next", "text/plain", "The next lamp.");
    let settings = format!("[retriever]\ningest_workers = 1\n{HERE}");
    let system = System::start(Shape::One, &settings).await.unwrap();
    let job = begin(&system, &json!({ "urls": [format!("{}/held", web.url)] })).await;
    web.until_asked("/held").await;
    let (_, shown) = system.get(&format!("/api/v1/ingest/{job}")).await.unwrap();
    assert_eq!(shown["counts"]["running"], 1, "{shown}");
    assert_eq!(system.delete(&format!("/api/v1/ingest/{job}")).await.unwrap(), 204);
    web.write("/held", "text/plain", "The held lamp.");
    // There is one worker: it has ended with the first when it has the second.
    fetched(&system, &json!({ "urls": [format!("{}/next", web.url)] })).await;
    assert_eq!(found(&system, "lamp").await, [format!("{}/next", web.url)]);
    assert_eq!(system.get(&format!("/api/v1/ingest/{job}")).await.unwrap().0, 404);
}

#[tokio::test]
async fn a_server_that_is_slow_is_left_in_time() {
    let web = Web::start().await.unwrap();
    web.hold("/slow");
    let system = System::start(Shape::One, &format!("{HERE}deadline_ms = 200\n")).await.unwrap();
    let reason = refused(&system, &format!("{}/slow", web.url)).await;
    assert!(reason.ends_with("/slow took more than 200 ms"), "{reason}");
}
