//! The order in which pods are scheduled.

use std::cmp::{Ordering, Reverse};

use corten_apimachinery::value::Str;

/// A pod's place in the queue: the higher priority first, then who has waited longer. `Ord` puts the next pod first; the
/// uid only keeps equal ones apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub priority: i32,
    /// Since when the pod waits, in nanoseconds since the epoch.
    pub since: i64,
    pub uid: Str,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |place: &Self| (Reverse(place.priority), place.since);
        key(self).cmp(&key(other)).then_with(|| self.uid.cmp(&other.uid))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How long a pod waits after its `attempts`-th failure, in milliseconds: from one second, doubled up to ten.
pub fn backoff_ms(attempts: u32) -> u64 {
    const FIRST_MS: u64 = 1_000;
    const MAX_MS: u64 = 10_000;
    match attempts {
        0 => 0,
        attempts => FIRST_MS.checked_shl(attempts - 1).filter(|ms| *ms < MAX_MS && attempts < 32).unwrap_or(MAX_MS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_goes_before_time() {
        let place = |priority, since, uid: &str| Place { priority, since, uid: uid.into() };
        let mut places = [place(0, 1, "a"), place(5, 9, "b"), place(5, 3, "c"), place(-1, 0, "d"), place(5, 3, "e")];
        places.sort();
        assert_eq!(places.map(|place| place.uid.to_string()), ["c", "e", "b", "a", "d"]);
    }

    #[test]
    fn waiting_doubles_up_to_ten_seconds() {
        let waits = [0, 1, 2, 3, 4, 5, 40, u32::MAX].map(backoff_ms);
        assert_eq!(waits, [0, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
    }
}
