//! Time as an argument. Cores take a [`Clock`]; only this file asks the system.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// A source of time. Cheap to clone; all clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    /// The system's clock, moved by an offset in seconds (`CORTEN_CLOCK_OFFSET`; tests of certificate expiry).
    System { offset_s: i64 },
    /// A clock that stands until it is advanced. Unix milliseconds.
    Manual(Arc<AtomicI64>),
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
        Self(Source::Manual(Arc::new(AtomicI64::new(now_ms))))
    }

    /// Moves a manual clock.
    ///
    /// # Panics
    /// On the system's clock: only tests move time, and they make a manual clock.
    pub fn advance(&self, by: Duration) {
        let Source::Manual(now_ms) = &self.0 else { panic!("the system's clock cannot be moved") };
        now_ms.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Unix time in milliseconds.
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::Manual(now_ms) => now_ms.load(Ordering::SeqCst),
            Source::System { offset_s } => system_ms() + offset_s * 1000,
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

#[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
fn system_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
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
