//! One replica of a set: its name and number, its pod, its claims.

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use corten_client::cache::{Head, Held, Key};

use super::{OWNER, Pod};
use crate::owned::{Owner, label};
use crate::pod::from_template;
use crate::revision::POD_LABEL;

const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";
const POD: Owner = Owner { api_version: "v1", kind: "Pod" };

/// The numbers that replicas have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ordinals {
    pub(super) start: i64,
    pub(super) count: i64,
}

impl Ordinals {
    pub(super) fn of(set: &Value) -> Self {
        let number = |path: &[&str]| set.i64_at(path);
        Self {
            start: number(&["spec", "ordinals", "start"]).unwrap_or_default(),
            count: number(&["spec", "replicas"]).unwrap_or(1),
        }
    }

    pub(super) fn all(self) -> std::ops::Range<i64> {
        self.start..self.start + self.count
    }
}

pub(super) fn name(set: &str, ordinal: i64) -> String {
    format!("{set}-{ordinal}")
}

/// The number of a pod that has a name of the set.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<i64> {
    let number = pod.strip_prefix(set)?.strip_prefix('-')?;
    let ordinal = number.parse().ok()?;
    (name(set, ordinal) == pod && ordinal >= 0).then_some(ordinal)
}

/// The labels by which a pod is found; its name ends with its number.
pub(super) fn identity(pod: &str) -> Map {
    let mut labels = Map::new();
    labels.insert(NAME_LABEL, pod);
    labels.insert(INDEX_LABEL, pod.rsplit_once('-').map_or("", |(_, number)| number));
    labels
}

pub(super) fn is_identified(head: &Head) -> bool {
    label(head, NAME_LABEL) == head.name.as_str()
}

/// The pod of a number, in the form of a revision.
pub(super) fn pod(set: &Value, template: &Value, ordinal: i64, revision: &str, owner: Value) -> Value {
    let meta = Meta::of(set);
    let name = name(meta.name(), ordinal);
    let mut pod = from_template(template, owner);
    let metadata = metadata_mut(&mut pod);
    metadata.insert("name", name.as_str());
    let labels = metadata.object_entry("labels");
    for (key, value) in identity(&name) {
        labels.insert(key, value);
    }
    labels.insert(POD_LABEL, revision);
    let own: Vec<(Value, Value)> = claims_with_templates(set, ordinal).collect();
    let spec = pod.object_entry("spec");
    spec.insert("hostname", name.as_str());
    spec.insert("subdomain", set.str_at(&["spec", "serviceName"]));
    let mut volumes: Vec<Value> = own
        .iter()
        .map(|(template, claim)| {
            let claim = value!({"claimName": (Meta::of(claim).name())});
            value!({"name": (Meta::of(template).name()), "persistentVolumeClaim": claim})
        })
        .collect();
    let given = spec.get("volumes").and_then(Value::as_array).unwrap_or_default();
    let replaced = |volume: &&Value| own.iter().any(|(of, _)| Meta::of(of).name() == volume.str_at(&["name"]));
    volumes.extend(given.iter().filter(|volume| !replaced(volume)).cloned());
    if !volumes.is_empty() {
        spec.insert("volumes", volumes);
    }
    pod
}

/// The claims of a replica.
pub(super) fn claims(set: &Value, ordinal: i64) -> Vec<Value> {
    claims_with_templates(set, ordinal).map(|(_, claim)| claim).collect()
}

