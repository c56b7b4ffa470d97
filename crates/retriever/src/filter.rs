//! Which documents a search looks at: a value that is read once and never changed. Pure.

use proto::retriever::{self as wire, Operator, filter::Kind as WireKind};

use crate::Error;
use crate::attributes::{self, Kind, Known, Value};

/// A filter is at most so deep, …
const DEEPEST: usize = 8;
/// … and has at most so many parts and values in all.
const MOST: usize = 256;

/// What has to hold of a document. A field with several values meets a condition when one of them does; a
/// document without the field meets none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    /// The field has one of these values.
    In {
        field: String,
        values: Vec<Value>,
    },
    /// The field has a number between these.
    Between {
        field: String,
        low: Option<End>,
        high: Option<End>,
    },
}

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct End {
    pub(crate) at: f64,
    /// Whether what is exactly there is in it.
    pub(crate) within: bool,
}

impl Filter {
    /// Reads a filter over the fields that are known.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the place of what is wrong: an unknown field or operator, a value of another kind than
    /// the field's, a part without parts, too deep or too much.
    pub(crate) fn read(filter: wire::Filter, known: &Known) -> Result<Self, Error> {
        Reader { known, left: MOST }.filter(filter, "/filter", 1)
    }
}

struct Reader<'a> {
    known: &'a Known,
    left: usize,
}

impl Reader<'_> {
    fn filter(&mut self, filter: wire::Filter, at: &str, depth: usize) -> Result<Filter, Error> {
        let invalid = |what: String| Err(Error::Invalid(format!("{at}: {what}")));
        if depth > DEEPEST {
            return invalid(format!("a filter is at most {DEEPEST} deep"));
        }
        self.take(1, at)?;
        let mut parts = |parts: wire::Filters| {
            if parts.filters.is_empty() {
                return Err(Error::Invalid(format!("{at}/filters: is empty")));
            }
            let read = parts.filters.into_iter().enumerate().map(|(number, part)| {
                self.filter(part, &format!("{at}/filters/{number}"), depth + 1)
            });
            read.collect::<Result<Vec<_>, _>>()
        };
        match filter.kind {
            Some(WireKind::All(all)) => parts(all).map(Filter::All),
            Some(WireKind::Any(any)) => parts(any).map(Filter::Any),
            Some(WireKind::Not(not)) => {
                let part = self.filter(*not, &format!("{at}/filter"), depth + 1)?;
                Ok(Filter::Not(Box::new(part)))
            }
            Some(WireKind::Condition(condition)) => self.condition(condition, at),
            None => invalid("says nothing".to_owned()),
        }
    }

    fn condition(&mut self, condition: wire::Condition, at: &str) -> Result<Filter, Error> {
        let invalid = |what: String| Err(Error::Invalid(format!("{at}/value: {what}")));
        let operator = condition.operator();
        let field = condition.field;
        let kind = self.known.kind(&field, &format!("{at}/key"))?;
        self.take(condition.values.len(), at)?;
        let place = format!("{at}/value");
        let values = condition.values.into_iter().map(|value| Value::read(value, &place));
        let values = values.collect::<Result<Vec<_>, _>>()?;
        if let Some(other) = values.iter().find(|value| value.kind() != kind) {
            let (is, kind) = (other.kind().name(), kind.name());
            return invalid(format!("is a {is}, and {field:?} is a {kind}"));
        }
        if operator == Operator::In {
            return match values.is_empty() {
                true => invalid("is empty".to_owned()),
                false => Ok(Filter::In { field, values }),
            };
        }
        let [value] = &values[..] else { return invalid("must be one value".to_owned()) };
        let (field, value) = match kind {
            Kind::Number => (field, Some(value.clone())),
            Kind::Text => (attributes::date_field(&field), attributes::date(value)),
            Kind::Boolean => (field, None),
        };
        let Some(Value::Number(number)) = value else {
            let what = "only numbers and dates (2026-01-31, or with a time as of RFC 3339) are more or less";
            return invalid(what.to_owned());
        };
        let end = |within| Some(End { at: number, within });
        let (low, high) = match operator {
            Operator::Greater => (end(false), None),
            Operator::GreaterOrEqual => (end(true), None),
            Operator::Less => (None, end(false)),
            Operator::LessOrEqual => (None, end(true)),
            Operator::In | Operator::Unspecified => {
                return Err(Error::Invalid(format!("{at}/type: is no operator")));
            }
        };
        Ok(Filter::Between { field, low, high })
    }

    fn take(&mut self, count: usize, at: &str) -> Result<(), Error> {
        self.left = self.left.checked_sub(count).ok_or_else(|| {
            Error::Invalid(format!("{at}: a filter has at most {MOST} parts and values"))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::tests::text;

    fn condition(field: &str, operator: Operator, values: Vec<Value>) -> wire::Filter {
        let values = values.into_iter().map(wire::Value::from).collect();
        let operator = operator.into();
        let condition = wire::Condition { field: field.to_owned(), operator, values };
        wire::Filter { kind: Some(WireKind::Condition(condition)) }
    }

    fn all(filters: Vec<wire::Filter>) -> wire::Filter {
        wire::Filter { kind: Some(WireKind::All(wire::Filters { filters })) }
    }

    fn read(filter: wire::Filter) -> Result<Filter, String> {
        let known = Known::new([
            ("year".to_owned(), Kind::Number),
            ("day".to_owned(), Kind::Text),
            ("open".to_owned(), Kind::Boolean),
        ]);
        Filter::read(filter, &known).map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        use Operator::{Greater, In, Unspecified};
        let year = |values| condition("year", In, values);
        let (good, many) = (year(vec![Value::Number(1.0)]), vec![Value::Number(1.0); 300]);
        let mut deep = good.clone();
        for _ in 0..8 {
            deep = all(vec![deep]);
        }
        for (filter, told) in [
            (
                condition("yaer", In, vec![text("x")]),
                "/filter/key: no document has a field \"yaer\"",
            ),
            (
                all(vec![good.clone(), year(vec![text("x")])]),
                "/filter/filters/1/value: is a text, and",
            ),
            (year(vec![]), "/filter/value: is empty"),
            (year(many), "/filter: a filter has at most 256"),
            (condition("open", Greater, vec![Value::Boolean(true)]), "/filter/value: only numbers"),
            (
                condition("day", Greater, vec![text("soon")]),
                "/filter/value: only numbers and dates",
            ),
            (condition("day", Greater, vec![]), "/filter/value: must be one value"),
            (
                condition("year", Unspecified, vec![Value::Number(1.0)]),
                "/filter/type: is no operator",
            ),
            (all(vec![]), "/filter/filters: is empty"),
            (wire::Filter::default(), "/filter: says nothing"),
            (deep, "/filter/filters/0/filters/0"),
        ] {
            let fault = read(filter).unwrap_err();
            assert!(fault.starts_with(told), "{fault}");
        }
        assert!(read(good).is_ok());
    }

    #[test]
    fn a_date_is_compared_as_a_moment() {
        let filter = condition("day", Operator::Less, vec![text("1970-01-02")]);
        let high = Some(End { at: 86_400_000.0, within: false });
        let expected = Filter::Between { field: "day@date".to_owned(), low: None, high };
        assert_eq!(read(filter).unwrap(), expected);
    }
}
