//! What was used over a while: the difference of two readings of the same counter.

use std::collections::VecDeque;

use corten_apimachinery::value::Str;

use super::text::{Reading, Sample};

/// Readings lie so far apart, where somebody has asked often enough: what upstream's metrics server does.
pub(super) const WINDOW_MS: i64 = 15_000;

/// An older reading says too little of the present.
pub(super) const WINDOW_MS_MAX: i64 = 60_000;

/// A shorter while says nothing: the counters move by steps.
pub(super) const WINDOW_MS_MIN: i64 = 900;

/// Requests are counted exactly: a window of so much tells of a crowd that has just come.
const CROWD_MS_MIN: i64 = 3_000;

/// What something used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Used {
    /// The end of the window.
    pub(super) at_ms: i64,
    pub(super) window_ms: i64,
    /// Billionths of a processor.
    pub(super) cpu_nano: i64,
    pub(super) memory_bytes: u64,
}

/// The samples of one node, the newest last.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

impl History {
    /// Keeps a sample, and of the earlier ones those that a window may begin with.
    pub(super) fn add(&mut self, sample: Sample) {
        let newest = sample.taken_ms;
        self.0.push_back(sample);
        // One that is older than a whole window stays only as long as nobody younger than it is.
        while self.0.get(1).is_some_and(|second| second.taken_ms <= newest - WINDOW_MS) {
            self.0.pop_front();
        }
    }

    pub(super) fn newest(&self) -> Option<&Sample> {
        self.0.back()
    }

    /// The sample that the window of the newest one begins with: the oldest that is kept, if it is not too old.
    pub(super) fn earlier(&self) -> Option<&Sample> {
        let newest = self.newest()?.taken_ms;
        self.0.iter().find(|sample| {
            let age = newest - sample.taken_ms;
            (WINDOW_MS_MIN..=WINDOW_MS_MAX).contains(&age)
        })
    }

    /// The sample that a short window begins with: the youngest one that is not too young.
    fn lately(&self) -> Option<&Sample> {
        let newest = self.newest()?.taken_ms;
        let of_age = |sample: &&Sample| (CROWD_MS_MIN..=WINDOW_MS_MAX).contains(&(newest - sample.taken_ms));
        self.0.iter().rev().find(of_age).or_else(|| self.earlier())
    }

    /// What the node's edge has given to each address lately. A counter that began anew in between has counted since then; one
    /// that is new began at nothing.
    pub(super) fn requests(&self) -> impl Iterator<Item = (&Str, Rate)> {
        let window = self.newest().zip(self.lately());
        window.into_iter().flat_map(|(newest, earlier)| {
            let window_ms = newest.taken_ms - earlier.taken_ms;
            newest.requests.iter().map(move |(address, count)| {
                let before =
                    earlier.requests.get(address).copied().filter(|before| before <= count).unwrap_or_default();
                let milli = (count - before).saturating_mul(1_000_000) / window_ms.unsigned_abs().max(1);
                let milli_per_s = i64::try_from(milli).unwrap_or(i64::MAX);
                (address, Rate { at_ms: newest.taken_ms, window_ms, milli_per_s })
            })
        })
    }
}

/// How often something happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    /// The end of the window.
    pub(super) at_ms: i64,
    pub(super) window_ms: i64,
    /// Thousandths a second.
    pub(super) milli_per_s: i64,
}

impl Rate {
    /// The same thing at another place.
    pub(super) fn add(&mut self, other: Self) {
        self.at_ms = self.at_ms.max(other.at_ms);
        self.window_ms = self.window_ms.max(other.window_ms);
        self.milli_per_s = self.milli_per_s.saturating_add(other.milli_per_s);
    }
}

