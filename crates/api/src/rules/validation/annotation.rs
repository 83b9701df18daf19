//! Annotations of pods with a meaning, most of them the past of a field: seccomp and AppArmor profiles, tolerations, the
//! mark of a node's own pod, the cost of a deletion.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::value::Value;

use super::paths::descending;
use super::pod_spec::all_containers;
use super::{At, scheduling};

pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
pub(crate) const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";
const LOCALHOST: &str = "localhost/";
const RUNTIME_DEFAULT: &str = "runtime/default";
const DOCKER_DEFAULT: &str = "docker/default";
const UNCONFINED: &str = "unconfined";

/// The annotations of a pod or a template; `path` is that of the annotations.
pub(crate) fn of_pod(metadata: &At<'_>, spec: &At<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    let find = |key: &str| metadata.strings("annotations").find(|(known, _)| *known == key).map(|(_, value)| value);
    if let Some(value) = find(MIRROR)
        && spec.text("nodeName").is_empty()
    {
        errors.invalid(&path.key(MIRROR), value, "must set spec.nodeName if mirror pod annotation is set");
    }
    if let Some(text) = find(TOLERATIONS).filter(|text| !text.is_empty()) {
        tolerations(text, path, errors);
    }
    if let Some(cost) = find(DELETION_COST)
        && !is_cost(cost)
    {
        errors.invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer");
    }
    for (key, profile) in metadata.strings("annotations") {
        if key == SECCOMP_POD || key.starts_with(SECCOMP_CONTAINER_PREFIX) {
            seccomp(profile, &path.child(key), errors);
        }
    }
    for (key, profile) in metadata.strings("annotations") {
        if let Some(name) = key.strip_prefix(APP_ARMOR_PREFIX) {
            if !all_containers(spec).any(|container| container.text("name") == name) {
                errors.invalid(&path.key(key), name, "container not found");
            }
            if !["", RUNTIME_DEFAULT, UNCONFINED].contains(&profile) && !profile.starts_with(LOCALHOST) {
                let detail = format!("invalid AppArmor profile name: {profile:?}");
                errors.invalid(&path.key(key), profile, detail);
            }
        }
    }
}

fn is_cost(cost: &str) -> bool {
    let digits = cost.strip_prefix('-').unwrap_or(cost);
    cost.parse::<i32>().is_ok() && !cost.starts_with('+') && (cost == "0" || !digits.starts_with('0'))
}

fn tolerations(text: &str, path: &FieldPath, errors: &mut FieldErrors) {
    match corten_apimachinery::json::parse(text.as_bytes()).map(|parsed| parsed.value) {
        Ok(list @ Value::Array(_)) => {
            // Upstream calls the list by the annotation.
            let spec = Value::Object([("tolerations".into(), list)].into_iter().collect());
            let mut own = FieldErrors::default();
            scheduling::tolerations(&At::root(&spec), &mut own);
            for error in own.iter() {
                let rest = error.field.strip_prefix("tolerations").unwrap_or(&error.field);
                let path = path.child(&format!("{TOLERATIONS}{rest}"));
                errors.push(error.kind, &path, error.value.clone(), error.detail.clone());
            }
        }
        Ok(_) => errors.invalid(path, TOLERATIONS, "json: cannot unmarshal into Go value of type []core.Toleration"),
        Err(error) => errors.invalid(path, TOLERATIONS, error.to_string()),
    }
}

fn seccomp(profile: &str, path: &FieldPath, errors: &mut FieldErrors) {
    if let Some(file) = profile.strip_prefix(LOCALHOST) {
        descending(file, path, errors);
    } else if ![RUNTIME_DEFAULT, DOCKER_DEFAULT, UNCONFINED].contains(&profile) {
        errors.invalid(path, profile, "must be a valid seccomp profile");
    }
}

