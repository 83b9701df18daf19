//! Dynamic resource allocation: claims, classes, slices and taints of devices.

use corten_apimachinery::kind::Strategy;
use corten_apimachinery::value::Value;

use super::column::{age, at, deleting, list, name, since, text};
use super::{KindRules, field, shown_deleted};

const GROUP: &str = "resource.k8s.io";

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy { generation: true, ..shown_deleted(base) },
        columns: || vec![name(), age()],
        ..KindRules::new(GROUP, "DeviceClass")
    },
    KindRules {
        strategy: |base| Strategy { status_keeps_metadata: true, ..shown_deleted(base) },
        columns: || vec![name(), text("State", |claim, _| state(claim).into()), age()],
        ..KindRules::new(GROUP, "ResourceClaim")
    },
    KindRules {
        strategy: shown_deleted,
        columns: || vec![name(), age()],
        ..KindRules::new(GROUP, "ResourceClaimTemplate")
    },
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            refuse_field: Some(|field| {
                format!("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {field}")
            }),
            prepare: Some(date_taints),
            ..shown_deleted(base)
        },
        columns: || {
            vec![
                name(),
                text("Node", |slice, _| at(slice, &["spec", "nodeName"])),
                text("Driver", |slice, _| at(slice, &["spec", "driver"])),
                text("Pool", |slice, _| at(slice, &["spec", "pool", "name"])),
                age(),
            ]
        },
        selectable_fields: || vec![field("spec.nodeName"), field("spec.driver")],
        ..KindRules::new(GROUP, "ResourceSlice")
    },
    KindRules {
        strategy: |base| Strategy { generation: true, status_keeps_metadata: true, ..shown_deleted(base) },
        columns: || {
            vec![
                name(),
                text("Key", |rule, _| at(rule, &["spec", "taint", "key"])),
                text("Value", |rule, _| at(rule, &["spec", "taint", "value"])),
                text("Effect", |rule, _| at(rule, &["spec", "taint", "effect"])),
                text("TimeAdded", |rule, now| match rule.str_at(&["spec", "taint", "timeAdded"]) {
                    "" => "".into(),
                    _ => since(rule, &["spec", "taint", "timeAdded"], now).into(),
                }),
                age(),
            ]
        },
        ..KindRules::new(GROUP, "DeviceTaintRule")
    },
];

/// Taints of a new slice hold since it was made.
fn date_taints(slice: &mut Value, stored: Option<&Value>) {
    if stored.is_some() {
        return;
    }
    let created = at(slice, &["metadata", "creationTimestamp"]);
    let devices = slice.at_mut(&["spec", "devices"]).and_then(Value::as_array_mut);
    let taints = devices.into_iter().flatten().filter_map(|device| device.get_mut("taints")?.as_array_mut());
    for taint in taints.flatten().filter_map(Value::as_object_mut) {
        if taint.get("timeAdded").is_none_or(Value::is_null) {
            taint.insert("timeAdded", created.clone());
        }
    }
}

fn state(claim: &Value) -> String {
    let allocated = claim.at(&["status", "allocation"]).is_some_and(|allocation| !allocation.is_null());
    let reserved = allocated && !list(claim, &["status", "reservedFor"]).is_empty();
    let states = [
        ("deleted", deleting(claim)),
        ("pending", !allocated && !deleting(claim)),
        ("allocated", allocated),
        ("reserved", reserved),
    ];
    states.into_iter().filter(|(_, holds)| *holds).map(|(state, _)| state).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::GROUP;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn taints_are_dated() {
        let mut slice = value!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"devices": [{"taints": [{"key": "a"}, {"key": "b", "timeAdded": "2025-01-01T00:00:00Z"}]}, {}]}
        });
        super::date_taints(&mut slice, None);
        assert_eq!(
            slice.at(&["spec", "devices"]),
            Some(&value!([
                {"taints": [
                    {"key": "a", "timeAdded": "2026-01-01T00:00:00Z"}, {"key": "b", "timeAdded": "2025-01-01T00:00:00Z"}
                ]},
                {}
            ]))
        );
    }

    #[test]
    fn claims() {
        check(GROUP, "ResourceClaim", &value!({}), &["pending"]);
        let reserved = value!({"status": {"allocation": {}, "reservedFor": [{}]}});
        check(GROUP, "ResourceClaim", &reserved, &["allocated,reserved"]);
        let deleted = value!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        check(GROUP, "ResourceClaim", &deleted, &["deleted"]);
    }
}
