//! Chooses the sentences, items, rows and pieces of code that answer a question, and quotes them. Pure.

use std::collections::{HashMap, HashSet};

use proto::router::Grounding;
use reading::{Kind, Unit, find_loosely, terms, units};

/// An answer has at most so many units, …
const UNITS: usize = 3;
/// … and none that scores less than this share of the best one, …
const GOOD: f64 = 0.65;
/// … or has more than this share of its terms in one that was chosen.
const ALIKE: f64 = 0.6;
/// The answer has to hold this share of what is asked, by how rare its terms are.
const ENOUGH: f64 = 0.5;

/// How much a term counts, of what it counts in a piece's own words, when it stands in the question that the piece
/// answers in its document, …
const ASKED: f64 = 0.9;
/// … in what announces it, …
const LEAD: f64 = 0.8;
/// … in the headings above it, …
const HEADINGS: f64 = 0.5;
/// … in what comes before it, …
const BEFORE: f64 = 0.4;
/// … and elsewhere in its passage.
const AROUND: f64 = 0.3;
/// How much it counts that words stand together as in the question, the less the more terms there are.
const NEAR: f64 = 0.8;
/// How much a term of [`FRAME`] counts.
const FRAMES: f64 = 0.2;

/// Stems of words that tell how is asked and not after what; they count less.
const FRAME: [&str; 56] = [
    "accord",
    "address",
    "articl",
    "author",
    "certain",
    "concern",
    "context",
    "describ",
    "descript",
    "detail",
    "differ",
    "discuss",
    "document",
    "exampl",
    "explain",
    "express",
    "follow",
    "happen",
    "highlight",
    "import",
    "includ",
    "indic",
    "inform",
    "instanc",
    "involv",
    "kind",
    "list",
    "main",
    "major",
    "mean",
    "mention",
    "method",
    "note",
    "outlin",
    "paper",
    "particular",
    "passag",
    "present",
    "primari",
    "provid",
    "purpos",
    "question",
    "reason",
    "refer",
    "regard",
    "relat",
    "report",
    "role",
    "show",
    "signific",
    "specif",
    "state",
    "statement",
    "text",
    "type",
    "various",
];

/// Stems of words so general that documents say them in other words, or of everything; they count somewhat less.
const COMMON: [&str; 60] = [
    "abl", "add", "allow", "ask", "avail", "becom", "begin", "big", "bring", "build", "call",
    "chang", "close", "come", "creat", "decid", "default", "enabl", "end", "find", "good", "handl",
    "help", "hold", "keep", "know", "larg", "leav", "long", "look", "manag", "mode", "move",
    "name", "need", "new", "number", "open", "part", "perform", "place", "possibl", "put",
    "requir", "result", "run", "send", "set", "small", "start", "stop", "support", "switch",
    "take", "thing", "time", "turn", "want", "way", "work",
];
/// How much such a term counts.
const COMMONS: f64 = 0.4;
/// How much a term counts, beside others as rare, that no passage holds: what is asked for may not be there.
const MISSING: f64 = 1.2;

/// Part of a passage that may be quoted.
struct Piece<'a> {
    /// The passage's place among the groundings.
    passage: usize,
    unit: Unit,
    /// What is quoted.
    text: &'a str,
    terms: HashSet<String>,
    /// The terms of what stands above it, each with how much it counts here, 0 to 1.
    above: HashMap<String, f64>,
    score: f64,
}

/// Returns what answers the question best, word for word, each piece with the number of its passage and in reading
/// order; none when the passages do not hold enough of what is asked.
pub(super) fn answer(question: &str, groundings: &[Grounding]) -> Option<String> {
    let (text, held) = best(question, groundings)?;
    (held >= ENOUGH).then_some(text)
}

