//! The most tokens that a text can have. Pure; one look at each byte.
//!
//! Every tokenizer of today's models has a token for each byte, so a text has at most as many tokens as
//! bytes. That is four times too much for English; what is common enough to be one token of any large
//! vocabulary counts as one: the words of `words.txt`, with the space before them. Everything else, such
//! as rare words, digits, base64 and control characters, counts by its bytes; in some scripts, a letter
//! behind another by the most tokens of one.
//!
//! A test holds it against `o200k_base`: it is never too little there. Other vendors' tokenizers cut
//! otherwise, so an eighth is added; their worst texts may have more.

use std::sync::LazyLock;

use rustc_hash::FxHashSet;

/// Words that are one token of `o200k_base` each, also behind a space and with a capital, and two
/// behind any other sign.
static WORDS: LazyLock<FxHashSet<&'static [u8]>> =
    LazyLock::new(|| include_str!("words.txt").split_whitespace().map(str::as_bytes).collect());

/// The longest of them, in bytes.
const LONGEST: usize = 16;

/// Returns the most tokens that a text has.
pub(crate) fn tokens(text: &str) -> u64 {
    let most = bound(text);
    // No margin makes more tokens than bytes.
    (most + most / 8).min(text.len() as u64)
}

/// Returns the most tokens that `o200k_base` makes of a text.
fn bound(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let (mut at, mut tokens, mut waiting, mut before) = (0, 0, 0, None);
    while let Some(letter) = text[at..].chars().next() {
        if letter == ' ' {
            waiting = run(&bytes[at..], |byte| byte == b' ');
            (at, before) = (at + waiting, None);
            continue;
        }
        let length = word(&bytes[at..]).max(letter.len_utf8());
        let known = is_known(&bytes[at..at + length]) && !runs_on(bytes, at + length);
        let script = script(letter);
        // The last space before a word belongs to it.
        tokens += spaces(if known { waiting.saturating_sub(1) } else { waiting });
        tokens += match script {
            Some((name, each)) if before == Some(name) => each,
            _ if known => alone(bytes, at, length) as u64,
            _ => length as u64,
        };
        (at, waiting, before) = (at + length, 0, script.map(|(name, _)| name));
    }
    tokens + spaces(waiting)
}

/// Returns the script of a letter that has fewer tokens than bytes behind another one of it, and how
/// many that are at most.
fn script(letter: char) -> Option<(&'static str, u64)> {
    match letter {
        'А'..='я' => Some(("Cyrillic", 1)),
        'Α'..='Ρ' | 'Σ'..='Ω' | 'α'..='ω' => Some(("Greek", 1)),
        'א'..='ת' => Some(("Hebrew", 1)),
        '\u{621}'..='\u{63a}' | '\u{641}'..='\u{64a}' => Some(("Arabic", 1)),
        '\u{900}'..='\u{97f}' => Some(("Devanagari", 2)),
        '\u{980}'..='\u{9ff}' => Some(("Bengali", 2)),
        '\u{e00}'..='\u{e7f}' => Some(("Thai", 2)),
        'ぁ'..='ゖ' => Some(("Hiragana", 2)),
        'ァ'..='ヺ' => Some(("Katakana", 2)),
        _ => None,
    }
}

/// Returns the most tokens of so many spaces: indentation has some of its own.
fn spaces(count: usize) -> u64 {
    count.min(3 + count / 8) as u64
}

/// Returns the most tokens of a known word, by what stands before it.
fn alone(text: &[u8], at: usize, length: usize) -> usize {
    match at.checked_sub(1).map(|before| text[before]) {
        // It may belong to a longer word of another script.
        Some(before) if !before.is_ascii() => length,
        // It may be cut: "it's" ends behind the s, whatever follows.
        Some(b'\'') if at > 1 && !is_sign(text[at - 2]) => length,
        // One sign before a word may take its first letters.
        Some(before) if is_sign(before) && !matches!(before, b' ' | b'\n' | b'\r') => length.min(2),
        _ => 1,
    }
}

/// Tells whether a letter that is not ASCII, or part of one, comes next.
fn runs_on(text: &[u8], at: usize) -> bool {
    text.get(at).is_some_and(|next| !next.is_ascii())
}

fn is_sign(byte: u8) -> bool {
    byte.is_ascii() && !byte.is_ascii_alphanumeric()
}

/// Returns the length of a word as tokenizers cut it: capitals, then small letters.
fn word(text: &[u8]) -> usize {
    let capitals = run(text, |byte| byte.is_ascii_uppercase());
    capitals + run(&text[capitals..], |byte| byte.is_ascii_lowercase())
}

