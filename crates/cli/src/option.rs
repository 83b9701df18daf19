//! Words that many verbs take: times, and the form of an answer.

use std::time::Duration;

use clap::ValueEnum;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

/// Seconds, minutes or hours, at least a second and at most ten years: `90s`, `5m`, `24h`.
///
/// # Errors
/// What a time looks like.
pub fn period(text: &str) -> Result<Duration, String> {
    let said = || "not a time such as 90s, 5m or 24h".to_owned();
    let at = text.find(|char: char| !char.is_ascii_digit()).ok_or_else(said)?;
    let (count, unit) = text.split_at(at);
    let count: u64 = count.parse().map_err(|_| said())?;
    let seconds = match unit {
        "s" => Some(count),
        "m" => count.checked_mul(60),
        "h" => count.checked_mul(3600),
        _ => None,
    };
    seconds.filter(|seconds| (1..=10 * 366 * 86_400).contains(seconds)).map(Duration::from_secs).ok_or_else(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_have_a_unit() {
        let check = |text: &str, expect: Option<u64>| {
            assert_eq!(period(text).ok().map(|period| period.as_secs()), expect, "{text}");
        };
        check("90s", Some(90));
        check("5m", Some(300));
        check("24h", Some(86_400));
        for bad in ["", "5", "h", "0s", "1d", "-1h", "99999999999999999999h"] {
            check(bad, None);
        }
    }
}