/// Returns the best answer that there is, and which share of what is asked it holds.
#[allow(clippy::cast_precision_loss, reason = "a question is short")]
fn best(question: &str, groundings: &[Grounding]) -> Option<(String, f64)> {
    let wanted: Vec<String> = unique(terms(question));
    let asks = question.trim().trim_end_matches('?');
    // Code that holds the question shows how to ask it.
    let echoes = |piece: &Piece<'_>| {
        piece.unit.kind == Kind::Fenced && find_loosely(piece.text, asks).is_some()
    };
    let pieces = groundings.iter().enumerate().flat_map(|(index, one)| pieces(index, one));
    let mut pieces: Vec<Piece<'_>> = pieces.filter(|piece| !echoes(piece)).collect();
    let weights = weights(&wanted, &pieces);
    let total: f64 = wanted.iter().map(|term| weights[term]).sum();
    if total <= 0.0 {
        return None;
    }
    let near = NEAR / wanted.len() as f64;
    let best_passage = groundings.iter().map(|one| one.score).fold(f64::MIN_POSITIVE, f64::max);
    let wants_number = wants_number(question);
    for piece in &mut pieces {
        let held: f64 = wanted.iter().map(|term| weights[term] * holds(piece, term)).sum();
        let near = neighbours(question, piece.text) * near;
        let passage = groundings[piece.passage].score / best_passage;
        let fits = wants_number && piece.terms.iter().any(|term| counts(term));
        let fits = if fits { 1.2 } else { 1.0 };
        piece.score = (held / total + near) * (0.6 + 0.4 * passage) * fits * shape(piece);
    }
    let mut order: Vec<usize> = (0..pieces.len()).filter(|at| pieces[*at].score > 0.0).collect();
    order.sort_by(|a, b| pieces[*b].score.total_cmp(&pieces[*a].score).then(a.cmp(b)));
    let best = pieces[*order.first()?].score;
    let mut chosen: Vec<usize> = Vec::new();
    for at in order {
        let fresh = |other: &usize| !alike(&pieces[at], &pieces[*other]);
        if pieces[at].score >= GOOD * best && chosen.iter().all(fresh) {
            chosen.push(at);
        }
        if chosen.len() == UNITS {
            break;
        }
    }
    let held = |term: &String| {
        chosen.iter().map(|at| holds(&pieces[*at], term)).fold(0.0, f64::max) * weights[term]
    };
    let held = wanted.iter().map(held).sum::<f64>() / total;
    chosen.sort_unstable();
    let text = quoted(&chosen.into_iter().map(|at| &pieces[at]).collect::<Vec<_>>(), groundings);
    Some((text, held))
}

fn pieces(index: usize, grounding: &Grounding) -> Vec<Piece<'_>> {
    let text = grounding.text.as_str();
    let headings = terms(&grounding.headings.join(" "));
    let around = terms(text);
    let mut before: Vec<String> = Vec::new();
    let mut asked: Option<(Vec<String>, f64)> = None;
    let mut pieces = Vec::new();
    for unit in units(text) {
        let quoted = &text[unit.range.clone()];
        if unit.kind == Kind::Question {
            asked = Some((terms(quoted), ASKED));
            continue;
        }
        let mut above: HashMap<String, f64> = HashMap::new();
        let mut count = |terms: &[String], weight: f64| {
            for term in terms {
                let there = above.entry(term.clone()).or_default();
                *there = there.max(weight);
            }
        };
        // Other rows are about something else.
        if unit.kind != Kind::Row {
            count(&around, AROUND);
            count(&before, BEFORE);
        }
        count(&headings, HEADINGS);
        if let Some(lead) = &unit.lead {
            count(
                &terms(&text[lead.clone()]),
                if unit.kind == Kind::Row { HEADINGS } else { LEAD },
            );
        }
        if let Some((terms, weight)) = &mut asked {
            count(terms, *weight);
            *weight *= 0.6;
        }
        before = terms(quoted);
        pieces.push(Piece {
            passage: index,
            text: quoted,
            terms: before.iter().cloned().collect(),
            above,
            score: 0.0,
            unit,
        });
    }
    pieces
}

/// Returns how much a term counts as said by a piece, 0 to 1.
fn holds(piece: &Piece<'_>, term: &str) -> f64 {
    match piece.terms.contains(term) {
        true => 1.0,
        false => piece.above.get(term).copied().unwrap_or_default(),
    }
}

