//! Claims of storage.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::value::{Map, Value};

use super::{At, quantity, reasons, resources, subdomain};

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub(super) const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];
const RESIZE_STATES: [&str; 5] = [
    "ControllerResizeInProgress",
    "ControllerResizeInfeasible",
    "NodeResizeInProgress",
    "NodeResizeInfeasible",
    "NodeResizePending",
];
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub(crate) fn spec(at: &At<'_>, errors: &mut FieldErrors) {
    if at.items("accessModes").is_empty() {
        errors.required(&at.path("accessModes"), "at least 1 access mode is required");
    }
    at.selector("selector", errors);
    access_modes(at, errors);
    storage(at, errors);
    if !at.text("storageClassName").is_empty() {
        at.named("storageClassName", subdomain, errors);
    }
    at.one_of("volumeMode", &VOLUME_MODES, errors);
    data_source(at, errors);
    if !at.text("volumeAttributesClassName").is_empty() {
        at.named("volumeAttributesClassName", subdomain, errors);
    }
}

pub(super) fn access_modes(at: &At<'_>, errors: &mut FieldErrors) {
    let path = at.path("accessModes");
    let modes = || at.items("accessModes").iter().filter_map(Value::as_str);
    for mode in modes().filter(|mode| !ACCESS_MODES.contains(mode)) {
        errors.not_supported(&path, mode, &ACCESS_MODES);
    }
    let one_pod = |mode: &str| mode == "ReadWriteOncePod";
    if modes().any(one_pod) && modes().any(|mode| !one_pod(mode) && ACCESS_MODES.contains(&mode)) {
        errors.forbidden(&path, "may not use ReadWriteOncePod with other access modes");
    }
}

fn storage(at: &At<'_>, errors: &mut FieldErrors) {
    let path = at.path("resources").key("storage");
    match at.get("resources").and_then(|resources| resources.at(&["requests", "storage"])) {
        None => errors.required(&path, ""),
        Some(size) => {
            if resources::positive(size, &path, errors) {
                resources::amount("storage", size, &path, errors);
            }
        }
    }
}

fn data_source(at: &At<'_>, errors: &mut FieldErrors) {
    let (source, reference) = (at.object("dataSource"), at.object("dataSourceRef"));
    for of in source.iter().chain(&reference) {
        of.require("name", errors);
        of.require("kind", errors);
        let (group, kind) = (of.text("apiGroup"), of.text("kind"));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            errors.invalid(&of.path, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
        }
        if !group.is_empty() {
            of.named("apiGroup", subdomain, errors);
        }
        if !of.text("namespace").is_empty() {
            of.named("namespace", name::dns1123_label, errors);
        }
    }
    let (Some(source), Some(reference)) = (source, reference) else { return };
    let shown = || Value::object();
    if !reference.text("namespace").is_empty() {
        errors.invalid(&at.path, shown(), "may not be specified when dataSourceRef.namespace is specified");
    } else if ["apiGroup", "kind", "name"].iter().any(|field| source.get(field) != reference.get(field)) {
        // Upstream shows a path here, which has no public fields.
        errors.invalid(&at.path, shown(), "must match dataSourceRef");
    }
}

pub(crate) fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    let claim = At::root(validation.object);
    let old = validation.old.map(At::root);
    if validation.subresource == "status" {
        status(&claim, errors);
        return;
    }
    spec(&claim.object_or_empty("spec"), errors);
    if let Some(old) = old {
        update(&claim, &old, errors);
    }
}

fn status(claim: &At<'_>, errors: &mut FieldErrors) {
    let status = claim.object_or_empty("status");
    for (resource, value) in status.entries("capacity") {
        basic(value, &status.path("capacity").key(resource), errors);
    }
    let path = status.path("allocatedResourceStatuses");
    for (resource, state) in status.strings("allocatedResourceStatuses") {
        if resource_key(resource, &path, errors) && !RESIZE_STATES.contains(&state) {
            errors.not_supported(&path, resource.as_str(), &RESIZE_STATES);
        }
    }
    let path = status.path("allocatedResources");
    for (resource, value) in status.entries("allocatedResources") {
        if resource_key(resource, &path, errors) && basic(value, &path.key(resource), errors) {
            resources::amount("storage", value, &path.key(resource), errors);
        }
    }
}

/// An amount that is not negative; says whether it is.
pub(super) fn basic(value: &Value, path: &FieldPath, errors: &mut FieldErrors) -> bool {
    let amount = quantity(value).value();
    if amount < 0 {
        errors.invalid(path, amount, "must be a valid resource quantity");
    }
    amount >= 0
}

fn resource_key(resource: &str, path: &FieldPath, errors: &mut FieldErrors) -> bool {
    let unqualified = name::qualified_name(resource);
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    if !unqualified.is_empty() {
        reasons(path, resource, unqualified, errors);
        return false;
    }
    if native && resource != "storage" {
        errors.not_supported(path, resource, &["storage"]);
        return false;
    }
    true
}

fn update(claim: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    let (spec, old_spec) = (claim.object_or_empty("spec"), old.object_or_empty("spec"));
    class_annotation(claim, old, errors);
    if let Some(difference) = changed(claim, old) {
        let detail = "spec is immutable after creation except resources.requests and \
                      volumeAttributesClassName for bound claims\n";
        errors.forbidden(&spec.path, format!("{detail}{difference}"));
    }
    let size = |at: &At<'_>| at.get("resources").and_then(|own| own.at(&["requests", "storage"])).map(quantity);
    if let (Some(new), Some(was)) = (size(&spec), size(&old_spec))
        && new < was
    {
        let capacity = old.object_or_empty("status").object_or_empty("capacity").get("storage").map(quantity);
        let capacity = capacity.unwrap_or_else(|| quantity(&Value::Null));
        if new <= capacity {
            let path = spec.path.children(&["resources", "requests", "storage"]);
            errors.forbidden(&path, "field can not be less than status.capacity");
        }
    }
    if spec.get("volumeMode") != old_spec.get("volumeMode") {
        let path = FieldPath::new("volumeMode");
        errors.invalid(&path, spec.value("volumeMode"), super::IMMUTABLE);
    }
    class_of_attributes(old, &spec, &old_spec, errors);
}

