//! Writing from right to left: files hold its letters as they stand on the page, from left to right.

use unicode_normalization::UnicodeNormalization as _;

/// Tells whether a text is written from right to left, by its first letter.
pub(super) fn is_right_to_left(text: &str) -> bool {
    text.chars().find(|c| c.is_alphabetic()).is_some_and(leftwards)
}

/// Returns a line as it is read: letters from right to left are put in order, unless they are already,
/// and forms of letters become the letters.
pub(super) fn in_reading_order(line: &str, is_ordered: bool) -> String {
    if is_ordered || !line.contains(leftwards) {
        return letters(line);
    }
    let count = |wanted: bool| {
        line.chars().filter(|c| c.is_alphabetic() && leftwards(*c) == wanted).count()
    };
    let is_leftwards = count(true) >= count(false);
    let mut runs = runs(line, is_leftwards);
    if is_leftwards {
        runs.reverse();
    }
    let turned = runs.into_iter().map(|(run, is_leftwards)| match is_leftwards {
        true => run.chars().rev().map(mirrored).collect::<String>(),
        false => run.to_owned(),
    });
    letters(&turned.collect::<String>())
}

/// Cuts a line where the direction changes; tells of each run whether it goes from right to left. Marks
/// and spaces go with the letters around them, and between two directions with that of the line.
fn runs(line: &str, is_leftwards: bool) -> Vec<(&str, bool)> {
    let mut cuts = vec![(0, is_leftwards)];
    let (mut now, mut behind) = (is_leftwards, 0);
    for (at, c) in line.char_indices() {
        if !c.is_alphanumeric() {
            continue;
        }
        if leftwards(c) != now {
            now = !now;
            cuts.push((if now == is_leftwards { behind } else { at }, now));
        }
        behind = at + c.len_utf8();
    }
    if now != is_leftwards {
        cuts.push((behind, is_leftwards));
    }
    let ends = cuts.iter().skip(1).map(|cut| cut.0).chain([line.len()]);
    cuts.iter().zip(ends).map(|(cut, end)| (&line[cut.0..end], cut.1)).collect()
}

fn leftwards(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
        && !c.is_numeric()
}

fn mirrored(c: char) -> char {
    match c {
        '(' => ')',
        ')' => '(',
        '[' => ']',
        ']' => '[',
        '{' => '}',
        '}' => '{',
        '<' => '>',
        '>' => '<',
        '«' => '»',
        '»' => '«',
        c => c,
    }
}

/// Replaces ligatures and forms of letters, which fonts have, by the letters.
fn letters(text: &str) -> String {
    let is_form = |c: char| matches!(c, '\u{fb00}'..='\u{fb06}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefc}');
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // Bullets of the fonts of symbols.
            '\u{f0a7}' | '\u{f0b7}' => written.push('•'),
            c if is_form(c) => written.extend(std::iter::once(c).nfkc()),
            c => written.push(c),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_from_right_to_left_is_read_from_its_right() {
        for (drawn, read) in [
            ("plain (text) 1.", "plain (text) 1."),
            ("םלוע םולש", "שלום עולם"),
            ("12 דומע םולש", "שלום עמוד 12"),
            (".(3.5 הסרג) Baton תכרעמ", "מערכת Baton (גרסה 3.5)."),
            ("The word: (םולש)! means peace", "The word: (שלום)! means peace"),
            ("ﻼﺳ", "سلا"),
            ("ﬁt \u{f0b7}", "fit •"),
        ] {
            assert_eq!(in_reading_order(drawn, false), read, "{drawn}");
        }
        assert_eq!(in_reading_order("שלום", true), "שלום");
    }
}
