//! Parts of times and durations.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("getFullYear", "timestamp_to_year", "timestamp.() -> int", year),
    ("getFullYear", "timestamp_to_year_with_tz", "timestamp.(string) -> int", year),
    ("getMonth", "timestamp_to_month", "timestamp.() -> int", month),
    ("getMonth", "timestamp_to_month_with_tz", "timestamp.(string) -> int", month),
    ("getDayOfYear", "timestamp_to_day_of_year", "timestamp.() -> int", day_of_year),
    ("getDayOfYear", "timestamp_to_day_of_year_with_tz", "timestamp.(string) -> int", day_of_year),
    ("getDayOfMonth", "timestamp_to_day_of_month", "timestamp.() -> int", day_of_month),
    ("getDayOfMonth", "timestamp_to_day_of_month_with_tz", "timestamp.(string) -> int", day_of_month),
    ("getDate", "timestamp_to_day_of_month_1_based", "timestamp.() -> int", date),
    ("getDate", "timestamp_to_day_of_month_1_based_with_tz", "timestamp.(string) -> int", date),
    ("getDayOfWeek", "timestamp_to_day_of_week", "timestamp.() -> int", day_of_week),
    ("getDayOfWeek", "timestamp_to_day_of_week_with_tz", "timestamp.(string) -> int", day_of_week),
    ("getHours", "timestamp_to_hours", "timestamp.() -> int", hours),
    ("getHours", "timestamp_to_hours_with_tz", "timestamp.(string) -> int", hours),
    ("getHours", "duration_to_hours", "duration.() -> int", hours),
    ("getMinutes", "timestamp_to_minutes", "timestamp.() -> int", minutes),
    ("getMinutes", "timestamp_to_minutes_with_tz", "timestamp.(string) -> int", minutes),
    ("getMinutes", "duration_to_minutes", "duration.() -> int", minutes),
    ("getSeconds", "timestamp_to_seconds", "timestamp.() -> int", seconds),
    ("getSeconds", "timestamp_to_seconds_tz", "timestamp.(string) -> int", seconds),
    ("getSeconds", "duration_to_seconds", "duration.() -> int", seconds),
    ("getMilliseconds", "timestamp_to_milliseconds", "timestamp.() -> int", milliseconds),
    ("getMilliseconds", "timestamp_to_milliseconds_with_tz", "timestamp.(string) -> int", milliseconds),
    ("getMilliseconds", "duration_to_milliseconds", "duration.() -> int", milliseconds),
];

/// The zone of an offset like `-08:00`. Of names only UTC is known: others are in files of the machine.
fn zone(name: &str) -> Result<TimeZone, Error> {
    if matches!(name, "" | "UTC" | "utc" | "Z") {
        return Ok(TimeZone::UTC);
    }
    let Some((hours, minutes)) = name.split_once(':') else {
        return Err(Error::new(format!("unknown time zone {name}")));
    };
    let number = |text: &str| text.parse::<i32>().map_err(|_| Error::new(format!("unknown time zone {name}")));
    let (whole, rest) = (number(hours)?, number(minutes)?);
    let sign = if hours.starts_with('-') { -1 } else { 1 };
    let seconds = whole.saturating_mul(3600).saturating_add(rest.saturating_mul(60 * sign));
    let offset = Offset::from_seconds(seconds).map_err(|_| Error::new(format!("unknown time zone {name}")))?;
    Ok(TimeZone::fixed(offset))
}

fn civil(given: &[Value<'_>]) -> Result<DateTime, Error> {
    let (time, zone) = match given {
        [Value::Timestamp(time)] => (time, TimeZone::UTC),
        [Value::Timestamp(time), Value::String(name)] => (time, zone(name)?),
        _ => return Err(Error::no_such_overload()),
    };
    Ok(zone.to_datetime(*time))
}

fn part<'a>(given: &[Value<'a>], of: impl FnOnce(DateTime) -> i64) -> Result<Value<'a>, Error> {
    civil(given).map(|time| Value::Int(of(time)))
}

fn year<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |time| time.year().into())
}

fn month<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |time| i64::from(time.month()) - 1)
}

fn day_of_year<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |time| i64::from(time.day_of_year()) - 1)
}

fn day_of_month<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |time| i64::from(time.day()) - 1)
}

fn date<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |time| time.day().into())
}

fn day_of_week<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, |time| time.weekday().to_sunday_zero_offset().into())
}

/// A part of a time, or how many of a unit a duration has.
fn part_or_whole<'a>(
    given: &[Value<'a>],
    unit_nanoseconds: i64,
    of: impl FnOnce(DateTime) -> i64,
) -> Result<Value<'a>, Error> {
    match given {
        [Value::Duration(nanoseconds)] => Ok(Value::Int(nanoseconds / unit_nanoseconds)),
        [Value::Timestamp(_), ..] => part(given, of),
        _ => unfit(),
    }
}

fn hours<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part_or_whole(&given, 3_600_000_000_000, |time| time.hour().into())
}

fn minutes<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part_or_whole(&given, 60_000_000_000, |time| time.minute().into())
}

fn seconds<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part_or_whole(&given, 1_000_000_000, |time| time.second().into())
}

fn milliseconds<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part_or_whole(&given, 1_000_000, |time| i64::from(time.subsec_nanosecond()) / 1_000_000)
}
