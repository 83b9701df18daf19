//! Events. Those of the core group are held to less than those of `events.k8s.io`, whose errors upstream reports under
//! the core group's names.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;

use super::{At, reasons, same, subdomain};

const TEXT_BYTES_MAX: usize = 128;
const NOTE_BYTES_MAX: usize = 1024;

/// An event of the core group.
pub(crate) fn core(validation: Validation<'_>, errors: &mut FieldErrors) {
    let event = At::root(validation.object);
    common(&event, "involvedObject", "message", "reportingComponent", errors);
}

/// An event of `events.k8s.io`: what it regards and when are settled once.
pub(crate) fn regarding(validation: Validation<'_>, errors: &mut FieldErrors) {
    let event = At::root(validation.object);
    common(&event, "regarding", "note", "reportingController", errors);
    match validation.old.map(At::root) {
        None => create(&event, errors),
        Some(old) => update(&event, &old, errors),
    }
}

fn common(event: &At<'_>, object: &str, note: &str, controller: &str, errors: &mut FieldErrors) {
    let namespace = event.object_or_empty("metadata").text("namespace");
    let of = event.object_or_empty(object).text("namespace");
    let dated = event.given("eventTime");
    let other = match (dated, of.is_empty()) {
        (false, true) => !["", "default"].contains(&namespace),
        (false, false) => namespace != of,
        (true, true) => !["default", "kube-system"].contains(&namespace),
        (true, false) => false,
    };
    if other {
        let path = FieldPath::new("involvedObject").child("namespace");
        errors.invalid(&path, of, "does not match event.namespace");
    }
    if dated {
        event.require(controller, errors);
        let by = event.text(controller);
        reasons(&event.path(controller), by, name::qualified_name(by), errors);
        for field in ["reportingInstance", "action", "reason"] {
            event.require(field, errors);
            at_most(event.text(field), field, TEXT_BYTES_MAX, errors);
        }
        at_most(event.text(note), "message", NOTE_BYTES_MAX, errors);
    }
    reasons(&FieldPath::new("namespace"), namespace, subdomain(namespace), errors);
}

fn at_most(text: &str, shown: &str, bytes_max: usize, errors: &mut FieldErrors) {
    if text.len() > bytes_max {
        errors.invalid(&FieldPath::new(shown), "", format!("can have at most {bytes_max} characters"));
    }
}

fn create(event: &At<'_>, errors: &mut FieldErrors) {
    series(event, errors);
    if !event.given("eventTime") {
        errors.required(&event.path("eventTime"), "");
    }
    let kind = event.text("type");
    if !["Normal", "Warning"].contains(&kind) {
        errors.invalid(&event.path("type"), "", format!("has invalid value: {kind}"));
    }
    let source = event.object_or_empty("deprecatedSource");
    let unset = [
        ("firstTimestamp", event.given("deprecatedFirstTimestamp")),
        ("lastTimestamp", event.given("deprecatedLastTimestamp")),
        ("count", event.int("deprecatedCount").is_some_and(|count| count != 0)),
        ("source", !source.text("component").is_empty() || !source.text("host").is_empty()),
    ];
    for (field, _) in unset.into_iter().filter(|(_, set)| *set) {
        errors.invalid(&FieldPath::new(field), "", "needs to be unset");
    }
}

fn series(event: &At<'_>, errors: &mut FieldErrors) {
    let Some(series) = event.object("series") else { return };
    if series.int("count").unwrap_or_default() < 2 {
        errors.invalid(&series.path("count"), "", "should be at least 2");
    }
    if !series.given("lastObservedTime") {
        errors.required(&series.path("lastObservedTime"), "");
    }
}

fn update(event: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    if !same(event.get("series"), old.get("series")) {
        series(event, errors);
    }
    let fields = [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ];
    for (field, shown) in fields {
        if !same(event.get(field), old.get(field)) {
            errors.invalid(&FieldPath::new(shown), event.value(field), super::IMMUTABLE);
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::check_rule as check;

    #[test]
    fn events_of_the_core_group() {
        check(core, None, &value!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"}}), &[]);
        check(
            core,
            None,
            &value!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}}),
            &[r#"involvedObject.namespace: Invalid value: "b": does not match event.namespace"#],
        );
    }

    #[test]
    fn events_of_their_own_group() {
        let event = |note: &str| {
            value!({
                "metadata": {"namespace": "a"}, "regarding": {"namespace": "a"}, "eventTime": "2026-01-01T00:00:00.000000Z",
                "reportingController": "a.b/c", "reportingInstance": "c", "action": "d", "reason": "e", "type": "Normal", "note": note
            })
        };
        check(regarding, None, &event("f"), &[]);
        check(regarding, Some(&event("f")), &event("g"), &[r#"message: Invalid value: "g": field is immutable"#]);
        let mut bad = event("f");
        bad.as_object_mut().unwrap().extend(
            value!({"type": "Odd", "deprecatedCount": 1, "reason": "", "series": {"count": 1}})
                .as_object()
                .unwrap()
                .clone(),
        );
        check(
            regarding,
            None,
            &bad,
            &[
                "reason: Required value",
                r#"series.count: Invalid value: "": should be at least 2"#,
                "series.lastObservedTime: Required value",
                r#"type: Invalid value: "": has invalid value: Odd"#,
                r#"count: Invalid value: "": needs to be unset"#,
            ],
        );
    }
}
