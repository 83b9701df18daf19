//! Timestamps as the API writes them: RFC 3339 in UTC, to the second (`metav1.Time`) or to the microsecond
//! (`metav1.MicroTime`). Reading follows Go's `time.Parse`, its error texts included. Years reach 9999, which the
//! timestamps of the calendar library do not hold to the last day.

use std::fmt;

use crate::value::Str;

/// A point in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Unix time.
    pub seconds: i64,
    /// Below one thousand million.
    pub nanoseconds: u32,
}

/// A text that is no timestamp, with Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TimeError(String);

const SECOND_LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
/// Go's zero time, which the API writes as null.
const ZERO_SECONDS: i64 = -62_135_596_800;

impl Time {
    pub fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }

    pub fn from_millis(milliseconds: i64) -> Self {
        let rest = u32::try_from(milliseconds.rem_euclid(1000)).expect("a remainder below 1000");
        Self { seconds: milliseconds.div_euclid(1000), nanoseconds: rest * 1_000_000 }
    }

    /// Whether this is the first of January of the year 1, Go's unset time.
    pub fn is_zero(self) -> bool {
        self.seconds == ZERO_SECONDS && self.nanoseconds == 0
    }

    /// Reads a `metav1.Time`.
    pub fn parse(text: &str) -> Result<Self, TimeError> {
        Parser { text, layout: SECOND_LAYOUT, rest: text }.run(false)
    }

    /// Reads a `metav1.MicroTime`, which must have six decimals.
    pub fn parse_micro(text: &str) -> Result<Self, TimeError> {
        Parser { text, layout: MICRO_LAYOUT, rest: text }.run(true)
    }

    /// `2026-11-21T10:00:00Z`
    pub fn to_rfc3339(self) -> Str {
        compact_str::format_compact!("{}Z", Civil(self.seconds))
    }

    /// `2026-11-21T10:00:00.000000Z`
    pub fn to_rfc3339_micro(self) -> Str {
        compact_str::format_compact!("{}.{:06}Z", Civil(self.seconds), self.nanoseconds / 1000)
    }
}

impl From<jiff::Timestamp> for Time {
    fn from(timestamp: jiff::Timestamp) -> Self {
        let nanoseconds = timestamp.as_nanosecond();
        Self {
            seconds: i64::try_from(nanoseconds.div_euclid(1_000_000_000)).expect("a timestamp's seconds fit 64 bits"),
            nanoseconds: u32::try_from(nanoseconds.rem_euclid(1_000_000_000)).expect("a remainder below 10^9"),
        }
    }
}

/// Prints Unix seconds as `2026-11-21T10:00:00`.
struct Civil(i64);

impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.0.div_euclid(86_400));
        let second = self.0.rem_euclid(86_400);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}", second % 60)
    }
}

/// Walks over a text beside the elements of Go's layout.
struct Parser<'a> {
    text: &'a str,
    layout: &'static str,
    rest: &'a str,
}

impl Parser<'_> {
    fn run(mut self, micro: bool) -> Result<Time, TimeError> {
        let year = self.digits("2006", 4, 4)?;
        self.literal("-")?;
        let month = self.ranged("01", 2, 2, 1..=12, "month")?;
        self.literal("-")?;
        let day = self.digits("02", 2, 2)?;
        self.literal("T")?;
        let hour = self.ranged("15", 1, 2, 0..=23, "hour")?;
        self.literal(":")?;
        let minute = self.ranged("04", 2, 2, 0..=59, "minute")?;
        self.literal(":")?;
        let second = self.ranged("05", 2, 2, 0..=59, "second")?;
        let nanoseconds = if micro { self.microseconds()? } else { self.fraction() };
        let offset = self.zone()?;
        if !self.rest.is_empty() {
            return Err(self.error(format!(": extra text: {:?}", self.rest)));
        }
        if day < 1 || day > days_in(month, year) {
            return Err(self.error(": day out of range".to_owned()));
        }
        let seconds = days_from(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset;
        Ok(Time { seconds, nanoseconds })
    }

    fn error(&self, rest: String) -> TimeError {
        TimeError(format!("parsing time {:?}{rest}", self.text))
    }

    fn mismatch(&self, at: &str, element: &str) -> TimeError {
        self.error(format!(" as {:?}: cannot parse {at:?} as {element:?}", self.layout))
    }

    fn literal(&mut self, literal: &str) -> Result<(), TimeError> {
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.mismatch(self.rest, literal)),
        }
    }

    fn digits(&mut self, element: &str, least: usize, most: usize) -> Result<i64, TimeError> {
        let count = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if count < least {
            return Err(self.mismatch(self.rest, element));
        }
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(number(digits))
    }

    fn ranged(
        &mut self,
        element: &str,
        least: usize,
        most: usize,
        range: std::ops::RangeInclusive<i64>,
        name: &str,
    ) -> Result<i64, TimeError> {
        let value = self.digits(element, least, most)?;
        if range.contains(&value) { Ok(value) } else { Err(self.error(format!(": {name} out of range"))) }
    }

    /// Any number of decimals, which Go accepts though the layout names none.
    fn fraction(&mut self) -> u32 {
        let Some(decimals) = self.rest.strip_prefix(['.', ',']) else { return 0 };
        let count = decimals.bytes().take_while(u8::is_ascii_digit).count();
        if count == 0 {
            return 0;
        }
        self.rest = &decimals[count..];
        nanoseconds(&decimals[..count.min(9)])
    }

    fn microseconds(&mut self) -> Result<u32, TimeError> {
        let decimals = self.rest.strip_prefix(['.', ',']).and_then(|rest| rest.get(..6));
        let Some(decimals) = decimals.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())) else {
            return Err(self.mismatch(self.rest, ".000000"));
        };
        self.rest = &self.rest[7..];
        Ok(nanoseconds(decimals))
    }

    /// Seconds east of Greenwich.
    fn zone(&mut self) -> Result<i64, TimeError> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(0);
        }
        let sign = match self.rest.as_bytes() {
            [b'+', _, _, b':', _, _, ..] => 1,
            [b'-', _, _, b':', _, _, ..] => -1,
            _ => return Err(self.mismatch(self.rest, "Z07:00")),
        };
        let field = |range| self.rest.get(range).filter(|text: &&str| text.bytes().all(|byte| byte.is_ascii_digit()));
        let (Some(hours), Some(minutes)) = (field(1..3), field(4..6)) else {
            return Err(self.mismatch(self.rest, "Z07:00"));
        };
        let (hours, minutes) = (number(hours), number(minutes));
        if hours > 24 {
            return Err(self.error(": time zone offset hour out of range".to_owned()));
        }
        if minutes > 60 {
            return Err(self.error(": time zone offset minute out of range".to_owned()));
        }
        self.rest = &self.rest[6..];
        Ok(sign * (hours * 3600 + minutes * 60))
    }
}

