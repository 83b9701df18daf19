//! The system's time of day, made steady: forward jumps are followed at once, backward ones by going slower.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// After the clock was set back by an hour, eight hours later everything is as if it had not been.
const SLOWER_BY: i64 = 8;

/// One for the process: all clocks of it show the same time.
static STEADY: LazyLock<(Instant, Steady)> = LazyLock::new(|| (started(), Steady::new(wall_ms())));

/// What is shown is the time since the start plus `base_ms`, which follows the wall's clock.
struct Steady {
    base_ms: AtomicI64,
    /// Up to which time since the start the base has been brought nearer to a clock that was set back.
    slowed_ms: AtomicI64,
}

impl Steady {
    const fn new(wall_ms: i64) -> Self {
        Self { base_ms: AtomicI64::new(wall_ms), slowed_ms: AtomicI64::new(0) }
    }

    /// What to show at so many milliseconds after the start, when the wall's clock shows `wall_ms`.
    fn show(&self, since_ms: i64, wall_ms: i64) -> i64 {
        let wanted_ms = wall_ms - since_ms;
        let base_ms = self.base_ms.fetch_max(wanted_ms, Ordering::Relaxed);
        if base_ms <= wanted_ms {
            self.slowed_ms.store(since_ms, Ordering::Relaxed);
            return wall_ms;
        }
        let slowed_ms = self.slowed_ms.load(Ordering::Relaxed);
        let step_ms = ((since_ms - slowed_ms) / SLOWER_BY).min(base_ms - wanted_ms);
        let taken = || self.slowed_ms.compare_exchange(slowed_ms, since_ms, Ordering::Relaxed, Ordering::Relaxed);
        if step_ms > 0 && taken().is_ok() {
            return since_ms + self.base_ms.fetch_sub(step_ms, Ordering::Relaxed) - step_ms;
        }
        since_ms + base_ms
    }
}

pub(super) fn now_ms() -> i64 {
    let (started, steady) = &*STEADY;
    // Time since the start first: what passes between the two looks then counts as a jump forward, never back.
    let since_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
    steady.show(since_ms, wall_ms())
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
pub(super) fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
fn started() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3600 * 1000;
    const HOUR_MS: i64 = 3600 * 1000;

    #[test]
    fn a_clock_that_is_set_back_goes_on_slower() {
        let steady = Steady::new(10 * DAY_MS);
        assert_eq!(steady.show(1000, 10 * DAY_MS + 1000), 10 * DAY_MS + 1000);
        // Forward at once; an hour back not at all.
        assert_eq!(steady.show(2000, 11 * DAY_MS), 11 * DAY_MS);
        let wall_ms = |since_ms: i64| 11 * DAY_MS - 2000 + since_ms - HOUR_MS;
        assert_eq!(steady.show(2000, wall_ms(2000)), 11 * DAY_MS);
        // Ten seconds of waiting are at most a quarter longer, and never negative.
        let mut last_ms = 11 * DAY_MS;
        for since_ms in (2001..12_000).step_by(7) {
            let now_ms = steady.show(since_ms, wall_ms(since_ms));
            assert!(now_ms >= last_ms, "{now_ms} after {last_ms}");
            last_ms = now_ms;
        }
        assert!((8000..10_000).contains(&(last_ms - 11 * DAY_MS)), "{last_ms}");
        // In the end both agree.
        for since_ms in (12_000..9 * HOUR_MS).step_by(60_000) {
            last_ms = steady.show(since_ms, wall_ms(since_ms));
        }
        let since_ms = 9 * HOUR_MS;
        assert_eq!(steady.show(since_ms, wall_ms(since_ms)), wall_ms(since_ms));
        assert!(last_ms <= wall_ms(since_ms));
    }
}