fn run(text: &[u8], belongs: impl Fn(u8) -> bool) -> usize {
    text.iter().position(|byte| !belongs(*byte)).unwrap_or(text.len())
}

fn is_known(word: &[u8]) -> bool {
    let mut small = [0; LONGEST];
    let Some(small) = small.get_mut(..word.len()) else { return false };
    small.copy_from_slice(word);
    match small.split_first_mut() {
        None => return false,
        Some((first, _)) => first.make_ascii_lowercase(),
    }
    WORDS.contains(&*small)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counted(text: &str) -> u64 {
        tiktoken::get_encoding("o200k_base").unwrap().count(text) as u64
    }

    #[test]
    fn ordinary_english_is_not_far_off() {
        let prose = "You are a helpful assistant. Answer the question with the help of the documents \
            below, name the ones that you used, and say so if none of them contains the answer.";
        let (most, counted) = (tokens(prose), counted(prose));
        assert!(most >= counted && most <= counted * 2, "{most} {counted}");
        assert_eq!(tokens(""), 0);
        assert_eq!(tokens("aGVsbG8gd29ybGQ="), 16);
    }

    #[test]
    fn every_known_word_is_one_token_wherever_it_stands() {
        for word in WORDS.iter().map(|word| std::str::from_utf8(word).unwrap()) {
            let capital = word[..1].to_uppercase() + &word[1..];
            assert!(word.len() <= LONGEST);
            for word in [word, &capital] {
                for text in [word.to_owned(), format!(" {word}"), format!("\n{word}'s")] {
                    assert!(counted(&text) <= bound(&text), "{text:?}");
                }
                for sign in (0..128).map(char::from).filter(|sign| !sign.is_alphanumeric()) {
                    let text = format!("{sign}{word}");
                    assert!(counted(&text) <= bound(&text), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn every_run_of_spaces_has_fewer_tokens() {
        for count in 0..700 {
            for end in ["", "x", "the", "\n", "\n\n  ", "\t", "\u{a0}", "é", "7", "\""] {
                let text = format!("{}{end}", " ".repeat(count));
                assert!(counted(&text) <= bound(&text), "{count} {end:?}");
            }
        }
    }

    const SIGNS: [&str; 14] =
        ["'s", "'t", "'LL", "'", "\"", "_", "-", ".", "/", "\t", "\r\n", "\n", "(", "{\""];

    fn pieces() -> impl Strategy<Value = String> {
        let words: Vec<_> = WORDS.iter().map(|w| String::from_utf8(w.to_vec()).unwrap()).collect();
        let word = prop::sample::select(words);
        prop_oneof![
            4 => word.clone(),
            2 => word.clone().prop_map(|word| word[..1].to_uppercase() + &word[1..]),
            1 => word.prop_map(|word| word.to_uppercase()),
            4 => " {1,9}",
            3 => prop::sample::select(&SIGNS[..]).prop_map(str::to_owned),
            1 => "[0-9]{1,5}",
            1 => "[a-zA-Z0-9+/=]{1,40}",
            1 => "\\PC{1,6}",
            1 => any::<char>().prop_map(String::from),
            2 => "[Ѐ-ӿ]{1,9}|[Α-ω]{1,9}|[א-ת]{1,9}|[\u{600}-\u{670}]{1,9}",
            2 => "[ऀ-ॿ]{1,9}|[ঀ-৿]{1,9}|[฀-๿]{1,9}|[ぁ-ゖ]{1,9}|[ァ-ヺ]{1,9}",
            1 => "[éñßжאあ你한\u{300}\u{a0}\u{2003}”—👩\u{200d}ſK]{1,4}",
        ]
    }

    #[test]
    fn no_scripts_run_into_each_other() {
        let scripts =
            ["дяжщ", "αωΣΡ", "אתשך", "ابيظ", "कटि्ऀॿ", "কটড়৿", "กฎิ๎", "ぁゔゖん", "ァヺンヰ"];
        let others = ["", "x", "é", "你", "\u{300}", "\u{a0}", "—", "\u{2028}", ".", "ა"];
        for (one, other) in scripts.iter().flat_map(|one| scripts.map(|other| (one, other))) {
            for between in others {
                let text = [*one, between, other, between, one].concat();
                assert!(counted(&text) <= bound(&text), "{text:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn no_text_has_more(pieces in prop::collection::vec(pieces(), 0..30)) {
            let text = pieces.concat();
            let (counted, most) = (counted(&text), bound(&text));
            prop_assert!(counted <= most, "{counted} of {most}: {text:?}");
            prop_assert!(tokens(&text) >= counted && tokens(&text) <= text.len() as u64);
        }
    }
}