/// Returns how rare each term is among the pieces; one that is nowhere is the rarest.
#[allow(clippy::cast_precision_loss, reason = "there are few pieces")]
fn weights(wanted: &[String], pieces: &[Piece<'_>]) -> HashMap<String, f64> {
    let weight = |term: &String| {
        let holding = pieces.iter().filter(|piece| piece.terms.contains(term)).count().max(1);
        let rare = (1.0 + pieces.len() as f64 / holding as f64).ln();
        let general = match term.as_str() {
            term if FRAME.contains(&term) => FRAMES,
            term if COMMON.contains(&term) => COMMONS,
            _ => 1.0,
        };
        let is_missing = general >= 1.0 && pieces.iter().all(|piece| holds(piece, term) <= 0.0);
        (term.clone(), rare * general * if is_missing { MISSING } else { 1.0 })
    };
    wanted.iter().map(weight).collect()
}

/// Returns the share of pairs of words in the question that stand together here, too; "is down" says something,
/// and neither of its words does.
#[allow(clippy::cast_precision_loss, reason = "a question is short")]
fn neighbours(question: &str, text: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let (asked, said) = (words(question), words(text));
    let together = asked.windows(2).filter(|pair| said.windows(2).any(|two| two == *pair)).count();
    together as f64 / asked.len().saturating_sub(1).max(1) as f64
}

/// What is very short says little, what is long says it with much else.
#[allow(clippy::cast_precision_loss, reason = "pieces are short")]
fn shape(piece: &Piece<'_>) -> f64 {
    match piece.terms.len() {
        0..3 if piece.unit.lead.is_none() => 0.7,
        0..30 => 1.0,
        long => 1.0 / (1.0 + (long - 30) as f64 / 100.0),
    }
}

fn wants_number(question: &str) -> bool {
    const ASKS: [&str; 12] = [
        "how many",
        "how much",
        "how long",
        "how often",
        "how large",
        "how old",
        "how far",
        "how fast",
        "when ",
        "what year",
        "which year",
        "percent",
    ];
    let question = question.to_lowercase();
    ASKS.iter().any(|ask| question.contains(ask))
}

/// Tells whether a term is a number, or of how much it is one.
fn counts(term: &str) -> bool {
    const UNITS: [&str; 20] = [
        "second", "minut", "hour", "day", "week", "month", "year", "twice", "two", "three", "four",
        "five", "six", "seven", "eight", "nine", "ten", "dozen", "hundr", "thousand",
    ];
    term.starts_with(|c: char| c.is_ascii_digit()) || UNITS.contains(&term)
}

/// Tells whether two pieces say about the same, or one is part of the other.
#[allow(clippy::cast_precision_loss, reason = "pieces are short")]
fn alike(one: &Piece<'_>, other: &Piece<'_>) -> bool {
    let (a, b) = (&one.unit.range, &other.unit.range);
    if one.passage == other.passage && a.start < b.end && b.start < a.end {
        return true;
    }
    // Who says another number says something else: it is shown that they contradict each other.
    let numbers = |piece: &Piece<'_>| -> Vec<String> {
        let mut numbers: Vec<_> =
            piece.terms.iter().filter(|term| is_number(term)).cloned().collect();
        numbers.sort_unstable();
        numbers
    };
    if numbers(one) != numbers(other) {
        return false;
    }
    let common = one.terms.intersection(&other.terms).count() as f64;
    common > ALIKE * one.terms.len().min(other.terms.len()) as f64
}

fn is_number(term: &str) -> bool {
    term.contains(|c: char| c.is_ascii_digit())
}

