//! The rules of a custom resource definition as a whole (upstream's `apiextensions/validation`).

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::declared;

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 9] =
    ["byte", "date", "date-time", "double", "float", "int32", "int64", "name", "password"];

/// The annotation by which a group of the Kubernetes project shows that it was approved.
const APPROVED: &str = "api-approved.kubernetes.io";

pub(super) fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    let definition = validation.object;
    let spec = definition.get("spec").unwrap_or(&Value::Null);
    let path = FieldPath::new("spec");
    if validation.subresource.is_empty() {
        object_name(definition, spec, errors);
        group(spec, &path, errors);
        scope(spec, &path, errors);
        versions(spec, &path, errors);
        names(spec.get("names").unwrap_or(&Value::Null), &path.child("names"), errors);
        conversion(spec.get("conversion").unwrap_or(&Value::Null), &path.child("conversion"), errors);
        approval(definition, spec, validation.old, errors);
        if spec.get("preserveUnknownFields").and_then(Value::as_bool) == Some(true) {
            errors.invalid(
                &path.child("preserveUnknownFields"),
                true,
                "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                 spec.versions[*].schema instead",
            );
        }
        if let Some(old) = validation.old {
            immutable(spec, old, &path, errors);
        }
    }
    stored_versions(definition, spec, errors);
}

fn object_name(definition: &Value, spec: &Value, errors: &mut FieldErrors) {
    let name = Meta::of(definition).name();
    let required = format!("{}.{}", spec.str_at(&["names", "plural"]), spec.str_at(&["group"]));
    if name != required {
        errors.invalid(&FieldPath::new("metadata").child("name"), name, r#"must be spec.names.plural+"."+spec.group"#);
    }
}

fn group(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (group, path) = (spec.str_at(&["group"]), path.child("group"));
    let reasons = name::dns1123_subdomain(group);
    if group.is_empty() {
        errors.required(&path, "");
    } else if !reasons.is_empty() {
        errors.invalid(&path, group, reasons.join(","));
    } else if !group.contains('.') {
        errors.invalid(&path, group, "should be a domain with at least one dot");
    }
}

fn scope(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (scope, path) = (spec.str_at(&["scope"]), path.child("scope"));
    match scope {
        "Cluster" | "Namespaced" => {}
        "" => errors.required(&path, ""),
        _ => errors.not_supported(&path, scope, &["Cluster", "Namespaced"]),
    }
}

fn versions(spec: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let versions = list(spec, "versions");
    let path = path.child("versions");
    for (index, version) in versions.iter().enumerate() {
        self::version(version, &path.index(index), errors);
    }
    let all = || spec.get("versions").cloned().unwrap_or_default();
    let name_of = |version: &Value| version.str_at(&["name"]).to_owned();
    if (1..versions.len()).any(|at| versions[..at].iter().any(|before| name_of(before) == name_of(&versions[at]))) {
        errors.invalid(&path, all(), "must contain unique version names");
    }
    let stored = versions.iter().filter(|version| version.get("storage").and_then(Value::as_bool) == Some(true));
    if stored.count() != 1 {
        errors.invalid(&path, all(), "must have exactly one version marked as storage version");
    }
}

fn version(version: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let name = version.str_at(&["name"]);
    reasons(&path.child("name"), name, name::dns1035_label(name), errors);
    deprecation(version, &path.child("deprecationWarning"), errors);
    let schema_path = path.children(&["schema", "openAPIV3Schema"]);
    match version.at(&["schema", "openAPIV3Schema"]).filter(|schema| !schema.is_null()) {
        None => errors.required(&schema_path, ""),
        Some(schema) => declared::validate(schema, &schema_path, errors),
    }
    if let Some(scale) = version.at(&["subresources", "scale"]).filter(|scale| !scale.is_null()) {
        self::scale(scale, &path.child("subresources"), errors);
    }
    for (index, column) in list(version, "additionalPrinterColumns").iter().enumerate() {
        self::column(column, &path.child("additionalPrinterColumns").index(index), errors);
    }
}

fn deprecation(version: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else { return };
    if version.get("deprecated").and_then(Value::as_bool) != Some(true) {
        errors.invalid(path, warning, "can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        errors.invalid(path, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(path, warning, "must not be an empty string");
    }
    if let Some(at) = warning.char_indices().find(|(_, c)| c.is_control()).map(|(at, _)| at) {
        let detail =
            format!("must only contain printable UTF-8 characters; non-printable character found at index {at}");
        errors.invalid(path, warning, detail);
    }
}

fn scale(scale: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for (key, below, within) in [("specReplicasPath", ".spec.", ".spec"), ("statusReplicasPath", ".status.", ".status")]
    {
        let (text, path) = (scale.str_at(&[key]), path.child(&format!("scale.{key}")));
        if text.is_empty() {
            errors.required(&path, "");
        } else if simple_path(text, &path, errors) && !text.starts_with(below) {
            errors.invalid(&path, text, format!("should be a json path under {within}"));
        }
    }
    let (text, path) = (scale.str_at(&["labelSelectorPath"]), path.child("scale.labelSelectorPath"));
    let inside = text.starts_with(".spec.") || text.starts_with(".status.");
    if !text.is_empty() && simple_path(text, &path, errors) && !inside {
        errors.invalid(&path, text, "should be a json path under either .spec or .status");
    }
}

fn simple_path(text: &str, path: &FieldPath, errors: &mut FieldErrors) -> bool {
    let simple = text.starts_with('.');
    if !simple {
        errors.invalid(path, text, "must be a simple json path starting with .");
    }
    simple
}

fn column(column: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if column.str_at(&["name"]).is_empty() {
        errors.required(&path.child("name"), "");
    }
    let (kind, types) = (column.str_at(&["type"]), format!("must be one of {}", COLUMN_TYPES.join(",")));
    if kind.is_empty() {
        errors.required(&path.child("type"), types);
    } else if !COLUMN_TYPES.contains(&kind) {
        errors.invalid(&path.child("type"), kind, types);
    }
    let format = column.str_at(&["format"]);
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        errors.invalid(&path.child("format"), format, format!("must be one of {}", COLUMN_FORMATS.join(",")));
    }
    let (text, path) = (column.str_at(&["jsonPath"]), path.child("JSONPath"));
    if text.is_empty() {
        errors.required(&path, "");
    } else {
        simple_path(text, &path, errors);
    }
}

fn names(names: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for key in ["plural", "singular", "kind", "listKind"] {
        if names.str_at(&[key]).is_empty() {
            errors.required(&path.child(key), "");
        }
    }
    for key in ["plural", "singular"] {
        let text = names.str_at(&[key]);
        if !text.is_empty() {
            reasons(&path.child(key), text, name::dns1035_label(text), errors);
        }
    }
    for key in ["kind", "listKind"] {
        let text = names.str_at(&[key]);
        let wrong = name::dns1035_label(&text.to_lowercase());
        if !text.is_empty() && !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.invalid(&path.child(key), text, detail);
        }
    }
    each_label(names, "shortNames", path, errors);
    let (kind, list_kind) = (names.str_at(&["kind"]), names.str_at(&["listKind"]));
    if !kind.is_empty() && kind == list_kind {
        errors.invalid(&path.child("listKind"), list_kind, "kind and listKind may not be the same");
    }
    each_label(names, "categories", path, errors);
}

