//! Which keys are to be looked at, and when: pure, without tasks or a clock of its own.
//!
//! A key is held once however often it is added, at the earliest of its times; it is never given out again before it is
//! done; keys whose time has come leave in the order in which it came.

use std::collections::{BTreeMap, HashMap};

use corten_stdx::random::Random;

use crate::backoff::Backoff;
use crate::cache::Key;

/// What became of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// Look again at this time (Unix milliseconds).
    Again(i64),
    Failed,
}

#[derive(Default)]
pub(super) struct Queue {
    /// Keys that wait, by time and order of arrival.
    due: BTreeMap<(i64, u64), Key>,
    keys: HashMap<Key, State, ahash::RandomState>,
    arrivals: u64,
    running: usize,
}

#[derive(Default)]
struct State {
    /// Its place in `due`.
    waiting: Option<(i64, u64)>,
    running: bool,
    /// Added while it ran: when it is to run again.
    again_ms: Option<i64>,
    failures: u32,
}

impl Queue {
    /// Wants a key looked at, at a time; an earlier time wins.
    pub(super) fn add(&mut self, key: Key, at_ms: i64) {
        let state = self.keys.entry(key.clone()).or_default();
        if state.running {
            state.again_ms = Some(state.again_ms.map_or(at_ms, |known| known.min(at_ms)));
            return;
        }
        match state.waiting {
            Some((known_ms, _)) if known_ms <= at_ms => return,
            Some(place) => drop(self.due.remove(&place)),
            None => {}
        }
        self.arrivals += 1;
        let place = (at_ms, self.arrivals);
        state.waiting = Some(place);
        self.due.insert(place, key);
    }

    /// The next key whose time has come; it runs from now on.
    pub(super) fn next(&mut self, now_ms: i64) -> Option<Key> {
        let entry = self.due.first_entry().filter(|entry| entry.key().0 <= now_ms)?;
        let key = entry.remove();
        let state = self.keys.get_mut(&key).expect("a key that waits has a state");
        state.waiting = None;
        state.running = true;
        self.running += 1;
        Some(key)
    }

    /// When the next key's time comes.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.due.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    /// A key that ran is done; gives the number of its failures in a row.
    pub(super) fn done(&mut self, key: &Key, outcome: Outcome, now_ms: i64, backoff: Backoff, random: &Random) -> u32 {
        let Some(state) = self.keys.get_mut(key) else { return 0 };
        state.running = false;
        self.running -= 1;
        state.failures = if outcome == Outcome::Failed { state.failures.saturating_add(1) } else { 0 };
        let failures = state.failures;
        let own_ms = match outcome {
            Outcome::Done => None,
            Outcome::Again(at_ms) => Some(at_ms),
            Outcome::Failed => {
                let pause = backoff.pause(failures, random).as_millis();
                Some(now_ms.saturating_add(i64::try_from(pause).unwrap_or(i64::MAX)))
            }
        };
        let at_ms = [own_ms, state.again_ms.take()].into_iter().flatten().min();
        match at_ms {
            Some(at_ms) => self.add(key.clone(), at_ms),
            None => drop(self.keys.remove(key)),
        }
        failures
    }

    pub(super) fn waiting(&self) -> usize {
        self.due.len()
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_secs(1) };

    fn key(name: &str) -> Key {
        Key::new("", name)
    }

    fn done(queue: &mut Queue, name: &str, outcome: Outcome, now_ms: i64) -> u32 {
        queue.done(&key(name), outcome, now_ms, BACKOFF, &Random::seeded(1))
    }

    fn next(queue: &mut Queue, now_ms: i64) -> String {
        queue.next(now_ms).map_or_else(|| "-".to_owned(), |key| key.to_string())
    }

    #[test]
    fn the_earliest_time_wins_and_order_is_kept() {
        let mut queue = Queue::default();
        queue.add(key("a"), 50);
        queue.add(key("b"), 10);
        queue.add(key("a"), 10);
        queue.add(key("b"), 90);
        assert_eq!((queue.waiting(), queue.next_ms()), (2, Some(10)));
        assert_eq!(next(&mut queue, 9), "-");
        assert_eq!([next(&mut queue, 10), next(&mut queue, 10), next(&mut queue, 99)], ["b", "a", "-"]);
    }

    #[test]
    fn a_key_runs_alone_and_again_if_it_was_added() {
        let mut queue = Queue::default();
        queue.add(key("a"), 0);
        assert_eq!(next(&mut queue, 0), "a");
        queue.add(key("a"), 0);
        queue.add(key("a"), 5);
        assert_eq!(next(&mut queue, 9), "-");
        done(&mut queue, "a", Outcome::Again(20), 9);
        assert_eq!(next(&mut queue, 9), "a");
        done(&mut queue, "a", Outcome::Done, 9);
        assert_eq!((next(&mut queue, 99), queue.keys.len()), ("-".to_owned(), 0));
    }

    #[test]
    fn failures_are_counted_and_forgotten() {
        let mut queue = Queue::default();
        queue.add(key("a"), 0);
        for failures in 1..4 {
            let now_ms = queue.next_ms().expect("it waits");
            assert_eq!(next(&mut queue, now_ms), "a");
            assert_eq!(done(&mut queue, "a", Outcome::Failed, now_ms), failures);
            assert!(queue.next_ms().expect("it waits") > now_ms);
        }
        // News do not wait for the pause.
        queue.add(key("a"), 0);
        assert_eq!(next(&mut queue, 0), "a");
        assert_eq!(done(&mut queue, "a", Outcome::Done, 0), 0);
        assert_eq!((queue.waiting(), queue.running()), (0, 0));
    }
}
