//! Prices, exactly.

use serde_json::Value;
use types::NanoUsd;

/// What our configuration counts in: $0.001 a million tokens.
const GRAIN: i64 = 1_000_000;

/// Returns a JSON number, or one that is written as text, times ten to the `shift`, without
/// rounding; `None` if it is no number, or too large or fine.
pub(super) fn exact(value: &Value, shift: i32) -> Option<NanoUsd> {
    match value {
        // The shortest text that is this number, which is the one that was written down.
        Value::Number(number) => shifted(&number.to_string(), shift),
        Value::String(text) => shifted(text.trim(), shift),
        _ => None,
    }
}

/// Checks that our configuration can say a price a million tokens.
///
/// # Errors
/// Why it cannot.
pub(super) fn countable(million: NanoUsd) -> Result<NanoUsd, String> {
    if million.nanos() < 0 {
        return Err(format!("{million} USD a million tokens is less than nothing"));
    }
    if million.nanos() % GRAIN != 0 {
        return Err(format!(
            "{million} USD a million tokens is finer than $0.001, which is what we count in"
        ));
    }
    Ok(million)
}

/// Moves the decimal point of `text` (`1.5e-7`) by `shift` to the right.
fn shifted(text: &str, shift: i32) -> Option<NanoUsd> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, digits) = match mantissa.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", mantissa),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_add(shift)?;
    // Nothing that is money has more places; zeros are not made by the thousand.
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !number || digits.len() > 40 || point.abs() > 40 {
        return None;
    }
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let places = i32::try_from(digits.len()).ok()?;
    let digits = format!("{}{digits}{}", zeros(1 - point), zeros(point - places));
    let (whole, fraction) = digits.split_at_checked(usize::try_from(point.max(1)).ok()?)?;
    let fraction = if fraction.is_empty() { "0" } else { fraction };
    format!("{sign}{whole}.{fraction}").parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_price_a_token_becomes_the_exact_price_a_million() {
        for (token, million) in [
            (json!(0.00000015), "0.15"),
            (json!(1.5e-7), "0.15"),
            (json!("0.00000015"), "0.15"),
            (json!("1.5E-7"), "0.15"),
            (json!(" 1e-6 "), "1.00"),
            (json!(0.0000003), "0.30"),
            (json!(0.000075), "75.00"),
            (json!(0.00000125), "1.25"),
            (json!(0.0000000375), "0.0375"),
            (json!(0), "0.00"),
            (json!(0.0), "0.00"),
            (json!(2), "2000000.00"),
            (json!(-1.25e-6), "-1.25"),
            (json!(".000001"), "1.00"),
        ] {
            let shown = exact(&token, 6).map(|price| price.to_string());
            assert_eq!(shown.as_deref(), Some(million), "{token}");
        }
        assert_eq!(exact(&json!(2.5), 0).map(NanoUsd::nanos), Some(2_500_000_000));
    }

    #[test]
    fn what_is_no_price_is_none() {
        for no in
            [json!("free"), json!(""), json!("."), json!("1e"), json!("e5"), json!("1e999999")]
        {
            assert_eq!(exact(&no, 6), None, "{no}");
        }
        for no in
            [json!(null), json!(true), json!([1]), json!("1e-30"), json!("--1"), json!("0x10")]
        {
            assert_eq!(exact(&no, 6), None, "{no}");
        }
        assert_eq!(exact(&json!("1e2147483647"), 6), None);
    }

    #[test]
    fn what_we_cannot_count_is_told_and_not_rounded() {
        let fine = countable(NanoUsd::new(37_500_000)).unwrap_err();
        assert!(fine.starts_with("0.0375 USD a million tokens is finer"), "{fine}");
        assert!(countable(NanoUsd::new(-1_000_000)).is_err());
        assert!(countable(NanoUsd::new(1_000_000)).is_ok());
    }
}
