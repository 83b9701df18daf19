//! `v1` events (`client-go/tools/record`): the same again raises the count of the first one; of many that differ in
//! their text alone, the last ones are combined; and one source may say only so much about one object.

use std::collections::BTreeSet;

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};

use super::recent::Recent;
use super::{Occurrence, REMEMBERED_MAX, Reference, Severity, Write, name};

/// So many texts for one reason within the time are combined.
const ALIKE_MAX: usize = 10;
const ALIKE_MS: i64 = 600_000;
/// Events about one object at once, and how long until there may be one more.
const BURST: f64 = 25.0;
const REFILL_MS: f64 = 300_000.0;

/// What makes two occurrences the same; for combined ones the text is left out.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Same {
    regarding: Reference,
    severity: Severity,
    reason: Str,
    note: Option<String>,
}

/// Texts seen for one reason.
struct Alike {
    notes: BTreeSet<String>,
    last_ms: i64,
}

/// An event as it was last written.
#[derive(Clone)]
struct Known {
    name: String,
    first_ms: i64,
    count: i64,
}

/// What may still be said about an object.
struct Budget {
    left: f64,
    at_ms: i64,
}

pub(super) struct Counted {
    component: Str,
    host: Str,
    alike: Recent<Same, Alike>,
    known: Recent<Same, Known>,
    budgets: Recent<(Reference, Severity), Budget>,
    made: u64,
}

impl Counted {
    pub(super) fn new(component: Str, host: Str) -> Self {
        Self {
            component,
            host,
            alike: Recent::new(REMEMBERED_MAX),
            known: Recent::new(REMEMBERED_MAX),
            budgets: Recent::new(REMEMBERED_MAX),
            made: 0,
        }
    }

    /// What is to be written; nothing where the source has said too much about the object.
    pub(super) fn take(&mut self, occurrence: &Occurrence, at_ms: i64) -> Option<Write> {
        let combined = self.is_combined(occurrence, at_ms);
        let note = match combined {
            true => format!("(combined from similar events): {}", occurrence.note),
            false => occurrence.note.clone(),
        };
        let key = same(occurrence, (!combined).then(|| note.clone()));
        let made = &mut self.made;
        let known = self.known.entry(key, || {
            *made += 1;
            Known { name: name(&occurrence.regarding.name, at_ms, *made), first_ms: at_ms, count: 0 }
        });
        known.count += 1;
        let known = known.clone();
        if !self.may_speak(occurrence, at_ms) {
            return None;
        }
        let whole = self.event(occurrence, &note, &known, at_ms);
        if known.count == 1 {
            return Some(Write::Create(whole));
        }
        let mut patch = value!({"count": (known.count), "lastTimestamp": (time(at_ms))});
        if combined && let Some(patch) = patch.as_object_mut() {
            patch.insert("message", note);
        }
        Some(Write::Patch { patch, whole })
    }

    fn is_combined(&mut self, occurrence: &Occurrence, at_ms: i64) -> bool {
        let new = || Alike { notes: BTreeSet::new(), last_ms: at_ms };
        let alike = self.alike.entry(same(occurrence, None), new);
        if at_ms - alike.last_ms > ALIKE_MS {
            alike.notes.clear();
        }
        alike.last_ms = at_ms;
        alike.notes.insert(occurrence.note.clone());
        if alike.notes.len() < ALIKE_MAX {
            return false;
        }
        alike.notes.pop_first();
        true
    }

    fn may_speak(&mut self, occurrence: &Occurrence, at_ms: i64) -> bool {
        let about = Reference { revision: Str::default(), field_path: Str::default(), ..occurrence.regarding.clone() };
        let budget = self.budgets.entry((about, occurrence.severity), || Budget { left: BURST, at_ms });
        #[expect(clippy::cast_precision_loss, reason = "a span of milliseconds is far below 2^52")]
        let refilled = (at_ms - budget.at_ms).max(0) as f64 / REFILL_MS;
        budget.left = (budget.left + refilled).min(BURST);
        budget.at_ms = at_ms;
        let may = budget.left >= 1.0;
        if may {
            budget.left -= 1.0;
        }
        may
    }

