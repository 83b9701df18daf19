//! Time as an argument. Cores take a [`Clock`]; only this file asks the system.
//!
//! There are two readings. What is waited for goes by [`Clock::now_ms`], which never goes back: an administrator or a time
//! server that sets the clock back by an hour must not make every pause and every deadline an hour longer. What strangers
//! check against their own clocks, the validity of certificates and tokens, goes by [`Clock::wall_s`].

mod steady;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

/// A source of time. Cheap to clone; all clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The system's clock, moved by an offset in seconds (`CORTEN_CLOCK_OFFSET`; tests of certificate expiry).
    System { offset_s: i64 },
    /// A clock that stands until it is advanced. Unix milliseconds.
    Manual(Arc<watch::Sender<i64>>),
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Source::System { offset_s: 0 })
    }

    /// The system's clock, moved by the seconds in the environment variable `CORTEN_CLOCK_OFFSET`.
    /// What is no number there is an error text that names the variable.
    pub fn from_environment() -> Result<Self, String> {
        match std::env::var("CORTEN_CLOCK_OFFSET") {
            Err(_) => Ok(Self::system()),
            Ok(text) => match text.parse() {
                Ok(offset_s) => Ok(Self(Source::System { offset_s })),
                Err(_) => Err(format!("CORTEN_CLOCK_OFFSET is {text:?}, not a number of seconds; unset or correct it")),
            },
        }
    }

    /// A clock for tests that stands at a Unix time in milliseconds until [`Clock::advance`].
    pub fn manual(now_ms: i64) -> Self {
        Self(Source::Manual(Arc::new(watch::Sender::new(now_ms))))
    }

    /// Moves a manual clock.
    ///
    /// # Panics
    /// On the system's clock: only tests move time, and they make a manual clock.
    pub fn advance(&self, by: Duration) {
        let Source::Manual(now_ms) = &self.0 else { panic!("the system's clock cannot be moved") };
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        now_ms.send_modify(|now_ms| *now_ms = now_ms.saturating_add(by_ms));
    }

    /// Waits until this clock shows a Unix time in milliseconds. On a manual clock that is for whoever advances it.
    pub async fn sleep_until_ms(&self, at_ms: i64) {
        match &self.0 {
            Source::System { .. } => loop {
                let left_ms = u64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or_default();
                tokio::time::sleep(Duration::from_millis(left_ms)).await;
                // A clock that was set back goes slower for a while.
                if self.now_ms() >= at_ms {
                    return;
                }
            },
            Source::Manual(now_ms) => {
                let mut shown = now_ms.subscribe();
                shown.wait_for(|now_ms| *now_ms >= at_ms).await.expect("the sender is held by this clock");
            }
        }
    }

    /// Waits for a time by this clock.
    pub async fn sleep(&self, period: Duration) {
        let period_ms = i64::try_from(period.as_millis()).unwrap_or(i64::MAX);
        self.sleep_until_ms(self.now_ms().saturating_add(period_ms)).await;
    }

    /// Unix time in milliseconds. It never goes back: after the system's clock was set back it goes on, a little slower,
    /// until it is caught up with.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::Manual(now_ms) => *now_ms.borrow(),
            Source::System { offset_s } => steady::now_ms() + offset_s * 1000,
        }
    }

    /// Unix time in seconds as everybody else on this machine has it, which may go back.
    pub fn wall_s(&self) -> i64 {
        match &self.0 {
            Source::Manual(now_ms) => now_ms.borrow().div_euclid(1000),
            Source::System { offset_s } => steady::wall_ms().div_euclid(1000) + offset_s,
        }
    }

    /// Unix time in seconds.
    pub fn now_s(&self) -> i64 {
        self.now_ms().div_euclid(1000)
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.now_ms()).expect("a 64-bit millisecond count of this era is in range")
    }
}

/// A stopwatch for measuring how long something took; not for deciding.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_those_whose_time_has_come() {
        let clock = Clock::manual(0);
        let sleeper = clock.clone();
        let advanced = async {
            clock.advance(Duration::from_secs(4));
            tokio::task::yield_now().await;
            clock.advance(Duration::from_secs(1));
        };
        let slept = async {
            sleeper.sleep(Duration::from_secs(5)).await;
            sleeper.now_ms()
        };
        assert_eq!(tokio::join!(slept, advanced).0, 5_000);
    }
}
