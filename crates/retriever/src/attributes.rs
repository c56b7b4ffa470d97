//! What documents are filtered by: attributes of the caller's choice, and what each document is. Pure.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use proto::retriever::{self as wire, value::Kind as WireKind};
use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::Error;

/// A document has at most so many attributes, …
const MOST: usize = 32;
/// … each with so many values, …
const MOST_VALUES: usize = 64;
/// … each of so many bytes.
const MOST_BYTES: usize = 256;

/// So many fields are named to whoever asks for one that is not there.
const SHOWN: usize = 30;

/// What every document has besides its attributes. An attribute cannot be called so.
const OWN: [(&str, Kind); 5] = [
    ("document_id", Kind::Text),
    ("media_type", Kind::Text),
    ("privacy", Kind::Text),
    ("source", Kind::Text),
    ("updated_at", Kind::Text),
];

/// One value of a field. Values are in one order, whatever they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Value {
    Boolean(bool),
    /// Finite.
    Number(f64),
    Text(String),
}

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Number,
    Text,
}

/// A document's attributes by name, each with at least one value, all of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Attributes(pub(crate) BTreeMap<String, Vec<Value>>);

/// The fields of a collection: [`OWN`], and the attributes that its documents ever had.
#[derive(Debug, Default)]
pub(crate) struct Known(BTreeMap<String, Kind>);

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Number => "number",
            Self::Text => "text",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Boolean, Self::Number, Self::Text].into_iter().find(|kind| kind.name() == name)
    }
}

impl Value {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Boolean(_) => Kind::Boolean,
            Self::Number(_) => Kind::Number,
            Self::Text(_) => Kind::Text,
        }
    }

    /// Reads a value.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is none, or one that is too long or not finite; it names the `place`.
    pub(crate) fn read(value: wire::Value, place: &str) -> Result<Self, Error> {
        let invalid = |what: String| Err(Error::Invalid(format!("{place}: {what}")));
        match value.kind {
            None => invalid("has no value".to_owned()),
            Some(WireKind::Boolean(value)) => Ok(Self::Boolean(value)),
            // There is one zero.
            Some(WireKind::Number(value)) if value.is_finite() => Ok(Self::Number(value + 0.0)),
            Some(WireKind::Number(value)) => invalid(format!("{value} is not a number")),
            Some(WireKind::Text(value)) if value.len() > MOST_BYTES => {
                invalid(format!("has {} bytes, at most {MOST_BYTES} are allowed", value.len()))
            }
            Some(WireKind::Text(value)) => Ok(Self::Text(value)),
        }
    }
}

impl From<Value> for wire::Value {
    fn from(value: Value) -> Self {
        let kind = match value {
            Value::Boolean(value) => WireKind::Boolean(value),
            Value::Number(value) => WireKind::Number(value),
            Value::Text(value) => WireKind::Text(value),
        };
        Self { kind: Some(kind) }
    }
}

impl Eq for Value {}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(one), Self::Boolean(other)) => one.cmp(other),
            (Self::Number(one), Self::Number(other)) => one.total_cmp(other),
            (Self::Text(one), Self::Text(other)) => one.cmp(other),
            _ => (self.kind() as u8).cmp(&(other.kind() as u8)),
        }
    }
}

impl Attributes {
    /// Reads attributes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that cannot be, too many values, or values of several kinds.
    pub(crate) fn read(
        attributes: impl IntoIterator<Item = (String, wire::Values)>,
    ) -> Result<Self, Error> {
        let mut read = BTreeMap::new();
        for (name, values) in attributes {
            let place = format!("/attributes/{name}");
            let invalid = |what: String| Error::Invalid(format!("{place}: {what}"));
            if !is_name(&name) {
                let what = "a name has 1 to 64 of a-z, 0-9 and _, and begins with a letter";
                return Err(invalid(what.to_owned()));
            }
            if OWN.iter().any(|own| own.0 == name) {
                return Err(invalid("is what every document has by itself".to_owned()));
            }
            if values.values.is_empty() || values.values.len() > MOST_VALUES {
                let is = values.values.len();
                return Err(invalid(format!("has {is} values, 1 to {MOST_VALUES} are allowed")));
            }
            let values = values.values.into_iter().map(|value| Value::read(value, &place));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            if values.iter().any(|value| value.kind() != values[0].kind()) {
                return Err(invalid("has values of several kinds".to_owned()));
            }
            read.insert(name, values);
        }
        if read.len() > MOST {
            let fault =
                format!("/attributes: there are {}, at most {MOST} are allowed", read.len());
            return Err(Error::Invalid(fault));
        }
        Ok(Self(read))
    }

