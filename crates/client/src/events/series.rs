//! `events.k8s.io/v1` events (`client-go/tools/events`): the same again makes a series of the first one, whose count is
//! written when it begins, every half hour, and when it has ended. The text does not tell one series from another.

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};

use super::recent::Recent;
use super::{Occurrence, REMEMBERED_MAX, Reference, Severity, Write, name};

/// After this long without another one a series has ended.
const FINISH_MS: i64 = 360_000;
const REFRESH_MS: i64 = 1_800_000;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Same {
    regarding: Reference,
    related: Option<Reference>,
    severity: Severity,
    reason: Str,
    action: Str,
}

struct Known {
    event: Value,
    count: i64,
    last_ms: i64,
    written_ms: i64,
}

pub(super) struct Series {
    controller: Str,
    instance: Str,
    known: Recent<Same, Known>,
    made: u64,
}

impl Series {
    pub(super) fn new(controller: Str, instance: Str) -> Self {
        Self { controller, instance, known: Recent::new(REMEMBERED_MAX), made: 0 }
    }

    pub(super) fn take(&mut self, occurrence: &Occurrence, at_ms: i64) -> Option<Write> {
        self.made += 1;
        let event = self.event(occurrence, at_ms);
        let key = Same {
            regarding: occurrence.regarding.clone(),
            related: occurrence.related.clone(),
            severity: occurrence.severity,
            reason: occurrence.reason.clone(),
            action: occurrence.action.clone(),
        };
        let known = self.known.entry(key, || Known { event, count: 0, last_ms: at_ms, written_ms: at_ms });
        known.count += 1;
        known.last_ms = at_ms;
        match known.count {
            1 => Some(Write::Create(known.event.clone())),
            2 => Some(known.write(at_ms)),
            _ => None,
        }
    }

    /// Series whose count has not been written for long, or that have ended; those are forgotten.
    pub(super) fn due(&mut self, now_ms: i64) -> Vec<Write> {
        let due = self.known.values_mut().filter(|known| known.count > 1 && known.due_ms() <= now_ms);
        let writes = due.map(|known| known.write(now_ms)).collect();
        self.known.retain(|known| known.last_ms + FINISH_MS > now_ms);
        writes
    }

    pub(super) fn next_ms(&self) -> Option<i64> {
        self.known.values().map(Known::due_ms).min()
    }

    fn event(&self, occurrence: &Occurrence, at_ms: i64) -> Value {
        let regarding = &occurrence.regarding;
        let mut event = value!({
            "kind": "Event", "apiVersion": "events.k8s.io/v1",
            "metadata": {
                "name": (name(&regarding.name, at_ms, self.made)), "namespace": (regarding.events_namespace())
            },
            "eventTime": (time(at_ms)), "reportingController": (self.controller.clone()),
            "reportingInstance": (self.instance.clone()), "action": (occurrence.action.clone()),
            "reason": (occurrence.reason.clone()), "regarding": (regarding.to_value()),
            "note": (occurrence.note.as_str()), "type": (occurrence.severity.as_str())
        });
        if let (Some(related), Some(event)) = (&occurrence.related, event.as_object_mut()) {
            event.insert("related", related.to_value());
        }
        event
    }
}

impl Known {
    fn due_ms(&self) -> i64 {
        (self.last_ms + FINISH_MS).min(self.written_ms + REFRESH_MS)
    }

    fn write(&mut self, now_ms: i64) -> Write {
        self.written_ms = now_ms;
        let series = value!({"count": (self.count), "lastObservedTime": (time(self.last_ms))});
        let mut whole = self.event.clone();
        if let Some(whole) = whole.as_object_mut() {
            whole.insert("series", series.clone());
        }
        Write::Patch { patch: value!({"series": series}), whole }
    }
}

fn time(at_ms: i64) -> Str {
    Time::from_millis(at_ms).to_rfc3339_micro()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(note: &str) -> Occurrence {
        let regarding = Reference { kind: "Pod".into(), name: "a".into(), ..Reference::default() };
        let (severity, note) = (Severity::Warning, note.to_owned());
        let (reason, action) = ("FailedScheduling".into(), "Scheduling".into());
        Occurrence { regarding, related: None, severity, reason, action, note }
    }

    fn count(write: &Write) -> Option<i64> {
        match write {
            Write::Create(_) => None,
            Write::Patch { patch, .. } => patch.i64_at(&["series", "count"]),
        }
    }

    #[test]
    fn a_series_is_written_when_it_begins_goes_on_long_and_ends() {
        let mut series = Series::new("default-scheduler".into(), "default-scheduler-n1".into());
        let Some(Write::Create(event)) = series.take(&occurrence("x"), 0) else { panic!("the first is new") };
        assert_eq!(event.str_at(&["eventTime"]), "1970-01-01T00:00:00.000000Z");
        assert_eq!(series.take(&occurrence("y"), 1_000).as_ref().and_then(count), Some(2));
        let mut now_ms = 1_000;
        while now_ms < REFRESH_MS {
            now_ms += 300_000;
            assert_eq!(series.take(&occurrence("z"), now_ms), None);
        }
        assert_eq!(series.next_ms(), Some(REFRESH_MS + 1_000));
        assert_eq!(series.due(now_ms).iter().map(count).collect::<Vec<_>>(), [Some(8)]);
        assert_eq!(series.next_ms(), Some(now_ms + FINISH_MS));
        assert_eq!(series.due(now_ms + FINISH_MS).len(), 1);
        assert_eq!(series.next_ms(), None);
        assert!(matches!(series.take(&occurrence("x"), now_ms + FINISH_MS), Some(Write::Create(_))));
    }

    #[test]
    fn what_happens_once_is_forgotten_unwritten() {
        let mut series = Series::new("c".into(), "i".into());
        series.take(&occurrence("x"), 0);
        assert_eq!((series.due(FINISH_MS), series.next_ms()), (vec![], None));
    }
}
