//! Calendar periods in UTC. Pure.

use std::str::FromStr;

use time::{Duration, OffsetDateTime, Time};

use crate::Error;

/// A calendar period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// From midnight.
    Daily,
    /// From Monday, midnight.
    Weekly,
    /// From the first, midnight.
    Monthly,
    /// From the beginning, never reset.
    Total,
}

impl Period {
    /// Every period, shortest first.
    pub const ALL: [Self; 4] = [Self::Daily, Self::Weekly, Self::Monthly, Self::Total];

    /// Returns the word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Total => "total",
        }
    }

    /// Returns the first millisecond of the period that holds `at_ms`, and the first one after it;
    /// the total begins at 0 and has no end. Milliseconds since 1970.
    #[must_use]
    pub fn bounds(self, at_ms: i64) -> (i64, Option<i64>) {
        let at = OffsetDateTime::from_unix_timestamp(at_ms.div_euclid(1000))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let day = at.replace_time(Time::MIDNIGHT);
        let (start, end) = match self {
            Self::Daily => (day, day + Duration::DAY),
            Self::Weekly => {
                let since_monday = i64::from(day.weekday().number_days_from_monday());
                let monday = day - Duration::days(since_monday);
                (monday, monday + Duration::WEEK)
            }
            Self::Monthly => {
                let first = day - Duration::days(i64::from(day.day()) - 1);
                let days = i64::from(first.month().length(first.year()));
                (first, first + Duration::days(days))
            }
            Self::Total => return (0, None),
        };
        (start.unix_timestamp() * 1000, Some(end.unix_timestamp() * 1000))
    }
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        let known = Self::ALL.into_iter().find(|period| period.as_str() == word);
        known.ok_or_else(|| {
            Error::Invalid(format!("period {word:?} is not daily, weekly, monthly or total"))
        })
    }
}

#[cfg(test)]
mod tests {
    use time::format_description::well_known::Rfc3339;

    use super::*;

    fn ms(text: &str) -> i64 {
        OffsetDateTime::parse(text, &Rfc3339).unwrap().unix_timestamp() * 1000
    }

    #[test]
    fn periods_begin_at_midnight_on_monday_and_on_the_first() {
        use Period::{Daily, Monthly, Weekly};
        let cases = [
            (Daily, "2024-02-29T23:59:59Z", "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Daily, "2026-11-24T00:00:00Z", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"),
            (Weekly, "2026-11-24T12:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Weekly, "2026-11-29T23:59:59Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
            (Weekly, "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"),
            (Monthly, "2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
            (Monthly, "2026-12-31T23:59:59Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ];
        for (period, at, start, end) in cases {
            assert_eq!(period.bounds(ms(at)), (ms(start), Some(ms(end))), "{period:?} {at}");
        }
        assert_eq!(Period::Total.bounds(ms("2026-11-24T00:00:00Z")), (0, None));
    }
}