/// Profiles that stand both in a field and in an annotation must be the same.
pub(crate) fn profiles(metadata: &At<'_>, spec: &At<'_>, errors: &mut FieldErrors) {
    let find = |key: &str| metadata.strings("annotations").find(|(known, _)| *known == key).map(|(_, value)| value);
    let context = spec.object_or_empty("securityContext");
    if let (Some(profile), Some(annotation)) = (context.object("seccompProfile"), find(SECCOMP_POD)) {
        same(annotation, &profile, "seccomp", &profile.path, errors);
    }
    for container in all_containers(spec) {
        let annotation = find(&format!("{SECCOMP_CONTAINER_PREFIX}{}", container.text("name")));
        if let (Some(profile), Some(annotation)) = (own_profile(&container, "seccompProfile"), annotation) {
            same(annotation, &profile, "seccomp", &profile.path, errors);
        }
    }
    if spec.object("os").is_some_and(|os| os.text("name") == "windows") {
        return;
    }
    for container in all_containers(spec) {
        let annotation = find(&format!("{APP_ARMOR_PREFIX}{}", container.text("name")));
        let profile = own_profile(&container, "appArmorProfile").or_else(|| context.object("appArmorProfile"));
        if let (Some(profile), Some(annotation)) = (profile, annotation) {
            let path = container.path.children(&["securityContext", "appArmorProfile"]);
            same(annotation, &profile, "apparmor", &path, errors);
        }
    }
}

fn own_profile<'a>(container: &At<'a>, field: &str) -> Option<At<'a>> {
    container.object("securityContext")?.object(field)
}

fn same(annotation: &str, profile: &At<'_>, what: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let kind = match profile.text("type") {
        "Unconfined" => annotation == UNCONFINED,
        "RuntimeDefault" => annotation == RUNTIME_DEFAULT || what == "seccomp" && annotation == DOCKER_DEFAULT,
        "Localhost" => annotation.starts_with(LOCALHOST),
        _ => return,
    };
    if !kind {
        errors.forbidden(&path.child("type"), format!("{what} type in annotation and field must match"));
    } else if let Some(file) = annotation.strip_prefix(LOCALHOST)
        && profile.text("localhostProfile") != file
    {
        let detail = format!("{what} profile in annotation and field must match");
        errors.forbidden(&path.child("localhostProfile"), detail);
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(key: &str, value: &str, expect: &[&str]) {
        let annotations = Value::Object([(key.into(), value.into())].into_iter().collect());
        let pod = value!({
            "metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "c", "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}]}
        });
        let pod = At::root(&pod);
        let (metadata, spec) = (pod.object_or_empty("metadata"), pod.object_or_empty("spec"));
        let mut errors = FieldErrors::default();
        of_pod(&metadata, &spec, &metadata.path("annotations"), &mut errors);
        profiles(&metadata, &spec, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn meanings() {
        check(
            MIRROR,
            "a",
            &[
                r#"metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "a": must set spec.nodeName if mirror pod annotation is set"#,
            ],
        );
        check(DELETION_COST, "-12", &[]);
        check(
            DELETION_COST,
            "+1",
            &[
                r#"metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer"#,
            ],
        );
        check(
            SECCOMP_POD,
            "no",
            &[
                r#"metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "no": must be a valid seccomp profile"#,
            ],
        );
        check(
            &format!("{APP_ARMOR_PREFIX}d"),
            "no",
            &[
                r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: "d": container not found"#,
                r#"metadata.annotations[container.apparmor.security.beta.kubernetes.io/d]: Invalid value: "no": invalid AppArmor profile name: "no""#,
            ],
        );
        check(
            &format!("{SECCOMP_CONTAINER_PREFIX}c"),
            "unconfined",
            &[
                "spec.containers[0].securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match",
            ],
        );
        check(
            TOLERATIONS,
            r#"[{"key":"a","operator":"No"}]"#,
            &[
                r#"metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[0].operator: Unsupported value: "No": supported values: "Equal", "Exists""#,
            ],
        );
    }
}
