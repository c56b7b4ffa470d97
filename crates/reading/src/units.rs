//! Cuts a text into what says something by itself: sentences, items of lists, rows of tables, pieces of code.

use std::ops::Range;

/// A list is also taken whole, when it has at most so many bytes.
const LIST: usize = 800;
/// Code of more lines is cut, at blank lines where there are some.
const CODE_LINES: usize = 24;

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A sentence of a paragraph.
    Sentence,
    /// As that, and asks.
    Question,
    /// An item of a list.
    Item,
    /// A list with all of its items, which are units, too.
    List,
    /// A row of a table.
    Row,
    /// Code within fences, which belong to it.
    Fenced,
    /// Other code, or whole lines of it.
    Code,
}

/// A part of a text that says something by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Bytes of the text, without white space around them.
    pub range: Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of what stands before it and belongs to it: a table's head, or the sentence that announces a list or
    /// code.
    pub lead: Option<Range<usize>>,
}

/// Returns the units of a text in order; a list comes before its items. Headings, rules and what only announces
/// something are none.
#[must_use]
pub fn units(text: &str) -> Vec<Unit> {
    let mut cutter = Cutter { text, units: Vec::new(), lead: None };
    let lines = lines(text);
    let mut at = 0;
    while at < lines.len() {
        at = cutter.block(&lines, at);
    }
    cutter.units
}

/// Returns the lines of a text, in bytes, without their ends.
fn lines(text: &str) -> Vec<Range<usize>> {
    let mut at = 0;
    let line = |line: &str| {
        let start = at;
        at += line.len();
        start..start + line.trim_end().len()
    };
    text.split_inclusive('\n').map(line).collect()
}

struct Cutter<'a> {
    text: &'a str,
    units: Vec<Unit>,
    /// The sentence that announced what comes now.
    lead: Option<Range<usize>>,
}

