//! What makes two calls the same. Pure.

use proto::router::{Dialect, Grounding};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use types::CallContext;

/// Names a kept answer: a hash of everything that it depends on.
pub(crate) type Key = [u8; 32];

/// What no answer depends on, besides `stream`: whether it comes whole is the form's to say.
const NAMES_OF_CLIENTS: [&str; 2] = ["metadata", "user"];

/// Hashes all of a call but its form: whose it is, whether it is private, who may serve it, its whole
/// body in its dialect, and the passages that it is answered from.
///
/// The passages' texts stand for the version of the corpus: another version that found the same ones
/// has the same answer.
pub(super) fn scope<'a>(
    context: &CallContext,
    dialect: Dialect,
    body: &Map<String, Value>,
    groundings: &[Grounding],
    candidates: impl Iterator<Item = (&'a str, &'a str)>,
) -> Sha256 {
    let mut hash = Sha256::new();
    text(&mut hash, context.tenant.as_str());
    text(&mut hash, context.privacy.as_str());
    text(&mut hash, dialect.as_str_name());
    for (provider, model) in candidates {
        text(&mut hash, provider);
        text(&mut hash, model);
    }
    count(&mut hash, groundings.len());
    for grounding in groundings {
        text(&mut hash, &grounding.passage_id);
        text(&mut hash, &grounding.text);
        count(&mut hash, grounding.headings.len());
        grounding.headings.iter().for_each(|heading| text(&mut hash, heading));
    }
    // A response of Responses says what its request said.
    let all = dialect == Dialect::Responses;
    let counts = |name: &str| name != "stream" && (all || !NAMES_OF_CLIENTS.contains(&name));
    object(&mut hash, body.iter().filter(|(name, _)| counts(name)));
    hash
}

/// Hashes JSON so that neither white space nor the order of names matters.
fn value(hash: &mut Sha256, json: &Value) {
    match json {
        Value::Null => hash.update(b"0"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Number(number) => {
            hash.update(b"n");
            text(hash, &number.to_string());
        }
        Value::String(string) => {
            hash.update(b"s");
            text(hash, string);
        }
        Value::Array(list) => {
            hash.update(b"a");
            count(hash, list.len());
            list.iter().for_each(|one| value(hash, one));
        }
        Value::Object(fields) => object(hash, fields.iter()),
    }
}

fn object<'a>(hash: &mut Sha256, fields: impl Iterator<Item = (&'a String, &'a Value)>) {
    let mut fields: Vec<_> = fields.collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    hash.update(b"o");
    count(hash, fields.len());
    for (name, one) in fields {
        text(hash, name);
        value(hash, one);
    }
}

/// Hashes a text behind its length, so that no two lists of texts are hashed alike.
fn text(hash: &mut Sha256, text: &str) {
    count(hash, text.len());
    hash.update(text.as_bytes());
}

fn count(hash: &mut Sha256, count: usize) {
    hash.update((count as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use types::{Privacy, TenantId, UserId};

    use super::*;

    fn context(tenant: &str, user: &str, privacy: Privacy) -> CallContext {
        let tenant = TenantId::new(tenant).unwrap();
        CallContext { privacy, ..CallContext::new(tenant, UserId::new(user).unwrap()) }
    }

    fn key(
        context: &CallContext,
        body: &str,
        dialect: Dialect,
        passages: &[&str],
        model: &str,
    ) -> Key {
        let grounding =
            |text: &&str| Grounding { text: (*text).to_owned(), ..Grounding::default() };
        let groundings: Vec<_> = passages.iter().map(grounding).collect();
        let body: Map<String, Value> = serde_json::from_str(body).unwrap();
        scope(context, dialect, &body, &groundings, std::iter::once(("p", model))).finalize().into()
    }

    const BODY: &str = r#"{"model":"m","messages":[{"role":"user","content":"q"}],"seed":1}"#;

    #[test]
    fn calls_that_differ_in_nothing_that_matters_are_the_same() {
        let (one, other) = (context("t", "u", Privacy::Public), context("t", "v", Privacy::Public));
        let same = [
            r#"{ "seed": 1, "messages": [{"content": "q", "role": "user"}], "model": "m" }"#,
            r#"{"model":"m","messages":[{"role":"user","content":"q"}],"seed":1,"user":"x"}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"q"}],"seed":1,"stream":false,"metadata":{"a":"b"}}"#,
        ];
        let chat = Dialect::ChatCompletions;
        for body in same {
            let (first, second) =
                (key(&one, BODY, chat, &[], "m"), key(&other, body, chat, &[], "m"));
            assert_eq!(first, second, "{body}");
        }
    }

    #[test]
    fn whatever_an_answer_depends_on_tells_calls_apart() {
        let public = context("t", "u", Privacy::Public);
        let chat = Dialect::ChatCompletions;
        let with = |field: &str, value: Value| {
            let mut body: Value = serde_json::from_str(BODY).unwrap();
            body[field] = value;
            key(&public, &body.to_string(), chat, &[], "m")
        };
        let keys = [
            key(&public, BODY, chat, &[], "m"),
            key(&context("t2", "u", Privacy::Public), BODY, chat, &[], "m"),
            key(&context("t", "u", Privacy::Private), BODY, chat, &[], "m"),
            key(&public, BODY, Dialect::Messages, &[], "m"),
            key(&public, BODY, Dialect::Responses, &[], "m"),
            key(&public, BODY, chat, &[], "m2"),
            key(&public, BODY, chat, &["a passage"], "m"),
            key(&public, BODY, chat, &["a passage, changed"], "m"),
            key(&public, BODY, chat, &["a", " passage"], "m"),
            with("model", json!("n")),
            with("seed", json!(2)),
            with("seed", json!("1")),
            with("temperature", json!(0)),
            with("stream_options", json!({ "include_usage": true })),
            with("tools", json!([{ "type": "function" }])),
            with("messages", json!([{ "role": "user", "content": "Q" }])),
            with("messages", json!([{ "role": "system", "content": "q" }])),
            with("messages", json!([{ "role": "user", "content": ["q"] }])),
        ];
        let apart: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(apart.len(), keys.len());
    }

    #[test]
    fn what_an_answer_of_responses_repeats_counts() {
        let public = context("t", "u", Privacy::Public);
        let body = |user: &str| format!(r#"{{"model":"m","input":"q","user":"{user}"}}"#);
        let [one, other] =
            ["a", "b"].map(|user| key(&public, &body(user), Dialect::Responses, &[], "m"));
        assert_ne!(one, other);
    }
}
