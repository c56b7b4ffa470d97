//! Whether two questions may have the same answer, by their words. Pure.
//!
//! Vectors lie as close for "in 2023" and "in 2024", for "may I" and "may I not", or for "to Rome" and "to
//! Oslo" as for one question in two wordings. So two rules stand beside them. What turns an answer
//! round must be the same in both, in the same order: numbers, names, quotes, code, and the words of
//! [`TURNS`]. And where texts have most words in common, those in which they differ are what was asked
//! differently: a vector decides only on texts that are worded differently throughout.

/// Words that turn an answer round: negations, opposites, numbers, of languages with capitals.
#[rustfmt::skip]
const TURNS: &[&str] = &[
    "not", "no", "never", "none", "nothing", "nobody", "nowhere", "neither", "nor", "without",
    "except", "unless", "instead", "against", "hardly", "barely", "only", "all", "both",
    "before", "after", "since", "until", "during", "over", "under", "above", "below", "more", "less",
    "most", "least", "fewer", "greater", "smaller", "bigger", "larger", "higher", "lower", "longer",
    "shorter", "faster", "slower", "older", "newer", "highest", "lowest", "largest", "smallest",
    "longest", "shortest", "fastest", "slowest", "oldest", "newest", "best", "worst", "better", "worse",
    "first", "last", "next", "previous", "min", "max", "minimum", "maximum", "increase", "decrease",
    "add", "remove", "enable", "disable", "start", "stop", "open", "close", "allow", "deny", "buy",
    "sell", "true", "false", "left", "right", "yesterday", "today", "tomorrow", "was", "were", "will",
    "who", "when", "where", "why", "zero", "one", "two", "three", "four", "five", "six", "seven",
    "eight", "nine", "ten", "eleven", "twelve", "hundred", "thousand", "million", "half", "double",
    "twice", "once", "nicht", "kein", "keine", "keinen", "nie", "ohne", "pas", "jamais", "sans",
    "nunca", "sin", "non", "senza", "geen",
];

/// Words that say nothing on their own.
const FILLERS: &[&str] =
    &["a", "an", "the", "please", "kindly", "just", "hi", "hello", "hey", "thanks"];

/// Beginnings that ask the same, and what is read in their stead.
const BEGINNINGS: &[(&str, &str)] = &[
    ("can you tell me", ""),
    ("could you tell me", ""),
    ("i would like to know", ""),
    ("i'd like to know", ""),
    ("i want to know", ""),
    ("do you know", ""),
    ("tell me", ""),
    ("how can i", "how to"),
    ("how do i", "how to"),
    ("how can we", "how to"),
    ("how do we", "how to"),
    ("how does one", "how to"),
    ("what's", "what is"),
    ("where's", "where is"),
];

/// Words that begin sentences, and are no names there.
#[rustfmt::skip]
const OPENERS: &[&str] = &[
    "a", "an", "the", "we", "you", "he", "she", "it", "they", "my", "our", "your",
    "this", "that", "these", "those", "there", "what", "what's", "which", "who", "whose", "when",
    "where", "where's", "why", "how", "is", "are", "was", "were", "am", "do", "does", "did", "can",
    "could", "should", "would", "will", "has", "have", "had", "if", "in", "please", "tell", "explain",
    "describe", "show", "list", "give", "summarise", "summarize", "hello", "hi",
    "hey", "thanks",
];

/// Tells whether a text's names and words can be told: where letters have capitals.
pub(super) fn can_be_read(text: &str) -> bool {
    text.chars().filter(|c| c.is_alphabetic()).all(|c| c.is_lowercase() || c.is_uppercase())
}

/// Tells whether one question may have the other's answer.
pub(super) fn may_mean_the_same(one: &str, other: &str) -> bool {
    let (one, other) = (Words::of(one), Words::of(other));
    if one.marks != other.marks || one.said.is_empty() || other.said.is_empty() {
        return false;
    }
    let longer = one.said.len().max(other.said.len());
    one.said == other.said || in_common(&one.said, &other.said) * 2 < longer
}

