//! How large a request is: the most tokens that it can have, and the text that is counted to guess how
//! many it has. Pure.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};

use crate::media::{self, Data, ELSEWHERE, Media};
use crate::tokens::{Text, most};

/// What stands around every message, tool or part, at most.
const AROUND: u64 = 4;

/// What providers say besides to a model that has tools, at most:
/// <https://docs.anthropic.com/en/docs/agents-and-tools/tool-use/overview#pricing> (read November 2026).
const TOOLS: u64 = 800;

/// What any conversation begins with.
const BEGINNING: u64 = 16;

/// About how many tokens a picture has, and a file: rather fewer than more.
const ABOUT: (u64, u64) = (800, 2_000);

/// The size of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// The most tokens that its texts and files can have.
    most: u64,
    /// The bytes of its texts.
    bytes: u64,
    /// How many pictures it has, seen as they are and at low detail.
    images: (u64, u64),
    /// How many files it has, and how many of them stand elsewhere.
    files: (u64, u64),
    /// Something of it is to be cached for an hour, which costs more than a few minutes.
    pub(crate) for_an_hour: bool,
}

impl Size {
    /// Measures a conversation.
    pub(crate) fn of(fields: &Map<String, Value>) -> Self {
        let mut size = Self { most: BEGINNING, ..Self::default() };
        size.fields(fields, None);
        if fields.contains_key("tools") {
            size.most = size.most.saturating_add(TOOLS);
        }
        size
    }

    /// Measures a part of one.
    pub(crate) fn of_value(value: &Value) -> Self {
        let mut size = Self::default();
        size.value(value, None);
        size
    }

    /// Measures what is to be embedded: texts, or tokens by their numbers.
    pub(crate) fn of_inputs(input: &Value) -> Self {
        let mut size = Self::default();
        match input {
            Value::Array(inputs) => {
                let inputs = inputs.iter().map(Self::of_inputs);
                inputs.fold(size, |all, one| Self {
                    most: all.most.saturating_add(one.most),
                    bytes: all.bytes.saturating_add(one.bytes),
                    ..all
                })
            }
            Value::String(text) => {
                size.text(text);
                // What a model puts around it.
                size.most = size.most.saturating_add(AROUND);
                size
            }
            _ => Self { most: 1, bytes: 4, ..size },
        }
    }

    /// Returns the most tokens that a model makes of it.
    pub(crate) fn most(&self, model: &str) -> u64 {
        let images = [(self.images.0, false), (self.images.1, true)];
        let images =
            images.map(|(count, low)| count.saturating_mul(media::image_tokens(model, low)));
        let elsewhere = self.files.1.saturating_mul(ELSEWHERE);
        images.into_iter().fold(self.most, u64::saturating_add).saturating_add(elsewhere)
    }

    /// Guesses how many tokens it has: one has about four bytes.
    pub(crate) fn guess(&self) -> u64 {
        self.bytes.div_ceil(4).saturating_add(self.besides())
    }

    /// Returns about how many tokens it has that are no text.
    pub(crate) fn besides(&self) -> u64 {
        let images = self.images.0.saturating_add(self.images.1).saturating_mul(ABOUT.0);
        images.saturating_add(self.files.0.saturating_mul(ABOUT.1))
    }

    fn text(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len() as u64);
        self.most = self.most.saturating_add(most::tokens(text));
    }

    /// Measures everything but the data that was measured otherwise.
    fn value(&mut self, value: &Value, but: Option<&str>) {
        match value {
            Value::String(text) if but.is_some_and(|but| std::ptr::eq(but, text.as_str())) => {}
            Value::String(text) => self.text(text),
            Value::Array(list) => list.iter().for_each(|one| self.value(one, but)),
            Value::Object(fields) => {
                self.most = self.most.saturating_add(AROUND);
                match Media::of(value) {
                    None => self.fields(fields, but),
                    Some(media) => self.part(media, value, fields),
                }
            }
            Value::Number(number) => {
                let mut length = Length(0);
                // It never fails.
                let _ = write!(length, "{number}");
                self.most = self.most.saturating_add(length.0);
                self.bytes = self.bytes.saturating_add(length.0);
            }
            Value::Bool(_) | Value::Null => self.most = self.most.saturating_add(1),
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>, but: Option<&str>) {
        for (name, value) in fields {
            self.text(name);
            self.for_an_hour |= name == "cache_control" && value["ttl"] == "1h";
            self.value(value, but);
        }
    }

    fn part(&mut self, media: Media, part: &Value, fields: &Map<String, Value>) {
        let data = Data::of(part);
        match (media, data) {
            (Media::Image { low: true }, _) => self.images.1 += 1,
            (Media::Image { low: false }, _) => self.images.0 += 1,
            (Media::File, Data::Told) => {}
            (Media::File, Data::Here(data)) => {
                self.files.0 += 1;
                // No page and no second has more tokens than bytes.
                self.most = self.most.saturating_add(data.len() as u64);
            }
            (Media::File, Data::Elsewhere) => self.files = (self.files.0 + 1, self.files.1 + 1),
        }
        let data = if let Data::Here(data) = data { Some(data) } else { None };
        self.fields(fields, data);
    }
}

/// Counts the bytes that are written to it.
struct Length(u64);

impl fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0 += text.len() as u64;
        Ok(())
    }
}

/// What is not read as text, where it is said beside text.
const NO_TEXT: [&str; 7] =
    ["cache_control", "id", "role", "signature", "tool_call_id", "tool_use_id", "type"];

/// Where a request says what a model reads.
const READ: [&str; 7] =
    ["system", "messages", "tools", "functions", "response_format", "output_config", "input"];

