//! Finding a text whose lines may end elsewhere.

use std::ops::Range;

/// Returns which bytes of `text` say `wanted`, whatever white space is between its words; none when no bytes do, or
/// nothing is wanted.
#[must_use]
pub fn find_loosely(text: &str, wanted: &str) -> Option<Range<usize>> {
    let mut words = wanted.split_whitespace();
    let first = words.next()?;
    let rest: Vec<&str> = words.collect();
    text.match_indices(first).find_map(|(start, _)| {
        let mut end = start + first.len();
        for word in &rest {
            let after = text[end..].trim_start();
            // Where there is none, none may be between them.
            if after.len() == text[end..].len() || !after.starts_with(word) {
                return None;
            }
            end = text.len() - after.len() + word.len();
        }
        Some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_wherever_lines_end() {
        let text = "ab a\n  b, abc";
        assert_eq!(find_loosely(text, "a b,"), Some(3..9));
        assert_eq!(find_loosely(text, "  b,\nabc "), Some(7..13));
        for wanted in ["", " ", "ab, abc", "a c", "abcd", "b a b, abc d"] {
            assert_eq!(find_loosely(text, wanted), None, "{wanted:?}");
        }
    }
}
