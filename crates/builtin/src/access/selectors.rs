//! Selectors in questions about access: what of a kind somebody wants to list (KEP-4601).

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use crate::rbac::rule::strings;

/// Refuses selectors that say nothing, or say it twice. Operators that are not known may be a newer client's.
pub(super) fn check(resource: &Value, errors: &mut FieldErrors) {
    let spec = FieldPath::new("spec").child("resourceAttributes");
    for (field, labels) in [("fieldSelector", false), ("labelSelector", true)] {
        if let Some(selector) = resource.get(field) {
            check_selector(selector, &spec.child(field), labels, errors);
        }
    }
}

fn check_selector(selector: &Value, path: &FieldPath, labels: bool, errors: &mut FieldErrors) {
    let raw = selector.str_at(&["rawSelector"]);
    let requirements = selector.get("requirements").and_then(Value::as_array).map_or(&[][..], |items| items);
    if !raw.is_empty() && !requirements.is_empty() {
        errors.invalid(&path.child("rawSelector"), raw, "may not specified at the same time as requirements");
    }
    let own = path.child("requirements");
    if raw.is_empty() && requirements.is_empty() {
        errors.required(&own, format!("when {path} is specified, requirements or rawSelector is required"));
    }
    for (index, requirement) in requirements.iter().enumerate() {
        check_requirement(requirement, &own.index(index), labels, errors);
    }
}

fn check_requirement(requirement: &Value, path: &FieldPath, labels: bool, errors: &mut FieldErrors) {
    let key = requirement.str_at(&["key"]);
    if !labels && key.is_empty() {
        errors.required(&path.child("key"), "must be specified");
    }
    let values = strings(requirement.get("values"));
    match requirement.str_at(&["operator"]) {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&path.child("values"), why);
        }
        _ => {}
    }
    if !labels {
        return;
    }
    for why in name::qualified_name(key) {
        errors.invalid(&path.child("key"), key, why);
    }
    for (index, value) in values.iter().enumerate() {
        for why in name::label_value(value) {
            errors.invalid(&path.child("values").index(index), value.clone(), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    #[test]
    fn selectors_say_one_thing() {
        let refused = |selector: Value| {
            let mut errors = FieldErrors::default();
            check(&value!({"labelSelector": (selector.clone()), "fieldSelector": selector}), &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let own = |operator: &str, values: Vec<&str>| value!({"requirements": [{"key": "a", "operator": operator, "values": values}]});
        assert_eq!(refused(value!({"rawSelector": "a=b"})), Vec::<String>::new());
        assert_eq!(refused(own("In", vec!["b"])), Vec::<String>::new());
        assert_eq!(refused(own("Newer", vec!["b"])), Vec::<String>::new());
        let empty = refused(value!({}));
        assert_eq!(empty.len(), 2);
        let why = "spec.resourceAttributes.fieldSelector.requirements: Required value: when \
                   spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required";
        assert_eq!(empty[0], why);
        assert!(refused(own("In", vec![]))[0].ends_with("must be specified when `operator` is 'In' or 'NotIn'"));
        assert!(refused(own("Exists", vec!["b"]))[1].contains("labelSelector.requirements[0].values: Forbidden"));
        let mut both = own("In", vec!["-"]);
        both.as_object_mut().unwrap().insert("rawSelector", "a");
        assert_eq!(refused(both).len(), 3, "a value of a field may be anything");
    }
}
