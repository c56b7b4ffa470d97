//! From text to the terms that are indexed. Pure.

use std::collections::HashSet;
use std::sync::LazyLock;

use rust_stemmers::{Algorithm, Stemmer};

/// Words that say nothing about what a text is about, question words among them.
static STOP: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "a about above after again against all also am an and any are as at be because been before being \
     below between both but by can cannot could did do does doing done down during each either else \
     ever every few for from further get gets give given go goes had has have having he her here hers \
     herself him himself his how i if in into is it its itself just let like made make makes many may \
     me might more most much must my myself neither no nor not now of off often on once one only or \
     other our ours ourselves out over own please said same say says shall she should since so some \
     such tell than that the their theirs them themselves then there these they this those through to \
     too under until up upon us use used uses using very want was way we were what whatever when where \
     whether which while who whom whose why will with within without would yes yet you your yours \
     yourself yourselves"
        .split_whitespace()
        .collect()
});

/// Returns the terms of `text` in order: lower-case stems, stop words left out. A name such as
/// `DiffExecutor` or `read_file` is one term whole and one for each part.
pub(crate) fn terms(text: &str) -> Vec<String> {
    let stemmer = Stemmer::create(Algorithm::English);
    let mut terms = Vec::new();
    let mut push = |word: &str| {
        let word = word.to_lowercase();
        if !STOP.contains(word.as_str()) {
            terms.push(stemmer.stem(&word).into_owned());
        }
    };
    for word in text.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
        let word = word.trim_matches('_');
        if word.is_empty() {
            continue;
        }
        let parts = parts(word);
        if parts.len() > 1 {
            push(&word.replace('_', ""));
        }
        parts.into_iter().for_each(&mut push);
    }
    terms
}

/// Cuts an identifier at `_`, from lower to upper case, and before the last of several capitals.
fn parts(word: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for piece in word.split('_').filter(|piece| !piece.is_empty()) {
        let chars: Vec<(usize, char)> = piece.char_indices().collect();
        let mut start = 0;
        for window in 1..chars.len() {
            let (at, c) = chars[window];
            let before = chars[window - 1].1;
            let next_is_lower = chars.get(window + 1).is_some_and(|next| next.1.is_lowercase());
            let rises = !before.is_uppercase() && c.is_uppercase();
            let ends_capitals = before.is_uppercase() && c.is_uppercase() && next_is_lower;
            if rises || ends_capitals {
                parts.push(&piece[start..at]);
                start = at;
            }
        }
        parts.push(&piece[start..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_stems_without_stop_words() {
        let cases: [(&str, &[&str]); 5] = [
            ("How do I roll back a release?", &["roll", "back", "releas"]),
            ("DiffExecutor", &["diffexecutor", "diff", "executor"]),
            ("read_file HTTPServer", &["readfil", "read", "file", "httpserver", "http", "server"]),
            ("Größe: 10 µm", &["größe", "10", "µm"]),
            ("", &[]),
        ];
        for (text, wanted) in cases {
            assert_eq!(terms(text), wanted, "{text}");
        }
    }
}
