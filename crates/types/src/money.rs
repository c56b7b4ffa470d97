use std::fmt;
use std::str::FromStr;

const NANOS_PER_USD: i64 = 1_000_000_000;

/// An amount of money in billionths of a US dollar.
///
/// A token at $0.15 per million costs exactly 150. Arithmetic is checked: nothing wraps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NanoUsd(i64);

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a decimal number.
    #[error("{0:?} is not a decimal number")]
    NotANumber(String),
    /// More than nine digits after the point.
    #[error("{0:?} has more than nine decimal places")]
    TooPrecise(String),
    /// Beyond ±9,223,372,036 USD.
    #[error("{0:?} is too large")]
    TooLarge(String),
}

impl NanoUsd {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Returns an amount of `nanos` billionths of a dollar.
    #[must_use]
    pub const fn new(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns the amount in billionths of a dollar.
    #[must_use]
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Returns true for more than nothing.
    #[must_use]
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Returns the sum, or `None` if it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Returns the difference, or `None` if it does not fit.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Returns `self` taken `count` times, or `None` if it does not fit.
    #[must_use]
    pub fn checked_mul(self, count: u64) -> Option<Self> {
        self.0.checked_mul(i64::try_from(count).ok()?).map(Self)
    }

    /// Returns the amount in dollars, for a JSON number: exact to nine places below a million.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "for display; money itself is never a float")]
    pub fn to_usd(self) -> f64 {
        self.0 as f64 / NANOS_PER_USD as f64
    }

    /// Reads a JSON number of dollars.
    ///
    /// # Errors
    /// [`MoneyError`] if it is not finite, has more than nine places or is too large.
    pub fn from_usd(usd: f64) -> Result<Self, MoneyError> {
        usd.to_string().parse()
    }
}

impl FromStr for NanoUsd {
    type Err = MoneyError;

    /// Reads dollars: `-12.000000150`.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let not_a_number = || MoneyError::NotANumber(text.to_owned());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !all_digits(whole) || !all_digits(fraction) {
            return Err(not_a_number());
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > 9 {
            return Err(MoneyError::TooPrecise(text.to_owned()));
        }
        let too_large = || MoneyError::TooLarge(text.to_owned());
        let whole: i64 = whole.parse().map_err(|_| too_large())?;
        let nanos: i64 = format!("{fraction:0<9}").parse().map_err(|_| not_a_number())?;
        let total = whole.checked_mul(NANOS_PER_USD).and_then(|whole| whole.checked_add(nanos));
        let total = total.ok_or_else(too_large)?;
        Ok(Self(if negative { -total } else { total }))
    }
}

/// Writes dollars without rounding, with at least two places: `0.00015`, `12.00`.
impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let (whole, fraction) =
            (nanos / NANOS_PER_USD.unsigned_abs(), nanos % NANOS_PER_USD.unsigned_abs());
        let fraction = format!("{fraction:09}");
        let shown = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{sign}{whole}.{}", &fraction[..shown])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_exactly_or_refused() {
        let cases = [("0.15", 150_000_000), ("10.00", 10_000_000_000), ("-0.000000001", -1)];
        for (text, nanos) in cases {
            assert_eq!(text.parse(), Ok(NanoUsd::new(nanos)), "{text}");
        }
        for text in ["", ".", "1.", ".5", "1e3", "NaN", "+1", "1,0", "--1"] {
            let refused = text.parse::<NanoUsd>();
            assert_eq!(refused, Err(MoneyError::NotANumber(text.to_owned())), "{text}");
        }
        let precise = "0.0000000001".parse::<NanoUsd>();
        assert_eq!(precise, Err(MoneyError::TooPrecise("0.0000000001".to_owned())));
        let large = "9223372037".parse::<NanoUsd>();
        assert_eq!(large, Err(MoneyError::TooLarge("9223372037".to_owned())));
        assert!(NanoUsd::from_usd(f64::NAN).is_err());
        assert!(NanoUsd::from_usd(f64::INFINITY).is_err());
    }

    #[test]
    fn small_money_is_not_shown_as_nothing() {
        assert_eq!(NanoUsd::new(150_000).to_string(), "0.00015");
        assert_eq!(NanoUsd::new(-1).to_string(), "-0.000000001");
        assert_eq!(NanoUsd::new(12_000_000_000).to_string(), "12.00");
    }

    proptest! {
        #[test]
        fn text_and_amount_are_one(nanos in -i64::MAX..i64::MAX) {
            let amount = NanoUsd::new(nanos);
            prop_assert_eq!(amount.to_string().parse(), Ok(amount));
        }

        #[test]
        fn a_json_number_carries_amounts_below_a_million(nanos in 0..1_000_000 * NANOS_PER_USD) {
            let amount = NanoUsd::new(nanos);
            prop_assert_eq!(NanoUsd::from_usd(amount.to_usd()), Ok(amount));
        }
    }
}
