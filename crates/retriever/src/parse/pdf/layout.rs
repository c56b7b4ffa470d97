//! From the lines of pages to one text of paragraphs and headings.

use std::collections::HashMap;

use super::super::{Outline, Parsed};
use super::glyphs::Line;

/// Letters that are so much higher than those of most text make a heading, …
const HEADING: f64 = 1.15;
/// … if they are no more than so many bytes.
const LONGEST_HEADING: usize = 200;
/// Headings of smaller sizes than these many stand on the lowest level.
const MOST_LEVELS: usize = 4;

/// Writes pages: a block a paragraph. What stands at the top or the foot of many pages is left out.
pub(super) fn lay_out(mut pages: Vec<Vec<Line>>) -> Result<Parsed, String> {
    leave_out_repeated(&mut pages);
    let levels = levels(&pages);
    let mut parsed = Parsed::default();
    let mut outline = Outline::default();
    for page in &pages {
        parsed.pages.push(parsed.text.len());
        for paragraph in paragraphs(page) {
            let text = joined(paragraph);
            let level = paragraph.first().and_then(|line| levels.get(&steps(line.size)));
            if let Some(level) = level.filter(|_| text.len() <= LONGEST_HEADING) {
                outline.enter(*level, text.replace('\n', " "));
            }
            let between = if parsed.text.is_empty() { "" } else { "\n\n" };
            parsed.write(between, &text, outline.path(), (0, 0))?;
        }
    }
    parsed.count_lines();
    Ok(parsed)
}

/// Cuts a page where lines stand apart, and where their size changes.
fn paragraphs(page: &[Line]) -> impl Iterator<Item = &[Line]> {
    page.chunk_by(|line, next| !next.apart && steps(line.size) == steps(next.size))
}

/// Joins lines; a word that was cut at the end of one is made whole.
fn joined(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        let is_cut = text.strip_suffix('-').is_some_and(|cut| cut.ends_with(char::is_alphabetic));
        if is_cut && line.text.starts_with(char::is_lowercase) {
            text.pop();
        } else if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line.text);
    }
    text
}

/// Returns a size in halves of a point, so that sizes compare.
fn steps(size: f64) -> u32 {
    // Saturates; what is drawn is of some size.
    (size * 2.0).round() as u32
}

/// Returns the sizes of headings and their levels.
fn levels(pages: &[Vec<Line>]) -> HashMap<u32, u8> {
    let mut letters: HashMap<u32, usize> = HashMap::new();
    for line in pages.iter().flatten() {
        *letters.entry(steps(line.size)).or_default() += line.text.len();
    }
    let most = letters.iter().max_by_key(|(size, letters)| (**letters, **size));
    let usual = most.map_or(0.0, |(size, _)| f64::from(*size));
    let mut sizes: Vec<u32> = letters.into_keys().collect();
    sizes.retain(|size| f64::from(*size) >= usual * HEADING);
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let level = |place: usize| u8::try_from(place.min(MOST_LEVELS - 1) + 1).unwrap_or(u8::MAX);
    sizes.into_iter().enumerate().map(|(place, size)| (size, level(place))).collect()
}

/// Leaves the first and the last line of a page out when a fifth of the pages, and three at least, have
/// the same but for its numbers.
fn leave_out_repeated(pages: &mut [Vec<Line>]) {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for page in pages.iter() {
        let ends = [page.first(), page.last().filter(|_| page.len() > 1)];
        for line in ends.into_iter().flatten() {
            *counts.entry(without_numbers(&line.text)).or_default() += 1;
        }
    }
    let enough = 3.max(pages.len() / 5);
    let is_repeated = |line: &Line| {
        counts.get(&without_numbers(&line.text)).is_some_and(|count| *count >= enough)
    };
    for page in pages {
        if page.len() > 1 && page.last().is_some_and(is_repeated) {
            page.pop();
        }
        if page.len() > 1 && page.first().is_some_and(is_repeated) {
            page.remove(0);
        }
    }
}

fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_numeric()).collect()
}