fn number(digits: &str) -> i64 {
    digits.bytes().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
}

fn nanoseconds(decimals: &str) -> u32 {
    let padding = 9 - decimals.len();
    decimals.bytes().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
        * 10u32.pow(u32::try_from(padding).expect("at most nine decimals"))
}

fn days_in(month: i64, year: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date in the Gregorian calendar. Years are counted from March, in eras of 400 years.
fn days_from(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The date of a day since 1970.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = (from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes() {
        for (text, expect) in [
            ("2026-11-21T10:03:32Z", "2026-11-21T10:03:32Z"),
            ("2026-11-21T10:03:32.987654321+02:00", "2026-11-21T08:03:32Z"),
            ("2024-02-29T23:59:59-00:01", "2024-03-01T00:00:59Z"),
            ("2024-02-29T1:59:59Z", "2024-02-29T01:59:59Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
            ("1969-12-31T23:59:59Z", "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(Time::parse(text).unwrap().to_rfc3339(), expect);
        }
        assert!(Time::parse("0001-01-01T00:00:00Z").unwrap().is_zero());
        assert_eq!(
            Time::parse_micro("2026-11-21T10:03:32.000010Z").unwrap().to_rfc3339_micro(),
            "2026-11-21T10:03:32.000010Z"
        );
        assert_eq!(Time::from_millis(-1).to_rfc3339_micro(), "1969-12-31T23:59:59.999000Z");
        let now = jiff::Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        assert_eq!(Time::from(now), Time::from_millis(1_700_000_000_123));
        assert_eq!(Time::from(now).to_rfc3339(), now.to_string().replace(".123", ""));
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in -200_000..200_000 {
            let (year, month, date) = date_of(day);
            assert_eq!(days_from(year, month, date), day);
            assert!((1..=12).contains(&month) && (1..=days_in(month, year)).contains(&date));
        }
    }

    #[test]
    fn refuses_with_the_words_of_go() {
        for (text, error) in [
            ("", r#"parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#),
            (
                "yesterday",
                r#"parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006""#,
            ),
            ("2026-11-21", r#"parsing time "2026-11-21" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#),
            ("2026-13-21T00:00:00Z", r#"parsing time "2026-13-21T00:00:00Z": month out of range"#),
            ("2026-02-29T00:00:00Z", r#"parsing time "2026-02-29T00:00:00Z": day out of range"#),
            ("2026-02-20T24:00:00Z", r#"parsing time "2026-02-20T24:00:00Z": hour out of range"#),
            (
                "2026-02-20T00:00:00",
                r#"parsing time "2026-02-20T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
            ),
            ("2026-02-20T00:00:00Zx", r#"parsing time "2026-02-20T00:00:00Zx": extra text: "x""#),
            (
                "2026-02-20T00:00:00+25:00",
                r#"parsing time "2026-02-20T00:00:00+25:00": time zone offset hour out of range"#,
            ),
        ] {
            assert_eq!(Time::parse(text).unwrap_err().to_string(), error);
        }
        let micro = Time::parse_micro("2026-02-20T00:00:00Z").unwrap_err().to_string();
        assert_eq!(
            micro,
            r#"parsing time "2026-02-20T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#
        );
    }
}
