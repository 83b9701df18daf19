//! When a cron job is due: five fields or a word such as `@daily` (crontab(5), as the library reads it that upstream uses), in a
//! time zone. What is stored has been validated, so that an error here is one of an older rule.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan as _};

/// A schedule that is not due for so long is never due.
const DAYS_MAX: i64 = 5 * 366;

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Lowest and highest number of a field, and names for them.
const FIELDS: [(u8, u8, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];

const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A schedule with its time zone.
#[derive(Debug)]
pub(super) struct Schedule {
    times: Times,
    pub(super) zone: TimeZone,
}

#[derive(Debug)]
enum Times {
    /// Minutes, hours, days of the month, months, days of the week.
    Fields([Field; 5]),
    /// Seconds between.
    Every(i64),
}

/// Numbers as bits.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    bits: u64,
    /// `*`, which leaves the choice of days to the other field of days.
    any: bool,
}

/// Why a schedule is not followed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScheduleError {
    #[error("unknown time zone {0}")]
    Zone(String),
    #[error("{0:?} is no schedule")]
    Syntax(String),
}

impl Schedule {
    /// Reads a schedule; `zone` is empty for UTC.
    pub(super) fn parse(text: &str, zone: &str) -> Result<Self, ScheduleError> {
        let syntax = || ScheduleError::Syntax(text.to_owned());
        let named = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ="));
        let (zone, rest) = match named {
            Some(named) => named.split_once(' ').ok_or_else(syntax)?,
            None => (zone, text),
        };
        let zone = match zone {
            "" | "UTC" => TimeZone::UTC,
            named => TimeZone::get(named).map_err(|_| ScheduleError::Zone(named.to_owned()))?,
        };
        let rest = rest.trim();
        if let Some(duration) = rest.strip_prefix("@every ") {
            let seconds = seconds(duration).ok_or_else(syntax)?;
            return Ok(Self { times: Times::Every(seconds.max(1)), zone });
        }
        let rest = WORDS.iter().find(|(word, _)| *word == rest).map_or(rest, |(_, fields)| fields);
        let texts: Vec<&str> = rest.split_whitespace().collect();
        let texts: [&str; 5] = texts.try_into().map_err(|_| syntax())?;
        let mut fields = [Field::default(); 5];
        for ((field, text), bounds) in fields.iter_mut().zip(texts).zip(FIELDS) {
            *field = Field::parse(text, bounds).ok_or_else(syntax)?;
        }
        Ok(Self { times: Times::Fields(fields), zone })
    }

    /// The first time after `after_s`, in Unix seconds; `None` where there is none in years.
    pub(super) fn next(&self, after_s: i64) -> Option<i64> {
        let fields = match &self.times {
            Times::Every(seconds) => return after_s.checked_add(*seconds),
            Times::Fields(fields) => fields,
        };
        let first = self.zone.to_datetime(Timestamp::from_second(after_s).ok()?).date();
        // A day is begun again where clocks were turned back over midnight.
        let first = first.yesterday().unwrap_or(first);
        (0..DAYS_MAX).find_map(|days| {
            let date = first.checked_add(days.days()).ok()?;
            is_on(fields, date).then(|| self.first_of(fields, date, after_s)).flatten()
        })
    }

    /// The first time of a day after `after_s`. What clocks leave out does not come; what they show twice comes twice.
    fn first_of(&self, fields: &[Field; 5], date: Date, after_s: i64) -> Option<i64> {
        let hours = (0..24).filter(|hour| fields[1].has(*hour));
        let times =
            hours.flat_map(|hour| (0..60).filter(|minute| fields[0].has(*minute)).map(move |minute| (hour, minute)));
        let moments = times.flat_map(|(hour, minute)| {
            let shown = date.at(hour, minute, 0, 0);
            let moments = self.zone.to_ambiguous_timestamp(shown);
            let offsets = match moments.offset() {
                AmbiguousOffset::Unambiguous { offset } => [Some(offset), None],
                AmbiguousOffset::Gap { .. } => [None, None],
                AmbiguousOffset::Fold { before, after } => [Some(before), Some(after)],
            };
            offsets.into_iter().flatten().filter_map(move |offset| offset.to_timestamp(shown).ok())
        });
        moments.map(Timestamp::as_second).filter(|moment_s| *moment_s > after_s).min()
    }
}

