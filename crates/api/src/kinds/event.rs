//! Events: the same objects in the core group and in `events.k8s.io`, whose fields have other names.

use corten_apimachinery::kind::{Column, FieldValue, NameRule, SelectableField, Strategy};
use corten_apimachinery::value::{Str, Value};

use super::column::{UNKNOWN, at, named, since, text, wide};
use super::{KindRules, field_as};
use crate::rules::validation::event;

/// How long an event is kept after it was last written: seven days.
const TTL_S: u64 = 7 * 24 * 3600;

/// The names of an event's fields in one group.
struct Names {
    object: &'static str,
    message: &'static str,
    component: &'static [&'static str],
    host: &'static [&'static str],
    controller: &'static str,
    instance: &'static str,
    first_seen: &'static str,
    last_seen: &'static str,
    count: &'static str,
}

const CORE: Names = Names {
    object: "involvedObject",
    message: "message",
    component: &["source", "component"],
    host: &["source", "host"],
    controller: "reportingComponent",
    instance: "reportingInstance",
    first_seen: "firstTimestamp",
    last_seen: "lastTimestamp",
    count: "count",
};

const EVENTS: Names = Names {
    object: "regarding",
    message: "note",
    component: &["deprecatedSource", "component"],
    host: &["deprecatedSource", "host"],
    controller: "reportingController",
    instance: "reportingInstance",
    first_seen: "deprecatedFirstTimestamp",
    last_seen: "deprecatedLastTimestamp",
    count: "deprecatedCount",
};

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy {
            name: NameRule::PathSegment,
            qualified_finalizers: false,
            metadata_last: true,
            validate: Some(event::core),
            ..strategy(base)
        },
        columns,
        selectable_fields: || selectable_fields(&CORE, "involvedObject", "reportingComponent"),
        ..KindRules::new("", "Event")
    },
    KindRules {
        strategy: |base| Strategy { refused_in: Some(""), validate: Some(event::regarding), ..strategy(base) },
        columns,
        selectable_fields: || selectable_fields(&EVENTS, "regarding", "reportingController"),
        convert: |version| (version == "v1").then(super::convert::event::conversion),
        ..KindRules::new("events.k8s.io", "Event")
    },
];

fn strategy(base: Strategy) -> Strategy {
    Strategy { create_on_update: true, ttl_s: Some(TTL_S), ..base }
}

/// An event of the newer group has no involved object but something that it regards.
fn names(event: &Value) -> &'static Names {
    if event.get(EVENTS.object).is_some() { &EVENTS } else { &CORE }
}

fn selectable_fields(names: &Names, object: &str, controller: &str) -> Vec<SelectableField> {
    let of_object = ["kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath"];
    let mut fields: Vec<SelectableField> = of_object
        .map(|field| field_as(&format!("{object}.{field}"), &format!("{}.{field}", names.object)))
        .into_iter()
        .collect();
    fields.push(super::field("reason"));
    fields.push(super::field("type"));
    fields.push(field_as(controller, names.controller));
    fields.push(SelectableField {
        name: "source".into(),
        value: FieldValue::Computed(|event| Str::from(component(event))),
    });
    fields
}

fn component(event: &Value) -> &str {
    let names = names(event);
    match event.str_at(names.component) {
        "" => event.str_at(&[names.controller]),
        component => component,
    }
}

fn columns() -> Vec<Column> {
    vec![
        text("Last Seen", |event, now| last_seen(event, now).into()),
        text("Type", |event, _| at(event, &["type"])),
        text("Reason", |event, _| at(event, &["reason"])),
        text("Object", |event, _| target(event).into()),
        wide(text("Subobject", |event, _| at(event, &[names(event).object, "fieldPath"]))),
        wide(text("Source", |event, _| source(event).into())),
        text("Message", |event, _| event.str_at(&[names(event).message]).trim().into()),
        wide(text("First Seen", |event, now| first_seen(event, now).into())),
        wide(text("Count", |event, _| count(event).into())),
        wide(named("Name", |event, _| at(event, &["metadata", "name"]))),
    ]
}

fn first_seen(event: &Value, now: i64) -> String {
    match since(event, &[names(event).first_seen], now) {
        unset if unset == UNKNOWN => since(event, &["eventTime"], now),
        age => age,
    }
}

fn last_seen(event: &Value, now: i64) -> String {
    if event.get("series").is_some_and(|series| !series.is_null()) {
        return since(event, &["series", "lastObservedTime"], now);
    }
    match since(event, &[names(event).last_seen], now) {
        unset if unset == UNKNOWN => first_seen(event, now),
        age => age,
    }
}

/// One that is no series and was not counted happened once.
fn count(event: &Value) -> i64 {
    match event.get("series").filter(|series| !series.is_null()) {
        Some(series) => series.i64_at(&["count"]).unwrap_or_default(),
        None => event.i64_at(&[names(event).count]).filter(|count| *count != 0).unwrap_or(1),
    }
}

fn target(event: &Value) -> String {
    let object = names(event).object;
    let kind = event.str_at(&[object, "kind"]).to_lowercase();
    match event.str_at(&[object, "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

/// `kubelet, node-1`
fn source(event: &Value) -> String {
    let names = names(event);
    let instance = match event.str_at(names.host) {
        "" => event.str_at(&[names.instance]),
        host => host,
    };
    let component = component(event);
    if instance.is_empty() { component.to_owned() } else { format!("{component}, {instance}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn both_groups() {
        let old = value!({
            "metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "message": " done\n",
            "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
            "source": {"component": "kubelet", "host": "n"}, "firstTimestamp": "2026-01-01T00:00:00Z",
            "lastTimestamp": "2026-01-01T00:59:00Z", "count": 4
        });
        check("", "Event", &old, &["60s", "Normal", "Pulled", "pod/p", "spec", "kubelet, n", "done", "60m", "4", "e"]);
        let new = value!({
            "metadata": {"name": "e"}, "type": "Normal", "reason": "Pulled", "note": "done", "regarding": {"kind": "Pod"},
            "reportingController": "c", "reportingInstance": "i", "eventTime": "2026-01-01T00:59:59.000000Z"
        });
        check("events.k8s.io", "Event", &new, &["1s", "Normal", "Pulled", "pod", "", "c, i", "done", "1s", "1", "e"]);
    }

    #[test]
    fn fields() {
        let fields = selectable_fields(&EVENTS, "regarding", "reportingController");
        let names: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
        assert!(names.contains(&"regarding.uid") && names.contains(&"reportingController"));
        assert_eq!(component(&value!({"regarding": {}, "reportingController": "c"})), "c");
    }
}
