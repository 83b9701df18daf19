//! Pods and pod templates: what is deprecated, has no effect, or hides something.

use std::collections::HashSet;

use corten_apimachinery::field::FieldPath;
use corten_apimachinery::value::Value;

use super::{RBD, VOLUMES, Warnings, address, claim_spec, container, fractional, node_label};
use crate::kinds::column::list;

const NO_POD: &str = "a null labelSelector results in matching no pod";
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    ("security.alpha.kubernetes.io/sysctls", r#"non-functional in v1.11+; use the "sysctls" field instead"#),
    ("security.alpha.kubernetes.io/unsafe-sysctls", r#"non-functional in v1.11+; use the "sysctls" field instead"#),
];
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";

/// `template` has `metadata` and `spec`, as a pod has.
pub(super) fn check(template: &Value, path: &FieldPath, warnings: &mut Warnings) {
    let Some(spec) = template.get("spec") else { return };
    let spec_path = path.child("spec");
    node_labels(spec, &spec_path, warnings);
    spread(spec, &spec_path, warnings);
    annotations(template, path, warnings);
    volumes(spec, &spec_path, warnings);
    duplicates(spec, &spec_path, warnings);
    for resource in ["memory", "ephemeral-storage"] {
        let amount = spec.at(&["overhead", resource]);
        fractional(amount, || spec_path.child("overhead").key(resource), warnings);
    }
    container::check(template, path, warnings);
    if spec.i64_at(&["terminationGracePeriodSeconds"]).is_some_and(|period| period < 0) {
        warnings.push(format!(
            "{spec_path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    affinity(spec, &spec_path, warnings);
    let servers = list(spec, &["dnsConfig", "nameservers"]);
    address::ips(servers, &spec_path.child("dnsConfig").child("nameservers"), warnings);
    for (index, alias) in list(spec, &["hostAliases"]).iter().enumerate() {
        let path = spec_path.child("hostAliases").index(index).child("ip");
        address::ip(alias.str_at(&["ip"]), &path, warnings);
    }
}

fn node_labels(spec: &Value, path: &FieldPath, warnings: &mut Warnings) {
    let labels = spec.get("nodeSelector").and_then(Value::as_object);
    for key in labels.into_iter().flat_map(|labels| labels.keys()) {
        if let Some(advice) = node_label(key) {
            warnings.push(format!("{}: {advice}", path.child("nodeSelector").key(key)));
        }
    }
    let affinity = ["affinity", "nodeAffinity"];
    let required = [affinity[0], affinity[1], "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    for (index, term) in list(spec, &required).iter().enumerate() {
        node_term(term, &path.children(&required).index(index), warnings);
    }
    let preferred = [affinity[0], affinity[1], "preferredDuringSchedulingIgnoredDuringExecution"];
    for (index, term) in list(spec, &preferred).iter().enumerate() {
        if let Some(preference) = term.get("preference") {
            node_term(preference, &path.children(&preferred).index(index).child("preference"), warnings);
        }
    }
}

/// A node selector term that names labels of old.
pub(super) fn node_term(term: &Value, path: &FieldPath, warnings: &mut Warnings) {
    for (index, expression) in list(term, &["matchExpressions"]).iter().enumerate() {
        let key = expression.str_at(&["key"]);
        if let Some(advice) = node_label(key) {
            warnings.push(format!("{}: {key} is {advice}", path.child("matchExpressions").index(index).child("key")));
        }
    }
}

fn spread(spec: &Value, path: &FieldPath, warnings: &mut Warnings) {
    for (index, constraint) in list(spec, &["topologySpreadConstraints"]).iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(index);
        let key = constraint.str_at(&["topologyKey"]);
        if let Some(advice) = node_label(key) {
            warnings.push(format!("{}: {key} is {advice}", path.child("topologyKey")));
        }
        no_selector(constraint, &path, warnings);
    }
}

fn no_selector(term: &Value, path: &FieldPath, warnings: &mut Warnings) {
    if term.get("labelSelector").is_none_or(Value::is_null) {
        warnings.push(format!("{}: {NO_POD}", path.child("labelSelector")));
    }
}

fn affinity(spec: &Value, path: &FieldPath, warnings: &mut Warnings) {
    for side in ["podAffinity", "podAntiAffinity"] {
        let required = ["affinity", side, "requiredDuringSchedulingIgnoredDuringExecution"];
        for (index, term) in list(spec, &required).iter().enumerate() {
            no_selector(term, &path.children(&required).index(index), warnings);
        }
        let preferred = ["affinity", side, "preferredDuringSchedulingIgnoredDuringExecution"];
        for (index, weighted) in list(spec, &preferred).iter().enumerate() {
            let term = weighted.get("podAffinityTerm").unwrap_or(&Value::Null);
            no_selector(term, &path.children(&preferred).index(index).child("podAffinityTerm"), warnings);
        }
    }
}

fn annotations(template: &Value, path: &FieldPath, warnings: &mut Warnings) {
    let path = path.child("metadata").child("annotations");
    let has = |key| template.at(&["metadata", "annotations", key]).is_some();
    for (key, advice) in ANNOTATIONS.into_iter().filter(|(key, _)| has(key)) {
        warnings.push(format!("{}: {advice}", path.key(key)));
    }
    let profile = template.at(&["spec", "securityContext", "seccompProfile"]);
    if has(SECCOMP) && profile.is_none_or(Value::is_null) {
        warnings.push(format!(
            r#"{}: non-functional in v1.27+; use the "seccompProfile" field instead"#,
            path.key(SECCOMP)
        ));
    }
}

fn volumes(spec: &Value, path: &FieldPath, warnings: &mut Warnings) {
    for (index, volume) in list(spec, &["volumes"]).iter().enumerate() {
        let path = path.child("volumes").index(index);
        let is = |plugin| volume.get(plugin).is_some_and(|source: &Value| !source.is_null());
        for (plugin, advice) in VOLUMES.into_iter().filter(|(plugin, _)| is(plugin)) {
            let shown = if plugin == "storageos" { "storageOS" } else { plugin };
            warnings.push(format!("{}: {advice}", path.child(shown)));
        }
        if is("rbd") {
            warnings.push(format!("{}: {RBD}", path.child("rbd")));
        }
        let claim = volume.at(&["ephemeral", "volumeClaimTemplate", "spec"]);
        claim_spec(claim, &path.children(&["ephemeral", "volumeClaimTemplate", "spec"]), warnings);
    }
}

/// Entries of lists that are merged by a key which they do not have for themselves.
fn duplicates(spec: &Value, path: &FieldPath, warnings: &mut Warnings) {
    for (field, key) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = HashSet::new();
        for (index, item) in list(spec, &[field]).iter().enumerate() {
            let value = item.str_at(&[key]);
            if !seen.insert(value) {
                warnings.push(format!("{}: duplicate {key} {value:?}", path.child(field).index(index).child(key)));
            }
        }
    }
    for (index, secret) in list(spec, &["imagePullSecrets"]).iter().enumerate() {
        if secret.str_at(&["name"]).is_empty() {
            let path = path.child("imagePullSecrets").index(index).child("name");
            warnings.push(format!("{path}: invalid empty name \"\""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    #[track_caller]
    fn check_warnings(spec: Value, expect: &[&str]) {
        let mut warnings = Warnings::new();
        check(&value!({"metadata": {}, "spec": spec}), &FieldPath::root(), &mut warnings);
        assert_eq!(warnings, expect);
    }

    #[test]
    fn scheduling() {
        check_warnings(value!({"nodeSelector": {"kubernetes.io/os": "linux"}}), &[]);
        check_warnings(
            value!({
                "topologySpreadConstraints": [{"topologyKey": "failure-domain.beta.kubernetes.io/zone"}],
                "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {}}]}}
            }),
            &[
                "spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since \
                 v1.17; use \"topology.kubernetes.io/zone\" instead",
                "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
                "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].podAffinityTerm.labelSelector: \
                 a null labelSelector results in matching no pod",
            ],
        );
    }

    #[test]
    fn volumes_and_lists() {
        check_warnings(
            value!({
                "volumes": [{"name": "a", "gitRepo": {}}, {"name": "b", "rbd": {}}],
                "imagePullSecrets": [{"name": "a"}, {"name": "a"}, {}],
                "terminationGracePeriodSeconds": (-1)
            }),
            &[
                "spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+",
                "spec.volumes[1].rbd: deprecated in v1.28, non-functional in v1.31+",
                "spec.imagePullSecrets[1].name: duplicate name \"a\"",
                "spec.imagePullSecrets[2].name: invalid empty name \"\"",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ],
        );
    }
}
