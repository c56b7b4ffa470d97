//! Columns in a terminal.

use time::OffsetDateTime;
use time::macros::format_description;

/// Lines rows up under their heads, two spaces apart; those columns that are `right` to the right.
pub(crate) fn lined_up<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    right: &[usize],
) -> String {
    let rows: Vec<[String; N]> =
        std::iter::once(head.map(str::to_owned)).chain(rows.into_iter().map(printable)).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let cell = |(at, cell): (usize, &String)| match right.contains(&at) {
        true => format!("{cell:>width$}", width = widths[at]),
        false => format!("{cell:width$}", width = widths[at]),
    };
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().enumerate().map(cell).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Writes a moment in UTC, to the minute.
pub(crate) fn date(ms: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000));
    let shape = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    at.ok().and_then(|at| at.format(shape).ok()).unwrap_or_else(|| format!("{ms} ms"))
}

/// Takes what would command the terminal out of text that is anybody's choice.
fn printable<const N: usize>(row: [String; N]) -> [String; N] {
    row.map(|cell| cell.replace(char::is_control, "\u{fffd}"))
}
