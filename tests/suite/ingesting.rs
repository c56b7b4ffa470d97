//! Ingest jobs, and what a crash leaves of them.

use std::time::Duration;

use journeys::{Shape, System};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Adds a document to a job; none when nobody answers.
async fn add(system: &System, job: &str, source: &str, text: &str) -> Option<StatusCode> {
    let path = format!("{}/api/v1/ingest/{job}/documents", system.url);
    let request = system.client().post(path).query(&[("source", source)]);
    Some(request.body(text.to_owned()).send().await.ok()?.status())
}

async fn begin(system: &System) -> String {
    let (status, job) = system.post("/api/v1/ingest", &json!({})).await.unwrap();
    assert_eq!(status, 201, "{job}");
    serde_json::from_str::<Value>(&job).unwrap()["id"].as_str().unwrap().to_owned()
}

/// Returns the name and the text of one of 500 files of seven kinds.
fn file(number: usize) -> (String, String) {
    let text = match number % 7 {
        0 => format!(
            "# Guide {number}\n\nIntro.\n\n## Step {number}\n\nTurn the valve {number} times.\n"
        ),
        1 => format!("name,amount\nvalve {number},{}\npump,{number}\n", number * 2),
        2 => format!("{{ \"valve{number}\": {{ \"turns\": {number} }}, \"pump\": [1, 2] }}"),
        3 => format!("/// Turns.\nfn valve_{number}() {{\n    turn({number});\n}}\n"),
        4 => format!("def valve_{number}():\n    return {number}\n"),
        5 => format!("<h1>Valve {number}</h1><p>It turns {number} times.</p>"),
        _ => format!("Valve {number} is plain.\n\n{}", "It turns. ".repeat(number)),
    };
    let ending = ["md", "csv", "json", "rs", "py", "html", "txt"][number % 7];
    (format!("files/{number:03}.{ending}"), text)
}

