//! What extends the API: custom resource definitions.

mod declared;
mod definition;

use corten_apimachinery::kind::Strategy;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};

use super::KindRules;

/// The finalizer under which a definition waits until its objects are gone.
const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

pub(crate) const KINDS: &[KindRules] = &[KindRules {
    strategy: |base| Strategy {
        qualified_finalizers: false,
        generation: true,
        unconditional_update: false,
        status_keeps_metadata: true,
        prepare: Some(note_stored_version),
        begin_delete: Some(wait_for_objects),
        validate: Some(definition::validate),
        ..base
    },
    ..KindRules::new("apiextensions.k8s.io", "CustomResourceDefinition")
}];

/// The storage version joins those of which objects may be stored.
fn note_stored_version(definition: &mut Value, _old: Option<&Value>) {
    let versions = definition.at(&["spec", "versions"]).and_then(Value::as_array).unwrap_or_default();
    let storage = versions.iter().find(|version| version.get("storage").and_then(Value::as_bool) == Some(true));
    let Some(storage) = storage.map(|version| Str::from(version.str_at(&["name"]))) else { return };
    let status = status_of(definition);
    let stored = status.get("storedVersions").and_then(Value::as_array).unwrap_or_default();
    if !stored.iter().any(|version| version.as_str() == Some(&storage)) {
        let stored: Vec<Value> = stored.iter().cloned().chain([Value::String(storage)]).collect();
        status.insert("storedVersions", stored);
    }
}

fn wait_for_objects(definition: &mut Value, now_s: i64) {
    let metadata = corten_apimachinery::meta::metadata_mut(definition);
    let finalizers = metadata.get("finalizers").and_then(Value::as_array).unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer.as_str() == Some(CLEANUP_FINALIZER)) {
        let finalizers: Vec<Value> = finalizers.iter().cloned().chain([Value::from(CLEANUP_FINALIZER)]).collect();
        metadata.insert("finalizers", finalizers);
    }
    let condition = value!({
        "type": "Terminating",
        "status": "True",
        "lastTransitionTime": (Time::from_seconds(now_s).to_rfc3339()),
        "reason": "InstanceDeletionPending",
        "message": "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    });
    let status = status_of(definition);
    let conditions = status.get("conditions").and_then(Value::as_array).unwrap_or_default();
    let others = conditions.iter().filter(|condition| condition.str_at(&["type"]) != "Terminating");
    let conditions: Vec<Value> = others.cloned().chain([condition]).collect();
    status.insert("conditions", conditions);
}

fn status_of(definition: &mut Value) -> &mut Map {
    let Value::Object(definition) = definition else { unreachable!("a conformed definition is an object") };
    definition.object_entry("status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_storage_version_is_noted_once() {
        let mut definition = value!({
            "spec": {"versions": [{"name": "v1", "storage": false}, {"name": "v2", "storage": true}]},
            "status": {"storedVersions": ["v1"]}
        });
        for _ in 0..2 {
            note_stored_version(&mut definition, None);
            assert_eq!(definition.at(&["status", "storedVersions"]), Some(&value!(["v1", "v2"])));
        }
    }

    #[test]
    fn a_dying_definition_waits_and_says_so() {
        let mut definition = value!({"metadata": {"name": "a", "finalizers": ["own"]}});
        wait_for_objects(&mut definition, 0);
        assert_eq!(definition.at(&["metadata", "finalizers"]), Some(&value!(["own", CLEANUP_FINALIZER])));
        let conditions = definition.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        assert_eq!(conditions[0].str_at(&["reason"]), "InstanceDeletionPending");
    }
}
