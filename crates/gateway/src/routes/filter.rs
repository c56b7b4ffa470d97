//! Filters and attributes as JSON. A filter has the shape of OpenAI's vector stores, and `not`.

use std::collections::HashMap;

use proto::retriever::filter::Kind;
use proto::retriever::value::Kind as ValueKind;
use proto::retriever::{self as wire, Condition, Filter, Filters, Operator, Values};
use serde_json::{Map, Value, json};

use crate::Error;

/// So deep a filter is read; the retriever allows less.
const DEEPEST: usize = 32;

/// Reads a filter, where there is one, which stands at `place`, such as `/filter`.
///
/// # Errors
/// If it has another shape, with the place of what is wrong.
pub(crate) fn read(filter: Option<&Value>, place: &str) -> Result<Option<Filter>, Error> {
    filter.filter(|filter| !filter.is_null()).map(|filter| part(filter, place, 1)).transpose()
}

fn part(filter: &Value, at: &str, depth: usize) -> Result<Filter, Error> {
    let Value::Object(filter) = filter else { return Err(fault(at, "is not an object")) };
    if depth > DEEPEST {
        return Err(fault(at, "is too deep"));
    }
    let kind = match filter.get("type").and_then(Value::as_str) {
        Some(all_or_any @ ("and" | "or")) => {
            only(filter, &["type", "filters"], at)?;
            let Some(Value::Array(parts)) = filter.get("filters") else {
                return Err(fault(&format!("{at}/filters"), "is not a list"));
            };
            let parts = parts.iter().zip(0..);
            let parts =
                parts.map(|(one, number)| part(one, &format!("{at}/filters/{number}"), depth + 1));
            let filters = Filters { filters: parts.collect::<Result<_, _>>()? };
            if all_or_any == "and" { Kind::All(filters) } else { Kind::Any(filters) }
        }
        Some("not") => {
            only(filter, &["type", "filter"], at)?;
            let inner = filter.get("filter").unwrap_or(&Value::Null);
            Kind::Not(Box::new(part(inner, &format!("{at}/filter"), depth + 1)?))
        }
        Some(operator) => condition(filter, operator, at)?,
        None => return Err(fault(&format!("{at}/type"), "is not a text")),
    };
    Ok(Filter { kind: Some(kind) })
}

fn condition(filter: &Map<String, Value>, operator: &str, at: &str) -> Result<Kind, Error> {
    let (operator, is_not) = match operator {
        "eq" | "in" => (Operator::In, false),
        "ne" | "nin" => (Operator::In, true),
        "gt" => (Operator::Greater, false),
        "gte" => (Operator::GreaterOrEqual, false),
        "lt" => (Operator::Less, false),
        "lte" => (Operator::LessOrEqual, false),
        other => {
            let known = "and, or, not, eq, ne, in, nin, gt, gte, lt, lte";
            return Err(fault(&format!("{at}/type"), &format!("{other:?} is none of {known}")));
        }
    };
    only(filter, &["type", "key", "value"], at)?;
    let Some(Value::String(field)) = filter.get("key") else {
        return Err(fault(&format!("{at}/key"), "is not a text"));
    };
    let place = format!("{at}/value");
    let values = match filter.get("value") {
        Some(Value::Array(values)) => values.iter().map(|one| value(one, &place)).collect(),
        Some(one) => value(one, &place).map(|value| vec![value]),
        None => Err(fault(&place, "is missing")),
    }?;
    let condition =
        Kind::Condition(Condition { field: field.clone(), operator: operator.into(), values });
    match is_not {
        true => Ok(Kind::Not(Box::new(Filter { kind: Some(condition) }))),
        false => Ok(condition),
    }
}

