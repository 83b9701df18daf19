//! Durations for people, as `kubectl get` shows ages: `5s`, `3m20s`, `4h7m`, `12d`, `2y3d`; and durations in objects
//! (`meta/v1.Duration`), which are Go's: `1h0m30s`, `15.25s`.

use compact_str::format_compact;

use crate::value::Str;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// The largest unit, and the next one while it still matters. What lies up to a second in the future is `0s` (clocks
/// differ), further ahead `<invalid>`.
pub fn human(seconds: i64) -> Str {
    match seconds {
        ..-1 => "<invalid>".into(),
        -1..0 => "0s".into(),
        0..120 => format_compact!("{seconds}s"),
        120..600 => two(seconds, MINUTE, "m", 1, "s"),
        600..10_800 => format_compact!("{}m", seconds / MINUTE),
        10_800..28_800 => two(seconds, HOUR, "h", MINUTE, "m"),
        28_800..172_800 => format_compact!("{}h", seconds / HOUR),
        172_800..691_200 => two(seconds, DAY, "d", HOUR, "h"),
        _ if seconds < 2 * YEAR => format_compact!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(seconds, YEAR, "y", DAY, "d"),
        _ => format_compact!("{}y", seconds / YEAR),
    }
}

fn two(seconds: i64, unit: i64, name: &str, below: i64, name_below: &str) -> Str {
    match seconds % unit / below {
        0 => format_compact!("{}{name}", seconds / unit),
        rest => format_compact!("{}{name}{rest}{name_below}", seconds / unit),
    }
}

/// Go's units from the largest, in nanoseconds; `us` and both letters for micro are the same.
const UNITS: [(&str, i64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Nanoseconds of a duration in Go's form; `None` for what is none, or does not fit.
pub fn parse(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_i64;
    while !rest.is_empty() {
        let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, nanoseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(amount(number, *nanoseconds)?)?;
        rest = tail;
    }
    (text.len() > usize::from(text.starts_with(['-', '+']))).then_some(if negative { -total } else { total })
}

/// A decimal number of units, in nanoseconds; what is below one is cut.
fn amount(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(unit)?;
    let mut scale = unit;
    for digit in fraction.chars() {
        scale /= 10;
        total = total.checked_add(i64::from(digit.to_digit(10)?) * scale)?;
    }
    Some(total)
}

/// Nanoseconds as Go prints them.
pub fn print(nanoseconds: i64) -> Str {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let all = nanoseconds.unsigned_abs();
    let second = 1_000_000_000;
    if all == 0 {
        return "0s".into();
    }
    if all < second {
        let (unit, name) = match all {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format_compact!("{sign}{}{name}", decimal(all, unit));
    }
    let seconds = decimal(all % (60 * second), second);
    let minutes = all / (60 * second);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format_compact!("{sign}{seconds}s"),
        (0, minutes) => format_compact!("{sign}{minutes}m{seconds}s"),
        (hours, minutes) => format_compact!("{sign}{hours}h{minutes}m{seconds}s"),
    }
}

/// A number of units with its fraction, without zeros at the end.
fn decimal(all: u64, unit: u64) -> Str {
    let digits = unit.ilog10() as usize;
    let fraction = format!("{:0digits$}", all % unit);
    match fraction.trim_end_matches('0') {
        "" => format_compact!("{}", all / unit),
        fraction => format_compact!("{}.{fraction}", all / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_objects() {
        for (text, expect) in [
            ("15s", "15s"),
            ("90s", "1m30s"),
            ("1h", "1h0m0s"),
            ("1.5h", "1h30m0s"),
            ("0", "0s"),
            ("-90m", "-1h30m0s"),
            ("15.25s", "15.25s"),
            ("1ms5us", "1.005ms"),
            ("7ns", "7ns"),
            (".5s", "500ms"),
        ] {
            assert_eq!(parse(text).map(print).as_deref(), Some(expect), "{text}");
        }
        for bad in ["", "-", "5", "s", "1x", "1s2", ". s", ".s", "99999999999h"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ages() {
        for (seconds, expect) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (10_859, "3h"),
            (14_460, "4h1m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(human(seconds), expect, "{seconds}");
        }
    }
}
