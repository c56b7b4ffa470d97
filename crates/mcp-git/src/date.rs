//! Times, as commits have them and as callers write them.

use git2::Time;
use interim::{Dialect, parse_date_string};
use time::{OffsetDateTime, UtcOffset};

use crate::Error;

/// Writes a time as the log shows it: `2024-01-15 10:00:00+01:00`.
pub(crate) fn in_log(time: Time) -> String {
    written(time, ":", "")
}

/// Writes a time as `git show --date=iso` does: `2024-01-15 10:00:00 +0100`.
pub(crate) fn iso(time: Time) -> String {
    written(time, "", " ")
}

fn written(time: Time, colon: &str, space: &str) -> String {
    let offset = UtcOffset::from_whole_seconds(time.offset_minutes().saturating_mul(60));
    let utc = OffsetDateTime::from_unix_timestamp(time.seconds());
    let (Ok(utc), Ok(offset)) = (utc, offset) else { return format!("@{}", time.seconds()) };
    let Some(local) = utc.checked_to_offset(offset) else { return format!("@{}", time.seconds()) };
    let (hours, minutes, _) = offset.as_hms();
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}{space}{}{:02}{colon}{:02}",
        local.year(),
        u8::from(local.month()),
        local.day(),
        local.hour(),
        local.minute(),
        local.second(),
        if offset.is_negative() { '-' } else { '+' },
        hours.unsigned_abs(),
        minutes.unsigned_abs(),
    )
}

/// Reads a moment: ISO 8601, words such as `2 weeks ago`, or a date; UTC unless it says otherwise.
pub(crate) fn read(what: &str, text: &str, now: OffsetDateTime) -> Result<i64, Error> {
    let text = crate::revision::named(what, text)?.trim();
    let read = match text {
        "today" => Ok(now.replace_time(time::Time::MIDNIGHT)),
        // Git's word means a day ago, at this time.
        "yesterday" => Ok(now - time::Duration::DAY),
        _ => parse_date_string(&with_comma(text), now, Dialect::Us),
    };
    read.map(OffsetDateTime::unix_timestamp).map_err(|fault| {
        Error::Invalid(format!(
            "Invalid {what}: '{text}' is not a time such as 2024-01-15T14:30:25, \
             '2 weeks ago' or 'Jan 15 2024': {fault}"
        ))
    })
}

/// Writes `Jan 15 2024`, as git takes it, as the library does: `Jan 15, 2024`.
fn with_comma(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    match words.as_slice() {
        [month, day, year, rest @ ..]
            if !is_number(month) && is_number(day) && is_number(year) && year.len() == 4 =>
        {
            format!("{month} {day}, {year} {}", rest.join(" ")).trim_end().to_owned()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn times_are_written_as_the_reference_writes_them() {
        let time = Time::new(1_705_309_200, 60);
        assert_eq!(in_log(time), "2024-01-15 10:00:00+01:00");
        assert_eq!(iso(time), "2024-01-15 10:00:00 +0100");
        assert_eq!(iso(Time::new(1_705_309_200, -330)), "2024-01-15 03:30:00 -0530");
        assert_eq!(in_log(Time::new(i64::MAX, 0)), format!("@{}", i64::MAX));
        assert_eq!(in_log(Time::new(253_402_300_799, 900)), "@253402300799");
    }

    #[test]
    fn moments_are_read_as_the_tool_says_or_refused() {
        let now = datetime!(2024-03-10 12:00:00 UTC);
        let read = |text| read("start_timestamp", text, now);
        for (text, wanted) in [
            ("2024-01-15T14:30:25", datetime!(2024-01-15 14:30:25 UTC)),
            ("2024-01-15 14:30", datetime!(2024-01-15 14:30:00 UTC)),
            ("2024-01-15T14:30:25Z", datetime!(2024-01-15 14:30:25 UTC)),
            ("2024-01-15T14:30:25+02:00", datetime!(2024-01-15 12:30:25 UTC)),
            ("2024-01-15", datetime!(2024-01-15 00:00:00 UTC)),
            ("Jan 15 2024", datetime!(2024-01-15 00:00:00 UTC)),
            ("Jan 15 2024 14:30", datetime!(2024-01-15 14:30:00 UTC)),
            ("15 January 2024", datetime!(2024-01-15 00:00:00 UTC)),
            ("2 weeks ago", datetime!(2024-02-25 12:00:00 UTC)),
            ("3 hours ago", datetime!(2024-03-10 09:00:00 UTC)),
            ("yesterday", datetime!(2024-03-09 12:00:00 UTC)),
            ("today", datetime!(2024-03-10 00:00:00 UTC)),
        ] {
            assert_eq!(read(text).unwrap(), wanted.unix_timestamp(), "{text}");
        }
        for wrong in ["", "--all", "tomato", "2024-13-01", "2024-02-30", "x\ny"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