fn each_label(names: &Value, key: &str, path: &FieldPath, errors: &mut FieldErrors) {
    for (index, text) in list(names, key).iter().enumerate() {
        let text = text.as_str().unwrap_or_default();
        reasons(&path.child(key).index(index), text, name::dns1035_label(text), errors);
    }
}

fn conversion(conversion: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let strategy = conversion.str_at(&["strategy"]);
    let webhook = conversion.get("webhook").filter(|webhook| !webhook.is_null());
    match (strategy, webhook) {
        ("None", Some(_)) => {
            errors
                .forbidden(&path.child("webhookClientConfig"), "should not be set when strategy is not set to Webhook");
        }
        ("None", None) | ("Webhook", Some(_)) => {}
        ("Webhook", None) => {
            errors.required(&path.child("webhookClientConfig"), "required when strategy is set to Webhook");
            errors.required(&path.child("conversionReviewVersions"), "");
        }
        ("", _) => errors.required(&path.child("strategy"), ""),
        _ => errors.not_supported(&path.child("strategy"), strategy, &["None", "Webhook"]),
    }
}

/// Groups below `k8s.io` and `kubernetes.io` carry the address of their approval, or say openly that they have none.
fn approval(definition: &Value, spec: &Value, old: Option<&Value>, errors: &mut FieldErrors) {
    let group = spec.str_at(&["group"]);
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    let given = |definition| Meta::of(definition).annotation(APPROVED);
    let annotation = given(definition);
    if !protected || old.is_some_and(|old| given(old) == annotation) {
        return;
    }
    let path = FieldPath::new("metadata").child("annotations").key(APPROVED);
    match annotation {
        None => errors.required(
            &path,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", \
             see https://github.com/kubernetes/enhancements/pull/1111",
        ),
        Some(text) if text.starts_with("unapproved") || text.contains("://") => {}
        Some(text) => errors.invalid(
            &path,
            text,
            format!(
                "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a \
                 reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111: {text:?}"
            ),
        ),
    }
}

