//! Custom resource definitions and API services.

use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, is_zero, text, zero};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    ("apiextensions/v1.CustomResourceDefinition", fills(stored_versions)),
    (
        "apiextensions/v1.CustomResourceDefinitionSpec",
        fills(|spec| {
            names(spec.object_entry("names"));
            absent(spec, "conversion", value!({"strategy": "None"}));
        }),
    ),
    ("apiextensions/v1.ServiceReference", fills(|service| absent(service, "port", 443))),
    ("apiregistration/v1.ServiceReference", fills(|service| absent(service, "port", 443))),
];

fn names(names: &mut Map) {
    let kind = text(names, "kind").to_owned();
    if !kind.is_empty() {
        zero(names, "singular", kind.to_lowercase());
        zero(names, "listKind", format!("{kind}List"));
    }
}

/// The version that is stored now is the first of those that ever were.
fn stored_versions(definition: &mut Map) {
    let versions = definition.get("spec").and_then(|spec| spec.get("versions")).and_then(Value::as_array);
    let stored = versions.into_iter().flatten().find(|version| version.at(&["storage"]) == Some(&Value::Bool(true)));
    let Some(name) = stored.map(|version| version.str_at(&["name"]).to_owned()) else { return };
    let status = definition.object_entry("status");
    if status.get("storedVersions").is_none_or(is_zero) {
        status.insert("storedVersions", vec![name]);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn definitions() {
        check(
            "apiextensions/v1.CustomResourceDefinitionSpec",
            value!({"names": {"kind": "Widget", "plural": "widgets"}}),
            &value!({
                "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
                "conversion": {"strategy": "None"}
            }),
        );
        check(
            "apiextensions/v1.CustomResourceDefinition",
            value!({"spec": {"versions": [{"name": "v1"}, {"name": "v2", "storage": true}]}}),
            &value!({
                "spec": {"versions": [{"name": "v1"}, {"name": "v2", "storage": true}]}, "status": {"storedVersions": ["v2"]}
            }),
        );
    }
}