/// Whether anything is due on a day. Where both fields of days choose, either is enough.
fn is_on(fields: &[Field; 5], date: Date) -> bool {
    let [_, _, days, months, weekdays] = fields;
    let day = days.has(date.day());
    let weekday = weekdays.has(date.weekday().to_sunday_zero_offset());
    let is_day = if days.any || weekdays.any { day && weekday } else { day || weekday };
    months.has(date.month()) && is_day
}

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|number| self.bits & (1 << number) != 0)
    }

    fn parse(text: &str, bounds: (u8, u8, &[&str])) -> Option<Self> {
        let mut field = Self::default();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (bits, any) = Self::range(range, bounds)?;
            field.bits |= bits;
            field.any |= any;
        }
        Some(field)
    }

    /// `*`, `3`, `1-5`, each perhaps with `/2`.
    fn range(text: &str, (low, high, names): (u8, u8, &[&str])) -> Option<(u64, bool)> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u8>().ok().filter(|step| *step > 0)?)),
            None => (text, None),
        };
        let number = |text: &str| match names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            Some(position) => u8::try_from(position).ok().map(|position| position + low),
            None => text.parse().ok(),
        };
        let any = range == "*" || range == "?";
        let (start, end) = match range.split_once('-') {
            _ if any => (low, high),
            Some((start, end)) => (number(start)?, number(end)?),
            None if step.is_some() => (number(range)?, high),
            None => (number(range)?, number(range)?),
        };
        if start < low || end > high || start > end {
            return None;
        }
        let step = step.unwrap_or(1);
        let bits = (start..=end).step_by(step.into()).fold(0, |bits, number| bits | 1_u64 << number);
        Some((bits, any && step == 1))
    }
}

/// Whole seconds of Go's text of a duration: `1h30m`, `1.5s`.
fn seconds(text: &str) -> Option<i64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let factor = match &rest[..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * factor;
        rest = &rest[unit..];
    }
    #[expect(clippy::cast_possible_truncation, reason = "a duration beyond 64 bits of seconds is as long as can be")]
    let whole = total as i64;
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(text: &str, zone: &str, after: &str) -> String {
        let schedule = Schedule::parse(text, zone).expect("a schedule");
        let after: Timestamp = after.parse().expect("a time");
        let next = schedule.next(after.as_second()).map(|next_s| Timestamp::from_second(next_s).expect("a time"));
        next.map_or_else(|| "never".to_owned(), |next| next.to_string())
    }

    #[test]
    fn the_next_time_is_after_the_last() {
        let check = |text: &str, after: &str, expect: &str| assert_eq!(next(text, "", after), expect, "{text}");
        check("*/1 * * * ?", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
        check("*/15 * * * *", "2026-07-09T14:45:00Z", "2026-07-09T15:00:00Z");
        check("20-35/15 * * * *", "2026-07-09T15:35:59Z", "2026-07-09T16:20:00Z");
        check("30 08 ? Jul Sun", "2026-07-15T00:00:00Z", "2026-07-19T08:30:00Z");
        check("@hourly", "2026-12-31T23:00:01Z", "2027-01-01T00:00:00Z");
        check("@every 1h30m", "2026-01-01T00:00:00Z", "2026-01-01T01:30:00Z");
        check("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z");
        check("0 0 31 2 *", "2026-01-01T00:00:00Z", "never");
    }

    #[test]
    fn either_field_of_days_is_enough_where_both_choose() {
        let check = |text: &str, expect: &str| assert_eq!(next(text, "", "2026-07-15T12:00:00Z"), expect, "{text}");
        check("0 0 1,16 * Sun", "2026-07-16T00:00:00Z");
        check("0 0 * * Sun", "2026-07-19T00:00:00Z");
        check("0 0 */10 * Sun", "2026-07-19T00:00:00Z");
        check("0 0 1,20 * *", "2026-07-20T00:00:00Z");
    }

    #[test]
    fn zones_decide_what_the_clock_shows() {
        let check = |text: &str, zone: &str, after: &str, expect: &str| assert_eq!(next(text, zone, after), expect);
        check("0 9 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T08:00:00Z");
        check("CRON_TZ=Asia/Tokyo 0 9 * * *", "", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        // Clocks go from two to three in the night to 29 March, and twice from two to three on 25 October.
        check("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z");
        check("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z");
        let refused = Schedule::parse("0 9 * * *", "Mars/Olympus").expect_err("no such zone");
        assert_eq!(refused, ScheduleError::Zone("Mars/Olympus".to_owned()));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "* * * *", "60 * * * *", "5-1 * * * *", "*/0 * * * *", "@never", "@every x", "TZ=UTC"] {
            assert_eq!(Schedule::parse(text, "").map(drop), Err(ScheduleError::Syntax(text.to_owned())), "{text}");
        }
    }
}
