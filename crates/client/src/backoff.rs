//! Pauses that double with every failure up to a longest one, each shortened by up to a half so that many who failed
//! together do not come back together.

use std::time::Duration;

use corten_stdx::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
}

impl Backoff {
    /// The pause after the given number of failures in a row, which counts from 1.
    pub fn pause(&self, failures: u32, random: &Random) -> Duration {
        let doubled = self.first.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        let whole = doubled.min(self.longest);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        whole - Duration::from_millis(random.next_u64() % (half_ms + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds() {
        let random = Random::seeded(1);
        let backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_secs(1) };
        for (failures, longest_ms) in [(1, 10), (2, 20), (5, 160), (8, 1000), (40, 1000)] {
            for _ in 0..50 {
                let ms = backoff.pause(failures, &random).as_millis();
                assert!((longest_ms / 2..=longest_ms).contains(&ms), "{failures}: {ms}");
            }
        }
    }
}
