//! Nodes and namespaces.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{At, reasons, resources, scheduling, subdomain};

pub(crate) fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    let node = At::root(validation.object);
    let (spec, status) = (node.object_or_empty("spec"), node.object_or_empty("status"));
    let old = validation.old.map(At::root);
    let taints = |errors: &mut FieldErrors| {
        scheduling::taints(&spec, &FieldPath::new("metadata").child("taints"), errors);
    };
    if old.is_none() {
        taints(errors);
    }
    for field in ["capacity", "allocatable"] {
        for (resource, value) in status.entries(field) {
            resources::amount(resource, value, &status.path(field).child(resource), errors);
        }
    }
    if old.is_none()
        && let Some(capacity @ ..=0) = status.object_or_empty("nodeInfo").object_or_empty("swap").int("capacity")
    {
        let path = FieldPath::new("metadata").children(&["nodeSwapStatus", "capacity"]);
        errors.invalid(&path, capacity, "must be greater than zero");
    }
    features(&status, errors);
    match old {
        None => networks(&spec, errors),
        Some(old) => {
            update(&spec, &old.object_or_empty("spec"), &status, errors);
            taints(errors);
            let external = |spec: &At<'_>| spec.text("externalID").to_owned();
            if external(&spec) != external(&old.object_or_empty("spec")) {
                errors.forbidden(&spec.path("externalID"), "may not be updated");
            }
        }
    }
}

fn features(status: &At<'_>, errors: &mut FieldErrors) {
    let all: Vec<_> = status.texts("declaredFeatures").collect();
    for (index, (feature, path)) in all.iter().enumerate() {
        if feature.len() > name::SUBDOMAIN_BYTES_MAX {
            let max = name::SUBDOMAIN_BYTES_MAX;
            let detail = format!("invalid feature name {feature:?}: must be no more than {max} characters");
            errors.invalid(path, *feature, detail);
        } else if !is_feature(feature) {
            let detail = format!(
                "invalid feature name {feature:?}: must start with an UpperCamelCase segment, with subsequent segments \
                 separated by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters \
                 and slashes"
            );
            errors.invalid(path, *feature, detail);
        }
        let Some((next, path)) = all.get(index + 1) else { continue };
        if feature == next {
            errors.duplicate(path, *next);
        } else if feature > next {
            errors.invalid(path, *next, "list must be sorted alphabetically");
        }
    }
}

fn is_feature(feature: &str) -> bool {
    let segment = |segment: &str| {
        segment.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && segment.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
    };
    feature.split('/').all(segment) && feature.starts_with(|first: char| first.is_ascii_uppercase())
}

fn networks(spec: &At<'_>, errors: &mut FieldErrors) {
    for (network, path) in spec.texts("podCIDRs") {
        reasons(&path, network, name::legacy_cidr(network), errors);
    }
    let all: Vec<_> = spec.texts("podCIDRs").filter_map(|(network, _)| name::lenient_cidr(network)).collect();
    let of = |v4: bool| all.iter().filter(|(address, _)| address.is_ipv4() == v4).count();
    let count = spec.items("podCIDRs").len();
    if count > 1 && (of(true) == 0 || of(false) == 0 || count > 2) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.invalid(&spec.path("podCIDRs"), spec.value("podCIDRs"), detail);
    }
}

fn update(spec: &At<'_>, was: &At<'_>, status: &At<'_>, errors: &mut FieldErrors) {
    let addresses = status.items("addresses");
    for (index, address) in
        addresses.iter().enumerate().filter(|(index, address)| addresses[..*index].contains(address))
    {
        let fields = [("Type", "type"), ("Address", "address")];
        let shown = fields.map(|(go, field)| (go.into(), Value::from(address.str_at(&[field]))));
        errors.duplicate(&status.path("addresses").index(index), Value::Object(shown.into_iter().collect()));
    }
    let (new, old) = (spec.items("podCIDRs"), was.items("podCIDRs"));
    let path = spec.path("podCIDRs");
    let changed = if new.len() == old.len() { new.iter().zip(old).filter(|(new, old)| new != old).count() } else { 1 };
    for _ in (0..changed).filter(|_| !old.is_empty()) {
        errors.forbidden(&path, "node updates may not change podCIDR except from \"\" to valid");
    }
    let provider = was.text("providerID");
    if !provider.is_empty() && provider != spec.text("providerID") {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&spec.path("providerID"), detail);
    }
    if let Some(source) = spec.object("configSource") {
        config_source(&source, errors);
    }
}

