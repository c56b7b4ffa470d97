//! Arguments and results against their schemas, which strangers wrote.
//!
//! A schema is refused unless what it can cost is bounded: so long, so deep, so many parts with every
//! reference written out, none to anywhere else, and regular expressions that take linear time. What
//! checking one value can cost is bounded by both: the parts of the schema times those of the value.

use std::collections::{HashMap, HashSet};

use jsonschema::{PatternOptions, Validator};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// How many levels a schema has, with references followed once.
const DEPTH: usize = 128;
/// How many parts a schema has, with references written out.
const PARTS: usize = 20_000;
/// How many times a part of a schema may be held against a part of a value.
const WORK: usize = 20_000_000;
/// The same when it is asked which part does not fit: that costs a hundred times as much.
const TELLING: usize = 200_000;
/// How many levels of a schema a check may be within at once: a thread's stack has room for three times
/// as many (measured, unoptimised).
const STACK: usize = 1_000;
/// How much a compiled regular expression may take, in bytes.
const PATTERN_BYTES: usize = 1024 * 1024;

/// A schema that is ready, and what it can cost.
pub(crate) struct Schema {
    validator: Validator,
    size: Size,
}

/// What a schema can cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    /// Its parts, with references written out until they repeat.
    parts: usize,
    /// Its levels, likewise.
    depth: usize,
    /// Whether it refers to itself.
    recursive: bool,
}

/// What does not fit a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at:?} does not fit: {reason}")]
pub(crate) struct Misfit {
    /// A JSON pointer to the fault; empty is the whole.
    pub(crate) at: String,
    /// What is wrong with it, without the value.
    pub(crate) reason: String,
}

impl Schema {
    /// Makes a schema ready, or says why it is not used. Nothing is ever fetched.
    pub(crate) fn new(schema: &Map<String, Value>) -> Result<Self, String> {
        let root = Value::Object(schema.clone());
        let size =
            Measure { root: &root, known: HashMap::new(), open: HashSet::new() }.of_root()?;
        let options =
            jsonschema::options().offline().should_validate_formats(false).with_pattern_options(
                PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_BYTES),
            );
        let validator = options.build(&root).map_err(|fault| {
            format!("{} at {:?}", fault.masked(), fault.instance_path().as_str())
        })?;
        Ok(Self { validator, size })
    }

    /// Checks a value.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Misfit> {
        let whole = |reason: &str| Misfit { at: String::new(), reason: reason.to_owned() };
        let (parts, depth) = extent(value);
        let work = self.size.parts.saturating_mul(parts);
        let levels = if self.size.recursive { depth + 1 } else { 1 };
        if work > WORK || self.size.depth.saturating_mul(levels) > STACK {
            return Err(whole("it is too large or too deep for its schema to be checked"));
        }
        if self.validator.is_valid(value) {
            return Ok(());
        }
        if self.size.recursive || work > TELLING {
            return Err(whole("it is not what the schema says"));
        }
        match self.validator.validate(value) {
            Ok(()) => Ok(()),
            Err(fault) => Err(Misfit {
                at: fault.instance_path().as_str().to_owned(),
                reason: fault.masked().to_string(),
            }),
        }
    }
}

/// Returns how many parts a value has, and how many levels.
fn extent(value: &Value) -> (usize, usize) {
    let sum = |(parts, depth), item: &Value| {
        let (more, below) = extent(item);
        (parts + more, usize::max(depth, below + 1))
    };
    match value {
        Value::Array(items) => items.iter().fold((1, 1), sum),
        Value::Object(fields) => fields.values().fold((1, 1), sum),
        _ => (1, 1),
    }
}

/// Follows a schema and its references before anything else reads it. Every object is taken for a
/// schema, also those that are data: that measures too much, never too little.
struct Measure<'a> {
    root: &'a Value,
    known: HashMap<*const Value, Size>,
    open: HashSet<*const Value>,
}

impl<'a> Measure<'a> {
    fn of_root(mut self) -> Result<Size, String> {
        let root = self.root;
        // Older revisions have references of other kinds.
        let known = ["draft-06/", "draft-07/", "draft/2019-09/", "draft/2020-12/"];
        match root.get("$schema") {
            None => {}
            Some(Value::String(said)) if known.iter().any(|known| said.contains(known)) => {}
            Some(said) => return Err(format!("$schema {} is not known", shortened(said))),
        }
        self.of(root, 1)
    }

