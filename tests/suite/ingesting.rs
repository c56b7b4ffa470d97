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

async fn ended(system: &System, job: &str) -> Value {
    let wait = async {
        loop {
            let (_, shown) = system.get(&format!("/api/v1/ingest/{job}")).await.unwrap();
            if shown["state"] == "ended" {
                return shown;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), wait).await.unwrap()
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

#[tokio::test]
async fn what_was_accepted_is_found_and_what_fails_is_told() {
    for shape in Shape::ALL {
        let system = System::start(shape, "").await.unwrap();
        let job = begin(&system).await;
        assert_eq!(add(&system, &job, "a.md", "# A\n\nThe valve.").await.unwrap(), 202);
        assert_eq!(add(&system, &job, "b.md", "nul \0").await.unwrap(), 202);
        assert_eq!(add(&system, "job_none", "a.md", "x").await.unwrap(), 404);
        let shown = ended(&system, &job).await;
        assert_eq!(shown["counts"], json!({ "queued": 0, "running": 0, "done": 1, "failed": 1 }));
        let states: Vec<_> =
            shown["documents"].as_array().unwrap().iter().map(|one| &one["state"]).collect();
        assert_eq!(states, ["done", "failed"]);
        let reason = shown["documents"][1]["reason"].as_str().unwrap();
        assert!(reason.contains("is NUL"), "{reason}");
        let retried =
            system.post(&format!("/api/v1/ingest/{job}/retry"), &json!({})).await.unwrap();
        assert_eq!(retried, (StatusCode::OK, json!({ "queued": 1 }).to_string()));
        let (_, failed) = system.get(&format!("/api/v1/ingest/{job}?state=failed")).await.unwrap();
        assert!(failed["documents"].as_array().unwrap().len() <= 1);
        let (_, jobs) = system.get("/api/v1/ingest").await.unwrap();
        assert_eq!(jobs["jobs"][0]["id"], json!(job));
    }
}

#[tokio::test]
async fn an_ingest_that_is_killed_twenty_times_ends_as_one_that_never_was() {
    const FILES: usize = 500;
    let mut random = fastrand::Rng::with_seed(11);
    let mut system = System::start(Shape::One, "").await.unwrap();
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
        system = System::start_in(data, Shape::One, "").await.unwrap();
    }
    for number in sent..FILES {
        let (source, text) = file(number);
        assert_eq!(add(&system, &job, &source, &text).await.unwrap(), 202);
    }
    let shown = ended(&system, &job).await;
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
    let system = System::start_in(data, Shape::One, "").await.unwrap();
    assert_eq!(state(&system).await.1, expected_found);
}
