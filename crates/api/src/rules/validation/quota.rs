//! Quotas and limit ranges.

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::Validation;
use corten_apimachinery::name;
use corten_apimachinery::quantity::{Format, Quantity};

use super::resources::{self, container_resource, is_standard_in_quotas, may_overcommit, resource_name};
use super::{At, quantity, reasons};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
];
const EXCLUSIVE: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];
const POD_AMOUNTS: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
/// Above it thousandths of a number do not fit 64 bits.
const MILLI_MAX: i64 = i64::MAX / 1000;

pub(crate) fn quota(validation: Validation<'_>, errors: &mut FieldErrors) {
    let quota = At::root(validation.object);
    let (spec, status) = (quota.object_or_empty("spec"), quota.object_or_empty("status"));
    if validation.subresource == "status" {
        for field in ["hard", "used"] {
            amounts(&status, field, errors);
        }
        return;
    }
    amounts(&spec, "hard", errors);
    scopes(&spec, errors);
    selector(&spec, errors);
    if let Some(old) = validation.old.map(At::root) {
        let was = old.object_or_empty("spec");
        let set = |spec: &At<'_>| -> BTreeSet<String> { spec.texts("scopes").map(|(s, _)| s.to_owned()).collect() };
        if set(&spec) != set(&was) {
            errors.invalid(&spec.path("scopes"), spec.value("scopes"), super::IMMUTABLE);
        }
    }
}

fn amounts(at: &At<'_>, field: &str, errors: &mut FieldErrors) {
    for (resource, value) in at.entries(field) {
        let path = at.path(field).key(resource);
        resource_name(resource, &path, errors);
        if !resource.contains('/') && !is_standard_in_quotas(resource) {
            errors.invalid(&path, resource.as_str(), "must be a standard resource for quota");
        }
        resources::amount(resource, value, &path, errors);
    }
}

/// How many of a quota's resources a scope says nothing about.
fn out_of_scope(spec: &At<'_>, scope: &str) -> usize {
    let within = |resource: &str| match scope {
        "Terminating" | "NotTerminating" | "NotBestEffort" | "PriorityClass" | "CrossNamespacePodAffinity" => {
            resource == "pods" || POD_AMOUNTS.contains(&resource)
        }
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&resource),
        _ => true,
    };
    spec.entries("hard").filter(|(resource, _)| is_standard_in_quotas(resource) && !within(resource)).count()
}

fn scopes(spec: &At<'_>, errors: &mut FieldErrors) {
    let path = spec.path("scopes");
    let shown = || spec.value("scopes");
    for (scope, _) in spec.texts("scopes") {
        if !SCOPES.contains(&scope) {
            errors.invalid(&path, shown(), "unsupported scope");
        }
        for _ in 0..out_of_scope(spec, scope) {
            errors.invalid(&path, shown(), "unsupported scope applied to resource");
        }
    }
    let has = |scope: &str| spec.texts("scopes").any(|(known, _)| known == scope);
    for _ in EXCLUSIVE.iter().filter(|pair| pair.iter().all(|scope| has(scope))) {
        errors.invalid(&path, shown(), "conflicting scopes");
    }
}

/// Upstream reports these at the list of requirements.
fn selector(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(selector) = spec.object("scopeSelector") else { return };
    let path = selector.path("matchExpressions");
    for at in selector.each("matchExpressions") {
        let (scope, operator, values) = (at.text("scopeName"), at.text("operator"), at.items("values"));
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in 0..out_of_scope(spec, scope) {
            errors.invalid(&path, selector.map.clone(), "unsupported scope applied to resource");
        }
        let only_exists = !["PriorityClass", "VolumeAttributesClass"].contains(&scope) && SCOPES.contains(&scope);
        if only_exists && operator != "Exists" {
            let detail = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                          ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                          ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&path.child("operator"), operator, detail);
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                let detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&path.child("values"), detail);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&path.child("values"), values.to_vec(), detail);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&path.child("operator"), operator, "not a valid selector operator"),
        }
    }
    let has = |scope: &str| selector.each("matchExpressions").any(|at| at.text("scopeName") == scope);
    for _ in EXCLUSIVE.iter().filter(|pair| pair.iter().all(|scope| has(scope))) {
        errors.invalid(&path, spec.value("scopes"), "conflicting scopes");
    }
}

pub(crate) fn limit_range(validation: Validation<'_>, errors: &mut FieldErrors) {
    let range = At::root(validation.object);
    let mut kinds = BTreeSet::new();
    for at in range.object_or_empty("spec").each("limits") {
        let kind = at.text("type");
        limit_type(kind, &at.path("type"), errors);
        if !kinds.insert(kind) {
            errors.duplicate(&at.path("type"), kind);
        }
        let mut fields = vec!["max", "min"];
        if kind == "Pod" {
            for field in ["default", "defaultRequest"].into_iter().filter(|field| at.entries(field).count() > 0) {
                errors.forbidden(&at.path(field), "may not be specified when `type` is 'Pod'");
            }
        } else {
            fields.extend(["default", "defaultRequest"]);
        }
        let stored = |field: &str| at.object_or_empty(field).map.contains_key("storage");
        fields.push("maxLimitRequestRatio");
        limit_names(&at, &fields, errors);
        if kind == "PersistentVolumeClaim" && !stored("min") && !stored("max") {
            let detail = "either minimum or maximum storage value is required, but neither was provided";
            errors.required(&at.path("limits"), detail);
        }
        let names: BTreeSet<&str> =
            fields.iter().flat_map(|field| at.entries(field)).map(|(resource, _)| resource.as_str()).collect();
        names.iter().for_each(|resource| limit(&at, &fields, resource, errors));
    }
}