fn claims_with_templates(set: &Value, ordinal: i64) -> impl Iterator<Item = (Value, Value)> {
    let meta = Meta::of(set);
    let templates = set.at(&["spec", "volumeClaimTemplates"]).and_then(Value::as_array).unwrap_or_default();
    let selected = set.at(&["spec", "selector", "matchLabels"]).and_then(Value::as_object).cloned().unwrap_or_default();
    templates.iter().map(move |template| {
        let mut claim = template.clone();
        if let Some(claim) = claim.as_object_mut() {
            claim.insert("apiVersion", "v1");
            claim.insert("kind", "PersistentVolumeClaim");
            claim.remove("status");
        }
        let metadata = metadata_mut(&mut claim);
        metadata.insert("name", format!("{}-{}", Meta::of(template).name(), name(meta.name(), ordinal)));
        metadata.insert("namespace", meta.namespace());
        let labels = metadata.object_entry("labels");
        for (key, value) in selected.clone() {
            labels.insert(key, value);
        }
        (template.clone(), claim)
    })
}

/// The sets whose replica a claim could be, by its owners.
pub(super) fn sets_of_claim(claim: &Head) -> Vec<Key> {
    let keys = claim.owners.iter().filter_map(|owner| match owner.kind.as_str() {
        "StatefulSet" => Some(owner.name.as_str()),
        "Pod" => owner.name.rsplit_once('-').map(|(set, _)| set),
        _ => None,
    });
    keys.map(|name| Key::new(claim.namespace.clone(), name)).collect()
}

fn policy<'a>(set: &'a Value, when: &str) -> &'a str {
    set.str_at(&["spec", "persistentVolumeClaimRetentionPolicy", when])
}

/// Whether claims go with replicas that are too many.
pub(super) fn deletes_scaled(set: &Value) -> bool {
    policy(set, "whenScaled") == "Delete"
}