    /// Measures a schema and what is below it, and follows its references.
    fn of(&mut self, value: &'a Value, level: usize) -> Result<Size, String> {
        if level > DEPTH {
            return Err(format!("it has more than {DEPTH} levels"));
        }
        if let Some(known) = self.known.get(&std::ptr::from_ref(value)) {
            return Ok(*known);
        }
        if !self.open.insert(std::ptr::from_ref(value)) {
            return Ok(Size { parts: 1, depth: 1, recursive: true });
        }
        let mut size = Size { parts: 1, depth: 1, recursive: false };
        match value {
            Value::Object(fields) => {
                for (keyword, item) in fields {
                    self.add(&mut size, item, level)?;
                    if let Some(target) = self.target(keyword, item, level)? {
                        self.add(&mut size, target, level)?;
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.add(&mut size, item, level)?;
                }
            }
            _ => {}
        }
        self.open.remove(&std::ptr::from_ref(value));
        // What was cut short because it is under way further up is measured again elsewhere.
        if !size.recursive {
            self.known.insert(std::ptr::from_ref(value), size);
        }
        Ok(size)
    }

    fn add(&mut self, size: &mut Size, item: &'a Value, level: usize) -> Result<(), String> {
        let below = self.of(item, level + 1)?;
        size.parts += below.parts;
        size.depth = size.depth.max(below.depth + 1);
        size.recursive |= below.recursive;
        match size.parts > PARTS {
            true => Err(format!("it has more than {PARTS} parts, with references written out")),
            false => Ok(()),
        }
    }

    /// Returns what a reference names, which is a part of the same schema.
    fn target(
        &self,
        keyword: &str,
        value: &'a Value,
        level: usize,
    ) -> Result<Option<&'a Value>, String> {
        let told = || shortened(value);
        match keyword {
            "$ref" => {}
            // It would change what references below it are relative to.
            "$id" if level > 1 && value.is_string() => {
                return Err(format!("$id {} stands within another schema", told()));
            }
            "$dynamicRef" | "$recursiveRef" => return Err(format!("{keyword} is not taken")),
            _ => return Ok(None),
        }
        let Value::String(reference) = value else { return Ok(None) };
        let Some(pointer) = reference.strip_prefix('#') else {
            return Err(format!("$ref leads elsewhere, to {}", told()));
        };
        let pointer = percent_decode_str(pointer).decode_utf8_lossy();
        let target = self.root.pointer(&pointer);
        target.map(Some).ok_or_else(|| format!("$ref leads nowhere: {}", told()))
    }
}