/// Reads one value; `place` is named when it is none.
///
/// # Errors
/// For null, a list or an object.
pub(crate) fn value(value: &Value, place: &str) -> Result<wire::Value, Error> {
    let kind = match value {
        Value::Bool(value) => ValueKind::Boolean(*value),
        Value::Number(value) => ValueKind::Number(value.as_f64().unwrap_or(f64::NAN)),
        Value::String(value) => ValueKind::Text(value.clone()),
        _ => return Err(fault(place, "is not a text, a number, true or false")),
    };
    Ok(wire::Value { kind: Some(kind) })
}

/// Returns attributes as the API shows them: one value by itself, several as a list.
pub(crate) fn shown(attributes: &HashMap<String, Values>) -> Value {
    let mut names: Vec<&String> = attributes.keys().collect();
    names.sort();
    let shown = names.into_iter().map(|name| {
        let mut values: Vec<Value> = attributes[name].values.iter().map(shown_value).collect();
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        (name.clone(), value)
    });
    Value::Object(shown.collect())
}

/// Returns one value as JSON; a whole number has no point.
pub(crate) fn shown_value(value: &wire::Value) -> Value {
    match &value.kind {
        Some(ValueKind::Boolean(value)) => json!(value),
        #[allow(clippy::cast_possible_truncation, reason = "it is whole, and small enough")]
        Some(ValueKind::Number(value)) if value.fract() == 0.0 && value.abs() < 9e15 => {
            json!(*value as i64)
        }
        Some(ValueKind::Number(value)) => json!(value),
        Some(ValueKind::Text(value)) => json!(value),
        None => Value::Null,
    }
}

/// Checks that nothing else is there.
fn only(filter: &Map<String, Value>, known: &[&str], at: &str) -> Result<(), Error> {
    match filter.keys().find(|key| !known.contains(&key.as_str())) {
        Some(other) => Err(fault(&format!("{at}/{other}"), "is not known here")),
        None => Ok(()),
    }
}

fn fault(at: &str, what: &str) -> Error {
    Error::invalid(format!("{at}: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (filter, told) in [
            (json!([]), "/filter: is not an object"),
            (json!({ "key": "a" }), "/filter/type: is not a text"),
            (
                json!({ "type": "like", "key": "a", "value": 1 }),
                "/filter/type: \"like\" is none of",
            ),
            (json!({ "type": "eq", "value": 1 }), "/filter/key: is not a text"),
            (json!({ "type": "eq", "key": "a" }), "/filter/value: is missing"),
            (json!({ "type": "in", "key": "a", "value": [null] }), "/filter/value: is not a text"),
            (json!({ "type": "eq", "key": "a", "value": 1, "x": 1 }), "/filter/x: is not known"),
            (json!({ "type": "and" }), "/filter/filters: is not a list"),
            (
                json!({ "type": "or", "filters": [{ "type": "not", "filter": 1 }] }),
                "/filter/filters/0/filter: is not an object",
            ),
        ] {
            let fault = read(Some(&filter), "/filter").unwrap_err().to_string();
            assert!(fault.starts_with(told), "{fault}");
        }
        let deep = (0..40).fold(json!(1), |inner, _| json!({ "type": "not", "filter": inner }));
        assert!(read(Some(&deep), "/filter").unwrap_err().to_string().ends_with("is too deep"));
    }

    #[test]
    fn a_filter_says_the_same_on_the_wire() {
        let one = json!({ "type": "ne", "key": "year", "value": 2024 });
        let condition = Condition {
            field: "year".to_owned(),
            operator: Operator::In.into(),
            values: vec![wire::Value { kind: Some(ValueKind::Number(2024.0)) }],
        };
        let inner = Filter { kind: Some(Kind::Condition(condition)) };
        let expected = Filter { kind: Some(Kind::Not(Box::new(inner))) };
        assert_eq!(read(Some(&one), "/filter").unwrap(), Some(expected));
        assert_eq!(
            (read(None, "/filter").unwrap(), read(Some(&Value::Null), "/filter").unwrap()),
            (None, None)
        );
    }
}