/// The owners that a claim should have; `None` where it has them, or where it is somebody else's.
pub(super) fn claim_owners(set: &Value, ordinals: &Ordinals, pod: &Pod, claim: &Held<Value>) -> Option<Vec<Value>> {
    let (set_meta, pod_head) = (Meta::of(set), &pod.head);
    let is_set = |kind: &str, name: &str| kind == "StatefulSet" && name == set_meta.name();
    let is_pod = |kind: &str, name: &str| kind == "Pod" && name == pod_head.name.as_str();
    let of_earlier = claim.head.owners.iter().any(|owner| {
        (is_set(&owner.kind, &owner.name) && owner.uid != set_meta.uid())
            || (is_pod(&owner.kind, &owner.name) && owner.uid != pod_head.uid)
    });
    if of_earlier {
        return None;
    }
    let ours =
        |owner: &corten_client::cache::Owner| is_set(&owner.kind, &owner.name) || is_pod(&owner.kind, &owner.name);
    let goes = deletes_scaled(set) || policy(set, "whenDeleted") == "Delete";
    let others_control = goes && claim.head.owners.iter().any(|owner| owner.controller && !ours(owner));
    let in_range =
        super::replica::ordinal(set_meta.name(), &pod_head.name).is_some_and(|at| ordinals.all().contains(&at));
    let by_pod = deletes_scaled(set) && !in_range && !others_control;
    let by_set = policy(set, "whenDeleted") == "Delete" && !by_pod && !others_control;
    let has = |uid: &str| claim.head.owners.iter().any(|owner| owner.uid == uid && owner.controller);
    let any = |uid: &str| claim.head.owners.iter().any(|owner| owner.uid == uid);
    let right = |wanted: bool, uid: &str| if wanted { has(uid) } else { !any(uid) };
    if right(by_set, set_meta.uid()) && right(by_pod, &pod_head.uid) {
        return None;
    }
    let given = claim.view.at(&["metadata", "ownerReferences"]).and_then(Value::as_array).unwrap_or_default();
    let foreign = |owner: &&Value| {
        let (kind, name) = (owner.str_at(&["kind"]), owner.str_at(&["name"]));
        !is_set(kind, name) && !is_pod(kind, name)
    };
    let mut owners: Vec<Value> = given.iter().filter(foreign).cloned().collect();
    if by_set {
        owners.push(OWNER.reference(set));
    }
    if by_pod {
        let pod = value!({"metadata": {"name": (pod_head.name.clone()), "uid": (pod_head.uid.clone())}});
        owners.push(POD.reference(&pod));
    }
    Some(owners)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn set() -> Value {
        value!({
            "metadata": {"name": "db", "namespace": "shop", "uid": "set"},
            "spec": {
                "replicas": 2, "serviceName": "db", "selector": {"matchLabels": {"app": "db"}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}]
            }
        })
    }

    #[test]
    fn names_have_numbers() {
        let check = |pod: &str, expect| assert_eq!(ordinal("db", pod), expect, "{pod}");
        check("db-0", Some(0));
        check("db-12", Some(12));
        for other in ["db", "db-", "db-01", "db-x", "db-1-2", "web-0", "db--1"] {
            check(other, None);
        }
    }

    #[test]
    fn a_pod_has_a_name_and_claims_of_its_own() {
        let template = value!({
            "metadata": {"labels": {"app": "db"}},
            "spec": {"containers": [], "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]}
        });
        let pod = pod(&set(), &template, 1, "db-h", OWNER.reference(&set()));
        assert_eq!(pod.str_at(&["metadata", "name"]), "db-1");
        let labels = ["app", NAME_LABEL, INDEX_LABEL, POD_LABEL].map(|key| pod.str_at(&["metadata", "labels", key]));
        assert_eq!(labels, ["db", "db-1", "1", "db-h"]);
        assert_eq!([pod.str_at(&["spec", "hostname"]), pod.str_at(&["spec", "subdomain"])], ["db-1", "db"]);
        let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array).expect("volumes");
        let claim = volumes[0].str_at(&["persistentVolumeClaim", "claimName"]);
        assert_eq!((volumes.len(), volumes[0].str_at(&["name"]), claim), (2, "data", "data-db-1"));
        let claims = claims(&set(), 1);
        assert_eq!(claims[0].str_at(&["metadata", "labels", "app"]), "db");
        assert!(is_identified(&Head::of(&pod)) && label(&Head::of(&pod), POD_LABEL) == "db-h");
    }

    #[test]
    fn claims_go_with_what_the_policy_names() {
        let check = |deleted: &str, scaled: &str, pod: &str, owners: &[(&str, &str, &str)], expect: Option<&str>| {
            let mut set = set();
            let policy = value!({"whenDeleted": deleted, "whenScaled": scaled});
            set.object_entry("spec").insert("persistentVolumeClaimRetentionPolicy", policy);
            let pod = Held::from_object(&value!({"metadata": {"name": pod, "namespace": "shop", "uid": "pod"}}));
            let owners: Vec<Value> = owners
                .iter()
                .map(|(kind, name, uid)| value!({"kind": (*kind), "name": (*name), "uid": (*uid), "controller": true}))
                .collect();
            let claim = Held::from_object(&value!({"metadata": {"name": "data-db-0", "ownerReferences": owners}}));
            let seen =
                claim_owners(&set, &Ordinals::of(&set), &Arc::new(pod.expect("a pod")), &claim.expect("a claim"));
            let seen =
                seen.map(|owners| owners.iter().map(|owner| owner.str_at(&["uid"])).collect::<Vec<_>>().join(","));
            assert_eq!(seen.as_deref(), expect);
        };
        check("Retain", "Retain", "db-0", &[], None);
        check("Retain", "Retain", "db-0", &[("StatefulSet", "db", "set")], Some(""));
        check("Delete", "Retain", "db-0", &[], Some("set"));
        check("Delete", "Retain", "db-0", &[("StatefulSet", "db", "set")], None);
        check("Delete", "Delete", "db-5", &[("StatefulSet", "db", "set")], Some("pod"));
        check("Retain", "Delete", "db-0", &[], None);
        check("Retain", "Delete", "db-5", &[("Backup", "b", "b")], None);
        check("Delete", "Retain", "db-0", &[("StatefulSet", "db", "earlier")], None);
    }
}