/// Returns the beginning of a value, for a message.
fn shortened(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    fn schema(value: Value) -> Result<Schema, String> {
        Schema::new(value.as_object().unwrap())
    }

    fn refused(value: Value) -> String {
        schema(value).err().unwrap()
    }

    #[test]
    fn a_misfit_is_told_with_a_pointer_and_without_the_value() {
        let schema = schema(json!({
            "type": "object",
            "properties": { "a": { "type": "array", "items": { "$ref": "#/$defs/one%20two" } } },
            "required": ["a"],
            "$defs": { "one two": { "enum": ["x"] } },
        }));
        let schema = schema.unwrap();
        assert_eq!(schema.check(&json!({ "a": ["x"] })), Ok(()));
        let misfit = schema.check(&json!({ "a": ["x", "secret"] })).unwrap_err();
        assert_eq!(misfit.at, "/a/1");
        assert!(!misfit.to_string().contains("secret") && misfit.reason.contains("x"), "{misfit}");
        let misfit = schema.check(&json!({})).unwrap_err();
        assert!(misfit.at.is_empty() && misfit.reason.contains("\"a\""), "{misfit}");
    }

    #[test]
    fn a_remote_reference_is_never_fetched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}/schema.json", listener.local_addr().unwrap());
        for schema in [
            json!({ "type": "object", "properties": { "a": { "$ref": url } } }),
            json!({ "type": "object", "$ref": url }),
            json!({ "type": "object", "$dynamicRef": url }),
            json!({ "type": "object", "$id": url, "$ref": "other.json" }),
            json!({ "type": "object", "properties": { "a": { "$id": url, "$ref": "#/x" } } }),
            json!({ "type": "object", "$schema": url }),
            json!({ "type": "object", "$ref": "file:///etc/passwd" }),
        ] {
            let told = refused(schema.clone());
            assert!(!told.is_empty(), "{schema}");
        }
        let accepted = listener.accept().map(|_| ());
        assert_eq!(accepted.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_regular_expression_takes_linear_time_and_bounded_space() {
        let pattern =
            |pattern: &str| schema(json!({ "properties": { "a": { "pattern": pattern } } }));
        // Backtracking, it would take longer than the universe has been there.
        let bomb = pattern("^(a+)+$").unwrap();
        assert!(bomb.check(&json!({ "a": format!("{}!", "a".repeat(10_000)) })).is_err());
        for heavy in ["((a{1,1000}){1,1000}){1,1000}", "(?=a)b", r"(a)\1"] {
            assert!(pattern(heavy).is_err(), "{heavy}");
        }
    }

    #[test]
    fn a_deeply_nested_schema_is_refused() {
        let nested = |levels: usize| {
            (0..levels).fold(json!({}), |below, _| json!({ "properties": { "a": below } }))
        };
        assert!(schema(nested(60)).is_ok());
        assert_eq!(refused(nested(70)), "it has more than 128 levels");
        // Each level is a reference to the next.
        let chain = |length: usize| {
            let defs = (0..length).map(|at| {
                let next = format!("#/$defs/{}", (at + 1).min(length - 1));
                (at.to_string(), json!({ "allOf": [{ "$ref": next }] }))
            });
            json!({ "$ref": "#/$defs/0", "$defs": defs.collect::<Map<_, _>>() })
        };
        assert!(schema(chain(20)).is_ok());
        assert_eq!(refused(chain(200)), "it has more than 128 levels");
    }

    #[test]
    fn a_schema_that_doubles_with_each_reference_is_refused() {
        let doubling = |levels: usize| {
            let mut defs: Map<String, Value> = (0..levels)
                .map(|at| {
                    let next = json!({ "$ref": format!("#/$defs/{}", at + 1) });
                    (at.to_string(), json!({ "anyOf": [next, next] }))
                })
                .collect();
            defs.insert(levels.to_string(), json!({ "type": "number" }));
            json!({ "$ref": "#/$defs/0", "$defs": defs })
        };
        assert!(schema(doubling(6)).unwrap().check(&json!("x")).is_err());
        assert!(refused(doubling(30)).contains("20000 parts"));
    }

    #[test]
    fn a_schema_that_refers_to_itself_is_checked_within_bounds() {
        let node = json!({ "$ref": "#/$defs/node" });
        let branching = schema(json!({ "$ref": "#/$defs/node", "$defs": { "node": { "anyOf": [
            { "properties": { "a": node }, "required": ["y"] },
            { "properties": { "a": node }, "required": ["z"] },
        ] } } }))
        .unwrap();
        let deep = |levels: usize| {
            (0..levels).fold(json!({}), |below, _| json!({ "a": below, "y": 1, "z": 1 }))
        };
        // Every branch at every level: 2^60 without a memory.
        let misfit = branching.check(&deep(60)).unwrap_err();
        assert_eq!(misfit.reason, "it is not what the schema says");
        // So deep that a thread's stack would not do.
        let tall = (0..20)
            .fold(json!({ "properties": { "a": node } }), |below, _| json!({ "not": below }));
        let tall = schema(json!({ "$ref": "#/$defs/node", "$defs": { "node": tall } })).unwrap();
        assert_eq!(tall.check(&deep(20)), Ok(()));
        let misfit = tall.check(&deep(60)).unwrap_err();
        assert!(misfit.reason.contains("too deep"), "{misfit}");
        let itself = schema(json!({ "$defs": { "a": { "allOf": [{ "$ref": "#/$defs/a" }] } },
            "properties": { "a": { "$ref": "#/$defs/a" } } }));
        assert!(itself.unwrap().check(&json!({ "a": 1 })).is_ok());
    }

    #[test]
    fn what_is_too_large_for_its_schema_is_not_checked() {
        let names = (0..1000).map(|at| json!({ "const": at })).collect::<Vec<_>>();
        let schema =
            schema(json!({ "properties": { "a": { "items": { "anyOf": names } } } })).unwrap();
        let many = |count: usize| json!({ "a": (0..count).map(|_| 0).collect::<Vec<_>>() });
        assert_eq!(schema.check(&many(100)), Ok(()));
        let misfit = schema.check(&many(20_000)).unwrap_err();
        assert!(misfit.reason.contains("too large"), "{misfit}");
    }

    #[test]
    fn what_is_no_schema_or_of_an_unknown_revision_is_refused() {
        for (wrong, told) in [
            (json!({ "type": "objekt" }), "/type"),
            (json!({ "$schema": "http://json-schema.org/draft-04/schema#" }), "not known"),
            (json!({ "$ref": "#/nowhere" }), "nowhere"),
            (json!({ "$ref": "#anchor" }), "nowhere"),
            (json!({ "$recursiveRef": "#" }), "not taken"),
        ] {
            let fault = refused(wrong.clone());
            assert!(fault.contains(told), "{wrong}: {fault}");
        }
    }
}
