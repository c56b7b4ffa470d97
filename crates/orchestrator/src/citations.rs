//! Checks an answer against the passages that it cites. Pure.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use proto::orchestrator::Citation;
use proto::retriever::Passage;
use reading::{Kind, find_loosely, terms, units};

use crate::context::Span;

/// How many of a claim's terms what it cites must hold for the claim to count as supported.
const SUPPORT: f64 = 0.6;
/// How many of them the place that is cited must hold.
const PLACE: f64 = 0.3;
/// A quotation of so many words has to be there word for word.
const QUOTED: usize = 3;

/// What an answer rests on.
#[derive(Debug, PartialEq)]
pub(crate) struct Checked {
    /// For each number the places that support a claim, in order.
    pub(crate) citations: Vec<Citation>,
    /// 0 to 1: supported claims out of all, less up to a half as the cited spans hold less of the question's terms.
    pub(crate) confidence: f64,
}

/// A passage of a span, by the number that it is cited by, from 1, and its place in the span.
type At = (usize, usize);

/// Reads the marks `[n]` in `answer` (n counts `spans` from 1), finds what each claim before them rests on, and
/// leaves out every citation that supports nothing.
pub(crate) fn check(question: &str, answer: &str, spans: &[Span]) -> Checked {
    let asked: HashSet<String> = terms(question).into_iter().collect();
    let mut places: BTreeMap<At, Vec<Range<usize>>> = BTreeMap::new();
    let (mut claims, mut supported) = (0_u32, 0_u32);
    for (text, marks) in segments(answer) {
        for claim in claims_of(text) {
            claims += 1;
            let mut holds = false;
            for mark in &marks {
                let span = mark.checked_sub(1).and_then(|index| spans.get(index));
                for (passage, place) in
                    span.and_then(|span| rests_on(claim, span, &asked)).into_iter().flatten()
                {
                    holds = true;
                    places.entry((*mark, passage)).or_default().push(place);
                }
            }
            supported += u32::from(holds);
        }
    }
    let held: HashSet<String> =
        places.keys().flat_map(|(mark, _)| terms(&whole(&spans[mark - 1]))).collect();
    let relevance = if asked.is_empty() { 1.0 } else { share(&asked, &held) };
    let citations = places.into_iter().flat_map(|((mark, passage), mut ranges)| {
        let passage = &spans[mark - 1].passages[passage];
        ranges.sort_by_key(|range| range.start);
        merged(ranges, &passage.text).into_iter().map(move |range| cite(mark, passage, range))
    });
    let support = if claims == 0 { 0.0 } else { f64::from(supported) / f64::from(claims) };
    Checked { citations: citations.collect(), confidence: support * (0.5 + 0.5 * relevance) }
}

/// Returns what comes nearest to a question: of the best spans the place that holds most of it.
pub(crate) fn nearest(question: &str, spans: &[Span]) -> Vec<Citation> {
    let asked: HashSet<String> = terms(question).into_iter().collect();
    let near = spans.iter().take(3).zip(1..).filter_map(|(span, mark)| {
        let (passage, range, _) = best_place(&asked, span)?;
        Some(cite(mark, &span.passages[passage], range))
    });
    near.collect()
}

/// Cuts an answer behind its marks; the last part may have none. What looks like a mark in code is none.
fn segments(answer: &str) -> Vec<(&str, Vec<usize>)> {
    let mut segments: Vec<(&str, Vec<usize>)> = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut fenced = false;
    let mut quoted = false;
    while at < answer.len() {
        let rest = &answer[at..];
        let begins_line = || at == 0 || answer[..at].trim_end_matches(' ').ends_with('\n');
        if rest.starts_with("```") && begins_line() {
            fenced = !fenced;
            at += 3;
            continue;
        }
        match rest.chars().next() {
            Some('`') if !fenced => quoted = !quoted,
            Some('\n') => quoted = false,
            Some('[') if !fenced && !quoted => {
                if let Some((marks, length)) = mark(rest) {
                    let text = answer[start..at]
                        .trim_start_matches(['.', ',', ';', ':', '!', '?', ')', ' ']);
                    match segments.last_mut() {
                        Some(last) if text.trim().is_empty() => last.1.extend(marks),
                        _ => segments.push((text, marks)),
                    }
                    at += length;
                    start = at;
                    continue;
                }
            }
            _ => {}
        }
        at += rest.chars().next().map_or(1, char::len_utf8);
    }
    let text = answer[start..].trim_start_matches(['.', ',', ';', ':', '!', '?', ')', ' ']);
    segments.push((text, Vec::new()));
    segments
}

/// Reads `[1]` or `[1, 2]`; returns the numbers and how many bytes they have.
fn mark(text: &str) -> Option<(Vec<usize>, usize)> {
    let (inside, _) = text.strip_prefix('[')?.split_once(']')?;
    let numbers = inside.split(',').map(|number| number.trim().parse().ok());
    Some((numbers.collect::<Option<_>>()?, inside.len() + 2))
}

