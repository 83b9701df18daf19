//! Pauses between tries of the same thing: each twice the one before, and back to the first after a quiet time. The
//! figures are upstream's for crash loops and for image pulls.

const FIRST_MS: i64 = 10_000;
const LONGEST_MS: i64 = 300_000;
/// So long without a try, and the next one is the first again.
const FORGET_MS: i64 = 2 * LONGEST_MS;

/// How often something was tried in vain, and when last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backoff {
    pause_ms: i64,
    last_ms: i64,
}

impl Backoff {
    /// Nothing was tried yet.
    pub const NONE: Self = Self { pause_ms: 0, last_ms: 0 };

    /// Counts a try because of something that happened at `event_ms`.
    pub fn count(&mut self, event_ms: i64, now_ms: i64) {
        let forgotten = self.pause_ms == 0 || event_ms - self.last_ms > FORGET_MS;
        self.pause_ms = if forgotten { FIRST_MS } else { (self.pause_ms * 2).min(LONGEST_MS) };
        self.last_ms = now_ms;
    }

    /// Until when to wait after what happened at `event_ms`; `None` where nothing is waited for. Pod processes tell the time
    /// of day, which may have been set back since the last try: nothing that they tell of happened before it.
    pub fn until(&self, event_ms: i64) -> Option<i64> {
        let event_ms = event_ms.max(self.last_ms);
        let waits = self.pause_ms > 0 && event_ms - self.last_ms <= FORGET_MS;
        waits.then_some(event_ms + self.pause_ms)
    }

    pub fn pause_ms(&self) -> i64 {
        self.pause_ms
    }

    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// `10s`, `2m40s`, `5m0s`: a pause as Go prints it.
pub fn go_duration(ms: i64) -> String {
    let seconds = ms / 1000;
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_five_minutes_and_are_forgotten() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.until(0), None);
        let mut now_ms = 0;
        let mut pauses = Vec::new();
        for _ in 0..7 {
            backoff.count(now_ms, now_ms);
            pauses.push(go_duration(backoff.pause_ms()));
            now_ms = backoff.until(now_ms + 1).expect("it waits");
        }
        assert_eq!(pauses, ["10s", "20s", "40s", "1m20s", "2m40s", "5m0s", "5m0s"]);
        assert_eq!(backoff.until(now_ms + FORGET_MS + 1), None);
        backoff.count(now_ms + FORGET_MS + 1, now_ms + FORGET_MS + 1);
        assert_eq!(backoff.pause_ms(), FIRST_MS);
    }

    #[test]
    fn a_clock_that_is_set_back_ends_no_pause() {
        let mut backoff = Backoff::default();
        let now_ms = 10 * LONGEST_MS;
        backoff.count(now_ms, now_ms);
        assert_eq!(backoff.until(now_ms + 1), Some(now_ms + 1 + FIRST_MS));
        assert_eq!(backoff.until(now_ms - 3_600_000), Some(now_ms + FIRST_MS));
        backoff.count(now_ms - 3_600_000, now_ms + FIRST_MS);
        assert_eq!(backoff.pause_ms(), 2 * FIRST_MS);
    }
}
