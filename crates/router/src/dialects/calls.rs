//! The calls of tools in a stream of chat completions, told apart. Pure.

use serde_json::{Map, Value};

use super::{Fields, Refused};

/// More calls than any model makes at once: the pieces of others are taken for the last one's.
const MOST: usize = 1024;

/// The calls of one answer so far.
#[derive(Debug, Default)]
pub(crate) struct Calls(Vec<Call>);

#[derive(Debug)]
struct Call {
    index: Option<u64>,
    id: Option<String>,
    arguments: String,
    /// They have changed since they were looked at.
    is_new: bool,
    closed: bool,
}

/// Where a piece of a call belongs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It begins this one.
    New(usize),
    /// It goes on with this one.
    Known(usize),
}

impl Calls {
    /// Takes a piece and tells whose it is.
    ///
    /// OpenAI numbers calls and names each once. Others number none, or each with zero, or say the
    /// id with every piece: another id is another call, and a piece that tells nothing belongs to the
    /// last.
    pub(crate) fn take(&mut self, piece: &Value) -> Place {
        let index = piece["index"].as_u64();
        let id = piece["id"].as_str().filter(|id| !id.is_empty());
        let begins =
            id.is_some() || piece["function"]["name"].as_str().is_some_and(|n| !n.is_empty());
        let same_id = |call: &Call| id.is_none() || call.id.is_none() || call.id.as_deref() == id;
        let known = match index {
            Some(_) => self.0.iter().rposition(|call| call.index == index && same_id(call)),
            None if begins && id.is_none() => None,
            None if begins => self.0.iter().rposition(|call| call.id.as_deref() == id),
            None => self.0.len().checked_sub(1),
        };
        let known = known.or_else(|| (self.0.len() >= MOST).then_some(MOST - 1));
        let place = known.map_or(Place::New(self.0.len()), Place::Known);
        if let Place::New(_) = place {
            let id = id.map(str::to_owned);
            self.0.push(Call { index, id, arguments: String::new(), is_new: false, closed: false });
        }
        place
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds to a call's arguments; tells whether it still takes any.
    pub(crate) fn add(&mut self, place: usize, arguments: &str) -> bool {
        let call = self.0.get_mut(place).filter(|call| !call.closed);
        call.is_some_and(|call| {
            call.arguments.push_str(arguments);
            call.is_new = true;
            true
        })
    }

    /// Closes the calls whose arguments are whole, or all of them, and returns their places: pieces
    /// of several may come in turn.
    pub(crate) fn close(&mut self, all: bool) -> Vec<usize> {
        let mut closed = Vec::new();
        for (place, call) in self.0.iter_mut().enumerate().filter(|(_, call)| !call.closed) {
            let is_new = std::mem::take(&mut call.is_new);
            if all || (is_new && is_whole(&call.arguments)) {
                call.closed = true;
                closed.push(place);
            }
        }
        closed
    }
}

fn is_whole(arguments: &str) -> bool {
    // Cheap first: an object that is not closed is not whole.
    arguments.trim_end().ends_with('}')
        && serde_json::from_str::<serde::de::IgnoredAny>(arguments).is_ok()
}

/// Reads a call that a request repeats: its id, its function's name, and its arguments.
///
/// # Errors
/// A JSON pointer below `at`.
pub(crate) fn made<'a>(at: &str, call: &'a Value) -> Result<(&'a str, &'a str, Value), Refused> {
    let mut fields = Fields::of(at.to_owned(), call)?;
    if fields.take("type").is_some_and(|kind| kind != "function") {
        return Err(format!("{at}/type: only a function's call has a translation"));
    }
    let id = fields.text("id")?;
    let function = fields.take("function").unwrap_or(&Value::Null);
    let mut function = Fields::of(format!("{at}/function"), function)?;
    let name = function.text("name")?;
    let arguments = match function.take("arguments") {
        None => "",
        Some(arguments) => arguments
            .as_str()
            .ok_or_else(|| format!("{at}/function/arguments: a string is required"))?,
    };
    let arguments: Value = match arguments.trim() {
        "" => Value::Object(Map::new()),
        text => serde_json::from_str(text)
            .map_err(|fault| format!("{at}/function/arguments: not JSON: {fault}"))?,
    };
    match arguments {
        Value::Object(_) => Ok((id, name, arguments)),
        _ => Err(format!("{at}/function/arguments: an object is required")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_told_apart_by_what_there_is() {
        let places = |pieces: &[Value]| {
            let mut calls = Calls::default();
            let places = pieces.iter().map(|piece| match calls.take(piece) {
                Place::New(place) | Place::Known(place) => place,
            });
            places.collect::<Vec<_>>()
        };
        let piece = |index: Option<u64>, id: &str| json!({ "index": index, "id": id });
        let named = |name: &str| json!({ "function": { "name": name } });
        for (pieces, wanted) in [
            // OpenAI, also with pieces in turn.
            (
                [piece(Some(0), "a"), piece(Some(1), "b"), piece(Some(0), ""), piece(Some(1), "")],
                [0, 1, 0, 1],
            ),
            // No numbers.
            ([piece(None, "a"), piece(None, ""), piece(None, "b"), piece(None, "a")], [0, 0, 1, 0]),
            // One number for all.
            (
                [piece(Some(0), "a"), piece(Some(0), ""), piece(Some(0), "b"), piece(Some(0), "")],
                [0, 0, 1, 1],
            ),
            // Neither numbers nor ids.
            ([named("f"), json!({}), named("f"), json!({})], [0, 0, 1, 1]),
        ] {
            assert_eq!(places(&pieces), wanted, "{pieces:?}");
        }
    }

    #[test]
    fn a_call_is_closed_when_it_is_whole() {
        let mut calls = Calls::default();
        for id in ["a", "b"] {
            calls.take(&json!({ "id": id }));
        }
        assert!(calls.add(0, "{\"a\":") && calls.add(1, "{}"));
        assert_eq!(calls.close(false), [1]);
        assert!(!calls.add(1, "{}") && calls.add(0, "1}"));
        assert_eq!(calls.close(true), [0]);
    }
}
