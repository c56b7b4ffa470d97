//! JSON, cut at its objects, and tables, cut at their rows. Pure.

use std::borrow::Borrow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::cuts::Cuts;
use super::{LONGEST_HEADING, Parsed, paragraphs};
use crate::chunk::{MOST, words};

/// How deep values are looked into.
const DEEPEST: usize = 16;

/// Parses JSON, or as plain text what only calls itself so. An entry of an object stands below its
/// name; one that is long is cut at its own. The stored text is the file itself.
pub(super) fn json(text: &str) -> Parsed {
    let Ok(value) = serde_json::from_str::<&RawValue>(text) else { return paragraphs(text) };
    let mut cuts = Cuts::default();
    entries(text, value.get(), &mut Vec::new(), &mut cuts);
    cuts.apply(text)
}

/// Parses a value a line.
pub(super) fn json_lines(text: &str) -> Parsed {
    let mut cuts = Cuts::default();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        cuts.begin(at, &[]);
        at += line.len();
    }
    cuts.apply(text)
}

/// Begins a block at each entry of `value`, which is a part of `text`.
fn entries(text: &str, value: &str, path: &mut Vec<String>, cuts: &mut Cuts) {
    let list: Vec<(Option<String>, &RawValue)> = match value.as_bytes().first() {
        Some(b'{') => {
            let Ok(fields) = serde_json::from_str::<Fields<'_>>(value) else { return };
            fields.0.into_iter().map(|(name, value)| (Some(name), value)).collect()
        }
        Some(b'[') => {
            let list = serde_json::from_str::<Vec<&RawValue>>(value).unwrap_or_default();
            list.into_iter().map(|value| (None, value)).collect()
        }
        _ => return,
    };
    // Behind the bracket that opens it; then behind the comma after each.
    let mut begin = place(text, value) + 1;
    for (name, value) in list {
        let depth = path.len();
        path.extend(name);
        cuts.begin(begin, path);
        if words(value.get()) > MOST && path.len() < DEEPEST {
            entries(text, value.get(), path, cuts);
            // What closes it is its own.
            cuts.begin(place(text, value.get()) + value.get().len() - 1, path);
        }
        path.truncate(depth);
        let end = place(text, value.get()) + value.get().len();
        let rest = text[end..].trim_start();
        begin = if rest.starts_with(',') { text.len() - rest.len() + 1 } else { end };
    }
}

/// Returns where `part`, which was borrowed of `text`, stands in it.
fn place(text: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize).min(text.len())
}

/// An object's fields in their order, also those of the same name.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Fields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry::<String, &'de RawValue>()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// Parses a table with a row a record, below the names of its columns, which its first row has.
pub(super) fn table(text: &str) -> Parsed {
    let first = text.lines().next().unwrap_or_default();
    let counts: HashMap<char, usize> =
        [',', ';', '\t'].map(|mark| (mark, first.matches(mark).count())).into();
    let mark = [',', ';', '\t'].into_iter().max_by_key(|mark| (counts[mark], *mark == ','));
    let mut rows = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(mark.unwrap_or(',') as u8)
        .from_reader(text.as_bytes());
    let (mut cuts, mut heading) = (Cuts::default(), Vec::new());
    let mut row = csv::ByteRecord::new();
    loop {
        let at = usize::try_from(rows.position().byte()).unwrap_or(usize::MAX);
        if !matches!(rows.read_byte_record(&mut row), Ok(true)) {
            break;
        }
        if text.is_char_boundary(at) {
            cuts.begin(at, &heading);
        }
        if heading.is_empty() {
            let names: Vec<_> = row.iter().map(String::from_utf8_lossy).collect();
            heading.push(column_names(&names));
        }
    }
    cuts.apply(text)
}

/// Returns the heading that the names of a table's columns make.
pub(super) fn column_names<S: Borrow<str>>(names: &[S]) -> String {
    let names = names.join(", ");
    names[..names.floor_char_boundary(LONGEST_HEADING)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(parsed: &Parsed) -> Vec<(String, &str)> {
        let block = |block: &crate::parse::Block| {
            (block.headings.join(" > "), &parsed.text[block.range.clone()])
        };
        parsed.blocks.iter().map(block).collect()
    }

    fn named<'a>(path: &str, text: &'a str) -> (String, &'a str) {
        (path.to_owned(), text)
    }

    #[test]
    fn an_entry_stands_below_its_name() {
        let parsed = json("{\"a\": 1,\n \"b\": [2, {\"c\": 3}]\n}");
        assert_eq!(
            shown(&parsed),
            [named("", "{"), named("a", "\"a\": 1,"), named("b", "\"b\": [2, {\"c\": 3}]\n}")]
        );
        assert_eq!(parsed.blocks[2].lines, (2, 3));
        assert_eq!(shown(&json("[{\"a\":1},\n{\"b\":2}]")).len(), 3);
        assert_eq!(shown(&json("not json")), [named("", "not json")]);
        assert_eq!(shown(&json("7")), [named("", "7")]);
    }

    #[test]
    fn a_long_entry_is_cut_at_its_own() {
        let long = "word ".repeat(200);
        let text = format!("{{\"all\": {{\"x\": \"{long}\", \"y\": \"{long}\"}}, \"z\": 1}}");
        let parsed = json(&text);
        let paths: Vec<_> = parsed.blocks.iter().map(|block| block.headings.join(">")).collect();
        assert_eq!(paths, ["", "all", "all>x", "all>y", "all", "z"]);
        let mut end = 0;
        for block in &parsed.blocks {
            assert!(parsed.text[end..block.range.start].trim().is_empty());
            end = block.range.end;
        }
        assert_eq!(end, text.len());
    }

    #[test]
    fn a_row_stands_below_the_names_of_its_columns() {
        for mark in [",", ";", "\t"] {
            let text = "name,note\nann,\"two\nlines\"\nbob,x\n".replace(',', mark);
            let parsed = table(&text);
            let row = text[10..text.len() - 7].trim_end();
            assert_eq!(
                shown(&parsed),
                [
                    named("", &format!("name{mark}note")),
                    named("name, note", row),
                    named("name, note", &format!("bob{mark}x"))
                ]
            );
            assert_eq!(parsed.blocks[1].lines, (2, 3));
        }
        assert!(table("").blocks.is_empty());
        assert_eq!(table("a,\"never closed\nx").blocks.len(), 1);
    }

    #[test]
    fn a_line_is_a_value() {
        assert_eq!(shown(&json_lines("{\"a\":1}\n\n{\"b\":2}\n")).len(), 2);
    }
}
