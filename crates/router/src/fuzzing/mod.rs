//! What fuzzers call: every reader of what comes from outside, and what must be true of its result.
//!
//! A fault is a panic. `fuzz/` runs these on what it makes up, an ordinary test on the corpus and on
//! mutations of it.

#[cfg(test)]
mod replay;
mod valid;

use proto::router::Dialect;
use serde_json::{Value, json};

use crate::config::Price;
use crate::dialects::gemini;
use crate::dialects::render::{Answer, Rendering, written};
use crate::dialects::said::{Said, first_choice};
use crate::request::ChatRequest;
use crate::sse::{BYTE_ORDER_MARK, Decoder};
use crate::usage::{self, Usage};

/// The dialects of clients that converse.
const CLIENTS: [Dialect; 3] = [Dialect::ChatCompletions, Dialect::Messages, Dialect::Responses];

/// Reads a stream of events: the same however it is cut, and what the standard says.
pub fn sse(bytes: &[u8]) {
    let wanted = events_of(bytes);
    // The first byte says how large the pieces are.
    let size = bytes.first().map_or(1, |size| usize::from(*size).max(1));
    for size in [usize::MAX, 1, size] {
        let mut decoder = Decoder::default();
        let pieces = bytes.chunks(size).map(|piece| decoder.push(piece).unwrap_or_default());
        let events: Vec<Vec<u8>> = pieces.flatten().collect();
        assert_eq!(events, wanted, "in pieces of {size}");
    }
}

/// Reads events the slow way, as <https://html.spec.whatwg.org/multipage/server-sent-events.html>
/// has it (read November 2026), besides that an event of nothing but space is none.
fn events_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let (mut events, mut data) = (Vec::new(), Vec::<&[u8]>::new());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        let (line, end) = rest.split_at(at);
        rest = end.strip_prefix(b"\r\n").unwrap_or(&end[1..]);
        if let Some(value) = line.strip_prefix(b"data:") {
            data.push(value.strip_prefix(b" ").unwrap_or(value));
        }
        if line.is_empty() {
            let event = std::mem::take(&mut data).join(&b'\n');
            events.extend(Some(event).filter(|event| !event.trim_ascii().is_empty()));
        }
    }
    events
}

/// Reads a request and translates it for every kind of provider.
pub fn request(dialect: Dialect, body: &[u8]) {
    let request = match ChatRequest::parse(body, dialect) {
        Ok(request) => request,
        Err(refused) => return valid::refusal(&refused.to_string()),
    };
    // Nothing is written by what embeds.
    assert!(request.embeds() || request.all_output_tokens(1) > 0);
    assert!(request.prompt_version.chars().count() <= 64);
    assert!(request.need().tier <= 4);
    request.question();
    if request.embeds() {
        assert!(request.inputs() > 0);
        return valid::told(request.for_embeddings("m"), |wire| assert_eq!(wire["model"], "m"));
    }
    let limit = request.output_tokens(9);
    for stream in [false, true] {
        valid::told(request.for_chat("m", ("max_tokens", 9), stream), |wire| {
            valid::chat_request(wire, limit, stream, dialect != Dialect::ChatCompletions);
        });
        valid::told(request.for_messages("m", 9, stream), |wire| {
            valid::messages_request(wire, limit, stream, dialect != Dialect::Messages);
        });
    }
    valid::told(request.for_gemini("gemini-3", 9), |wire| valid::gemini_request(wire, limit));
}

/// Reads what a server of chat completions sends.
pub fn chat_completions(bytes: &[u8]) {
    if let Ok(answer) = serde_json::from_slice(bytes) {
        whole(Dialect::ChatCompletions, &answer);
    }
    stream(Dialect::ChatCompletions, &pieces(bytes));
}

/// Reads what a server of Messages sends.
pub fn messages(bytes: &[u8]) {
    if let Ok(answer) = serde_json::from_slice(bytes) {
        whole(Dialect::Messages, &answer);
    }
    stream(Dialect::Messages, &pieces(bytes));
}

