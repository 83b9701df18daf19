//! A controller's own finalizer: set before anything is made outside of the object, removed when that is cleaned up.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use crate::client::Patch;

/// What an object with a finalizer needs next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Set the finalizer first, by this patch.
    Set(Patch),
    /// Bring the object to what is wanted.
    Apply,
    /// Clean up, then let the object go by this patch.
    CleanUp(Patch),
    /// Others still hold the object.
    Nothing,
}

/// The next step for an object. The patches test the revision: nobody else's finalizer is lost.
pub fn step(object: &Value, finalizer: &str) -> Step {
    let meta = Meta::of(object);
    let held = meta.finalizers().any(|own| own == finalizer);
    let patch = |finalizers: Vec<&str>| {
        Patch::Merge(value!({"metadata": {
            "uid": (meta.uid()), "resourceVersion": (meta.resource_version()), "finalizers": finalizers
        }}))
    };
    match (meta.deletion_timestamp().is_some(), held) {
        (false, false) => Step::Set(patch(meta.finalizers().chain([finalizer]).collect())),
        (false, true) => Step::Apply,
        (true, true) => Step::CleanUp(patch(meta.finalizers().filter(|own| *own != finalizer).collect())),
        (true, false) => Step::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(deleting: bool, finalizers: Vec<&str>, expect: &str) {
        let mut object = value!({"metadata": {"uid": "u", "resourceVersion": "7", "finalizers": finalizers}});
        if deleting {
            object.object_entry("metadata").insert("deletionTimestamp", "2026-01-01T00:00:00Z");
        }
        let seen = match step(&object, "own") {
            Step::Set(Patch::Merge(patch)) => format!("set {}", left(&patch)),
            Step::CleanUp(Patch::Merge(patch)) => format!("clean up {}", left(&patch)),
            Step::Apply => "apply".to_owned(),
            Step::Nothing => "nothing".to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(seen, expect);
    }

    fn left(patch: &Value) -> String {
        assert_eq!((patch.str_at(&["metadata", "uid"]), patch.str_at(&["metadata", "resourceVersion"])), ("u", "7"));
        Meta::of(patch).finalizers().collect::<Vec<_>>().join(",")
    }

    #[test]
    fn steps() {
        check(false, vec!["other"], "set other,own");
        check(false, vec!["own"], "apply");
        check(true, vec!["own", "other"], "clean up other");
        check(true, vec!["other"], "nothing");
    }
}
