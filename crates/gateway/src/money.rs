//! Money as JSON carries it: decimal numbers of US dollars, which never pass through a float here.

use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use types::NanoUsd;

use crate::Error;

/// Digits behind the point of the smallest amount.
const PLACES: i64 = 9;
/// Digits of the largest amount in nano-USD.
const DIGITS: i64 = 19;

/// An amount in an answer: written whole, with at least two places and at most nine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usd(pub(crate) NanoUsd);

impl Usd {
    /// Returns an amount of billionths of a dollar.
    pub(crate) fn of(nanos: i64) -> Self {
        Self(NanoUsd::new(nanos))
    }
}

impl Serialize for Usd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = RawValue::from_string(self.0.to_string()).map_err(S::Error::custom)?;
        text.serialize(serializer)
    }
}

/// An amount in a request, as the client wrote it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Amount(Box<RawValue>);

impl Amount {
    /// Reads the amount that stands at `place` in the body.
    ///
    /// # Errors
    /// If it is no number, has more than nine decimal places, or is too large to be counted.
    pub(crate) fn read(&self, place: &str) -> Result<NanoUsd, Error> {
        let text = self.0.get();
        read(text).map_err(|fault| Error::invalid(format!("{place}: {} {fault}", short(text))))
    }

    /// Reads a limit: an amount of more than nothing.
    ///
    /// # Errors
    /// As [`Amount::read`], or if it is zero or less.
    pub(crate) fn limit(&self, place: &str) -> Result<NanoUsd, Error> {
        let amount = self.read(place)?;
        if amount < NanoUsd::ZERO {
            return Err(Error::invalid(format!("{place}: {amount} is negative")));
        }
        if amount == NanoUsd::ZERO {
            let fault = "0 is no limit; 0.000000001 lets nothing through that costs money";
            return Err(Error::invalid(format!("{place}: {fault}")));
        }
        Ok(amount)
    }
}

/// Checks the currency of a request's amounts; ours when absent.
///
/// # Errors
/// If it is another.
pub(crate) fn check_currency(currency: Option<&str>) -> Result<(), Error> {
    match currency {
        None | Some("USD") => Ok(()),
        Some(other) => Err(Error::invalid(format!("/currency: {other:?} is not USD"))),
    }
}

/// Reads a JSON number, its exponent included.
fn read(text: &str) -> Result<NanoUsd, &'static str> {
    let (negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if !rest.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("is not a number");
    }
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let shortest = digits.trim_end_matches('0');
    if shortest.is_empty() {
        return Ok(NanoUsd::ZERO);
    }
    // The parser has seen that it is a number: an exponent that does not fit is only a very long one.
    let exponent = match exponent.strip_prefix('-') {
        Some(digits) => -digits.parse::<i64>().unwrap_or(i64::MAX),
        None => exponent.trim_start_matches('+').parse().unwrap_or(i64::MAX),
    };
    let length = |text: &str| i64::try_from(text.len()).unwrap_or(i64::MAX);
    let trailing = length(digits) - length(shortest);
    // By so many zeros the shortest digits are continued to count nano-USD.
    let zeros =
        exponent.saturating_sub(length(fraction)).saturating_add(trailing).saturating_add(PLACES);
    if zeros < 0 {
        return Err("has more than nine decimal places");
    }
    if length(shortest).saturating_add(zeros) > DIGITS {
        return Err("is too large");
    }
    let zeros = usize::try_from(zeros).unwrap_or_default();
    let sign = if negative { "-" } else { "" };
    let nanos = format!("{sign}{shortest}{}", "0".repeat(zeros)).parse();
    nanos.map(NanoUsd::new).map_err(|_| "is too large")
}

/// Shortens what a client wrote, for a message about it.
fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_number_is_read_as_it_was_written() {
        for (text, nanos) in [
            ("10", 10_000_000_000),
            ("0.15", 150_000_000),
            ("-0.000000001", -1),
            ("1e-9", 1),
            ("1.50E+2", 150_000_000_000),
            ("0.00000000100000000000000000", 1),
            ("0e999999999999999999999", 0),
            ("-0", 0),
            // A float of 64 bits would have lost the last digit.
            ("9007199.254740993", 9_007_199_254_740_993),
            ("9223372036.854775807", i64::MAX),
        ] {
            assert_eq!(amount(text).read("/limit").unwrap(), NanoUsd::new(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_told_why() {
        for (text, told) in [
            ("0.0000000001", "/limit: 0.0000000001 has more than nine decimal places"),
            (
                "0.1000000000000000055",
                "/limit: 0.1000000000000000055 has more than nine decimal places",
            ),
            ("1e-999999999999999999999", "has more than nine decimal places"),
            ("9223372036.854775808", "is too large"),
            ("1e11", "is too large"),
            ("1e999999999999999999999", "is too large"),
            ("\"5\"", "/limit: \"5\" is not a number"),
            ("null", "/limit: null is not a number"),
            ("[1]", "is not a number"),
            ("-1", "/limit: -1.00 is negative"),
            ("0", "/limit: 0 is no limit"),
        ] {
            let fault = amount(text).limit("/limit").unwrap_err().to_string();
            assert!(fault.contains(told), "{text}: {fault}");
        }
        for text in ["NaN", "Infinity", "1.", ".5", "+1", "01", "1e"] {
            assert!(serde_json::from_str::<Amount>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_amount_is_written_whole() {
        for (nanos, text) in [(150_000, "0.00015"), (0, "0.00"), (i64::MAX, "9223372036.854775807")]
        {
            assert_eq!(serde_json::to_string(&Usd::of(nanos)).unwrap(), text);
        }
    }
}
