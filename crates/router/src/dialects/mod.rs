//! Dialects of model APIs, translated to and from OpenAI's chat completions. Pure.
//!
//! Chat completions are the middle: a dialect is a few files of functions, and meets no other dialect.
//! What the middle has no word for travels under the dialect's own name (`thinking_blocks`,
//! `extra_content`, `cache_control`, `top_k`), or is refused. Left out are labels and hints that change no answer
//! (`metadata`, a message's `name`, a picture's `detail`, where to cache), what only the model that
//! made it can read (`annotations`, another's thoughts), and options that say what is so anyway.
//!
//! `tests/golden` holds what providers and clients send, and what becomes of it.

pub(crate) mod anthropic;
pub(crate) mod calls;
pub(crate) mod gemini;
pub(crate) mod plain;
pub(crate) mod render;
pub(crate) mod responses;
pub(crate) mod said;
pub(crate) mod thought;
pub(crate) mod whole;

use serde_json::{Map, Value};

/// Takes the fields of an object one by one, so that what is left over is known.
pub(crate) struct Fields<'a> {
    at: String,
    fields: &'a Map<String, Value>,
    taken: Vec<&'static str>,
}

/// A fault in a request: a JSON pointer and what is wrong there.
pub(crate) type Refused = String;

impl<'a> Fields<'a> {
    pub(crate) fn of(at: String, value: &'a Value) -> Result<Self, Refused> {
        match value {
            Value::Object(fields) => Ok(Self { at, fields, taken: Vec::new() }),
            _ => Err(format!("{at}: an object is required")),
        }
    }

    /// Returns a field, unless it is missing or null.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<&'a Value> {
        self.taken.push(name);
        self.fields.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<&'a str, Refused> {
        let fault = format!("{}/{name}: a string is required", self.at);
        self.take(name).and_then(Value::as_str).ok_or(fault)
    }

    pub(crate) fn list(&mut self, name: &'static str) -> Result<&'a [Value], Refused> {
        match self.take(name) {
            None => Ok(&[]),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(format!("{}/{name}: a list is required", self.at)),
        }
    }

    /// Takes what ends an answer, one or many, as a list.
    pub(crate) fn stops(&mut self) -> Result<Option<Value>, Refused> {
        match self.take("stop") {
            None => Ok(None),
            Some(stop @ Value::String(_)) => Ok(Some(Value::Array(vec![stop.clone()]))),
            Some(Value::Array(stops)) if stops.iter().all(Value::is_string) => {
                Ok(Some(stops.clone().into()))
            }
            Some(_) => Err("/stop: a string or a list of strings is required".to_owned()),
        }
    }

    /// Takes what changes no answer.
    pub(crate) fn labels(&mut self) {
        for label in
            ["metadata", "store", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"]
        {
            self.take(label);
        }
    }

    /// Refuses every field that was not taken, if it says anything.
    pub(crate) fn done(self, dialect: &str) -> Result<(), Refused> {
        let mut left = self.fields.iter().filter(|(name, value)| {
            !self.taken.contains(&name.as_str()) && !says_nothing(name, value)
        });
        match left.next() {
            None => Ok(()),
            Some((name, _)) => Err(format!(
                "{}/{}: cannot be told to a provider that speaks {dialect}",
                self.at,
                name.replace('~', "~0").replace('/', "~1"),
            )),
        }
    }
}

/// Tells whether an option says what is so without it.
fn says_nothing(name: &str, value: &Value) -> bool {
    let is_default = match name {
        "presence_penalty" | "frequency_penalty" | "top_logprobs" => value.as_f64() == Some(0.0),
        "logit_bias" => value.as_object().is_some_and(Map::is_empty),
        "functions" => value.as_array().is_some_and(Vec::is_empty),
        "modalities" => value.as_array().is_some_and(|all| all.iter().all(|one| one == "text")),
        "service_tier" => value == "auto" || value == "default",
        "verbosity" => value == "medium",
        _ => false,
    };
    is_default || matches!(value, Value::Null | Value::Bool(false))
}
