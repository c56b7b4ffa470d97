//! Providers' answers, and what each client gets of them.

use std::fmt::Write as _;

use proto::budget::Usage;
use proto::router::Dialect;
use proto::router::stream_complete_response::Event;
use serde_json::{Value, json};
use types::{Clock as _, SystemClock};

use crate::fixture::{Fixture, compare, files};
use crate::router_under_test::{CLIENTS, Router, kind};
use crate::upstream;

#[tokio::test]
async fn answers_of_servers_of_chat_completions() {
    every("openai").await;
}

#[tokio::test]
async fn answers_of_messages() {
    every("anthropic").await;
}

#[tokio::test]
async fn answers_of_gemini() {
    every("gemini").await;
}

async fn every(provider: &str) {
    let files = files(&format!("answers/{provider}"), "http");
    let fixtures: Vec<Fixture> = files.iter().map(|file| Fixture::read(file)).collect();
    let mut answers = upstream::Answers::new();
    for fixture in &fixtures {
        for size in SIZES {
            let said = upstream::said(fixture, size);
            answers.extend(CLIENTS.map(|(client, _)| (model(fixture, size, client), said.clone())));
        }
    }
    let models: Vec<String> = answers.keys().cloned().collect();
    let upstream = upstream::start(answers).await;
    let mut router = Router::start(kind(provider), &upstream.url, models.into_iter()).await;
    for fixture in &fixtures {
        let whole = told(&mut router, fixture, SIZES[0]).await;
        for size in &SIZES[1..] {
            let cut = told(&mut router, fixture, *size).await;
            assert_eq!(cut, whole, "{}: in pieces of {size} bytes", fixture.name());
        }
        compare(&fixture.path, &whole);
    }
}

/// How answers are cut: not at all, at every byte, and somewhere.
const SIZES: [usize; 3] = [usize::MAX, 1, 7];

/// Names a model that gives this answer, cut so, to this client: a circuit breaker remembers, so that
/// each is asked once.
fn model(fixture: &Fixture, size: usize, client: &str) -> String {
    format!("{}-{size}-{client}", fixture.name())
}

/// Returns what clients get and what it took, as text.
async fn told(router: &mut Router, fixture: &Fixture, size: usize) -> String {
    let (mut answers, mut took) = (Vec::new(), Vec::new());
    for (client, dialect) in CLIENTS {
        let model = format!("p/{}", model(fixture, size, client));
        let question = question(dialect, &model, fixture.is_stream());
        let answer = match fixture.is_stream() {
            true => streamed(router, dialect, &question).await,
            false => whole(router, dialect, &question).await,
        };
        let refused = answer.is_err();
        let answer = answer.unwrap_or_else(|refused| format!("{refused}\n"));
        answers.push((client, without_id(&answer.replace(&model, "p/m"))));
        let mut rows = Vec::new();
        // Whoever broke off before it was heard has a row, and then there is one of the call.
        loop {
            let row = router.row().await;
            rows.push(shown(&row));
            if !refused || row.outcome != "broken" {
                break;
            }
        }
        took.push(rows.join("\n"));
    }
    let mut told = String::new();
    if answers.iter().all(|(_, answer)| *answer == answers[0].1) {
        answers = vec![("everybody", answers.swap_remove(0).1)];
    }
    for (name, answer) in answers {
        write!(told, "## {name}\n{answer}").unwrap();
    }
    assert!(took.iter().all(|row| *row == took[0]), "{}: {took:?}", fixture.name());
    write!(told, "## usage\n{}", took[0]).unwrap();
    told
}

fn question(dialect: Dialect, model: &str, stream: bool) -> Vec<u8> {
    let messages = json!([{ "role": "user", "content": "ping" }]);
    let question = match dialect {
        Dialect::Responses => json!({ "model": model, "input": "ping", "stream": stream }),
        Dialect::Messages => {
            json!({ "model": model, "max_tokens": 50, "messages": messages, "stream": stream })
        }
        _ if stream => json!({
            "model": model, "messages": messages, "stream": true,
            "stream_options": { "include_usage": true },
        }),
        _ => json!({ "model": model, "messages": messages }),
    };
    question.to_string().into_bytes()
}

async fn whole(router: &Router, dialect: Dialect, question: &[u8]) -> Result<String, String> {
    let (answer, _) = router.complete(dialect, question).await?;
    Ok(format!("{:#}\n", without_time(answer)))
}

async fn streamed(router: &Router, dialect: Dialect, question: &[u8]) -> Result<String, String> {
    let events = router.stream(dialect, question).await?;
    let mut lines = String::new();
    for event in events {
        match event {
            Event::Started(_) | Event::Finished(_) => continue,
            Event::Chunk(chunk) => {
                let chunk = without_time(serde_json::from_slice(&chunk).unwrap());
                writeln!(lines, "{chunk}").unwrap();
            }
            Event::Failed(message) => writeln!(lines, "failed: {message}").unwrap(),
        }
    }
    Ok(lines)
}

/// Takes out when a response was made, or an answer translated, which is different each time.
fn without_time(mut answer: Value) -> Value {
    if let Some(time) = answer.get_mut("created") {
        let now = SystemClock.now_ms() / 1000;
        if time.as_i64().is_some_and(|time| (now - 600..=now).contains(&time)) {
            *time = 0.into();
        }
    }
    for at in ["/created_at", "/response/created_at"] {
        if let Some(time) = answer.pointer_mut(at) {
            assert!(time.as_i64().is_some_and(|time| time > 1_700_000_000), "{time}");
            *time = 0.into();
        }
    }
    answer
}

/// Takes out a response's id, which is different each time, also of its items' ids.
fn without_id(answer: &str) -> String {
    match answer.split_once("resp_").and_then(|(_, rest)| rest.get(..36)) {
        Some(id) => answer.replace(id, "1"),
        None => answer.to_owned(),
    }
}

fn shown(row: &Usage) -> String {
    let (output, reasoning) = (row.output_tokens, row.reasoning_tokens);
    if row.estimated {
        // What was read is guessed of the question, which differs.
        return format!("{}: output about {output}", row.outcome);
    }
    format!(
        "{}: input {} (cached {}, written to a cache {}), output {output} (reasoning {reasoning}), {} nano-USD",
        row.outcome, row.input_tokens, row.cached_tokens, row.cache_write_tokens, row.cost_nanos,
    )
}
