//! Persistent volumes and claims, storage classes, CSI.

use corten_apimachinery::kind::{Column, Strategy, Write};
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use super::change::keep;
use super::column::{
    UNSET, age, at, at_or, boolean, count, decorated_name, deleting, flag, integer, list, name, plain, text, wide,
};
use super::{KindRules, field_as, shown_deleted, warning};
use crate::rules::validation::{self as rules, persistent, storage};

const GROUP: &str = "storage.k8s.io";
/// Where a class was named before there was a field for it.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

/// Upstream's own words for kinds without fields of their own to select by; these two have one by mistake.
fn unknown_field(field: &str) -> String {
    format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
}

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy {
            refuse_field: Some(unknown_field),
            prepare: Some(prepare_volume),
            settle: Some(date_phase),
            validate: Some(persistent::validate),
            warn: Some(warning::volume),
            ..shown_deleted(base)
        },
        columns: volume_columns,
        // Once a mistake, now relied upon.
        selectable_fields: || vec![field_as("name", "metadata.name")],
        ..KindRules::new("", "PersistentVolume")
    },
    KindRules {
        strategy: |base| Strategy {
            refuse_field: Some(unknown_field),
            prepare: Some(prepare_claim),
            validate: Some(rules::claim::validate),
            warn: Some(warning::claim),
            ..shown_deleted(base)
        },
        columns: claim_columns,
        selectable_fields: || vec![field_as("name", "metadata.name")],
        ..KindRules::new("", "PersistentVolumeClaim")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(storage::storage_class), ..shown_deleted(base) },
        columns: class_columns,
        ..KindRules::new(GROUP, "StorageClass")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(storage::attributes_class), ..shown_deleted(base) },
        columns: || vec![name(), text("DriverName", |class, _| at(class, &["driverName"])), age()],
        ..KindRules::new(GROUP, "VolumeAttributesClass")
    },
    KindRules {
        strategy: |base| Strategy {
            unconditional_update: false,
            status_keeps_metadata: true,
            validate: Some(storage::attachment),
            ..shown_deleted(base)
        },
        columns: || {
            vec![
                name(),
                super::column::named("Attacher", |attachment, _| at(attachment, &["spec", "attacher"])),
                text("PV", |attachment, _| at(attachment, &["spec", "source", "persistentVolumeName"])),
                text("Node", |attachment, _| at(attachment, &["spec", "nodeName"])),
                boolean("Attached", |attachment, _| flag(attachment, &["status", "attached"]).into()),
                age(),
            ]
        },
        ..KindRules::new(GROUP, "VolumeAttachment")
    },
    KindRules {
        strategy: |base| Strategy {
            unconditional_update: false,
            validate: Some(storage::csi_node),
            ..shown_deleted(base)
        },
        columns: || vec![name(), integer("Drivers", |node, _| count(node, &["spec", "drivers"]).into()), age()],
        ..KindRules::new(GROUP, "CSINode")
    },
    KindRules {
        strategy: |base| Strategy {
            unconditional_update: false,
            prepare: Some(number_changes),
            validate: Some(storage::csi_driver),
            ..shown_deleted(base)
        },
        columns: driver_columns,
        ..KindRules::new(GROUP, "CSIDriver")
    },
    KindRules {
        strategy: |base| Strategy { unconditional_update: false, validate: Some(storage::capacity), ..base },
        ..KindRules::new(GROUP, "CSIStorageCapacity")
    },
];

/// A new volume waits for its controller, since it was made.
fn prepare_volume(volume: &mut Value, stored: Option<&Value>) {
    if stored.is_none() {
        let created = at(volume, &["metadata", "creationTimestamp"]);
        if let Some(fields) = volume.as_object_mut() {
            fields.insert("status", value!({"phase": "Pending", "lastPhaseTransitionTime": created}));
        }
    }
}