    fn event(&self, occurrence: &Occurrence, note: &str, known: &Known, at_ms: i64) -> Value {
        let regarding = &occurrence.regarding;
        let mut source = value!({"component": (self.component.clone())});
        if let Some(source) = source.as_object_mut().filter(|_| !self.host.is_empty()) {
            source.insert("host", self.host.clone());
        }
        value!({
            "kind": "Event", "apiVersion": "v1",
            "metadata": {"name": (known.name.as_str()), "namespace": (regarding.events_namespace())},
            "involvedObject": (regarding.to_value()),
            "reason": (occurrence.reason.clone()), "message": note, "type": (occurrence.severity.as_str()),
            "source": source, "count": (known.count),
            "firstTimestamp": (time(known.first_ms)), "lastTimestamp": (time(at_ms)), "eventTime": null,
            "reportingComponent": (self.component.clone()), "reportingInstance": (self.host.clone())
        })
    }
}

fn time(at_ms: i64) -> Str {
    Time::from_millis(at_ms).to_rfc3339()
}

fn same(occurrence: &Occurrence, note: Option<String>) -> Same {
    let regarding = Reference { revision: Str::default(), ..occurrence.regarding.clone() };
    let regarding = if note.is_some() { regarding } else { Reference { field_path: Str::default(), ..regarding } };
    Same { regarding, severity: occurrence.severity, reason: occurrence.reason.clone(), note }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(object: &str, note: &str) -> Occurrence {
        let regarding = Reference { kind: "Pod".into(), name: object.into(), ..Reference::default() };
        let (severity, note) = (Severity::Warning, note.to_owned());
        Occurrence { regarding, related: None, severity, reason: "BackOff".into(), action: Str::default(), note }
    }

    fn seen(write: Option<Write>) -> String {
        match write {
            None => "nothing".to_owned(),
            Some(Write::Create(event)) => format!("create {}", event.str_at(&["message"])),
            Some(Write::Patch { patch, .. }) => {
                format!("{} {}", patch.i64_at(&["count"]).expect("a count"), patch.str_at(&["message"]))
            }
        }
    }

    #[test]
    fn repetitions_are_counted() {
        let mut counted = Counted::new("kubelet".into(), "n1".into());
        let Some(Write::Create(event)) = counted.take(&occurrence("a", "x"), 1000) else { panic!("the first is new") };
        assert_eq!(event.str_at(&["source", "host"]), "n1");
        assert_eq!(event.str_at(&["metadata", "namespace"]), "default");
        let Some(Write::Patch { patch, whole }) = counted.take(&occurrence("a", "x"), 3000) else { panic!("again") };
        assert_eq!(patch, value!({"count": 2, "lastTimestamp": "1970-01-01T00:00:03Z"}));
        assert_eq!(whole.str_at(&["metadata", "name"]), event.str_at(&["metadata", "name"]));
        assert_eq!(whole.str_at(&["firstTimestamp"]), "1970-01-01T00:00:01Z");
        assert_eq!(seen(counted.take(&occurrence("a", "y"), 3000)), "create y");
        assert_eq!(seen(counted.take(&occurrence("b", "x"), 3000)), "create x");
    }

    #[test]
    fn what_is_alike_is_combined() {
        let mut counted = Counted::new("kubelet".into(), Str::default());
        for number in 0..9 {
            assert_eq!(seen(counted.take(&occurrence("a", &number.to_string()), 0)), format!("create {number}"));
        }
        let combined = "create (combined from similar events): 9";
        assert_eq!(seen(counted.take(&occurrence("a", "9"), 0)), combined);
        assert_eq!(seen(counted.take(&occurrence("a", "10"), 0)), "2 (combined from similar events): 10");
        assert_eq!(seen(counted.take(&occurrence("a", "11"), ALIKE_MS + 1)), "create 11");
    }

    #[test]
    fn one_source_says_only_so_much_about_an_object() {
        let mut counted = Counted::new("kubelet".into(), Str::default());
        let written = (0..40).filter(|_| counted.take(&occurrence("a", "x"), 0).is_some()).count();
        assert_eq!(written, 25);
        assert_eq!(seen(counted.take(&occurrence("b", "x"), 0)), "create x");
        assert_eq!(seen(counted.take(&occurrence("a", "x"), 300_000)), "41 ");
        assert_eq!(seen(counted.take(&occurrence("a", "x"), 300_001)), "nothing");
    }
}
