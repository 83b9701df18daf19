//! Events of `events.k8s.io/v1`, stored as those of the core group under other names.

use corten_apimachinery::kind::Conversion;
use corten_apimachinery::value::Value;

/// Names in `events.k8s.io/v1` and in the core group; all others are the same.
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

pub(crate) fn conversion() -> Conversion {
    super::between(
        "Event",
        ("v1", |event| rename(event, NAMES.iter().copied())),
        ("events.k8s.io/v1", |event| rename(event, NAMES.iter().map(|(served, stored)| (*stored, *served)))),
    )
}

#[expect(clippy::unnecessary_wraps, reason = "the shape of every conversion")]
fn rename(event: &mut Value, names: impl Iterator<Item = (&'static str, &'static str)>) -> Result<(), String> {
    if let Some(map) = event.as_object_mut() {
        for (from, to) in names {
            if let Some(value) = map.remove(from) {
                map.insert(to, value);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::{json, value};

    #[test]
    fn an_event_goes_through_the_core_group_and_back() {
        let event = value!({
            "kind": "Event", "apiVersion": "events.k8s.io/v1", "metadata": {"name": "a"}, "note": "done",
            "eventTime": "2026-11-21T10:00:00.000000Z", "regarding": {"kind": "Pod", "name": "p"},
            "reportingController": "k.io/c", "series": {"count": 2, "lastObservedTime": "2026-11-21T10:00:01.000000Z"},
            "deprecatedCount": 3, "deprecatedSource": {"component": "c"}
        });
        let stored = (conversion().to_storage)(event.clone()).unwrap();
        assert_eq!(
            json::to_string(&stored),
            concat!(
                r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":"a"},"involvedObject":{"kind":"Pod","name":"p"},"#,
                r#""message":"done","source":{"component":"c"},"firstTimestamp":null,"lastTimestamp":null,"count":3,"#,
                r#""eventTime":"2026-11-21T10:00:00.000000Z","#,
                r#""series":{"count":2,"lastObservedTime":"2026-11-21T10:00:01.000000Z"},"#,
                r#""reportingComponent":"k.io/c","reportingInstance":""}"#
            )
        );
        let shown = (conversion().from_storage)(stored).unwrap();
        for (key, value) in event.as_object().unwrap().iter() {
            assert_eq!(shown.get(key), Some(value), "{key}");
        }
    }
}