/// Returns what a text claims: its sentences, items, rows and pieces of code that have terms.
fn claims_of(text: &str) -> impl Iterator<Item = &str> {
    let units = units(text).into_iter();
    let claims = units.filter(|unit| !matches!(unit.kind, Kind::List | Kind::Question));
    claims.filter_map(|unit| {
        let claim = &text[unit.range];
        let claim = match unit.kind {
            Kind::Fenced => {
                let inside = claim.split_once('\n').map_or("", |(_, inside)| inside);
                inside.trim_end().trim_end_matches(['`', '~']).trim_end()
            }
            _ => claim,
        };
        (!terms(claim).is_empty()).then_some(claim)
    })
}

/// Returns where in which of a span's passages a claim is said: its very words, else the place that shares most of
/// its terms; nothing when the span does not hold it.
fn rests_on(
    claim: &str,
    span: &Span,
    asked: &HashSet<String>,
) -> Option<Vec<(usize, Range<usize>)>> {
    let (text, begins) = span.text();
    if let Some(found) = find_loosely(&text, claim) {
        let own = |(at, begin): (usize, &usize)| {
            let end = begin + span.passages[at].text.len();
            let range = found.start.max(*begin)..found.end.min(end);
            (!range.is_empty()).then(|| (at, range.start - begin..range.end - begin))
        };
        return Some(begins.iter().enumerate().filter_map(own).collect());
    }
    let wanted: HashSet<String> = terms(claim).into_iter().collect();
    let held: HashSet<String> = terms(&whole(span)).into_iter().collect();
    let numbers = wanted.iter().filter(|term| term.contains(|c: char| c.is_ascii_digit()));
    // What a claim has of its own may be words, never a number or a quotation.
    let says_all =
        numbers.into_iter().all(|number| held.contains(number) || asked.contains(number))
            && quotations(claim).all(|quotation| find_loosely(&text, quotation).is_some());
    if !says_all || share(&wanted, &held) < SUPPORT {
        return None;
    }
    let (passage, range, shared) = best_place(&wanted, span)?;
    let denies = denies(claim) && !denies(&span.passages[passage].text);
    (shared >= PLACE && !denies).then(|| vec![(passage, range)])
}

/// Returns the unit of a span that holds the largest share of some terms, and that share.
fn best_place(wanted: &HashSet<String>, span: &Span) -> Option<(usize, Range<usize>, f64)> {
    let places = span.passages.iter().enumerate().flat_map(|(at, passage)| {
        let places = units(&passage.text).into_iter().filter(|unit| unit.kind != Kind::List);
        places.map(move |unit| {
            let held = terms(&passage.text[unit.range.clone()]).into_iter().collect();
            (at, unit.range, share(wanted, &held))
        })
    });
    // Of several that hold as much the first.
    places.reduce(|best, one| if one.2 > best.2 { one } else { best })
}

/// Returns a span's text with its headings.
fn whole(span: &Span) -> String {
    let headings = span.passages.iter().flat_map(|passage| &passage.headings);
    let headings = headings.map(String::as_str).collect::<Vec<_>>().join("\n");
    format!("{headings}\n{}", span.text().0)
}

/// Returns what stands between quotation marks, where it is long enough to be somebody's words.
fn quotations(claim: &str) -> impl Iterator<Item = &str> {
    let pairs = [('"', '"'), ('“', '”'), ('„', '“'), ('«', '»')];
    let between = pairs.into_iter().flat_map(move |(open, close)| {
        let mut rest = claim;
        std::iter::from_fn(move || {
            let (_, after) = rest.split_once(open)?;
            let (inside, after) = after.split_once(close)?;
            rest = after;
            Some(inside.trim_end_matches(['.', ',', '…']))
        })
    });
    between.filter(|inside| inside.split_whitespace().count() >= QUOTED)
}

fn denies(text: &str) -> bool {
    let text = text.to_lowercase();
    let mut words = text.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’'));
    words.any(|word| {
        matches!(
            word,
            "no" | "not"
                | "never"
                | "none"
                | "nothing"
                | "nobody"
                | "without"
                | "cannot"
                | "neither"
        ) || word.ends_with("n't")
            || word.ends_with("n’t")
    })
}

/// Makes one of ranges that meet, or have only white space between them.
fn merged(ranges: Vec<Range<usize>>, text: &str) -> Vec<Range<usize>> {
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last)
                if range.start <= last.end || text[last.end..range.start].trim().is_empty() =>
            {
                last.end = last.end.max(range.end);
            }
            _ => merged.push(range),
        }
    }
    merged
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