impl Cutter<'_> {
    fn line(&self, line: &Range<usize>) -> &str {
        &self.text[line.clone()]
    }

    /// Reads the block that begins at a line; returns the line after it.
    fn block(&mut self, lines: &[Range<usize>], first: usize) -> usize {
        let line = self.line(&lines[first]);
        let bare = line.trim_start();
        if bare.is_empty() {
            return first + 1;
        }
        if let Some(fence) = fence(bare) {
            let closes = |line: &Range<usize>| self.line(line).trim_start().starts_with(fence);
            let after = lines[first + 1..].iter().position(closes);
            let end = after.map_or(lines.len(), |after| first + after + 2);
            self.fenced(&lines[first..end]);
            return end;
        }
        let count = |those: &dyn Fn(&str) -> bool| {
            let rest = lines[first..].iter();
            rest.take_while(|line| those(self.line(line))).count()
        };
        if is_heading(bare) || is_rule(bare) {
            self.lead = None;
            return first + 1;
        }
        if bare.starts_with('|') {
            let end = first + count(&|line| line.trim_start().starts_with('|'));
            self.table(&lines[first..end]);
            return end;
        }
        if item(line).is_some() {
            // Its items' own paragraphs are indented; a blank line between two items does not end it.
            let mut end = first + 1;
            while let Some(line) = lines.get(end) {
                let line = self.line(line);
                let goes_on = match line.trim().is_empty() {
                    true => lines.get(end + 1).is_some_and(|next| {
                        let next = self.line(next);
                        item(next).is_some() || (next.starts_with("  ") && !next.trim().is_empty())
                    }),
                    false => !is_heading(line.trim_start()) && fence(line).is_none(),
                };
                if !goes_on {
                    break;
                }
                end += 1;
            }
            self.list(&lines[first..end]);
            return end;
        }
        if line.starts_with("    ") || line.starts_with('\t') {
            let mut end = first + count(&|line| line.is_empty() || line.starts_with([' ', '\t']));
            while self.line(&lines[end - 1]).is_empty() {
                end -= 1;
            }
            self.code(&lines[first..end]);
            return end;
        }
        let ends = |line: &str| {
            let bare = line.trim_start();
            bare.is_empty() || fence(bare).is_some() || is_heading(bare) || item(line).is_some()
        };
        let end = first + count(&|line| !ends(line)).max(1);
        let paragraph = &lines[first..end];
        if is_code(self.text, paragraph) {
            self.code(paragraph);
        } else if is_table(self.text, paragraph) || is_fields(self.text, paragraph) {
            for line in paragraph {
                self.push(line.clone(), Kind::Row, None);
            }
            self.lead = None;
        } else {
            self.prose(paragraph[0].start..paragraph[paragraph.len() - 1].end);
        }
        end
    }

    fn push(&mut self, range: Range<usize>, kind: Kind, lead: Option<Range<usize>>) {
        let text = &self.text[range.clone()];
        let start = range.start + text.len() - text.trim_start().len();
        let range = start..start + text.trim().len();
        if self.text[range.clone()].contains(char::is_alphanumeric) {
            self.units.push(Unit { range, kind, lead });
        }
    }

    fn fenced(&mut self, lines: &[Range<usize>]) {
        let lead = self.lead.take();
        if lines.len() <= CODE_LINES + 2 {
            return self.push(lines[0].start..lines[lines.len() - 1].end, Kind::Fenced, lead);
        }
        self.lead = lead;
        self.code(&lines[1..lines.len() - 1]);
    }

    /// Cuts code at blank lines, or else after so many lines.
    fn code(&mut self, lines: &[Range<usize>]) {
        let lead = self.lead.take();
        let mut rest = lines;
        while !rest.is_empty() {
            let most = rest.len().min(CODE_LINES);
            let blank = |line: &Range<usize>| self.line(line).trim().is_empty();
            let cut = match most == rest.len() {
                true => most,
                false => rest[..most].iter().rposition(blank).filter(|at| *at > 0).unwrap_or(most),
            };
            self.push(rest[0].start..rest[cut - 1].end, Kind::Code, lead.clone());
            rest = &rest[cut..];
        }
    }

    fn table(&mut self, lines: &[Range<usize>]) {
        let rule = |line: &Range<usize>| {
            let line = self.line(line);
            line.contains("--") && line.chars().all(|c| "|-: \t".contains(c))
        };
        let (head, rows) = match lines.iter().position(rule) {
            Some(at) => (Some(lines[0].start..lines[at].end), &lines[at + 1..]),
            None => (None, lines),
        };
        self.lead = None;
        for row in rows {
            self.push(row.clone(), Kind::Row, head.clone());
        }
    }

    fn list(&mut self, lines: &[Range<usize>]) {
        let lead = self.lead.take();
        let whole = lines[0].start..lines[lines.len() - 1].end;
        let mut items: Vec<Range<usize>> = Vec::new();
        for line in lines {
            match (item(self.line(line)), items.last_mut()) {
                (None, Some(open)) => open.end = line.end.max(open.end),
                (mark, _) => items.push(line.start + mark.unwrap_or_default()..line.end),
            }
        }
        if items.len() > 1 && whole.len() <= LIST {
            self.push(whole, Kind::List, lead.clone());
        }
        for item in items {
            self.push(item, Kind::Item, lead.clone());
        }
    }

    fn prose(&mut self, paragraph: Range<usize>) {
        self.lead = None;
        let mut rest = paragraph;
        while !rest.is_empty() {
            let end = rest.start + sentence_end(&self.text[rest.clone()]);
            let sentence = rest.start..end;
            rest.start = end;
            let text = self.text[sentence.clone()].trim_end_matches(['*', '_', ' ', '\n', '\r']);
            if text.ends_with(':') {
                let start = sentence.start + text.len() - text.trim_start().len();
                self.lead = Some(start..sentence.start + text.len());
                continue;
            }
            let kind = match text.ends_with(['?', '？']) {
                true => Kind::Question,
                false => Kind::Sentence,
            };
            self.push(sentence, kind, None);
        }
    }
}

