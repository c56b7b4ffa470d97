//! What counts in a chunk that passes through as it is, read without making values of the rest. Pure.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::providers::{Fault, complaint};
use crate::tokens::Text;
use crate::usage::{self, Usage};

/// What a chunk says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) usage: Option<Usage>,
    /// What it writes, see [`usage::written`].
    pub(super) written: Text,
    /// How many choices end with it.
    pub(super) ends: u64,
    pub(super) has_choices: bool,
}

impl Said {
    /// Reads a chunk of a chat completion as it came.
    ///
    /// # Errors
    /// [`Fault::Provider`] if it is an error, [`Fault::Broken`] if it is no JSON.
    pub(super) fn read(chunk: &[u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(chunk).unwrap_or_default();
        match serde_json::from_str::<Plain<'_>>(text) {
            Ok(Plain { error: None, usage: None, object, choices }) if object != Some("error") => {
                let Choices { count, written, ends } = choices;
                Ok(Self { usage: None, written, ends, has_choices: count > 0 })
            }
            // It is an error, says what was used, or has another form: looked at as a whole.
            Ok(_) | Err(_) => Ok(Self::of(&read(chunk)?)),
        }
    }

    /// Reads a chunk as chat completions say it.
    pub(super) fn of(chat: &Value) -> Self {
        let has_choices = chat["choices"].as_array().is_some_and(|choices| !choices.is_empty());
        let (written, ends) = (usage::written(chat), usage::ends(chat));
        Self { usage: Usage::of(chat), written, ends, has_choices }
    }
}

/// Reads a chunk, which may be an error.
///
/// # Errors
/// [`Fault::Provider`] if it is, [`Fault::Broken`] if it is no JSON.
pub(super) fn read(chunk: &[u8]) -> Result<Value, Fault> {
    let value: Value = serde_json::from_slice(chunk)
        .map_err(|fault| Fault::unheard(format!("a chunk is not JSON: {fault}")))?;
    let failed = value.get("error").is_some_and(|error| !error.is_null());
    if failed || value.get("object").is_some_and(|kind| kind == "error") {
        return Err(Fault::Provider(complaint(&value).unwrap_or("an error").to_owned()));
    }
    Ok(value)
}

#[derive(Deserialize)]
struct Plain<'a> {
    error: Option<IgnoredAny>,
    usage: Option<IgnoredAny>,
    #[serde(borrow)]
    object: Option<&'a str>,
    #[serde(default)]
    choices: Choices,
}

#[derive(Default)]
struct Choices {
    count: usize,
    written: Text,
    ends: u64,
}

impl<'de> Deserialize<'de> for Choices {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Choices;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("choices")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Choices, A::Error> {
                let mut choices = Choices::default();
                while let Some(choice) = list.next_element::<Choice>()? {
                    choices.count += 1;
                    choices.written.append(&choice.delta.0);
                    choices.written.append(&choice.message.0);
                    choices.ends += u64::from(choice.finish_reason.is_some());
                }
                Ok(choices)
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Written,
    #[serde(default)]
    message: Written,
    finish_reason: Option<IgnoredAny>,
}

/// What is written, as [`usage::written`] has it.
#[derive(Default)]
struct Written(Text);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self::default())
    }
}

impl<'de> Visitor<'de> for Written {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(mut self, text: &str) -> Result<Self, E> {
        self.0.push(text);
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<Self, A::Error> {
        while let Some(Self(text)) = list.next_element()? {
            self.0.append(&text);
        }
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<Self, A::Error> {
        while let Some(name) = fields.next_key::<Name>()? {
            match name.counts {
                true => self.0.append(&fields.next_value::<Self>()?.0),
                false => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(self)
    }
}

/// Whether what is called so is written.
struct Name {
    counts: bool,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name { counts: usage::is_written(name) })
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_sees_what_a_whole_look_sees() {
        for chunk in [
            r#"{"choices":[{"delta":{"content":"four"},"finish_reason":null}],"usage":null}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"},{"message":{"content":"hm"}}]}"#,
            r#"{"choices":[{"delta":{"content":"\u00e9\n","reasoning_content":"hm"}},{"delta":{}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"x","type":"function","function":{"name":"add","arguments":"{}"}}],"role":"assistant"}}]}"#,
            r#"{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":0,"completion_tokens":0},"error":null}"#,
            r#"{"choices":null,"usage":{"prompt_tokens":-1}}"#,
            r#"{"choices":[1,null,{"delta":"text","delta":"twice"}],"x":{"error":1}}"#,
            r#"{"choices":[{"delta":{"n":[1,-1,1.5,true,"ab"]}}]}"#,
            "[]",
            "{}",
            "7",
        ] {
            let whole = Said::of(&read(chunk.as_bytes()).unwrap());
            assert_eq!(Said::read(chunk.as_bytes()).unwrap(), whole, "{chunk}");
        }
        for broken in [
            &b"{"[..],
            b"{\"choices\":[\"\xff\"]}",
            br#"{"error":{"message":"no"}}"#,
            br#"{"object":"error"}"#,
        ] {
            let told = Said::read(broken).unwrap_err().to_string();
            assert_eq!(told, read(broken).unwrap_err().to_string());
        }
    }
}