    /// Returns the kind of each.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.0.iter().filter_map(|(name, values)| Some((name.as_str(), values.first()?.kind())))
    }

    /// Returns everything that a document is filtered by: its attributes, what it is by itself, and each
    /// date among them once more as a number.
    pub(crate) fn fields(&self, document: &wire::Document) -> BTreeMap<String, Vec<Value>> {
        let mut fields = self.0.clone();
        let privacy = if document.private { "private" } else { "public" };
        let updated = OffsetDateTime::from_unix_timestamp_nanos(
            i128::from(document.updated_at_ms) * 1_000_000,
        );
        let updated = updated.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default();
        let own = [
            ("document_id", document.id.clone()),
            ("media_type", document.media_type.clone()),
            ("privacy", privacy.to_owned()),
            ("source", document.source.clone()),
            ("updated_at", updated),
        ];
        fields.extend(own.map(|(name, value)| (name.to_owned(), vec![Value::Text(value)])));
        let dates: Vec<(String, Vec<Value>)> = fields
            .iter()
            .map(|(name, values)| (date_field(name), values.iter().filter_map(date).collect()))
            .filter(|(_, dates): &(_, Vec<_>)| !dates.is_empty())
            .collect();
        fields.extend(dates);
        fields
    }
}

impl Known {
    /// Adds the attributes of a collection.
    pub(crate) fn new(attributes: impl IntoIterator<Item = (String, Kind)>) -> Self {
        let own = OWN.into_iter().map(|(name, kind)| (name.to_owned(), kind));
        Self(attributes.into_iter().chain(own).collect())
    }

    /// Returns the kind of a field.
    ///
    /// # Errors
    /// [`Error::Invalid`] if no document has such a field, with those that there are.
    pub(crate) fn kind(&self, field: &str, place: &str) -> Result<Kind, Error> {
        self.0.get(field).copied().ok_or_else(|| {
            let known: Vec<_> = self.0.keys().map(String::as_str).take(SHOWN).collect();
            let known = known.join(", ");
            Error::Invalid(format!("{place}: no document has a field {field:?}; there are {known}"))
        })
    }

    /// Returns the caller's attributes among the fields.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (&str, Kind)> {
        let own = |name: &str| OWN.iter().any(|own| own.0 == name);
        self.0.iter().map(|(name, kind)| (name.as_str(), *kind)).filter(move |one| !own(one.0))
    }
}

/// Returns where the dates of a text field are: no attribute can be called so.
pub(crate) fn date_field(name: &str) -> String {
    format!("{name}@date")
}

/// Returns a date or a time as milliseconds since 1970, if the value is one: `2026-01-31` (its first moment,
/// UTC) or as of RFC 3339.
pub(crate) fn date(value: &Value) -> Option<Value> {
    let Value::Text(text) = value else { return None };
    let day = || Date::parse(text, format_description!("[year]-[month]-[day]")).ok();
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let time = time.or_else(|| Some(day()?.midnight().assume_utc()))?;
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of the years 0 to 9999 fit")]
    Some(Value::Number((time.unix_timestamp_nanos() / 1_000_000) as f64))
}

fn is_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn read(name: &str, values: Vec<Value>) -> Result<Attributes, String> {
        let values = wire::Values { values: values.into_iter().map(wire::Value::from).collect() };
        Attributes::read([(name.to_owned(), values)]).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_no_attribute_can_be_is_refused_with_its_place() {
        let long = "x".repeat(257);
        for (name, values, told) in [
            ("Year", vec![text("x")], "/attributes/Year: a name has 1 to 64"),
            ("", vec![text("x")], "/attributes/: a name has"),
            ("source", vec![text("x")], "/attributes/source: is what every document has"),
            ("year", vec![], "/attributes/year: has 0 values"),
            ("year", vec![text("x"); 65], "/attributes/year: has 65 values"),
            (
                "year",
                vec![text("x"), Value::Number(1.0)],
                "/attributes/year: has values of several",
            ),
            ("year", vec![text(&long)], "/attributes/year: has 257 bytes"),
            ("year", vec![Value::Number(f64::NAN)], "/attributes/year: NaN is not a number"),
        ] {
            let fault = read(name, values).unwrap_err();
            assert!(fault.starts_with(told), "{fault}");
        }
    }

    #[test]
    fn a_date_is_a_number_of_milliseconds_too() {
        let at = |value: &str| date(&text(value));
        assert_eq!(at("1970-01-02"), Some(Value::Number(86_400_000.0)));
        assert_eq!(at("1970-01-01T01:00:00+01:00"), Some(Value::Number(0.0)));
        assert_eq!((at("1970-01-32"), at("soon")), (None, None));
        let attributes = read("day", vec![text("1970-01-02"), text("later")]).unwrap();
        let fields = attributes.fields(&wire::Document::default());
        assert_eq!(fields["day@date"], [Value::Number(86_400_000.0)]);
        assert_eq!(fields["updated_at@date"], [Value::Number(0.0)]);
    }

    #[test]
    fn attributes_are_kept_as_json() {
        let attributes = read("year", vec![Value::Number(2024.0)]).unwrap();
        let json = serde_json::to_string(&attributes).unwrap();
        assert_eq!(json, r#"{"year":[2024.0]}"#);
        assert_eq!(serde_json::from_str::<Attributes>(&json).unwrap(), attributes);
    }
}
