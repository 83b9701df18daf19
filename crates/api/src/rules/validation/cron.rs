//! The syntax of schedules: five fields or a word such as `@daily` (crontab(5), as the library reads it that upstream's
//! cron jobs use).

use corten_apimachinery::field::go_quoted;

struct Bounds {
    low: i64,
    high: i64,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Bounds; 5] = [
    Bounds { low: 0, high: 59, names: &[] },
    Bounds { low: 0, high: 23, names: &[] },
    Bounds { low: 1, high: 31, names: &[] },
    Bounds { low: 1, high: 12, names: MONTHS },
    Bounds { low: 0, high: 6, names: DAYS },
];

/// Why a schedule cannot be read.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut text = schedule;
    if schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=") {
        // Whether the zone exists is not asked: no schedule may name one.
        let Some((_, rest)) = schedule.split_once(' ') else {
            // What upstream recovers from its parser.
            return Err("invalid schedule format: runtime error: slice bounds out of range [:-1]".to_owned());
        };
        text = rest.trim();
    }
    if text.starts_with('@') {
        return descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        for range in field.split(',').filter(|range| !range.is_empty()) {
            check_range(range, bounds)?;
        }
    }
    Ok(())
}

fn descriptor(text: &str) -> Result<(), String> {
    if ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"].contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(duration) => {
            check_duration(duration).map_err(|error| format!("failed to parse duration {text}: time: {error}"))
        }
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

fn check_range(text: &str, bounds: &Bounds) -> Result<(), String> {
    let mut steps = text.split('/');
    let range = steps.next().unwrap_or_default();
    let ends: Vec<&str> = range.split('-').collect();
    let (start, mut end) = match ends.as_slice() {
        ["*" | "?", ..] => (bounds.low, bounds.high),
        [one] => {
            let one = number_or_name(one, bounds)?;
            (one, one)
        }
        [start, end] => (number_or_name(start, bounds)?, number_or_name(end, bounds)?),
        // The first end is read before hyphens are counted.
        [start, ..] => {
            number_or_name(start, bounds)?;
            return Err(format!("too many hyphens: {text}"));
        }
        [] => (bounds.low, bounds.high),
    };
    let step = match (steps.next(), steps.next()) {
        (None, _) => 1,
        (Some(step), None) => {
            let step = number(step)?;
            if ends.len() == 1 {
                end = bounds.high;
            }
            step
        }
        (Some(_), Some(_)) => return Err(format!("too many slashes: {text}")),
    };
    let (low, high) = (bounds.low, bounds.high);
    match () {
        () if start < low => Err(format!("beginning of range ({start}) below minimum ({low}): {text}")),
        () if end > high => Err(format!("end of range ({end}) above maximum ({high}): {text}")),
        () if start > end => Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}")),
        () if step == 0 => Err(format!("step of range should be a positive number: {text}")),
        () => Ok(()),
    }
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<i64, String> {
    match bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        // Months count from 1, days from 0.
        Some(position) => Ok(i64::try_from(position).unwrap_or_default() + bounds.low),
        None => number(text),
    }
}

fn number(text: &str) -> Result<i64, String> {
    let number: i64 = text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {}: {why}", go_quoted(text))
    })?;
    if number < 0 { Err(format!("negative number ({number}) not allowed: {text}")) } else { Ok(number) }
}

/// The syntax of Go's durations: `1h30m`, `1.5s`.
fn check_duration(text: &str) -> Result<(), String> {
    let invalid = || format!("invalid duration {}", go_quoted(text));
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').len();
        let number = &rest[..digits];
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        match &rest[..unit] {
            "" => return Err(format!("missing unit in duration {}", go_quoted(text))),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => {}
            unknown => return Err(format!("unknown unit {} in duration {}", go_quoted(unknown), go_quoted(text))),
        }
        rest = &rest[unit..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schedule: &str, expect: &str) {
        assert_eq!(check(schedule), Err(expect.to_owned()), "{schedule}");
    }

    #[test]
    fn schedules_that_are_read() {
        for schedule in [
            "* * * * *",
            "*/5 0-23/2 1,15 jan-dec MON",
            "@daily",
            "@every 1h30m",
            "@every 1.5s",
            "? ? ? ? ?",
            "5/15 0 1 1 0",
        ] {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
    }

    #[test]
    fn schedules_that_are_refused() {
        refused("error", "expected exactly 5 fields, found 1: [error]");
        refused("60 * * * *", "end of range (60) above maximum (59): 60");
        refused("* * 0 * *", "beginning of range (0) below minimum (1): 0");
        refused("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1");
        refused("*/0 * * * *", "step of range should be a positive number: */0");
        refused("a * * * *", r#"failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax"#);
        refused("1-2-3 * * * *", "too many hyphens: 1-2-3");
        refused("*/1/2 * * * *", "too many slashes: */1/2");
        refused("*/-1 * * * *", "negative number (-1) not allowed: -1");
        refused("* * * * 7", "end of range (7) above maximum (6): 7");
        refused("TZ=UTC", "invalid schedule format: runtime error: slice bounds out of range [:-1]");
        refused("@never", "unrecognized descriptor: @never");
        refused("@every x", r#"failed to parse duration @every x: time: invalid duration "x""#);
        refused("@every 1", r#"failed to parse duration @every 1: time: missing unit in duration "1""#);
    }
}