/// Returns everything that the documents are, and what is found in them.
async fn state(system: &System) -> (Vec<Value>, Vec<Value>) {
    let (mut documents, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/documents?page_size=200&page_token={token}");
        let (_, mut page) = system.get(&path).await.unwrap();
        for document in page["documents"].as_array_mut().unwrap() {
            document.as_object_mut().unwrap().remove("updated_at_ms");
            documents.push(document.take());
        }
        match page["next_page_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    let mut found = Vec::new();
    for query in ["valve", "turns", "valve_17", "pump amount", "guide step 49", "It turns 5 times"]
    {
        let body = json!({ "query": query, "top_k": 100 });
        let (status, hits) = system.post("/api/v1/search", &body).await.unwrap();
        assert_eq!(status, 200, "{hits}");
        found.push(serde_json::from_str(&hits).unwrap());
    }
    (documents, found)
}

/// Returns settings by which documents lie in a PostgreSQL database.
fn in_postgresql(url: &str) -> String {
    format!("[retriever]\ndatabase = '{url}'\nacquire_ms = 500\n")
}

#[tokio::test]
async fn what_was_accepted_is_found_and_what_fails_is_told() {
    let postgres = testkit::Postgres::start().unwrap();
    for shape in Shape::ALL {
        let database = postgres.database(&format!("{shape:?}").to_lowercase()).unwrap();
        for settings in [String::new(), in_postgresql(&database)] {
            told(&System::start(shape, &settings).await.unwrap()).await;
        }
    }
}

async fn told(system: &System) {
    let job = begin(system).await;
    assert_eq!(add(system, &job, "a.md", "# A\n\nThe valve.").await.unwrap(), 202);
    assert_eq!(add(system, &job, "b.md", "nul \0").await.unwrap(), 202);
    assert_eq!(add(system, "job_none", "a.md", "x").await.unwrap(), 404);
    let shown = system.job(&job, |shown| shown["state"] == "ended").await.unwrap();
    assert_eq!(shown["counts"], json!({ "queued": 0, "running": 0, "done": 1, "failed": 1 }));
    let states: Vec<_> =
        shown["documents"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
    assert_eq!(states, ["done", "failed"]);
    let reason = shown["documents"][1]["reason"].as_str().unwrap();
    assert!(reason.contains("is NUL"), "{reason}");
    let retried = system.post(&format!("/api/v1/ingest/{job}/retry"), &json!({})).await.unwrap();
    assert_eq!(retried, (StatusCode::OK, json!({ "queued": 1 }).to_string()));
    let (_, failed) = system.get(&format!("/api/v1/ingest/{job}?state=failed")).await.unwrap();
    assert!(failed["documents"].as_array().unwrap().len() <= 1);
    let (_, jobs) = system.get("/api/v1/ingest").await.unwrap();
    assert_eq!(jobs["jobs"][0]["id"], json!(job));
}

#[tokio::test]
async fn an_ingest_that_is_killed_twenty_times_ends_as_one_that_never_was() {
    killed_twenty_times("").await;
}

#[tokio::test]
async fn an_ingest_into_postgresql_that_is_killed_twenty_times_ends_as_one_that_never_was() {
    let postgres = testkit::Postgres::start().unwrap();
    killed_twenty_times(&in_postgresql(&postgres.url())).await;
}

async fn killed_twenty_times(settings: &str) {
    const FILES: usize = 500;
    let mut random = fastrand::Rng::with_seed(11);
    let mut system = System::start(Shape::One, settings).await.unwrap();
    let job = begin(&system).await;
    let mut sent = 0;
    for _ in 0..20 {
        for _ in 0..random.usize(5..40) {
            let (source, text) = file(sent.min(FILES - 1));
            assert_eq!(add(&system, &job, &source, &text).await.unwrap(), 202);
            sent = (sent + 1).min(FILES);
        }
        // One more is on its way when the process dies: it was not acknowledged, and is sent again.
        let (source, text) = file(sent.min(FILES - 1));
        let path = format!("{}/api/v1/ingest/{job}/documents", system.url);
        let request = system.client().post(path).query(&[("source", source)]).body(text);
        let dying = tokio::spawn(request.send());
        tokio::task::yield_now().await;
        let data = system.kill().await.unwrap();
        // Answered or not: it is sent again.
        let _ = dying.await.unwrap();
        system = System::start_in(data, Shape::One, settings).await.unwrap();
    }
    for number in sent..FILES {
        let (source, text) = file(number);
        assert_eq!(add(&system, &job, &source, &text).await.unwrap(), 202);
    }
    let shown = system.job(&job, |shown| shown["state"] == "ended").await.unwrap();
    assert_eq!(shown["counts"], json!({ "queued": 0, "running": 0, "done": FILES, "failed": 0 }));

    let clean = System::start(Shape::One, "").await.unwrap();
    for number in 0..FILES {
        let (source, text) = file(number);
        clean.upload(&source, &text).await.unwrap();
    }
    let (documents, found) = state(&system).await;
    let (expected, expected_found) = state(&clean).await;
    assert_eq!(documents.len(), FILES);
    assert_eq!(documents, expected);
    assert_eq!(found, expected_found);
    // Nor does another start change what is found.
    let data = system.kill().await.unwrap();
    let system = System::start_in(data, Shape::One, settings).await.unwrap();
    assert_eq!(state(&system).await.1, expected_found);
}

#[tokio::test]
async fn without_their_database_documents_are_refused_for_now() {
    let mut postgres = testkit::Postgres::start().unwrap();
    let settings = in_postgresql(&postgres.url());
    let system = System::start(Shape::Separate, &settings).await.unwrap();
    system.upload("a.md", "The valve.").await.unwrap();
    postgres.stop().unwrap();
    let query = json!({ "query": "valve" });
    let reply = system.send("/api/v1/search", &query).await.unwrap();
    assert_eq!(reply.status(), 503);
    assert!(reply.headers().contains_key("retry-after"));
    let url = format!("{}/api/v1/documents?source=b.md", system.url);
    let put = || system.client().post(&url).body("The pump.").send();
    assert_eq!(put().await.unwrap().status(), 503);
    let restarted = tokio::task::spawn_blocking(move || {
        postgres.restart().unwrap();
        postgres
    });
    let _postgres = restarted.await.unwrap();
    let again = async {
        loop {
            match put().await.unwrap().status().as_u16() {
                503 => {}
                status => return status,
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(60), again).await.unwrap();
    assert!(matches!(again, 200 | 201), "{again}");
    let (status, found) = system.post("/api/v1/search", &query).await.unwrap();
    assert!(status == 200 && found.contains("The valve."), "{found}");
}