fn class_of_attributes(old: &At<'_>, spec: &At<'_>, old_spec: &At<'_>, errors: &mut FieldErrors) {
    let field = "volumeAttributesClassName";
    if spec.get(field) == old_spec.get(field)
        || !old.object_or_empty("status").given("currentVolumeAttributesClassName")
    {
        return;
    }
    let to = match spec.get(field) {
        None => "nil",
        Some(_) if spec.text(field).is_empty() => "empty string",
        Some(_) => return,
    };
    let detail = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
    errors.forbidden(&spec.path(field), detail);
}

fn annotation<'a>(claim: &At<'a>) -> Option<&'a str> {
    claim.object("metadata")?.object("annotations")?.get(CLASS_ANNOTATION)?.as_str()
}

fn class_annotation(claim: &At<'_>, old: &At<'_>, errors: &mut FieldErrors) {
    let (new, was) = (annotation(claim), annotation(old));
    if !moved_from_annotation(claim, old) && new.unwrap_or_default() != was.unwrap_or_default() {
        let path = claim.path("metadata").child("annotations").child(CLASS_ANNOTATION);
        errors.invalid(&path, new.unwrap_or_default(), super::IMMUTABLE);
    }
}

/// The class goes from the annotation to the field.
fn moved_from_annotation(claim: &At<'_>, old: &At<'_>) -> bool {
    let class = |claim: &At<'_>| claim.object_or_empty("spec").get("storageClassName").cloned();
    let (new, was) = (annotation(claim), annotation(old));
    was.is_some() && class(old).is_none() && class(claim) == was.map(Value::from) && (new.is_none() || new == was)
}

/// What an update changes that it may not, as a description; `None` where it is all right.
fn changed(claim: &At<'_>, old: &At<'_>) -> Option<String> {
    let (spec, was) = (claim.object_or_empty("spec").map, old.object_or_empty("spec").map);
    let (mut spec, mut was) = (spec.clone(), was.clone());
    let bound = claim.object_or_empty("status").text("phase") == "Bound";
    let nothing = |value: Option<&Value>| value.is_none_or(|value| value.is_null() || value.as_str() == Some(""));
    if nothing(was.get("volumeName")) {
        take(&mut was, &spec, "volumeName");
    }
    let annotated = annotation(old);
    let class = spec.get("storageClassName").cloned();
    let set_later = class.as_ref().is_some_and(|class| !class.is_null())
        && was.get("storageClassName").is_none_or(Value::is_null)
        && annotated.is_none_or(|annotated| class.as_ref().and_then(Value::as_str) == Some(annotated));
    if set_later || moved_from_annotation(claim, old) {
        take(&mut spec, &was, "storageClassName");
    }
    if bound {
        take(&mut spec, &was, "volumeAttributesClassName");
        let size = was.get("resources").and_then(|own| own.at(&["requests", "storage"])).cloned();
        if let (Some(size), Some(Value::Object(own))) = (size, spec.get_mut("resources"))
            && own.contains_key("requests")
        {
            own.object_entry("requests").insert("storage", size);
        }
    }
    let (spec, was) = (Value::Object(spec), Value::Object(was));
    (spec != was).then(|| super::difference::of(&was, &spec))
}

fn take(to: &mut Map, from: &Map, field: &str) {
    match from.get(field) {
        Some(value) => to.insert(field, value.clone()),
        None => to.remove(field),
    };
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(claim: &Value, expect: &[&str]) {
        assert_eq!(errors(claim, spec), expect);
    }

    fn sized(size: &str) -> Value {
        value!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}})
    }

    #[test]
    fn specifications() {
        check(&sized("1Gi"), &[]);
        check(
            &value!({"volumeMode": "Tape", "storageClassName": "A"}),
            &[
                "at.accessModes: Required value: at least 1 access mode is required",
                "at.resources[storage]: Required value",
                "at.storageClassName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case \
                 alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
                 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                r#"at.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem""#,
            ],
        );
        check(&sized("0"), &[r#"at.resources[storage]: Invalid value: "0": must be greater than zero"#]);
    }

    fn update_of(old: &Value, new: &Value, phase: &str, expect: &[&str]) {
        let claim =
            |spec: &Value| value!({"spec": (spec.clone()), "status": {"phase": phase, "capacity": {"storage": "1Gi"}}});
        let (old, new) = (claim(old), claim(new));
        let mut errors = FieldErrors::default();
        validate(Validation { object: &new, old: Some(&old), subresource: "" }, &mut errors);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expect.len(), "{texts:?}");
        assert!(texts.iter().zip(expect).all(|(text, start)| text.starts_with(start)), "{texts:?}");
    }

    #[test]
    fn updates() {
        update_of(&sized("2Gi"), &sized("3Gi"), "Bound", &[]);
        let refused = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                       volumeAttributesClassName for bound claims\n@@";
        update_of(&sized("2Gi"), &sized("3Gi"), "Pending", &[refused]);
        let less = "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity";
        update_of(&sized("2Gi"), &sized("512Mi"), "Bound", &[less]);
        let mut named = sized("2Gi");
        named.as_object_mut().unwrap().insert("volumeName", "v");
        update_of(&sized("2Gi"), &named, "Pending", &[]);
        update_of(&named, &sized("2Gi"), "Pending", &[refused]);
    }
}
