//! Environment variables and where their values come from.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::name;

use super::paths::no_backsteps;
use super::{At, quantity, reasons, subdomain, subdomain_prefix};

/// Fields of a pod that a variable may take its value from.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of a pod that the downward API knows at all.
const LABELS: [&str; 15] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.serviceAccountName",
    "spec.schedulerName",
    "status.phase",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
    "spec.host",
];

const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const DIVISORS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

const SOURCES: [&str; 5] = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];

pub(crate) fn variables(container: &At<'_>, errors: &mut FieldErrors) {
    for variable in container.each("env") {
        variable.require_named("name", name::env_var_name, errors);
        if let Some(source) = variable.object("valueFrom") {
            value_from(&variable, &source, errors);
        }
    }
}

fn value_from(variable: &At<'_>, from: &At<'_>, errors: &mut FieldErrors) {
    if let Some(field) = from.object("fieldRef") {
        field_of_pod(&field, &FIELDS, errors);
    }
    if let Some(resource) = from.object("resourceFieldRef") {
        resource_of_container(&resource, false, errors);
    }
    for field in ["configMapKeyRef", "secretKeyRef"] {
        if let Some(key) = from.object(field) {
            reasons(&key.path("name"), key.text("name"), subdomain(key.text("name")), errors);
            key.require_named("key", name::config_key, errors);
        }
    }
    if let Some(file) = from.object("fileKeyRef") {
        file.require_named("key", name::env_var_name, errors);
        file.require_named("volumeName", name::dns1123_label, errors);
        if file.require("path", errors) {
            no_backsteps(file.text("path"), &file.path("path"), errors);
        }
    }
    let detail = match SOURCES.iter().filter(|source| from.given(source)).count() {
        0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        _ if !variable.text("value").is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.invalid(&from.path, "", detail);
}

/// A reference to a field of the pod itself.
pub(super) fn field_of_pod(at: &At<'_>, allowed: &[&str], errors: &mut FieldErrors) {
    if !at.require("apiVersion", errors) || !at.require("fieldPath", errors) {
        return;
    }
    let (version, label) = (at.text("apiVersion"), at.text("fieldPath"));
    let path = at.path("fieldPath");
    let subscript = subscripted(label);
    let unknown = match subscript {
        _ if version != "v1" => Some(format!("unsupported pod version: {version}")),
        Some(("metadata.annotations" | "metadata.labels", _)) => None,
        Some(_) => Some(format!("field label does not support subscript: {label}")),
        None if LABELS.contains(&label) => None,
        None => Some(format!("field label not supported: {label}")),
    };
    if let Some(unknown) = unknown {
        errors.invalid(&path, label, format!("error converting fieldPath: {unknown}"));
        return;
    }
    match subscript {
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            reasons(&at.path, key.as_str(), name::qualified_name(&key), errors);
        }
        Some((_, key)) => reasons(&at.path, key, name::qualified_name(key), errors),
        None => {
            let label = if label == "spec.host" { "spec.nodeName" } else { label };
            if !allowed.contains(&label) {
                errors.not_supported(&path, label, allowed);
            }
        }
    }
}

/// Splits `metadata.labels['key']`.
fn subscripted(label: &str) -> Option<(&str, &str)> {
    label.strip_suffix("']")?.split_once("['").filter(|(path, _)| !path.is_empty())
}

/// A reference to a container's own resources. In a volume the container has to be named.
pub(super) fn resource_of_container(at: &At<'_>, volume: bool, errors: &mut FieldErrors) {
    let resource = at.text("resource");
    let huge = ["requests.hugepages-", "limits.hugepages-"].iter().any(|prefix| resource.starts_with(prefix));
    if volume && at.text("containerName").is_empty() {
        errors.required(&at.path("containerName"), "");
    } else if resource.is_empty() {
        errors.required(&at.path("resource"), "");
    } else if !RESOURCES.contains(&resource) && !huge {
        errors.not_supported(&at.path("resource"), resource, &RESOURCES);
    }
    let Some(divisor) = at.get("divisor").map(quantity).filter(|divisor| !divisor.is_zero()) else { return };
    let divisor = divisor.to_string();
    let (allowed, what): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (&DIVISORS, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => (&DIVISORS, "local ephemeral storage"),
        _ if huge => (&DIVISORS, "hugepages"),
        _ => return,
    };
    if !allowed.contains(&divisor.as_str()) {
        let values = if what == "cpu" { "1m and 1".to_owned() } else { DIVISORS.join(", ") };
        let detail = format!("only divisor's values {values} are supported with the {what} resource");
        errors.invalid(&at.path("divisor"), resource, detail);
    }
}

pub(crate) fn sources(container: &At<'_>, errors: &mut FieldErrors) {
    let list = container.path("envFrom");
    for source in container.each("envFrom") {
        if !source.text("prefix").is_empty() {
            source.named("prefix", name::env_var_name, errors);
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            if let Some(of) = source.object(field) {
                count += 1;
                of.require_named("name", subdomain_prefix, errors);
            }
        }
        // The place is that of the whole list.
        match count {
            0 => errors.invalid(&list, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(&list, "", "may not have more than one field specified at a time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(input: &Value, expect: &[&str]) {
        let found = errors(input, |at, errors| {
            variables(at, errors);
            sources(at, errors);
        });
        assert_eq!(found, expect);
    }

    fn from(source: &Value) -> Value {
        value!({"env": [{"name": "A", "valueFrom": (source.clone())}]})
    }

    #[test]
    fn names_and_sources() {
        check(&value!({"env": [{"name": "A", "value": "b"}]}), &[]);
        check(&value!({"env": [{"name": ""}]}), &["at.env[0].name: Required value"]);
        check(
            &value!({"env": [{"name": "a=b"}]}),
            &[
                r#"at.env[0].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '='"#,
            ],
        );
        check(
            &value!({"env": [{"name": "A", "value": "b", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            &[r#"at.env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#],
        );
        check(
            &from(&value!({})),
            &[
                r#"at.env[0].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"#,
            ],
        );
        check(
            &value!({"envFrom": [{}]}),
            &[r#"at.envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`"#],
        );
    }

    #[test]
    fn fields_of_the_pod() {
        let field = |path: &str| from(&value!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}}));
        check(&field("status.podIP"), &[]);
        check(&field("metadata.labels['app']"), &[]);
        check(
            &field("status.nothing"),
            &[
                r#"at.env[0].valueFrom.fieldRef.fieldPath: Invalid value: "status.nothing": error converting fieldPath: field label not supported: status.nothing"#,
            ],
        );
        check(
            &field("metadata.labels"),
            &[
                r#"at.env[0].valueFrom.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs""#,
            ],
        );
    }

    #[test]
    fn resources_of_the_container() {
        let resource =
            |divisor: &str| from(&value!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": divisor}}));
        check(&resource("1m"), &[]);
        check(
            &resource("2"),
            &[
                r#"at.env[0].valueFrom.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor's values 1m and 1 are supported with the cpu resource"#,
            ],
        );
    }
}
