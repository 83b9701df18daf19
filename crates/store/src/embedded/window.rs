//! Which history is kept: what is young, and a number of events, but never more than a number of bytes.

use std::collections::VecDeque;

use super::limits::Limits;
use super::view::View;
use crate::Revision;

/// Remembers when revisions were written, once a second.
#[derive(Debug, Default)]
pub(crate) struct Window {
    marks: VecDeque<Mark>,
}

/// At this time the store was at this revision or had just passed it.
#[derive(Clone, Copy, Debug)]
struct Mark {
    time_ms: u64,
    revision: Revision,
}

const MARK_EVERY_MS: u64 = 1000;

impl Window {
    /// Notes that a revision was written at a time.
    pub(crate) fn note(&mut self, time_ms: u64, revision: Revision) {
        if self.marks.back().is_none_or(|last| time_ms >= last.time_ms + MARK_EVERY_MS) {
            self.marks.push_back(Mark { time_ms, revision });
        }
    }

    /// Forgets what need not be kept.
    pub(crate) fn trim(&mut self, view: &mut View, now_ms: u64, limits: &Limits) {
        let by_count = view.revision.saturating_sub(limits.history_events_min);
        view.raise_floor(by_count.min(self.revision_before(now_ms, limits)));
        while view.history_bytes > limits.history_bytes_max && view.forget_oldest() {}
        // One mark at or below the floor stays: it dates what comes after it.
        while self.marks.get(1).is_some_and(|mark| mark.revision <= view.floor) {
            self.marks.pop_front();
        }
    }

    /// A revision that is older than the age that is kept.
    fn revision_before(&self, now_ms: u64, limits: &Limits) -> Revision {
        let age_ms = u64::try_from(limits.history_age_min.as_millis()).unwrap_or(u64::MAX);
        let Some(until_ms) = now_ms.checked_sub(age_ms) else { return 0 };
        let old = self.marks.partition_point(|mark| mark.time_ms <= until_ms);
        old.checked_sub(1).map_or(0, |newest_old| self.marks[newest_old].revision)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::{Change, Expect};

    fn limits(age_s: u64, events: u64, bytes: u64) -> Limits {
        Limits {
            history_age_min: Duration::from_secs(age_s),
            history_events_min: events,
            history_bytes_max: bytes,
            ..Limits::default()
        }
    }

    /// The floor after 100 writes, one a second.
    fn floor_after_100_writes(limits: &Limits) -> Revision {
        let (mut view, mut window) = (View::new(), Window::default());
        for second in 0..100 {
            let change = Change::Put { value: Bytes::from_static(&[0; 800]), ttl: None };
            let record = view.decide(second.to_string().into(), Expect::Absent, change, 0).unwrap();
            view.apply(record);
            window.note(second * 1000, view.revision);
            window.trim(&mut view, second * 1000, limits);
        }
        assert_eq!(view.events_after(view.floor, usize::MAX).count() as u64, view.revision - view.floor);
        view.floor
    }

    #[test]
    fn a_clock_that_is_set_back_forgets_nothing() {
        let limits = limits(30, 10, u64::MAX);
        let (mut view, mut window) = (View::new(), Window::default());
        let hour_ms = 3_600_000;
        for second in 0..100 {
            let change = Change::Put { value: Bytes::from_static(&[0; 8]), ttl: None };
            let record = view.decide(second.to_string().into(), Expect::Absent, change, 0).unwrap();
            view.apply(record);
            // After fifty seconds the clock begins anew, at a time that is itself younger than what is kept.
            let now_ms = if second < 50 { hour_ms + second * 1000 } else { (second - 50) * 1000 };
            window.note(now_ms, view.revision);
            window.trim(&mut view, now_ms, &limits);
            assert!(window.marks.iter().is_sorted_by_key(|mark| mark.time_ms), "a search needs their order");
        }
        assert_eq!(view.floor, 21, "what was young then stays, and what came later");
    }

    #[test]
    fn the_longer_of_age_and_count_is_kept_within_the_bytes() {
        assert_eq!(floor_after_100_writes(&limits(1000, 10, u64::MAX)), 1, "young");
        assert_eq!(floor_after_100_writes(&limits(30, 10, u64::MAX)), 71, "thirty seconds");
        assert_eq!(floor_after_100_writes(&limits(30, 50, u64::MAX)), 51, "fifty events");
        assert_eq!(floor_after_100_writes(&limits(1000, 1000, 20_050)), 81, "twenty events of a kilobyte");
    }
}
