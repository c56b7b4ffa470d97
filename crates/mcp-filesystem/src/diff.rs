//! What changed, as people and models read it.

use std::fmt::Write as _;
use std::time::Duration;

use similar::{ChangeTag, DiffOp, TextDiff};

/// How many lines that did not change stand around those that did.
const CONTEXT: usize = 4;

/// Returns a unified difference in a Markdown fence that nothing in it ends. The search for the
/// shortest one ends after `time`.
pub(crate) fn fenced(path: &str, old: &str, new: &str, time: Duration) -> String {
    let diff = unified(path, &old.replace("\r\n", "\n"), &new.replace("\r\n", "\n"), time);
    let longest = diff.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat((longest + 1).max(3));
    format!("{fence}diff\n{diff}{fence}\n\n")
}

fn unified(path: &str, old: &str, new: &str, time: Duration) -> String {
    let lines = |text| str::split_inclusive(text, '\n').collect::<Vec<_>>();
    let (old, new) = (lines(old), lines(new));
    let diff = TextDiff::configure().timeout(time).diff_slices(&old, &new);
    let bar = "=".repeat(67);
    let mut told = format!("Index: {path}\n{bar}\n--- {path}\toriginal\n+++ {path}\tmodified\n");
    for hunk in diff.grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else { continue };
        let old = range(first.old_range().start, last.old_range().end);
        let new = range(first.new_range().start, last.new_range().end);
        // Writing to a string cannot fail.
        let _ = writeln!(told, "@@ -{old} +{new} @@");
        for change in hunk.iter().flat_map(|op: &DiffOp| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            let _ = write!(told, "{sign}{}", change.value());
            if !change.value().ends_with('\n') {
                told += "\n\\ No newline at end of file\n";
            }
        }
    }
    told
}

/// Returns lines `start` (from zero on) to `end` as the format counts them: no lines are behind one.
fn range(start: usize, end: usize) -> String {
    let first = if start == end { start } else { start + 1 };
    format!("{first},{}", end - start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_and_their_ends_told() {
        let diff = fenced("/x", "a\nb", "a\nc\n", Duration::from_secs(1));
        let hunk = "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+c\n```\n\n";
        assert!(diff.starts_with("```diff\nIndex: /x\n===") && diff.ends_with(hunk), "{diff}");
        let diff = fenced("/x", "", "````\n", Duration::from_secs(1));
        let hunk = "@@ -0,0 +1,1 @@\n+````\n`````\n\n";
        assert!(diff.starts_with("`````diff\n") && diff.ends_with(hunk), "{diff}");
    }
}
