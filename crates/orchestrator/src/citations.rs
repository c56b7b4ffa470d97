//! Checks an answer against the passages that it cites. Pure.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use proto::orchestrator::Citation;
use proto::retriever::Passage;

/// How many of a sentence's words its passage must hold for the sentence to count as supported.
const SUPPORT: f64 = 0.6;

/// What an answer rests on.
#[derive(Debug, PartialEq)]
pub(crate) struct Checked {
    /// One for each passage that supports a sentence, by number.
    pub(crate) citations: Vec<Citation>,
    /// Supported sentences out of all, 0 to 1.
    pub(crate) confidence: f64,
}

/// Reads the marks `[n]` in `answer` (n counts `passages` from 1), finds what each marked sentence
/// rests on, and leaves out every citation that supports nothing.
pub(crate) fn check(answer: &str, passages: &[Passage]) -> Checked {
    let mut spans: BTreeMap<usize, Range<usize>> = BTreeMap::new();
    let (mut sentences, mut supported) = (0_u32, 0_u32);
    for sentence in sentences_of(answer) {
        let (text, marks) = split_marks(sentence);
        if words(&text).is_empty() {
            continue;
        }
        sentences += 1;
        let mut holds = false;
        for mark in marks {
            let Some(passage) = mark.checked_sub(1).and_then(|index| passages.get(index)) else {
                continue;
            };
            let Some(span) = span_of(&text, &passage.text) else { continue };
            holds = true;
            let whole = spans.entry(mark).or_insert_with(|| span.clone());
            *whole = whole.start.min(span.start)..whole.end.max(span.end);
        }
        supported += u32::from(holds);
    }
    let citations = spans.into_iter().map(|(mark, span)| cite(mark, &passages[mark - 1], span));
    let confidence = if sentences == 0 { 0.0 } else { f64::from(supported) / f64::from(sentences) };
    Checked { citations: citations.collect(), confidence }
}

/// Returns which bytes of `passage` a sentence rests on: its very words, else the passage's sentence
/// that shares most of its words, else nothing.
fn span_of(sentence: &str, passage: &str) -> Option<Range<usize>> {
    let sentence = sentence.trim();
    if let Some(start) = passage.find(sentence) {
        return Some(start..start + sentence.len());
    }
    let wanted = words(sentence);
    let held = words(passage);
    if share(&wanted, &held) < SUPPORT {
        return None;
    }
    let candidates = sentences_of(passage).map(|candidate| {
        let start = candidate.as_ptr() as usize - passage.as_ptr() as usize;
        (share(&wanted, &words(candidate)), start..start + candidate.len())
    });
    candidates.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.start.cmp(&a.1.start))).map(|best| best.1)
}

fn cite(mark: usize, passage: &Passage, bytes: Range<usize>) -> Citation {
    let quote = &passage.text[bytes.clone()];
    let before = &passage.text[..bytes.start];
    let start = passage.start + count(before.chars());
    let lines = |text: &str| u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX);
    // A text that was kept line by line tells the quote's own lines; a converted one the passage's.
    let kept =
        passage.end_line.saturating_sub(passage.start_line) == lines(passage.text.trim_end());
    let (start_line, end_line) = if kept {
        let first = passage.start_line + lines(before);
        (first, first + lines(quote))
    } else {
        (passage.start_line, passage.end_line)
    };
    Citation {
        number: u32::try_from(mark).unwrap_or(u32::MAX),
        passage_id: passage.id.clone(),
        document_id: passage.document_id.clone(),
        source: passage.source.clone(),
        headings: passage.headings.clone(),
        start,
        end: start + count(quote.chars()),
        start_line,
        end_line,
        quote: quote.to_owned(),
        start_page: passage.start_page,
        end_page: passage.end_page,
    }
}

fn count(chars: std::str::Chars<'_>) -> u64 {
    chars.count() as u64
}

/// Cuts after `.`, `!`, `?` (with marks that follow) before white space, after marks before a capital letter, at
/// blank lines, and before headings and list items; a line's end alone ends no sentence.
fn sentences_of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = sentence_end(rest);
            let (sentence, after) = rest.split_at(end);
            rest = after;
            let sentence = sentence.trim();
            if !sentence.is_empty() {
                return Some(sentence);
            }
        }
        None
    })
}

