//! JSON written in one way only, to be hashed and compared.

use std::fmt::{self, Write as _};

use ring::digest::{SHA256, digest};
use serde_json::{Number, Value};

/// A SHA-256, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Returns the hash of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 32];
        let digit = |byte: u8| char::from(byte).to_digit(16).filter(|_| !byte.is_ascii_uppercase());
        if text.len() != 64 {
            return Err(());
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let (high, low) = (digit(pair[0]).ok_or(())?, digit(pair[1]).ok_or(())?);
            *byte = u8::try_from(high * 16 + low).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

/// Writes JSON as [RFC 8785](https://www.rfc-editor.org/rfc/rfc8785) (June 2020) does: no spaces, keys
/// in the order of their UTF-16, strings with the fewest escapes. Numbers differ: whole ones keep all
/// of their digits, where the RFC has every number be a double, and two definitions whose bounds
/// differ beyond 2^53 would have one hash.
pub(crate) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

fn write(out: &mut String, value: &Value) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => write_number(out, number),
        // Escapes as the RFC does.
        Value::String(_) => out.push_str(&value.to_string()),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write(out, item);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (at, (name, item)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(name.as_str()).to_string());
                out.push(':');
                write(out, item);
            }
            out.push('}');
        }
    }
}

/// Beyond it not every whole number is a double.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn write_number(out: &mut String, number: &Number) {
    // Writing into a String cannot fail.
    let _ = match (number.as_i128(), number.as_f64()) {
        (Some(whole), _) => write!(out, "{whole}"),
        (None, Some(float)) if float.fract() == 0.0 && float.abs() < EXACT => {
            write!(out, "{}", float + 0.0)
        }
        (None, Some(float)) => write!(out, "{float:e}"),
        (None, None) => write!(out, "{number}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_is_written_in_one_way() {
        for (text, wanted) in [
            (r#"{ "b": 1, "a": [true, null], "A": {} }"#, r#"{"A":{},"a":[true,null],"b":1}"#),
            (r#"["é", "é", "\n\u0001\/\"\\"]"#, r#"["é","é","\n\u0001/\"\\"]"#),
            ("[1, 1.0, 1e0, 0.5, 5e-1, -0.0, 0]", "[1,1,1,5e-1,5e-1,0,0]"),
            ("[9007199254740993, 9007199254740992]", "[9007199254740993,9007199254740992]"),
            (
                "[18446744073709551615, -9223372036854775808]",
                "[18446744073709551615,-9223372036854775808]",
            ),
            ("[1e21, 1E21, 1000000000000000000000.0]", "[1e21,1e21,1e21]"),
            // A pair of surrogates comes before what is above them by code point alone.
            (r#"{ "\uFB33": 1, "\uD83D\uDE00": 2 }"#, "{\"\u{1f600}\":2,\"\u{fb33}\":1}"),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(canonical(&value), wanted, "{text}");
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written_and_in_no_other_way() {
        let digest = Digest::of("x");
        let text = digest.to_string();
        assert_eq!(text.parse(), Ok(digest));
        for other in [&text[..63], &text.to_uppercase(), &text.replace('2', "g"), ""] {
            assert!(other.parse::<Digest>().is_err(), "{other}");
        }
    }
}
