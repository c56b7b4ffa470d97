//! The corpus and its mutations, so that every run of the tests goes where fuzzers have been.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use proto::router::Dialect;
use serde_json::{Value, json};

/// Who reads what.
type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 7] = [
    ("answers/openai", super::chat_completions),
    ("answers/anthropic", super::messages),
    ("answers/gemini", super::gemini),
    ("requests/chat", |body| super::request(Dialect::ChatCompletions, body)),
    ("requests/messages", |body| super::request(Dialect::Messages, body)),
    ("requests/responses", |body| super::request(Dialect::Responses, body)),
    ("requests/embeddings", |body| super::request(Dialect::Embeddings, body)),
];

/// The golden files, without their heads, and what fuzzers have found.
static CORPUS: LazyLock<Vec<(Target, Vec<u8>)>> = LazyLock::new(|| {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut corpus = Vec::new();
    for (directory, target) in TARGETS {
        for file in files(&golden.join(directory)) {
            let bytes = fs::read(&file).unwrap();
            match file.extension().and_then(|ending| ending.to_str()) {
                Some("http") => {
                    let head = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
                    corpus.push((target, bytes[head + 2..].to_vec()));
                }
                Some("json") => corpus.push((target, bytes)),
                _ => {}
            }
        }
    }
    assert!(corpus.len() > 250, "{}", corpus.len());
    corpus
});

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|_| panic!("{}", directory.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_corpus_is_read() {
    for (target, body) in CORPUS.iter() {
        target(body);
        super::sse(body);
    }
}

#[test]
fn what_fuzzers_found_is_read() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/found");
    for (directory, target) in TARGETS {
        let directory = found.join(directory.replace('/', "-"));
        for file in fs::read_dir(directory).into_iter().flatten() {
            target(&fs::read(file.unwrap().path()).unwrap());
        }
    }
}

#[test]
fn prices_are_read() {
    for price in ["0.15", "", "-1", "1e9", "0.0001", "99999999999999999999", ".", "1."] {
        super::price(price);
    }
}

/// What stands where something else was expected.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!(true)),
        Just(json!(-1)),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        Just(json!("")),
        Just(json!("{\"a\":1}")),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{ "type": "text", "text": "\u{feff}\0" }])),
        "\\PC{0,8}".prop_map(Value::from),
    ]
}

/// Replaces the node that stands at `place`, counted from the root, or takes it out of its list.
fn replace(value: &mut Value, place: &mut usize, with: &Value) -> bool {
    if *place == 0 {
        *value = with.clone();
        return true;
    }
    *place -= 1;
    match value {
        Value::Array(list) => list.iter_mut().any(|one| replace(one, place, with)),
        Value::Object(fields) => fields.values_mut().any(|one| replace(one, place, with)),
        _ => false,
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(size).sum::<usize>(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

/// Replaces a node of the JSON that stands in `body`, whole or behind each `data:`.
fn mutated(body: &[u8], place: prop::sample::Index, with: &Value) -> Vec<u8> {
    let mutate = |text: &[u8]| -> Option<Vec<u8>> {
        let mut value: Value = serde_json::from_slice(text).ok()?;
        let mut place = place.index(size(&value));
        replace(&mut value, &mut place, with);
        Some(value.to_string().into_bytes())
    };
    mutate(body).unwrap_or_else(|| {
        let lines = body.split(|byte| *byte == b'\n').map(|line| {
            let data = line.strip_prefix(b"data: ").and_then(mutate);
            data.map_or_else(|| line.to_vec(), |data| [b"data: ", data.as_slice()].concat())
        });
        lines.collect::<Vec<_>>().join(&b'\n')
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn odd_values_are_read_or_refused(
        one in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..3),
    ) {
        let (target, body) = &CORPUS[one.index(CORPUS.len())];
        let body = changes.iter().fold(body.clone(), |body, (place, with)| mutated(&body, *place, with));
        target(&body);
    }

    #[test]
    fn bytes_that_went_wrong_are_read_or_refused(
        one in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        gone in 0_usize..9,
        come in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'"')], 0..4),
    ) {
        let (target, body) = &CORPUS[one.index(CORPUS.len())];
        let mut body = body.clone();
        let at = at.index(body.len() + 1);
        let end = (at + gone).min(body.len());
        body.splice(at..end, come);
        target(&body);
        super::sse(&body);
    }
}
