//! From a document to a cited answer.

use std::path::Path;

use journeys::{Shape, System, priced};
use serde_json::{Value, json};

const GUIDE: &str = "# Guide\n\nIntro.\n\n## Rollback\n\nTo roll back a release, run the script.\n";

#[tokio::test]
async fn a_document_is_uploaded_asked_and_removed() {
    for shape in Shape::ALL {
        let system = System::start(shape, "").await.unwrap();
        let document = system.upload("guide.md", GUIDE).await.unwrap();

        let question = json!({ "question": "How do I roll back a release?" });
        let (status, answer) = system.post("/api/v1/ask", &question).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["answer"], "To roll back a release, run the script. [1]");
        assert_eq!(answer["provider"], "extractive");
        let citation = &answer["citations"][0];
        assert_eq!(citation["quote"], "To roll back a release, run the script.");
        assert_eq!((&citation["start_line"], &citation["source"]), (&7.into(), &"guide.md".into()));
        assert_eq!(answer["confidence"], 1.0);

        let run = answer["run_id"].as_str().unwrap();
        let (_, journal) = system.get(&format!("/api/v1/runs/{run}/events")).await.unwrap();
        let events = journal["events"].as_array().unwrap().iter();
        let events: Vec<_> = events.map(|event| event["event"].as_str().unwrap()).collect();
        assert_eq!(events, ["started", "retrieved", "delta", "completed"]);

        let path = format!("/api/v1/documents/{}", document["id"].as_str().unwrap());
        assert_eq!(system.delete(&path).await.unwrap(), 204);
        assert_eq!(system.get(&path).await.unwrap().0, 404);
    }
}

#[tokio::test]
async fn a_model_that_failed_is_named_beside_the_answer_of_another() {
    for shape in Shape::ALL {
        let system = System::start(shape, &priced("http://127.0.0.1:1")).await.unwrap();
        system.upload("guide.md", GUIDE).await.unwrap();
        let question = json!({ "question": "How do I roll back a release?" });
        let (_, answer) = system.post("/api/v1/ask", &question).await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["provider"], "extractive", "{answer}");
        assert_eq!(answer["failures"], json!(["mock/m: cannot connect"]), "{answer}");
    }
}

#[tokio::test]
async fn one_question_is_one_trace_in_every_service() {
    let system = System::start(Shape::Separate, "").await.unwrap();
    system.upload("guide.md", GUIDE).await.unwrap();
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let ask = system.client().post(format!("{}/api/v1/ask", system.url));
    let question = json!({ "question": "How do I roll back a release?" });
    let ask = ask.header("traceparent", &parent).json(&question);
    let answer: Value = ask.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["citations"][0]["source"], "guide.md", "{answer}");
    let tools = system.client().get(format!("{}/api/v1/tools", system.url));
    assert_eq!(tools.header("traceparent", &parent).send().await.unwrap().status(), 200);
    for process in system.processes {
        let (status, log) = process.stop().await.unwrap();
        assert!(status.success() && log.contains(trace), "{status} {log}");
    }
}

/// Without any model: what our own documents say is found, quoted and cited.
#[tokio::test]
async fn ten_questions_to_our_documents_are_answered_by_quoting_them() {
    let system = System::start(Shape::One, "").await.unwrap();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for file in std::fs::read_dir(docs).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        system.upload(&name, &std::fs::read_to_string(&path).unwrap()).await.unwrap();
    }
    for (question, source, fact) in [
        ("How long is a webhook retried?", "operations.md", "for a week"),
        ("How do I revoke a key?", "operations.md", "everywhere within a second"),
        ("How is maintenance mode switched on?", "operations.md", "baton maintenance on"),
        ("How do I verify the audit log?", "operations.md", "baton audit verify"),
        ("How is a key rotated?", "operations.md", "baton keys rotate"),
        (
            "How many documents of a tenant may wait in ingest jobs?",
            "documents.md",
            "100,000 documents",
        ),
        ("How many words has a passage?", "documents.md", "150 to 300 words"),
        ("How many values has an attribute at most?", "documents.md", "of at most 64 values"),
        ("What is BM25's k1?", "retrieval.md", "k1 1.2"),
        ("What happens when Redis is down?", "configuration.md", "each router decides alone"),
    ] {
        let (_, answer) =
            system.post("/api/v1/ask", &json!({ "question": question })).await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["provider"], "extractive");
        // Where a line ends in the document says nothing.
        let says = |text: &Value| {
            text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ").contains(fact)
        };
        assert!(says(&answer["answer"]), "{question} {answer}");
        let cited = answer["citations"]
            .as_array()
            .unwrap()
            .iter()
            .any(|citation| citation["source"] == source && says(&citation["quote"]));
        assert!(cited, "{question} {answer}");
    }
}