/// Writes pieces one behind the other; what has lines of its own stands in lines of its own.
fn quoted(pieces: &[&Piece<'_>], groundings: &[Grounding]) -> String {
    let mut answer = String::new();
    for piece in pieces {
        let text = &groundings[piece.passage].text;
        let lead = piece.unit.lead.clone().map(|lead| &text[lead]);
        let mark = format!("[{}]", piece.passage + 1);
        let whole = match (piece.unit.kind, lead) {
            (Kind::Sentence | Kind::Question, _) => format!("{} {mark}", piece.text),
            (Kind::Item, _) => format!("- {} {mark}", piece.text),
            (Kind::Row, Some(head)) => format!("{head}\n{}\n\n{mark}", piece.text),
            (Kind::Row, None) => format!("{} {mark}", piece.text),
            (Kind::List, Some(lead)) => format!("{lead}\n\n{}\n\n{mark}", piece.text),
            (Kind::List, None) => format!("{}\n\n{mark}", piece.text),
            (Kind::Fenced, Some(lead)) => format!("{lead}\n\n{}\n{mark}", piece.text),
            (Kind::Fenced, None) => format!("{}\n{mark}", piece.text),
            (Kind::Code, _) => format!("```\n{}\n```\n{mark}", piece.text),
        };
        let in_line = piece.unit.kind == Kind::Sentence;
        if !answer.is_empty() {
            answer.push_str(if in_line && !answer.ends_with("\n") { " " } else { "\n\n" });
        }
        answer.push_str(&whole);
    }
    answer
}

fn unique(terms: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    terms.into_iter().filter(|term| seen.insert(term.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grounding(text: &str, score: f64) -> Grounding {
        Grounding { text: text.to_owned(), score, ..Grounding::default() }
    }

    fn says(question: &str, passages: &[Grounding]) -> String {
        answer(question, passages).unwrap_or_default()
    }

    #[test]
    fn the_answer_quotes_the_sentences_that_fit_word_for_word() {
        let passages = [
            grounding(
                "# Rolling back\n\nIntro here. To roll back a release, run\nthe script. It rains.",
                9.0,
            ),
            grounding("- A release has notes.\n- Bananas.", 3.0),
        ];
        let text = says("How do I roll back a release?", &passages);
        assert_eq!(text, "To roll back a release, run\nthe script. [1]");
    }

    #[test]
    fn code_that_holds_the_question_is_no_answer() {
        let asking = "Ask it so:\n\n```json\n{ \"query\": \"How do I roll back a release?\" }\n```";
        let told = "To roll back a release, run the script.";
        let text =
            says("How do I roll back a release?", &[grounding(asking, 9.0), grounding(told, 5.0)]);
        assert_eq!(text, format!("{told} [2]"));
    }

    #[test]
    fn what_stands_above_tells_what_is_said() {
        let mut under = grounding("Ollama is a model server.", 5.0);
        under.headings = vec!["Connecting a model".to_owned()];
        let other = grounding("It measures a model.", 5.0);
        let text = says("How do I connect a model?", &[other, under]);
        assert_eq!(text, "Ollama is a model server. [2]");
        let asked =
            "**How do I get my money back?**\n\nWithin two weeks, by mail.\n\n**Who pays?** You.";
        let text = says("How do I get my money back?", &[grounding(asked, 1.0)]);
        assert_eq!(text, "Within two weeks, by mail. [1]");
    }

    #[test]
    fn a_row_has_its_head_a_list_its_beginning_and_code_its_fences() {
        let table = "| valve | turns |\n|---|---|\n| red | 3 |\n| blue | 4 |";
        assert_eq!(
            says("How many turns has the blue valve?", &[grounding(table, 1.0)]),
            "| valve | turns |\n|---|---|\n| blue | 4 |\n\n[1]"
        );
        let list = "Supported formats are:\n\n- PDF\n- DOCX\n\nThe rest is refused.";
        assert_eq!(
            says("Which formats are supported?", &[grounding(list, 1.0)]),
            "Supported formats are:\n\n- PDF\n- DOCX\n\n[1]"
        );
        let code = "Stop it with this command:\n\n```sh\nbaton off. Now\n```";
        assert_eq!(
            says("Which command stops it?", &[grounding(code, 1.0)]),
            "Stop it with this command:\n\n```sh\nbaton off. Now\n```\n[1]"
        );
        let source = "/// Turns the valve.\nfn turn_valve(turns: u32) {\n    go(turns);\n}";
        assert_eq!(
            says("What does turn_valve do?", &[grounding(source, 1.0)]),
            format!("```\n{source}\n```\n[1]")
        );
    }

    #[test]
    fn nothing_is_said_twice() {
        let one = "The release is rolled back with roll.sh.";
        let again = "The release is rolled back\nwith roll.sh, always.";
        let text =
            says("How is a release rolled back?", &[grounding(one, 2.0), grounding(again, 1.9)]);
        assert_eq!(text, format!("{one} [1]"));
    }

    #[test]
    fn what_the_passages_do_not_hold_is_not_answered() {
        let passages =
            [grounding("The release is rolled back with one script. Bananas are yellow.", 1.0)];
        for question in
            ["Zebras?", "How much does the licence of the script cost in Japan?", "Who?", "", "🦀"]
        {
            assert_eq!(answer(question, &passages), None, "{question}");
        }
        assert_eq!(answer("Anything?", &[]), None);
    }
}