/// Returns how many words two texts have in common, in the same order: their longest common subsequence.
fn in_common(one: &[String], other: &[String]) -> usize {
    let mut row = vec![0; other.len() + 1];
    for word in one {
        let mut before = 0;
        for (at, theirs) in other.iter().enumerate() {
            let above = row[at + 1];
            row[at + 1] = if word == theirs { before + 1 } else { above.max(row[at]) };
            before = above;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// What a text says.
#[derive(Debug, Default, PartialEq)]
struct Words {
    /// What turns an answer round, as it was written.
    marks: Vec<String>,
    /// All but fillers, in small letters.
    said: Vec<String>,
}

impl Words {
    fn of(text: &str) -> Self {
        let (mut words, mut quoted) = (Self::default(), false);
        for line in text.lines() {
            let mut begins = true;
            for token in line.split_whitespace() {
                words.push(token, begins, &mut quoted);
                begins = token.ends_with(['.', '?', '!', ':']);
            }
        }
        words.said.retain(|word| !FILLERS.contains(&word.as_str()));
        words.begin_alike();
        words
    }

    /// Reads one more word; `begins` a sentence, and is `quoted` or ends that.
    fn push(&mut self, token: &str, begins: bool, quoted: &mut bool) {
        let token = token.replace(['\u{2019}', '\u{2018}'], "'");
        let quotes = token.chars().filter(|c| is_quote(*c)).count();
        let is_quoted = *quoted || quotes > 0 || token.starts_with('\'') || token.ends_with('\'');
        *quoted ^= quotes % 2 == 1;
        let bare = token.trim_matches(|c| is_quote(c) || ".,;:?!()'\u{2026}".contains(c));
        if bare.chars().all(|c| matches!(c, '-' | '\u{2013}' | '\u{2014}')) {
            return;
        }
        let small = bare.to_lowercase();
        let has_digit = token.contains(char::is_numeric);
        let is_plain = bare.chars().all(|c| c.is_alphabetic() || matches!(c, '\'' | '-'));
        let is_plain = is_plain && bare.starts_with(char::is_alphabetic);
        let capitals = bare.chars().filter(|c| c.is_uppercase()).count();
        let is_name = capitals > 0 && !(capitals == 1 && is_opener(&small, begins));
        if small.ends_with("n't") || small == "cannot" {
            self.marks.push("not".to_owned());
        } else if has_digit || is_quoted {
            // A sign before a number counts, a full stop behind it does not.
            self.marks.push(token.trim_end_matches(['.', ',', ';', ':', '?', '!']).to_owned());
        } else if !is_plain || is_name {
            self.marks.push(bare.to_owned());
        } else if TURNS.contains(&small.as_str()) {
            self.marks.push(small.clone());
        }
        self.said.push(small);
    }

    /// Lets what begins with other words and asks the same begin alike.
    fn begin_alike(&mut self) {
        for (beginning, instead) in BEGINNINGS {
            let beginning: Vec<_> = beginning.split(' ').collect();
            if self.said.len() > beginning.len()
                && self.said.iter().zip(&beginning).all(|(word, wanted)| word == wanted)
            {
                let instead = instead.split_whitespace().map(str::to_owned);
                self.said.splice(..beginning.len(), instead);
            }
        }
    }
}

fn is_quote(c: char) -> bool {
    "\"`\u{201c}\u{201d}\u{201e}\u{ab}\u{bb}".contains(c)
}

/// Tells a word whose capital says nothing: the one that begins a sentence, and "I".
fn is_opener(small: &str, begins: bool) -> bool {
    small == "i" || small.starts_with("i'") || (begins && OPENERS.contains(&small))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_same_question_in_other_words_may_have_the_same_answer() {
        for (one, other) in [
            ("How do I reset my password?", "how do i reset my password"),
            ("How do I reset my password?", "Please tell me, how can I reset my password?"),
            ("How do I reset the password?", "Hello! How do I reset password"),
            ("What's a monad?", "Could you please tell me what is a monad"),
            ("How do I reset my password?", "I forgot my login secret and need another"),
            ("Summarise the report of Acme", "Give me the gist of what Acme published"),
            (
                "Why don't magnets stick to copper?",
                "why do copper things not attract magnetic ones",
            ),
            ("Is 3.5 enough?", "is 3.5 enough."),
        ] {
            assert!(may_mean_the_same(one, other), "{one} / {other}");
            assert!(may_mean_the_same(other, one), "{other} / {one}");
        }
    }

    #[test]
    fn what_turns_an_answer_round_tells_questions_apart() {
        for (one, other) in [
            ("Who won in 2023?", "Who won in 2024?"),
            ("Sum up the budget of 2023", "Summarise what was planned for 2024"),
            ("Is it -5 outside?", "Is it 5 outside?"),
            ("Does it cost $5?", "Does it cost 5?"),
            ("May I park here?", "May I not park here?"),
            ("Why does it work?", "Why doesn't it work?"),
            ("Is coffee good for me?", "isn't coffee good for me"),
            ("Which drugs are safe?", "Which drugs are never safe?"),
            ("Ist das erlaubt?", "Ist das nicht erlaubt?"),
            ("What is the capital of France?", "What is the capital of Spain?"),
            ("what is the capital of france?", "what is the capital of spain?"),
            ("what are people in paris like in summer", "what are people in london like in winter"),
            ("How do I get from Rome to Oslo?", "How do I get from Oslo to Rome?"),
            ("how far is it from rome to oslo", "how far is it from oslo to rome"),
            ("Paris: is it warm?", "London: is it warm?"),
            ("When was it built?", "Where was it built?"),
            ("Who is the president?", "Who was the president?"),
            ("Is a crow bigger than a jay?", "Is a crow smaller than a jay?"),
            ("How do I enable the cache?", "How do I disable the cache?"),
            ("how do I reset my password", "how do I change my password"),
            ("delete a branch", "delete a remote branch"),
            ("What is `foo`?", "What is `bar`?"),
            ("What does \"to let\" mean?", "What does \"to rent\" mean?"),
            ("Translate \u{201c}my dog\u{201d}", "Translate \u{201c}my cat\u{201d}"),
            ("Is C++ fast?", "Is C# fast?"),
            ("What does ls -a do?", "What does ls -l do?"),
            ("Explain foo_bar", "Describe what foo_baz is for"),
            ("Can you help us?", "Can you help US?"),
            ("What are the two rules?", "What are the three rules?"),
            ("???", "!"),
            ("", "why"),
            ("", "ß"),
        ] {
            assert!(!may_mean_the_same(one, other), "{one} / {other}");
            assert!(!may_mean_the_same(other, one), "{other} / {one}");
        }
    }

    proptest! {
        #[test]
        fn either_of_two_questions_has_the_others_answer_or_neither(
            one in "([a-zA-Zäß'\"`.?,-]{0,6} ?){0,12}",
            other in "([a-zA-Zäß'\"`.?,-]{0,6} ?){0,12}",
        ) {
            prop_assert_eq!(may_mean_the_same(&one, &other), may_mean_the_same(&other, &one));
            let numbered = format!("{one} 7 {other}");
            let plain = format!("{one} {other}");
            prop_assert!(!may_mean_the_same(&numbered, &plain));
        }
    }

    #[test]
    fn names_can_be_told_where_letters_have_capitals() {
        for (text, wanted) in [
            ("Grüße, Ольга: 5 €?", true),
            ("東京の人口は?", false),
            ("ما هي عاصمة فرنسا", false),
            ("What does 犬 mean?", false),
        ] {
            assert_eq!(can_be_read(text), wanted, "{text}");
        }
    }
}