#[allow(clippy::cast_precision_loss, reason = "a claim has few words")]
fn share(wanted: &HashSet<String>, held: &HashSet<String>) -> f64 {
    if wanted.is_empty() {
        return 0.0;
    }
    wanted.intersection(held).count() as f64 / wanted.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passage(id: &str, text: &str) -> Passage {
        Passage {
            id: id.to_owned(),
            text: text.to_owned(),
            start: 100,
            end: 100 + count(text.chars()),
            start_line: 7,
            end_line: 7 + u32::try_from(text.matches('\n').count()).unwrap(),
            ..Passage::default()
        }
    }

    fn spans(texts: &[&str]) -> Vec<Span> {
        let span = |text: &&str| Span { passages: vec![passage("p", text)], score: 1.0 };
        texts.iter().map(span).collect()
    }

    fn quotes(answer: &str, texts: &[&str]) -> Vec<String> {
        let checked = check("", answer, &spans(texts));
        checked.citations.into_iter().map(|citation| citation.quote).collect()
    }

    #[test]
    fn a_quoted_sentence_is_cited_to_the_character_and_line() {
        let checked = check(
            "",
            "Run the script. [1]",
            &spans(&["Öl is off.\nRun the script. Then wait.", "Else."]),
        );
        let citation = &checked.citations[0];
        assert_eq!((citation.start, citation.end), (111, 126));
        assert_eq!((citation.start_line, citation.end_line), (8, 8));
        assert_eq!(citation.quote, "Run the script.");
        assert!((checked.confidence - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn each_place_is_cited_and_neighbours_are_one() {
        let text = "The red valve is open. Rain fell.\nThe blue valve leaks. The pump runs.";
        assert_eq!(
            quotes("The red valve is open [1]. The blue valve leaks. The pump\nruns. [1]", &[text]),
            ["The red valve is open", "The blue valve leaks. The pump runs."]
        );
    }

    #[test]
    fn neighbours_that_are_one_span_are_cited_each_by_itself() {
        let span = Span {
            passages: vec![
                passage("a-0", "It opens. It closes."),
                passage("a-1", "It leaks at night."),
            ],
            score: 1.0,
        };
        let checked = check("", "It closes.\n\nIt leaks at night. [1]", &[span]);
        let shown: Vec<_> = checked
            .citations
            .iter()
            .map(|one| (one.number, one.passage_id.as_str(), one.quote.as_str()))
            .collect();
        assert_eq!(shown, [(1, "a-0", "It closes."), (1, "a-1", "It leaks at night.")]);
    }

    #[test]
    fn code_rows_and_items_are_cited_whole() {
        let code = "Stop it:\n\n```sh\nbaton off[1]\n```\n\nDone.";
        assert_eq!(quotes("Stop it:\n\n```sh\nbaton off[1]\n```\n[1]", &[code]), ["baton off[1]"]);
        let table = "| a | b |\n|---|---|\n| valve | 3 |";
        assert_eq!(
            quotes("| a | b |\n|---|---|\n| valve | 3 |\n\n[1]", &[table]),
            ["| valve | 3 |"]
        );
        assert_eq!(quotes("- the red valve [1]", &["- the red valve\n- else"]), ["the red valve"]);
        assert_eq!(
            quotes("Call `take[1]` first. [1]", &["Call `take[1]` first."]),
            ["Call `take[1]` first."]
        );
    }

    #[test]
    fn what_supports_nothing_is_not_cited() {
        let text = "The release is rolled back within 5 minutes by one script, and nobody waits.";
        let spans = spans(&[text]);
        for answer in [
            "Bananas grow in warm countries. [1]",
            "The release is rolled back by one script. [2]",
            "The release is rolled back within 9 minutes by one script [1]",
            "The release \"is rolled back by hand\" within 5 minutes by one script. [1]",
            "No mark at all.",
            "",
        ] {
            let checked = check("", answer, &spans);
            assert!(checked.citations.is_empty(), "{answer}");
            assert!(checked.confidence < f64::EPSILON, "{answer}");
        }
        let denied = check(
            "",
            "The pump is never started by hand. [1]",
            &self::spans(&["The pump is started by hand."]),
        );
        assert!(denied.citations.is_empty());
    }

    #[test]
    fn a_sentence_in_other_words_cites_the_nearest_one() {
        let texts = ["Wait first. A release is rolled back with the rollback script."];
        let spans = spans(&texts);
        let checked = check("", "The release is rolled back with a script [1]. Bananas!", &spans);
        assert_eq!(
            checked.citations[0].quote,
            "A release is rolled back with the rollback script."
        );
        assert!((checked.confidence - 0.5).abs() < f64::EPSILON);
        let about = check(
            "How many zebras rolled?",
            "The release is rolled back with a script [1].",
            &spans,
        );
        assert!((about.confidence - 0.75).abs() < f64::EPSILON, "{}", about.confidence);
    }

    #[test]
    fn what_comes_nearest_is_shown_without_an_answer() {
        let found =
            nearest("Is the pump red?", &spans(&["It rains. The pump is blue. Done.", "Else."]));
        assert_eq!(
            (found[0].quote.as_str(), found[1].quote.as_str()),
            ("The pump is blue.", "Else.")
        );
    }
}