/// Since when the volume is in its phase, where whoever writes the status does not say it.
fn date_phase(volume: &mut Value, write: &Write<'_>) {
    let Some(stored) = write.old.filter(|_| write.subresource == "status") else { return };
    let since = |volume: &Value| volume.str_at(&["status", "lastPhaseTransitionTime"]).to_owned();
    let phase = |volume: &Value| volume.str_at(&["status", "phase"]).to_owned();
    let (said, was) = (since(volume), since(stored));
    let now = Time::from_seconds(write.now_s).to_rfc3339();
    let since = match phase(volume) == phase(stored) {
        true if said.is_empty() && !was.is_empty() => was,
        false if said.is_empty() || said == was => now.to_string(),
        _ => return,
    };
    volume.object_entry("status").insert("lastPhaseTransitionTime", since);
}

fn prepare_claim(claim: &mut Value, stored: Option<&Value>) {
    if stored.is_none()
        && let Some(fields) = claim.as_object_mut()
    {
        fields.insert("status", value!({"phase": "Pending"}));
    }
    drop_sources(claim, stored);
    same_source(claim);
}

/// A source of another namespace is a feature that is off by default upstream (CrossNamespaceVolumeDataSource, KEP-3294);
/// `dataSource` alone names a claim or a snapshot, and other values of it never counted (KEP-1495).
fn drop_sources(claim: &mut Value, stored: Option<&Value>) {
    let is_stored =
        |field| stored.and_then(|stored| stored.at(&["spec", field])).is_some_and(|source| !source.is_null());
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if spec.get("dataSourceRef").is_some_and(|source| !source.str_at(&["namespace"]).is_empty())
        && !is_stored("dataSourceRef")
    {
        spec.remove("dataSourceRef");
    }
    let known = |source: &Value| {
        let (group, kind) = (source.str_at(&["apiGroup"]), source.str_at(&["kind"]));
        matches!((group, kind), ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot"))
    };
    let alone = spec.get("dataSourceRef").is_none_or(Value::is_null);
    if alone
        && !is_stored("dataSource")
        && !is_stored("dataSourceRef")
        && spec.get("dataSource").is_some_and(|source| !known(source))
    {
        spec.remove("dataSource");
    }
}

/// `dataSource` and `dataSourceRef` are one fact while the source lies in the claim's own namespace.
fn same_source(claim: &mut Value) {
    let Some(spec) = claim.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let old = spec.get("dataSource").filter(|source| !source.is_null()).cloned();
    let new = spec.get("dataSourceRef").filter(|source| !source.is_null()).cloned();
    match (old, new) {
        (Some(old), None) => {
            spec.insert("dataSourceRef", old);
        }
        (None, Some(new)) if new.str_at(&["namespace"]).is_empty() => {
            spec.insert("dataSource", new);
        }
        _ => {}
    }
}

/// A driver has no generation until its specification changes.
fn number_changes(driver: &mut Value, stored: Option<&Value>) {
    let Some(stored) = stored else { return };
    if super::change::differs(driver, stored, &["spec"]) {
        super::change::raise_generation(driver, stored);
    } else if let (Some(new), Some(old)) = (driver.get_mut("metadata"), stored.get("metadata")) {
        keep(new, old, "generation");
    }
}

fn access_modes(modes: &[Value]) -> String {
    let short =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let present = short.into_iter().filter(|(mode, _)| modes.iter().any(|of| of.as_str() == Some(mode)));
    present.map(|(_, short)| short).collect::<Vec<_>>().join(",")
}

fn phase(object: &Value) -> Value {
    if deleting(object) { "Terminating".into() } else { at(object, &["status", "phase"]) }
}

/// The annotation wins over the field.
fn class(object: &Value) -> Value {
    match object.at(&["metadata", "annotations", CLASS]) {
        Some(class) => class.clone(),
        None => at(object, &["spec", "storageClassName"]),
    }
}

fn amount(object: &Value, path: &[&str]) -> Value {
    object.at(path).map_or_else(|| "0".to_owned(), plain).into()
}

fn volume_columns() -> Vec<Column> {
    vec![
        name(),
        text("Capacity", |volume, _| amount(volume, &["spec", "capacity", "storage"])),
        text("Access Modes", |volume, _| access_modes(list(volume, &["spec", "accessModes"])).into()),
        text("Reclaim Policy", |volume, _| at(volume, &["spec", "persistentVolumeReclaimPolicy"])),
        text("Status", |volume, _| phase(volume)),
        text("Claim", |volume, _| match volume.at(&["spec", "claimRef"]).filter(|claim| !claim.is_null()) {
            Some(claim) => format!("{}/{}", claim.str_at(&["namespace"]), claim.str_at(&["name"])).into(),
            None => "".into(),
        }),
        text("StorageClass", |volume, _| class(volume)),
        text("VolumeAttributesClass", |volume, _| at_or(volume, &["spec", "volumeAttributesClassName"], UNSET)),
        text("Reason", |volume, _| at(volume, &["status", "reason"])),
        age(),
        wide(text("VolumeMode", |volume, _| at_or(volume, &["spec", "volumeMode"], UNSET))),
    ]
}

fn claim_columns() -> Vec<Column> {
    fn bound(claim: &Value) -> bool {
        !claim.str_at(&["spec", "volumeName"]).is_empty()
    }
    vec![
        name(),
        text("Status", |claim, _| phase(claim)),
        text("Volume", |claim, _| at(claim, &["spec", "volumeName"])),
        text(
            "Capacity",
            |claim, _| {
                if bound(claim) { amount(claim, &["status", "capacity", "storage"]) } else { "".into() }
            },
        ),
        text("Access Modes", |claim, _| match bound(claim) {
            true => access_modes(list(claim, &["status", "accessModes"])).into(),
            false => "".into(),
        }),
        text("StorageClass", |claim, _| class(claim)),
        text("VolumeAttributesClass", |claim, _| at_or(claim, &["spec", "volumeAttributesClassName"], UNSET)),
        age(),
        wide(text("VolumeMode", |claim, _| at_or(claim, &["spec", "volumeMode"], UNSET))),
    ]
}

fn class_columns() -> Vec<Column> {
    vec![
        decorated_name(|class, _| {
            let default = DEFAULT_CLASS.iter().any(|key| class.str_at(&["metadata", "annotations", key]) == "true");
            format!("{}{}", class.str_at(&["metadata", "name"]), if default { " (default)" } else { "" }).into()
        }),
        text("Provisioner", |class, _| at(class, &["provisioner"])),
        text("ReclaimPolicy", |class, _| at_or(class, &["reclaimPolicy"], "Delete")),
        text("VolumeBindingMode", |class, _| at_or(class, &["volumeBindingMode"], "Immediate")),
        text("AllowVolumeExpansion", |class, _| flag(class, &["allowVolumeExpansion"]).into()),
        age(),
    ]
}

fn driver_columns() -> Vec<Column> {
    fn joined(driver: &Value, field: &str, of: fn(&Value) -> String) -> String {
        list(driver, &["spec", field]).iter().map(of).collect::<Vec<_>>().join(",")
    }
    vec![
        name(),
        boolean("AttachRequired", |driver, _| {
            driver.at(&["spec", "attachRequired"]).and_then(Value::as_bool).unwrap_or(true).into()
        }),
        boolean("PodInfoOnMount", |driver, _| flag(driver, &["spec", "podInfoOnMount"]).into()),
        boolean("StorageCapacity", |driver, _| flag(driver, &["spec", "storageCapacity"]).into()),
        text("TokenRequests", |driver, _| match driver.at(&["spec", "tokenRequests"]) {
            Some(Value::Array(_)) => {
                joined(driver, "tokenRequests", |token| token.str_at(&["audience"]).to_owned()).into()
            }
            _ => UNSET.into(),
        }),
        boolean("RequiresRepublish", |driver, _| flag(driver, &["spec", "requiresRepublish"]).into()),
        text("Modes", |driver, _| match joined(driver, "volumeLifecycleModes", plain) {
            modes if modes.is_empty() => super::column::NONE.into(),
            modes => modes.into(),
        }),
        age(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::column::testing::check;

    #[test]
    fn volumes() {
        let volume = value!({
            "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "a", "name": "b"},
                "storageClassName": "fast", "volumeMode": "Block"
            },
            "status": {"phase": "Bound"}
        });
        check(
            "",
            "PersistentVolume",
            &volume,
            &["1Gi", "RWO,RWX", "Retain", "Bound", "a/b", "fast", "<unset>", "", "Block"],
        );
        let claim = value!({
            "spec": {"volumeName": "v", "accessModes": ["ReadWriteOnce"]},
            "status": {"phase": "Bound", "accessModes": ["ReadOnlyMany"], "capacity": {"storage": "2Gi"}}
        });
        check("", "PersistentVolumeClaim", &claim, &["Bound", "v", "2Gi", "ROX", "", "<unset>", "<unset>"]);
        check(
            "",
            "PersistentVolumeClaim",
            &value!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
            &["Terminating", "", "", "", "", "<unset>", "<unset>"],
        );
    }

    #[test]
    fn classes() {
        let class = value!({
            "metadata": {"name": "s", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
            "provisioner": "p", "allowVolumeExpansion": true
        });
        check(GROUP, "StorageClass", &class, &["s (default)", "p", "Delete", "Immediate", "true"]);
    }

    #[test]
    fn drivers() {
        let driver = value!({"spec": {
            "attachRequired": false, "tokenRequests": [{"audience": "a"}, {"audience": "b"}],
            "volumeLifecycleModes": ["Persistent", "Ephemeral"]
        }});
        check(GROUP, "CSIDriver", &driver, &["false", "false", "false", "a,b", "false", "Persistent,Ephemeral"]);
        check(GROUP, "CSINode", &value!({"spec": {"drivers": [{}]}}), &["1"]);
        let stored = value!({"metadata": {}, "spec": {"a": 1}});
        let mut changed = value!({"metadata": {}, "spec": {"a": 2}});
        number_changes(&mut changed, Some(&stored));
        assert_eq!(changed.i64_at(&["metadata", "generation"]), Some(1));
    }

    #[test]
    fn phases_are_dated() {
        let extra = std::collections::BTreeMap::new();
        let user = corten_apimachinery::kind::Writer { name: "n", uid: "", groups: &[], extra: &extra };
        let stored = value!({"status": {"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"}});
        let since = |status: Value| {
            let mut volume = value!({"status": status});
            date_phase(&mut volume, &Write { subresource: "status", old: Some(&stored), now_s: 0, user });
            volume.str_at(&["status", "lastPhaseTransitionTime"]).to_owned()
        };
        assert_eq!(since(value!({"phase": "Pending"})), "2026-01-01T00:00:00Z");
        assert_eq!(since(value!({"phase": "Bound"})), "1970-01-01T00:00:00Z");
        let own = value!({"phase": "Bound", "lastPhaseTransitionTime": "2026-02-02T00:00:00Z"});
        assert_eq!(since(own), "2026-02-02T00:00:00Z");
    }

    #[test]
    fn sources_are_one_fact() {
        let mut claim = value!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "a"}}});
        prepare_claim(&mut claim, None);
        assert_eq!(claim.at(&["spec", "dataSourceRef"]), claim.at(&["spec", "dataSource"]));
        assert_eq!(claim.get("status"), Some(&value!({"phase": "Pending"})));
    }

    #[test]
    fn sources_that_never_counted_are_dropped() {
        let prepared = |spec: Value, stored: Option<&Value>| {
            let mut claim = value!({"spec": spec});
            prepare_claim(&mut claim, stored);
            ["dataSource", "dataSourceRef"].map(|field| claim.at(&["spec", field]).is_some())
        };
        let other = || value!({"dataSource": {"apiGroup": "a.b", "kind": "C", "name": "d"}});
        let far = || value!({"dataSourceRef": {"kind": "PersistentVolumeClaim", "name": "a", "namespace": "b"}});
        assert_eq!(prepared(other(), None), [false, false]);
        assert_eq!(prepared(other(), Some(&value!({"spec": (other())}))), [true, true]);
        assert_eq!(prepared(far(), None), [false, false]);
        assert_eq!(prepared(far(), Some(&value!({"spec": (far())}))), [false, true]);
        let snapshot = value!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "a"});
        assert_eq!(prepared(value!({"dataSource": snapshot}), None), [true, true]);
    }
}