fn limit_type(kind: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let unqualified = name::qualified_name(kind);
    let standard = ["Pod", "Container", "PersistentVolumeClaim"].contains(&kind);
    if unqualified.is_empty() && !kind.contains('/') && !standard {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
    reasons(path, kind, unqualified, errors);
}

fn limit_names(at: &At<'_>, fields: &[&str], errors: &mut FieldErrors) {
    let check = if ["Pod", "Container"].contains(&at.text("type")) { container_resource } else { resource_name };
    for field in fields {
        for (resource, _) in at.entries(field) {
            check(resource, &at.path(field).key(resource), errors);
        }
    }
}

/// The bounds of one resource against each other.
fn limit(at: &At<'_>, fields: &[&str], resource: &str, errors: &mut FieldErrors) {
    let values: BTreeMap<&str, Quantity> =
        fields.iter().filter_map(|field| Some((*field, quantity(at.get(field)?.get(resource)?)))).collect();
    let get = |field: &str| values.get(field);
    // Which may not be above which, where the error stands and what it shows.
    let orders = [
        ("min", "max", "min", "min", "min value", "max value"),
        ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value", "default request value"),
        ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value", "max value"),
        (
            "defaultRequest",
            "default",
            "defaultRequest",
            "defaultRequest",
            "default request value",
            "default limit value",
        ),
        ("min", "default", "default", "min", "min value", "default value"),
        ("default", "max", "default", "max", "default value", "max value"),
    ];
    for (low, high, field, shown, low_text, high_text) in orders {
        if let (Some(low), Some(high), Some(shown)) = (get(low), get(high), get(shown))
            && low > high
        {
            let detail = format!("{low_text} {low} is greater than {high_text} {high}");
            errors.invalid(&at.path(field).key(resource), shown.to_string(), detail);
        }
    }
    ratio(at, &values, resource, errors);
    if let (Some(default), Some(request)) = (get("default"), get("defaultRequest"))
        && !may_overcommit(resource)
        && default != request
    {
        let detail = format!("default value {default} must equal to defaultRequest value {request} in {resource}");
        errors.invalid(&at.path("defaultRequest").key(resource), request.to_string(), detail);
    }
}

#[expect(clippy::cast_precision_loss, reason = "upstream compares floating-point numbers too")]
fn ratio(at: &At<'_>, values: &BTreeMap<&str, Quantity>, resource: &str, errors: &mut FieldErrors) {
    let Some(ratio) = values.get("maxLimitRequestRatio") else { return };
    let path = at.path("maxLimitRequestRatio").key(resource);
    if *ratio < Quantity::new(1, Format::DecimalSi) {
        errors.invalid(&path, ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    let (Some(min), Some(max)) = (values.get("min"), values.get("max")) else { return };
    let small = [ratio, min, max].iter().all(|quantity| quantity.value() < MILLI_MAX);
    let (own, bound) = if small {
        (ratio.milli_value() as f64 / 1000.0, max.milli_value() as f64 / min.milli_value() as f64)
    } else {
        (ratio.value() as f64, max.value() as f64 / min.value() as f64)
    };
    if own > bound {
        let detail = format!("ratio {ratio} is greater than max/min = {bound:.6}");
        errors.invalid(&path, ratio.to_string(), detail);
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    type Rule = fn(Validation<'_>, &mut FieldErrors);

    fn check(rule: Rule, old: Option<&Value>, spec: &Value, expect: &[&str]) {
        let wrap = |spec: &Value| value!({"spec": (spec.clone())});
        let (old, new) = (old.map(wrap), wrap(spec));
        let mut errors = FieldErrors::default();
        rule(Validation { object: &new, old: old.as_ref(), subresource: "" }, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn quotas() {
        check(quota, None, &value!({"hard": {"pods": "1", "requests.cpu": "2", "count/a.b": "3"}}), &[]);
        check(
            quota,
            None,
            &value!({"hard": {"storage": "1", "pods": "-1"}}),
            &[
                r#"spec.hard[storage]: Invalid value: "storage": must be a standard resource for quota"#,
                r#"spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0"#,
            ],
        );
        check(
            quota,
            None,
            &value!({"hard": {"services": "1"}, "scopes": ["BestEffort", "NotBestEffort", "No"]}),
            &[
                r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort","No"]: unsupported scope applied to resource"#,
                r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort","No"]: unsupported scope applied to resource"#,
                r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort","No"]: unsupported scope"#,
                r#"spec.scopes: Invalid value: ["BestEffort","NotBestEffort","No"]: conflicting scopes"#,
            ],
        );
        check(
            quota,
            Some(&value!({"scopes": ["BestEffort"]})),
            &value!({}),
            &["spec.scopes: Invalid value: null: field is immutable"],
        );
        check(
            quota,
            None,
            &value!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
            &[
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            ],
        );
    }

    #[test]
    fn limit_ranges() {
        let one = |limit: Value| value!({"limits": [limit]});
        check(limit_range, None, &one(value!({"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2"}})), &[]);
        check(
            limit_range,
            None,
            &one(value!({"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}})),
            &[
                r#"spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1"#,
                r#"spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1"#,
            ],
        );
        check(
            limit_range,
            None,
            &one(value!({"type": "Pod", "default": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "500m"}})),
            &[
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
                r#"spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1"#,
            ],
        );
        check(
            limit_range,
            None,
            &one(value!({"type": "PersistentVolumeClaim"})),
            &[
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ],
        );
    }
}