fn sentence_end(text: &str) -> usize {
    for (at, c) in text.char_indices() {
        let after = at + c.len_utf8();
        match c {
            '\n' if text[after..]
                .trim_start_matches(' ')
                .starts_with(['\n', '#', '-', '*', '|']) =>
            {
                return after;
            }
            '.' | '!' | '?' if text[after..].starts_with(char::is_whitespace) => {
                return after + marks_end(&text[after..]);
            }
            // What was quoted may have no end of its own, such as code.
            '[' => {
                let end = at + marks_end(&text[at..]);
                let next = text[end..].trim_start().chars().next();
                if end > at && next.is_none_or(|c| c.is_uppercase()) {
                    return end;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// Returns how many bytes of `text` are marks such as ` [1][2]`, which belong to the sentence before.
fn marks_end(text: &str) -> usize {
    let mut end = 0;
    loop {
        let rest = &text[end..];
        let trimmed = rest.trim_start_matches(' ');
        let Some(inside) = trimmed.strip_prefix('[') else { return end };
        let Some(close) = inside.find(']') else { return end };
        if close == 0 || !inside[..close].bytes().all(|b| b.is_ascii_digit()) {
            return end;
        }
        end += rest.len() - trimmed.len() + close + 2;
    }
}

/// Takes the marks out of a sentence.
fn split_marks(sentence: &str) -> (String, Vec<usize>) {
    let (mut text, mut marks, mut rest) = (String::new(), Vec::new(), sentence);
    while let Some(open) = rest.find('[') {
        let inside = &rest[open + 1..];
        let number =
            inside.find(']').and_then(|close| Some((close, inside[..close].parse().ok()?)));
        if let Some((close, number)) = number {
            text.push_str(rest[..open].trim_end());
            marks.push(number);
            rest = &inside[close + 1..];
        } else {
            text.push_str(&rest[..=open]);
            rest = inside;
        }
    }
    text.push_str(rest);
    (text, marks)
}

fn words(text: &str) -> HashSet<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() > 2);
    words.map(str::to_lowercase).collect()
}

#[allow(clippy::cast_precision_loss, reason = "a sentence has few words")]
fn share(wanted: &HashSet<String>, held: &HashSet<String>) -> f64 {
    if wanted.is_empty() {
        return 0.0;
    }
    wanted.intersection(held).count() as f64 / wanted.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(text: &str) -> Passage {
        Passage {
            id: "p".to_owned(),
            text: text.to_owned(),
            start: 100,
            end: 100 + count(text.chars()),
            start_line: 7,
            end_line: 7 + u32::try_from(text.matches('\n').count()).unwrap(),
            ..Passage::default()
        }
    }

    #[test]
    fn a_quoted_sentence_is_cited_to_the_character_and_line() {
        let passages = [passage("Öl is off.\nRun the script. Then wait."), passage("Else.")];
        let checked = check("Run the script. [1]", &passages);
        let citation = &checked.citations[0];
        assert_eq!((citation.start, citation.end), (111, 126));
        assert_eq!((citation.start_line, citation.end_line), (8, 8));
        assert_eq!(citation.quote, "Run the script.");
        assert!((checked.confidence - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_has_no_end_of_its_own_is_cited_by_itself() {
        let passages =
            [passage("    baton off\n\nIt waits a while. Then it ends."), passage("More.")];
        let checked = check("baton off [1] It waits a while. [1] More [2].", &passages);
        assert_eq!(checked.citations[0].quote, "baton off\n\nIt waits a while.");
        let within = check("It waits [1] a while.", &passages);
        assert_eq!(within.citations[0].quote, "It waits a while.");
    }

    #[test]
    fn what_supports_nothing_is_not_cited() {
        let passages = [passage("The release is rolled back with one script.")];
        for answer in
            ["Bananas grow in warm countries. [1]", "It is so. [2]", "No mark at all.", ""]
        {
            let checked = check(answer, &passages);
            assert!(checked.citations.is_empty(), "{answer}");
            assert!(checked.confidence < f64::EPSILON, "{answer}");
        }
    }

    #[test]
    fn a_sentence_over_two_lines_is_one() {
        let passages = [passage("Intro.\n\nRun the script,\nthen wait. End.")];
        let checked = check("Run the script,\nthen wait. [1]", &passages);
        let citation = &checked.citations[0];
        assert_eq!((citation.start_line, citation.end_line), (9, 10));
        assert!((checked.confidence - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_sentence_in_other_words_cites_the_nearest_one() {
        let passages = [passage("Wait first. A release is rolled back with the rollback script.")];
        let checked = check("The release is rolled back with one script [1]. Bananas!", &passages);
        assert_eq!(
            checked.citations[0].quote,
            "A release is rolled back with the rollback script."
        );
        assert!((checked.confidence - 0.5).abs() < f64::EPSILON);
    }
}