/// Returns the fence that a line opens.
fn fence(line: &str) -> Option<&'static str> {
    ["```", "~~~"].into_iter().find(|fence| line.trim_start().starts_with(fence))
}

fn is_heading(line: &str) -> bool {
    let marks = line.len() - line.trim_start_matches('#').len();
    ((1..=6).contains(&marks) && line[marks..].starts_with(' '))
        || (line.starts_with('=') && line.ends_with('='))
}

fn is_rule(line: &str) -> bool {
    let line = line.trim();
    line.len() >= 3 && ['-', '*', '_', '='].iter().any(|mark| line.chars().all(|c| c == *mark))
}

/// Returns where an item's text begins, if the line begins one.
fn item(line: &str) -> Option<usize> {
    let bare = line.trim_start();
    let indent = line.len() - bare.len();
    let mark = bare.chars().next()?;
    let after = match mark {
        '-' | '*' | '+' | '•' => mark.len_utf8(),
        '0'..='9' => {
            let digits = bare.len() - bare.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            (digits <= 3 && bare[digits..].starts_with(['.', ')'])).then_some(digits + 1)?
        }
        _ => return None,
    };
    let text = &bare[after..];
    text.starts_with(' ').then(|| indent + after + text.len() - text.trim_start().len())
}

/// Tells whether most lines look like code's.
fn is_code(text: &str, lines: &[Range<usize>]) -> bool {
    const BEGINS: [&str; 12] = [
        "//", "/*", "#[", "#include", "import ", "def ", "fn ", "pub ", "class ", "return ", "@",
        "}",
    ];
    let like = |line: &&Range<usize>| {
        let line = &text[(*line).clone()];
        let bare = line.trim_start();
        let ends = line.ends_with(['{', '}', ';', '(', '[', ']', '\\'])
            || ["),", "->", "=>", "):", " =", "()", "},", "],"]
                .iter()
                .any(|end| line.ends_with(end));
        ends || BEGINS.iter().any(|begin| bare.starts_with(begin))
            || (line.len() - bare.len() >= 4 && !bare.is_empty())
    };
    let count = lines.iter().filter(like).count();
    count * 5 >= lines.len() * 3
}

/// Tells whether the lines have the same columns, separated by one of the usual marks.
fn is_table(text: &str, lines: &[Range<usize>]) -> bool {
    let count = |line: &Range<usize>, mark: char| text[line.clone()].matches(mark).count();
    let ends = |line: &Range<usize>| text[line.clone()].ends_with(['.', ',', ';', '?', '!']);
    lines.len() > 1
        && !lines.iter().any(ends)
        && [',', ';', '\t', '|'].into_iter().any(|mark| {
            let columns = count(&lines[0], mark);
            columns > 0 && lines.iter().all(|line| count(line, mark) == columns)
        })
}

/// Tells whether each line is a name, a colon and what it is.
fn is_fields(text: &str, lines: &[Range<usize>]) -> bool {
    let is_field = |line: &Range<usize>| {
        let named = text[line.clone()].split_once(": ");
        named.is_some_and(|(name, _)| name.len() <= 40 && name.split(' ').count() <= 4)
    };
    lines.len() > 1 && lines.iter().all(is_field)
}

/// Returns how many bytes the first sentence has.
fn sentence_end(text: &str) -> usize {
    for (at, c) in text.char_indices() {
        let after = at + c.len_utf8();
        if matches!(c, '。' | '！' | '？') {
            return after;
        }
        if !matches!(c, '.' | '!' | '?' | '…' | ':') {
            continue;
        }
        // What closes it stands behind its end.
        let close =
            text[after..].trim_start_matches(['"', '\'', ')', ']', '”', '’', '»', '*', '_']);
        let end = text.len() - close.len();
        if c == ':' && !close.starts_with('\n') {
            continue;
        }
        let next = close.trim_start().chars().next();
        let small = next.is_some_and(char::is_lowercase);
        // What somebody says ends, and not the sentence that tells it.
        let goes_on = (small && end > after) || (c == '.' && abbreviated(&text[..at], small));
        if close.is_empty() || (close.starts_with(char::is_whitespace) && !goes_on) {
            return end;
        }
    }
    text.len()
}

