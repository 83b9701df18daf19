//! Why a namespace does not go.

use std::collections::BTreeMap;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

use super::finding::{Finding, condition, list, some};

/// An object that is still in the namespace.
pub(crate) struct Remains {
    /// `deployments.apps`.
    pub(crate) resource: String,
    pub(crate) object: Value,
}

/// What keeps a namespace that is to go; nothing where it is to stay.
pub(crate) fn explain(namespace: &Value, remains: &[Remains]) -> Vec<Finding> {
    let name = Meta::of(namespace).name();
    let Some(since) = Meta::of(namespace).deletion_timestamp() else { return Vec::new() };
    let mut findings = Vec::new();
    let mut kinds: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in remains {
        let meta = Meta::of(&one.object);
        let finalizers: Vec<String> = meta.finalizers().map(str::to_owned).collect();
        if finalizers.is_empty() {
            kinds.entry(&one.resource).or_default().push(meta.name().to_owned());
            continue;
        }
        let (resource, own) = (&one.resource, meta.name());
        let fact = format!("{resource}/{own} is held by its finalizers: {}", some(&finalizers));
        let patch = format!(
            "kubectl patch {resource} {own} -n {name} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'"
        );
        let after = format!("{patch}   # only when nobody will take them away any more");
        findings.push(Finding::new(fact).then(format!("kubectl get {resource} {own} -n {name} -o yaml")).then(after));
    }
    for (resource, names) in kinds {
        let fact = format!("{} {resource} remain: {}", names.len(), some(&names));
        findings.push(Finding::new(fact).then(format!("kubectl get {resource} -n {name}")));
    }
    for kind in [
        "NamespaceDeletionDiscoveryFailure",
        "NamespaceDeletionGroupVersionParsingFailure",
        "NamespaceDeletionContentFailure",
    ] {
        let failed = condition(namespace, kind).filter(|condition| condition.str_at(&["status"]) == "True");
        findings.extend(failed.map(|condition| {
            Finding::new(format!("its content cannot be looked through: {}", condition.str_at(&["message"])))
                .then("kubectl get apiservices")
        }));
    }
    let own: Vec<String> = list(namespace, &["spec", "finalizers"])
        .iter()
        .filter_map(Value::as_str)
        .filter(|finalizer| *finalizer != "kubernetes")
        .map(str::to_owned)
        .collect();
    if !own.is_empty() {
        let fact = format!("its own finalizers hold it: {}", some(&own));
        findings.push(Finding::new(fact).then(format!("kubectl get namespace {name} -o yaml")));
    }
    if findings.is_empty() {
        let fact = format!("its deletion was asked for at {since}; it is empty, and about to go");
        findings.push(Finding::new(fact).then(format!("kubectl get namespace {name}")));
    }
    findings
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn what_keeps_a_namespace_is_named() {
        let stays = value!({"metadata": {"name": "shop"}});
        assert!(explain(&stays, &[]).is_empty());
        let mut goes = stays;
        goes.object_entry("metadata").insert("deletionTimestamp", "2026-01-01T00:00:00Z");
        let facts = |namespace: &Value, remains: &[Remains]| -> Vec<String> {
            explain(namespace, remains).into_iter().map(|finding| finding.fact).collect()
        };
        assert_eq!(
            facts(&goes, &[]),
            ["its deletion was asked for at 2026-01-01T00:00:00Z; it is empty, and about to go"]
        );
        let remains = |resource: &str, object: Value| Remains { resource: resource.to_owned(), object };
        let all = [
            remains("pods", value!({"metadata": {"name": "b"}})),
            remains("pods", value!({"metadata": {"name": "a"}})),
            remains("configmaps", value!({"metadata": {"name": "c", "finalizers": ["example.com/keep"]}})),
        ];
        goes.object_entry("spec").insert("finalizers", value!(["kubernetes", "example.com/own"]));
        goes.object_entry("status").insert(
            "conditions",
            value!([{"type": "NamespaceDeletionDiscoveryFailure", "status": "True", "message": "no answer"}]),
        );
        assert_eq!(
            facts(&goes, &all),
            [
                "configmaps/c is held by its finalizers: example.com/keep",
                "2 pods remain: b, a",
                "its content cannot be looked through: no answer",
                "its own finalizers hold it: example.com/own",
            ]
        );
    }
}
