//! From text to the terms that are indexed. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use rust_stemmers::{Algorithm, Stemmer};
use rustc_hash::FxHashSet;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Words that say nothing about what a text is about, question words among them.
static STOP: LazyLock<FxHashSet<&str>> = LazyLock::new(|| {
    "a about above after again against all also am an and any are as at be because been before being \
     below between both but by can cannot could did do does doing done down during each either else \
     ever every few for from further get gets give given go goes had has have having he her here hers \
     herself him himself his how i if in into is it its itself just let like made make makes many may \
     me might more most much must my myself neither no nor not now of off often on once one only or \
     other our ours ourselves out over own please said same say says shall she should since so some \
     such tell than that the their theirs them themselves then there these they this those through to \
     too under until up upon us use used uses using very want was way we were what whatever when \
     whenever where wherever whether which whichever while who whoever whom whose why will with within \
     without would yes yet you your yours yourself yourselves ought"
        .split_whitespace()
        .collect()
});

/// Calls `found` with each term of `text` in order: folded stems, stop words left out. A name such as
/// `DiffExecutor` or `read_file` is one term whole and one for each part. Writing without spaces
/// (Chinese, Japanese) gives every pair of neighbouring characters.
pub fn each_term(text: &str, mut found: impl FnMut(&str)) {
    let stemmer = Stemmer::create(Algorithm::English);
    for word in words(text) {
        each_of(word, &stemmer, &mut found);
    }
}

/// Returns the terms of a text in order, as [`each_term`] finds them.
#[must_use]
pub fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    each_term(text, |term| terms.push(term.to_owned()));
    terms
}

/// Numbers terms by when they were first read, from 0. For reading much: a word that comes again, as most do, is
/// neither cut nor stemmed again.
#[derive(Debug, Default)]
pub struct Reader {
    /// What was read, as it stands there: where its terms are in `read`.
    words: HashMap<Box<str>, Range<usize>, RandomState>,
    read: Vec<u32>,
    terms: HashMap<Box<str>, u32, RandomState>,
}

impl Reader {
    /// Returns the terms of a text in order, those that [`each_term`] finds.
    pub fn read(&mut self, text: &str) -> Vec<u32> {
        let stemmer = Stemmer::create(Algorithm::English);
        let mut numbers = Vec::new();
        for word in words(text) {
            if let Some(range) = self.words.get(word) {
                numbers.extend_from_slice(&self.read[range.clone()]);
                continue;
            }
            let first = self.read.len();
            each_of(word, &stemmer, &mut |term| {
                let next = self.terms.len() as u32;
                self.read.push(*self.terms.entry(term.into()).or_insert(next));
            });
            self.words.insert(word.into(), first..self.read.len());
            numbers.extend_from_slice(&self.read[first..]);
        }
        numbers
    }

    /// Returns every term that was read, in the order of their numbers.
    #[must_use]
    pub fn into_terms(self) -> Vec<Box<str>> {
        let mut terms: Vec<(Box<str>, u32)> = self.terms.into_iter().collect();
        terms.sort_unstable_by_key(|(_, number)| *number);
        terms.into_iter().map(|(term, _)| term).collect()
    }
}

/// Returns what stands between what is no letter and no digit.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let between = |c: char| !(c.is_alphanumeric() || c == '_' || is_combining_mark(c));
    text.split(between).map(|word| word.trim_matches('_')).filter(|word| !word.is_empty())
}

/// Calls `found` with each term of a word: of a name also those of its parts.
fn each_of(word: &str, stemmer: &Stemmer, found: &mut impl FnMut(&str)) {
    let mut push = |word: &str| {
        let word = fold(word);
        if !word.is_empty() && !STOP.contains(word.as_ref()) {
            found(&stemmer.stem(&word));
        }
    };
    if !word.is_ascii() && word.chars().any(is_unspaced) {
        unspaced(word, &mut push);
        return;
    }
    let mut parts = parts(word);
    match (parts.next(), parts.next()) {
        (Some(only), None) => push(only),
        (Some(first), Some(second)) => {
            push(&word.replace('_', ""));
            push(first);
            push(second);
            parts.for_each(&mut push);
        }
        _ => {}
    }
}

/// Returns a word without case, accents and forms that only look different (NFKD).
fn fold(word: &str) -> Cow<'_, str> {
    if word.is_ascii() {
        return match word.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(word.to_ascii_lowercase()),
            false => Cow::Borrowed(word),
        };
    }
    let plain = word.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase);
    Cow::Owned(plain.collect::<String>().replace('ß', "ss"))
}

/// Cuts an identifier at `_`, from lower to upper case, and before the last of several capitals.
fn parts(word: &str) -> impl Iterator<Item = &str> {
    word.split('_').filter(|piece| !piece.is_empty()).flat_map(|piece| {
        let mut rest = piece;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let (part, after) = rest.split_at(border(rest));
            rest = after;
            Some(part)
        })
    })
}

/// Returns where the first part of a name ends, in bytes.
fn border(name: &str) -> usize {
    let mut chars = name.char_indices().peekable();
    let mut before = None::<char>;
    while let Some((at, c)) = chars.next() {
        if let Some(before) = before
            && c.is_uppercase()
            && (!before.is_uppercase() || chars.peek().is_some_and(|next| next.1.is_lowercase()))
        {
            return at;
        }
        before = Some(c);
    }
    name.len()
}

/// Han, Hiragana and Katakana: written without spaces between words.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3134f}')
}

/// Gives runs without spaces in pairs of characters, and what stands between them as words.
fn unspaced(word: &str, push: &mut impl FnMut(&str)) {
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let kind = is_unspaced(first);
        let end = rest.find(|c| is_unspaced(c) != kind).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        let starts: Vec<usize> = run.char_indices().map(|(at, _)| at).collect();
        if !kind || starts.len() < 2 {
            push(run);
            continue;
        }
        for pair in 0..starts.len() - 1 {
            let end = starts.get(pair + 2).copied().unwrap_or(run.len());
            push(&run[starts[pair]..end]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_stems_without_stop_words() {
        let cases: [(&str, &[&str]); 9] = [
            ("How do I roll back a release?", &["roll", "back", "releas"]),
            ("DiffExecutor", &["diffexecutor", "diff", "executor"]),
            ("read_file HTTPServer", &["readfil", "read", "file", "httpserver", "http", "server"]),
            ("ÀB __init__ aB", &["ab", "init", "ab", "b"]),
            ("Größe: 10 µm", &["gross", "10", "μm"]),
            ("café cafe\u{301} ﬁne", &["cafe", "cafe", "fine"]),
            ("東京都 のX", &["東京", "京都", "の", "x"]),
            ("___ … \u{301}", &[]),
            ("", &[]),
        ];
        for (text, wanted) in cases {
            assert_eq!(terms(text), wanted, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_reader_reads_the_same_terms(texts in proptest::collection::vec("\\PC{0,9}|[aA_ é東 s]{0,30}", 0..6)) {
            let mut reader = Reader::default();
            let numbers: Vec<Vec<u32>> = texts.iter().map(|text| reader.read(text)).collect();
            let read = reader.into_terms();
            for (text, numbers) in texts.iter().zip(numbers) {
                let found: Vec<&str> = numbers.iter().map(|number| &*read[*number as usize]).collect();
                proptest::prop_assert_eq!(found, terms(text));
            }
        }
    }

    #[test]
    fn the_stop_list_has_its_179_words() {
        assert_eq!(STOP.len(), 179);
        assert!(["how", "why", "which", "whose"].iter().all(|word| STOP.contains(word)));
    }
}