fn immutable(spec: &Value, old: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let before = old.get("spec").unwrap_or(&Value::Null);
    let conditions = old.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let established = conditions
        .iter()
        .any(|condition| condition.str_at(&["type"]) == "Established" && condition.str_at(&["status"]) == "True");
    let always: [&[&str]; 2] = [&["group"], &["names", "plural"]];
    let once_served: [&[&str]; 2] = [&["scope"], &["names", "kind"]];
    let fields = once_served.into_iter().filter(|_| established).chain(always);
    for field in fields {
        let (new, old) = (spec.str_at(field), before.str_at(field));
        if new != old {
            errors.invalid(&path.children(field), new, "field is immutable");
        }
    }
}

fn stored_versions(definition: &Value, spec: &Value, errors: &mut FieldErrors) {
    let path = FieldPath::new("status").child("storedVersions");
    let stored = definition.at(&["status", "storedVersions"]).and_then(Value::as_array).unwrap_or_default();
    if stored.is_empty() {
        errors.invalid(&path, Vec::<Value>::new(), "must have at least one stored version");
        return;
    }
    let declared = list(spec, "versions");
    for (index, version) in stored.iter().enumerate() {
        let version = version.as_str().unwrap_or_default();
        if !declared.iter().any(|declared| declared.str_at(&["name"]) == version) {
            let detail = format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in \
                 spec.versions until a storage migration ensures no data remains persisted in {version} and removes \
                 {version} from status.storedVersions"
            );
            errors.invalid(&path.index(index), version, detail);
        }
    }
}

fn reasons(path: &FieldPath, text: &str, reasons: name::Reasons, errors: &mut FieldErrors) {
    if !reasons.is_empty() {
        errors.invalid(path, text, reasons.join(","));
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn definition() -> Value {
        value!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com", "scope": "Cluster", "conversion": {"strategy": "None"},
                "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]
            },
            "status": {"storedVersions": ["v1"]}
        })
    }

    /// Sets the field below `spec` and expects these errors.
    fn check(field: &str, to: Value, expect: &str) {
        let mut object = definition();
        object.at_mut(&["spec"]).and_then(Value::as_object_mut).unwrap().insert(field, to);
        let mut errors = FieldErrors::default();
        validate(Validation { object: &object, old: None, subresource: "" }, &mut errors);
        assert_eq!(if errors.is_empty() { String::new() } else { errors.to_string() }, expect);
    }

    #[test]
    fn whole_definitions() {
        check("scope", value!("Cluster"), "");
        check(
            "scope",
            value!("Global"),
            r#"spec.scope: Unsupported value: "Global": supported values: "Cluster", "Namespaced""#,
        );
        check(
            "group",
            value!("other.com"),
            r#"metadata.name: Invalid value: "widgets.example.com": must be spec.names.plural+"."+spec.group"#,
        );
        check(
            "versions",
            value!([{"name": "v1", "storage": true, "schema": null}]),
            "spec.versions[0].schema.openAPIV3Schema: Required value",
        );
        check(
            "conversion",
            value!({"strategy": "Magic"}),
            r#"spec.conversion.strategy: Unsupported value: "Magic": supported values: "None", "Webhook""#,
        );
    }

    #[test]
    fn what_names_objects_stays() {
        let old = {
            let mut old = definition();
            let conditions = value!([{"type": "Established", "status": "True"}]);
            old.at_mut(&["status"]).and_then(Value::as_object_mut).unwrap().insert("conditions", conditions);
            old
        };
        let mut object = old.clone();
        object.at_mut(&["spec"]).and_then(Value::as_object_mut).unwrap().insert("scope", "Namespaced");
        let mut errors = FieldErrors::default();
        validate(Validation { object: &object, old: Some(&old), subresource: "" }, &mut errors);
        assert_eq!(errors.to_string(), r#"spec.scope: Invalid value: "Namespaced": field is immutable"#);
    }
}