/// What was used between two readings, or since a start between them; `None` where the counter began anew in between, or the
/// while is too short.
pub(super) fn used(earlier: Option<&Reading>, now: &Reading) -> Option<Used> {
    let same = |earlier: &&Reading| earlier.cpu_s <= now.cpu_s && now.started_ms <= earlier.at_ms;
    let (from_ms, from_s) = match earlier.filter(same) {
        Some(earlier) => (earlier.at_ms, earlier.cpu_s),
        None if now.started_ms > 0 && now.at_ms - now.started_ms <= WINDOW_MS_MAX => (now.started_ms, 0.0),
        None => return None,
    };
    let window_ms = now.at_ms - from_ms;
    if window_ms < WINDOW_MS_MIN {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a minute in milliseconds")]
    let rate = (now.cpu_s - from_s) / (window_ms as f64 / 1000.0);
    #[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
    let cpu_nano = (rate * 1e9) as i64;
    Some(Used { at_ms: now.at_ms, window_ms, cpu_nano, memory_bytes: now.memory_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(at_ms: i64, cpu_s: f64, started_ms: i64) -> Reading {
        Reading { at_ms, cpu_s, memory_bytes: 5, started_ms }
    }

    fn check(earlier: Option<(i64, f64)>, now: Reading, expect: Option<(i64, i64)>) {
        let earlier = earlier.map(|(at_ms, cpu_s)| reading(at_ms, cpu_s, now.started_ms));
        let used = used(earlier.as_ref(), &now).map(|used| (used.window_ms, used.cpu_nano));
        assert_eq!(used, expect, "{earlier:?} {now:?}");
    }

    #[test]
    fn rates_are_of_a_window() {
        let now = reading(100_000, 30.0, 0);
        check(Some((85_000, 15.0)), now, Some((15_000, 1_000_000_000)));
        check(Some((90_000, 30.0)), now, Some((10_000, 0)));
        check(Some((99_500, 30.0)), now, None);
        check(None, now, None);
        check(Some((85_000, 31.0)), now, None);
        // It has started in between, or there was no earlier look: its counter began at nothing.
        check(Some((85_000, 15.0)), reading(100_000, 5.0, 90_000), Some((10_000, 500_000_000)));
        check(None, reading(100_000, 5.0, 98_000), Some((2_000, 2_500_000_000)));
        check(None, reading(100_000, 5.0, 99_900), None);
        check(None, reading(100_000, 5.0, 10_000), None);
    }

    #[test]
    fn a_history_keeps_what_a_window_may_begin_with() {
        let mut history = History::default();
        let mut seen = Vec::new();
        for at_ms in [1_000, 6_000, 11_000, 16_000, 21_000, 90_000, 90_100, 91_000] {
            history.add(Sample { taken_ms: at_ms, ..Sample::default() });
            seen.push(history.earlier().map(|earlier| (at_ms - earlier.taken_ms) / 100));
        }
        assert_eq!(seen, [None, Some(50), Some(100), Some(150), Some(150), None, None, Some(10)]);
        assert!(history.0.len() <= 4, "{}", history.0.len());
    }

    #[test]
    fn requests_are_of_a_short_window() {
        let mut history = History::default();
        let mut look = |at_ms, counts: &[(&str, u64)]| {
            let requests = counts.iter().map(|(address, count)| (Str::from(*address), *count)).collect();
            history.add(Sample { taken_ms: at_ms, requests, ..Sample::default() });
            let rates =
                history.requests().map(|(address, rate)| (address.to_string(), rate.window_ms, rate.milli_per_s));
            rates.collect::<Vec<_>>()
        };
        assert_eq!(look(0, &[("a", 100)]), []);
        assert_eq!(look(1_000, &[("a", 105)]), [("a".to_owned(), 1_000, 5_000)]);
        assert_eq!(look(6_000, &[("a", 205)]), [("a".to_owned(), 5_000, 20_000)]);
        // Somebody else has looked a moment before.
        assert_eq!(look(6_900, &[("a", 300)]), [("a".to_owned(), 5_900, 33_050)]);
        // One is new, and the edge has started again.
        let expected = [("a".to_owned(), 4_000, 12_500), ("b".to_owned(), 4_000, 2_000)];
        assert_eq!(look(10_900, &[("a", 50), ("b", 8)]), expected);
    }
}