/// Reads what Gemini sends.
pub fn gemini(bytes: &[u8]) {
    if let Ok(answer) = serde_json::from_slice::<Value>(bytes)
        && gemini::failure(&answer).is_none()
    {
        whole(Dialect::ChatCompletions, &gemini::response(&answer, usize::MAX, 0));
    }
    let mut chunks = gemini::Chunks::new(usize::MAX, 0);
    let mut told: Vec<Value> =
        pieces(bytes).iter().filter_map(|piece| chunks.push(piece)).collect();
    for chunk in &told {
        assert!(chunk.get("usage").is_none(), "it is counted once: {chunk}");
    }
    told.extend(chunks.counted());
    stream(Dialect::ChatCompletions, &told);
}

/// Reads prices, and costs of them.
pub fn price(text: &str) {
    let model = crate::Model {
        input_usd_per_million: Some(text.to_owned()),
        ..crate::Model::free("m".to_owned())
    };
    if let Ok(price) = model.price(0) {
        assert!((0..=10_000_000).contains(&price.input.nanos()), "{text}: {price:?}");
        let most = Usage { input: u64::MAX, ..Usage::default() };
        assert!(most.cost(&price).nanos() >= 0);
    }
}

/// Returns the events that are objects; the router reads no further behind what is none.
fn pieces(bytes: &[u8]) -> Vec<Value> {
    let mut decoder = Decoder::default();
    let events = decoder.push(bytes).unwrap_or_default();
    let read = |event: Vec<u8>| serde_json::from_slice(&event).ok().filter(Value::is_object);
    events.into_iter().map_while(read).collect()
}

/// Tells a whole answer to a client of every dialect.
fn whole(provider: Dialect, answer: &Value) {
    for client in CLIENTS {
        let answer = Answer::new(provider, answer.clone(), 7);
        counted(&answer.chat);
        let choice = first_choice(&answer.chat).cloned().unwrap_or_default();
        let told = answer.to(&question(client));
        match client {
            Dialect::Messages if provider != Dialect::Messages => {
                valid::message(&told, &Said::of(&choice["message"]));
            }
            Dialect::Responses => valid::response(&told, &Said::of(&choice["message"])),
            _ => {}
        }
    }
}

/// Tells a stream to a client of every dialect.
fn stream(provider: Dialect, pieces: &[Value]) {
    for client in CLIENTS {
        let mut rendering = Rendering::new(provider, &question(client), 7);
        let (mut told, mut said) = (Vec::new(), valid::Text::default());
        let push = |rendering: &mut Rendering,
                    told: &mut Vec<_>,
                    said: &mut valid::Text,
                    piece: &Value| {
            let chat = rendering.chat(piece.clone());
            usage::ends(&chat);
            counted(&chat);
            if let Some(choice) = first_choice(&chat) {
                said.add(&Said::of(&choice["delta"]));
            }
            rendering.push(piece.to_string().into(), &chat, false, told);
        };
        for piece in pieces {
            push(&mut rendering, &mut told, &mut said, piece);
        }
        if let Some(end) = rendering.missing_end() {
            let end = serde_json::from_slice(&end).unwrap_or_default();
            push(&mut rendering, &mut told, &mut said, &end);
        }
        told.extend(rendering.finish().iter().map(written));
        let told: Vec<Value> =
            told.iter().map(|event| serde_json::from_slice(event).unwrap_or_default()).collect();
        assert!(told.iter().all(Value::is_object), "{told:?}");
        match client {
            Dialect::Messages if provider != Dialect::Messages => {
                valid::message_events(&told, &said);
            }
            Dialect::Responses => valid::response_events(&told, &said),
            _ => valid::chunks(&told, &said, provider),
        }
    }
}

fn counted(chat: &Value) {
    usage::written(chat).guess();
    if let Some(usage) = Usage::of(chat) {
        assert!(usage.cached + usage.stored <= usage.input, "{usage:?}");
        assert!(usage.reasoning <= usage.output, "{usage:?}");
        assert!(usage.cost(&Price::default()).nanos() == 0);
    }
}

fn question(client: Dialect) -> ChatRequest {
    let body = match client {
        Dialect::Responses => json!({ "model": "m", "input": "q" }),
        _ => {
            json!({ "model": "m", "max_tokens": 9, "messages": [{ "role": "user", "content": "q" }] })
        }
    };
    match ChatRequest::parse(body.to_string().as_bytes(), client) {
        Ok(request) => request,
        Err(refused) => unreachable!("{refused}"),
    }
}