/// Where a node's configuration stands; a feature that is gone, whose field is still checked.
fn config_source(at: &At<'_>, errors: &mut FieldErrors) {
    let Some(map) = at.object("configMap") else {
        let shown: Value =
            [("ConfigMap".into(), Value::Null)].into_iter().collect::<corten_apimachinery::value::Map>().into();
        errors.invalid(&at.path, shown, "exactly one reference subfield must be non-nil");
        return;
    };
    for field in ["uid", "resourceVersion"] {
        if !map.text(field).is_empty() {
            errors.forbidden(&map.path(field), format!("{field} must not be set in spec"));
        }
    }
    map.require_named("namespace", name::dns1123_label, errors);
    map.require_named("name", subdomain, errors);
    map.require_named("kubeletConfigKey", name::config_key, errors);
}

pub(crate) fn namespace(validation: Validation<'_>, errors: &mut FieldErrors) {
    let namespace = At::root(validation.object);
    let spec = namespace.object_or_empty("spec");
    match (validation.subresource, validation.old) {
        ("status", Some(_)) => phase(&namespace, errors),
        ("finalize", Some(_)) => {
            for (finalizer, path) in spec.texts("finalizers") {
                self::finalizer(finalizer, &path, errors);
            }
        }
        ("", None) => {
            for (finalizer, _) in spec.texts("finalizers") {
                self::finalizer(finalizer, &spec.path("finalizers"), errors);
            }
        }
        _ => {}
    }
}

fn phase(namespace: &At<'_>, errors: &mut FieldErrors) {
    let phase = namespace.object_or_empty("status").text("phase");
    let (allowed, state) = match namespace.object_or_empty("metadata").given("deletionTimestamp") {
        true => ("Terminating", "not empty"),
        false => ("Active", "empty"),
    };
    if phase != allowed {
        let detail = format!("may only be '{allowed}' if `deletionTimestamp` is {state}");
        errors.invalid(&FieldPath::new("status").child("Phase"), phase, detail);
    }
}

fn finalizer(finalizer: &str, path: &FieldPath, errors: &mut FieldErrors) {
    reasons(path, finalizer, name::qualified_name(finalizer), errors);
    if !finalizer.contains('/') && !["kubernetes", "orphan", "foregroundDeletion"].contains(&finalizer) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(path, finalizer, detail);
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    type Rule = fn(Validation<'_>, &mut FieldErrors);

    fn check(rule: Rule, subresource: &str, old: Option<&Value>, new: &Value, expect: &[&str]) {
        let mut errors = FieldErrors::default();
        rule(Validation { object: new, old, subresource }, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn nodes() {
        check(validate, "", None, &value!({"spec": {"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}}), &[]);
        check(
            validate,
            "",
            None,
            &value!({"spec": {"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"], "taints": [{"key": "a", "effect": ""}]}, "status": {"capacity": {"pods": "1500m"}}}),
            &[
                "metadata.taints[0].effect: Required value",
                r#"status.capacity.pods: Invalid value: "1500m": must be an integer"#,
                r#"spec.podCIDRs: Invalid value: ["10.0.0.0/24","10.0.1.0/24"]: may specify no more than one CIDR for each IP family"#,
            ],
        );
        check(
            validate,
            "",
            Some(&value!({"spec": {"podCIDRs": ["10.0.0.0/24"], "providerID": "a"}})),
            &value!({"spec": {"podCIDRs": ["10.0.1.0/24"], "providerID": "b"}}),
            &[
                r#"spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid"#,
                r#"spec.providerID: Forbidden: node updates may not change providerID except from "" to valid"#,
            ],
        );
    }

    #[test]
    fn namespaces() {
        check(namespace, "", None, &value!({"spec": {"finalizers": ["kubernetes", "example.com/a"]}}), &[]);
        check(
            namespace,
            "",
            None,
            &value!({"spec": {"finalizers": ["mine"]}}),
            &[
                r#"spec.finalizers: Invalid value: "mine": name is neither a standard finalizer name nor is it fully qualified"#,
            ],
        );
        check(
            namespace,
            "status",
            Some(&value!({})),
            &value!({"status": {"phase": "Terminating"}}),
            &[r#"status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty"#],
        );
    }
}
