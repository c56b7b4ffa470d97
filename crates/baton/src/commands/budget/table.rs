//! Money in a terminal: columns in line, amounts whole.

use types::NanoUsd;

use super::answers::{History, Line, Named, State, Usd};
use crate::commands::columns::{date, lined_up};

/// What the first column says: whose state it is.
pub(super) const NAMES: (&str, fn(&State) -> String) = ("NAME", |state| state.id.clone());
/// What the first column says: in which period.
pub(super) const PERIODS: (&str, fn(&State) -> String) = ("PERIOD", |state| state.period.clone());

/// Lines states up, one a line.
pub(super) fn states(states: &[State], (head, first): (&str, fn(&State) -> String)) -> String {
    let head = [head, "SPENT", "HELD", "LIMIT", "LEFT", "USED", "BY THE END", "STATE"];
    let row = |state: &State| {
        let or = |amount: Option<Usd>| amount.map_or_else(|| "–".to_owned(), |usd| money(usd.0));
        [
            first(state),
            money(state.current_spend.0),
            money(state.held.0),
            or(state.limit),
            or(state.remaining),
            state.utilization.map_or_else(|| "–".to_owned(), percent),
            state.projected_spend.map_or_else(|| "–".to_owned(), |usd| about(usd.0)),
            state.status.clone(),
        ]
    };
    lined_up(head, states.iter().map(row), &[1, 2, 3, 4, 5, 6])
}

/// Lines the history up, one line each.
pub(super) fn history(history: &History) -> String {
    let head = ["NUMBER", "AT", "KIND", "SPENT", "HELD", "WHERE", "WHY"];
    let row = |line: &Line| {
        let scopes: Vec<String> = line.scopes.iter().map(named).collect();
        let why = match (&line.reason, &line.author) {
            (Some(reason), Some(author)) => format!("{reason} ({author})"),
            (reason, _) => reason.clone().unwrap_or_default(),
        };
        let moved = |usd: Usd| match usd.0 {
            NanoUsd::ZERO => "–".to_owned(),
            moved => money(moved),
        };
        [
            line.number.to_string(),
            date(line.at_ms),
            line.kind.clone(),
            moved(line.spent_usd),
            moved(line.held_usd),
            scopes.join(" "),
            why,
        ]
    };
    let lines = lined_up(head, history.entries.iter().map(row), &[0, 3, 4]);
    match history.next {
        Some(next) => format!("{lines}\nThere is more: --after {next}\n"),
        None => lines,
    }
}

/// Writes an amount whole, with at least two places: `$0.00015`, `-$1.00`.
pub(super) fn money(amount: NanoUsd) -> String {
    let text = amount.to_string();
    match text.strip_prefix('-') {
        Some(rest) => format!("-${rest}"),
        None => format!("${text}"),
    }
}

/// Writes an estimate: to the cent, or below a dollar to two digits.
fn about(amount: NanoUsd) -> String {
    const CENT: i64 = 10_000_000;
    let nanos = amount.nanos();
    let unit = match nanos.checked_ilog10() {
        Some(digits @ 2..9) => 10_i64.pow(digits - 1),
        Some(9..) => CENT,
        _ => 1,
    };
    // Half a unit more may be more than can be counted; then it is not rounded up.
    let rounded = nanos.checked_add(unit / 2).unwrap_or(nanos) / unit * unit;
    format!("~{}", money(NanoUsd::new(rounded)))
}

/// Writes a share in percent; what is below its limit is never shown as all of it.
fn percent(share: f64) -> String {
    let tenths = share * 1000.0;
    let tenths = if share < 1.0 { tenths.floor() } else { tenths.round() };
    if share > 0.0 && tenths < 1.0 {
        return "<0.1%".to_owned();
    }
    format!("{:.1}%", tenths / 10.0)
}

fn named(scope: &Named) -> String {
    format!("{}:{}", scope.scope, scope.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(id: &str, spend: &str, limit: &str, utilization: &str) -> State {
        let text = format!(
            r#"{{ "scope": "user", "id": "{id}", "period": "daily", "limit": {limit},
                "current_spend": {spend}, "held": 0.00, "remaining": {limit},
                "utilization": {utilization}, "status": "ok", "projected_spend": null }}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn money_is_lined_up_and_whole() {
        let some = [
            state("alice", "0.00015", "10.00", "0.000015"),
            state("Ünal", "9007199.254740993", "null", "null"),
            state("b", "9.9999", "10.00", "0.99999"),
        ];
        let wanted = "\
NAME                SPENT   HELD   LIMIT    LEFT   USED  BY THE END  STATE
alice            $0.00015  $0.00  $10.00  $10.00  <0.1%           –  ok
Ünal   $9007199.254740993  $0.00       –       –      –           –  ok
b                 $9.9999  $0.00  $10.00  $10.00  99.9%           –  ok
";
        assert_eq!(states(&some, NAMES), wanted);
        assert_eq!(money(NanoUsd::new(-1)), "-$0.000000001");
    }

    #[test]
    fn an_estimate_is_as_exact_as_it_can_be() {
        for (nanos, text) in [
            (14_968_000_770, "~$14.97"),
            (179_616, "~$0.00018"),
            (999_999_999, "~$1.00"),
            (12, "~$0.000000012"),
            (0, "~$0.00"),
            (i64::MAX, "~$9223372036.85"),
        ] {
            assert_eq!(about(NanoUsd::new(nanos)), text, "{nanos}");
        }
    }
}