/// Tells whether the point behind `text` is an abbreviation's, which most short words are before a small letter.
fn abbreviated(text: &str, before_small: bool) -> bool {
    const KNOWN: [&str; 24] = [
        "mr", "mrs", "ms", "dr", "prof", "st", "vs", "no", "nos", "fig", "e.g", "i.e", "cf", "al",
        "approx", "inc", "ltd", "co", "sr", "jr", "sec", "vol", "pp", "art",
    ];
    let word = text.rsplit(|c: char| c.is_whitespace() || c == '(').next().unwrap_or_default();
    let is_initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    let is_short = before_small && (word.len() <= 3 || word.contains('.'));
    is_initial || is_short || KNOWN.contains(&word.to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> Vec<(Kind, &str, Option<&str>)> {
        let shown = |unit: Unit| (unit.kind, &text[unit.range], unit.lead.map(|lead| &text[lead]));
        units(text).into_iter().map(shown).collect()
    }

    #[test]
    fn sentences_end_where_they_end() {
        use Kind::{Question, Sentence};
        let text = "# Guide\n\nDr. A. Lee paid approx. 3.5 USD (e.g. in\ncash). \"Why?\" she asked. It is so!\n\nIs it? Yes.";
        assert_eq!(
            shown(text),
            [
                (Sentence, "Dr. A. Lee paid approx. 3.5 USD (e.g. in\ncash).", None),
                (Sentence, "\"Why?\" she asked.", None),
                (Sentence, "It is so!", None),
                (Question, "Is it?", None),
                (Sentence, "Yes.", None),
            ]
        );
    }

    #[test]
    fn a_list_is_one_and_many() {
        use Kind::{Item, List};
        let lead = Some("It reads:");
        let text = "It reads:\n\n- text\n- PDF,\n  also long\n\n1. then";
        assert_eq!(
            shown(text),
            [
                (List, "- text\n- PDF,\n  also long\n\n1. then", lead),
                (Item, "text", lead),
                (Item, "PDF,\n  also long", lead),
                (Item, "then", lead),
            ]
        );
    }

    #[test]
    fn a_row_has_its_head_and_code_what_announces_it() {
        use Kind::{Code, Fenced, Row};
        let table = "| a | b |\n|---|---|\n| 1 | 2 |\n";
        assert_eq!(shown(table), [(Row, "| 1 | 2 |", Some("| a | b |\n|---|---|"))]);
        assert_eq!(shown("x,1\ny,2"), [(Row, "x,1", None), (Row, "y,2", None)]);
        assert_eq!(shown("Name: A\nAge: 3"), [(Row, "Name: A", None), (Row, "Age: 3", None)]);
        let code = "Run this:\n\n```sh\na. B\n```\n\n    x = 1\n\n    y";
        let fenced = (Fenced, "```sh\na. B\n```", Some("Run this:"));
        assert_eq!(shown(code), [fenced, (Code, "x = 1\n\n    y", None)]);
        let long = "fn a() {\n    b();\n}\n\n".repeat(10);
        assert!(shown(&long).iter().all(|(kind, code, _)| *kind == Code && code.ends_with('}')));
    }

    proptest! {
        #[test]
        fn units_lie_in_their_text(text in "([a-zä|,.:?!`#>*0-9 -]{0,20}\n{0,2}){0,30}") {
            for unit in units(&text) {
                prop_assert!(!text[unit.range.clone()].trim().is_empty());
                if let Some(lead) = unit.lead {
                    prop_assert!(lead.end <= unit.range.start && !text[lead].is_empty());
                }
            }
        }
    }
}