/// Returns what a model reads of a conversation as text, to be counted, and about how many tokens stand
/// around it.
pub(crate) fn text(fields: &Map<String, Value>) -> (Text, u64) {
    let (mut text, mut around) = (Text::default(), 0);
    for field in READ.iter().filter_map(|name| fields.get(*name)) {
        read(field, &mut text, &mut around);
    }
    (text, around)
}

fn read(value: &Value, text: &mut Text, around: &mut u64) {
    match value {
        Value::String(said) => {
            text.push(said);
            // Two texts are no word together.
            text.push("\n");
        }
        Value::Array(list) => list.iter().for_each(|one| read(one, text, around)),
        Value::Object(fields) => {
            if fields.contains_key("role") {
                *around += AROUND;
            }
            let data = match Media::of(value).map(|_| Data::of(value)) {
                Some(Data::Here(data)) => Some(data),
                Some(Data::Told | Data::Elsewhere) | None => None,
            };
            for (name, value) in fields {
                let is_data = data.is_some_and(|data| holds(value, data));
                match name.as_str() {
                    // How a call of a tool is told.
                    "input" | "input_schema" | "parameters" | "schema" => {
                        text.push(&value.to_string());
                    }
                    name if NO_TEXT.contains(&name) || is_data => {}
                    _ => read(value, text, around),
                }
            }
        }
        // What is to be embedded may be tokens by their numbers.
        Value::Number(_) => *around += 1,
        Value::Bool(_) | Value::Null => {}
    }
}

/// Tells whether a value is this text itself, or has it as a field.
fn holds(value: &Value, text: &str) -> bool {
    let is_it = |value: &Value| value.as_str().is_some_and(|one| std::ptr::eq(one, text));
    is_it(value) || value.as_object().is_some_and(|fields| fields.values().any(is_it))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(part: Value) -> Size {
        let body = json!({ "messages": [{ "role": "user", "content": [part] }] });
        Size::of(body.as_object().unwrap())
    }

    #[test]
    fn a_picture_counts_by_its_model_and_a_file_by_what_is_known_of_it() {
        let data = format!("data:image/png;base64,{}", "A".repeat(3_000_000));
        let png = json!({ "type": "image_url", "image_url": { "url": data } });
        assert!((5_000..5_200).contains(&of(png.clone()).most("gpt-4o")));
        assert!((48_169..48_300).contains(&of(png.clone()).most("gpt-4o-mini")));
        let low = json!({ "type": "image_url", "image_url": { "url": data, "detail": "low" } });
        assert!((2_833..3_000).contains(&of(low).most("gpt-4o-mini")));
        let shown = json!({ "type": "tool_result", "tool_use_id": "t", "content": [png] });
        assert!((5_000..5_200).contains(&of(shown).most("gpt-4o")));
        assert!(of(json!({ "type": "text", "text": "hello" })).most("gpt-4o") < 60);
        let here = json!({ "type": "file", "file": { "file_data": "QUJD/".repeat(6_000) } });
        assert!((30_000..30_100).contains(&of(here).most("m")));
    }

    #[test]
    fn what_stands_elsewhere_is_long_whatever_is_said_of_it() {
        let title = "a title ".repeat(1_000);
        for far in [
            json!({ "type": "document", "source": { "type": "url", "url": "https://a/b" } }),
            json!({ "type": "document", "title": title,
                "source": { "type": "url", "url": "https://a/b" } }),
            json!({ "type": "file", "file": { "file_id": "f", "filename": title } }),
            json!({ "type": "input_file", "file_url": "https://a/b", "filename": title }),
        ] {
            assert!(of(far.clone()).most("m") >= ELSEWHERE, "{far}");
        }
        let text = json!({ "type": "document", "source": { "type": "text", "data": "hello" } });
        let parts = json!({ "type": "document",
            "source": { "type": "content", "content": [{ "type": "text", "text": "hello" }] } });
        assert!(of(text).most("m") < 100 && of(parts).most("m") < 100);
    }

    #[test]
    fn what_is_embedded_is_counted_as_texts_or_tokens() {
        assert_eq!(Size::of_inputs(&json!([1, 2, 100_000])).most("m"), 3);
        assert_eq!(Size::of_inputs(&json!([[1, 2], [3]])).most("m"), 3);
        let texts = Size::of_inputs(&json!(["\u{1}\u{1}", "zq"]));
        assert_eq!(texts.most("m"), 4 + 2 * AROUND);
    }

    #[test]
    fn odd_texts_are_held_by_their_bytes() {
        let said = |text: String| of(json!({ "type": "text", "text": text })).most("m");
        let base64 = "aGVsbG8gd29ybGQ".repeat(1_000);
        assert!(said(base64) >= 15_000, "a third would be 5000, and it has about 9000");
        assert!(said("\u{1}".repeat(3_000)) >= 3_000);
        assert!(said("hello world, ".repeat(1_000)) < 6_000);
    }

    #[test]
    fn an_hour_in_the_cache_is_seen() {
        let part = |ttl| {
            json!({ "type": "text", "text": "x",
            "cache_control": { "type": "ephemeral", "ttl": ttl } })
        };
        assert!(of(part("1h")).for_an_hour && !of(part("5m")).for_an_hour);
    }

    #[test]
    fn what_is_read_is_text_and_how_calls_are_told() {
        let body = json!({
            "model": "m", "system": [{ "type": "text", "text": "S" }],
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "Q" },
                    { "type": "image", "source": { "type": "base64", "data": "AAAA" } } ] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "toolu_1", "name": "look", "input": { "at": 1 } } ] },
            ],
        });
        let (text, around) = text(body.as_object().unwrap());
        let mut wanted = Text::default();
        wanted.push("S\nQ\nlook\n{\"at\":1}");
        assert_eq!((text, around), (wanted, 2 * AROUND));
    }
}
