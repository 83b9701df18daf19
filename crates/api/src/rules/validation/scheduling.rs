//! Where pods may run: affinities, selectors of nodes, taints and tolerations, spreading.

use std::collections::BTreeSet;

use corten_apimachinery::field::{FieldErrorKind, FieldErrors, FieldPath};
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{At, reasons, subdomain};

const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(crate) fn affinity(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(at) = spec.object("affinity") else { return };
    if let Some(node) = at.object("nodeAffinity") {
        if let Some(selector) = node.object(REQUIRED) {
            node_selector(&selector, errors);
        }
        for term in node.each(PREFERRED) {
            weight(&term, errors);
            // Upstream lets any value stand in a preference.
            node_term(&term.object_or_empty("preference"), false, errors);
        }
    }
    for field in ["podAffinity", "podAntiAffinity"] {
        let Some(pod) = at.object(field) else { continue };
        pod.each(REQUIRED).for_each(|term| pod_term(&term, errors));
        for term in pod.each(PREFERRED) {
            weight(&term, errors);
            pod_term(&term.object_or_empty("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &At<'_>, errors: &mut FieldErrors) {
    let weight = term.int("weight").unwrap_or_default();
    if !(1..=100).contains(&weight) {
        errors.invalid(&term.path("weight"), weight, "must be in the range 1-100");
    }
}

/// Terms of which a node must fulfil one.
pub(crate) fn node_selector(at: &At<'_>, errors: &mut FieldErrors) {
    if at.items("nodeSelectorTerms").is_empty() {
        errors.required(&at.path("nodeSelectorTerms"), "must have at least one node selector term");
    }
    at.each("nodeSelectorTerms").for_each(|term| node_term(&term, true, errors));
}

fn node_term(term: &At<'_>, strict: bool, errors: &mut FieldErrors) {
    term.each("matchExpressions").for_each(|requirement| node_label(&requirement, strict, errors));
    term.each("matchFields").for_each(|requirement| node_field(&requirement, errors));
}

fn node_label(at: &At<'_>, strict: bool, errors: &mut FieldErrors) {
    let (operator, count) = (at.text("operator"), at.items("values").len());
    let values = at.path("values");
    match operator {
        "In" | "NotIn" if count == 0 => {
            errors.required(&values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            errors.forbidden(&values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if count != 1 => {
            errors.required(&values, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => errors.invalid(&at.path("operator"), operator, "not a valid selector operator"),
    }
    label_name(at, "key", errors);
    if strict {
        for (value, path) in at.texts("values") {
            reasons(&path, value, name::label_value(value), errors);
        }
    }
}

fn node_field(at: &At<'_>, errors: &mut FieldErrors) {
    match at.text("operator") {
        "In" | "NotIn" => {
            if at.items("values").len() != 1 {
                let detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&at.path("values"), detail);
            }
        }
        operator => errors.invalid(&at.path("operator"), operator, "not a valid selector operator"),
    }
    match at.text("key") {
        "metadata.name" => {
            for (value, path) in at.texts("values") {
                reasons(&path, value, subdomain(value), errors);
            }
        }
        key => errors.invalid(&at.path("key"), key, "not a valid field selector key"),
    }
}

/// The key of a label, also where it is empty.
fn label_name(at: &At<'_>, field: &str, errors: &mut FieldErrors) {
    let key = at.text(field);
    reasons(&at.path(field), key, name::qualified_name(key), errors);
}

fn pod_term(at: &At<'_>, errors: &mut FieldErrors) {
    at.selector("labelSelector", errors);
    at.selector("namespaceSelector", errors);
    for (namespace, _) in at.texts("namespaces") {
        reasons(&at.path("namespace"), namespace, name::dns1123_label(namespace), errors);
    }
    match_label_keys(at, errors);
    if at.text("topologyKey").is_empty() {
        errors.required(&at.path("topologyKey"), "can not be empty");
    }
    label_name(at, "topologyKey", errors);
}

/// Keys of labels that a selector is to take from the pod itself.
fn match_label_keys(at: &At<'_>, errors: &mut FieldErrors) {
    let selector = at.object("labelSelector");
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        if selector.is_none() && !at.items(field).is_empty() {
            errors.forbidden(&at.path(field), "must not be specified when labelSelector is not set");
            continue;
        }
        for (key, path) in at.texts(field) {
            reasons(&path, key, name::qualified_name(key), errors);
        }
    }
    let matched: Vec<&str> = at.texts("matchLabelKeys").map(|(key, _)| key).collect();
    if let Some(selector) = selector {
        let mut named: BTreeSet<&str> = selector.entries("matchLabels").map(|(key, _)| key.as_str()).collect();
        for expression in selector.each("matchExpressions") {
            let key = expression.text("key");
            if let Some(index) = matched.iter().rposition(|matched| *matched == key)
                && named.contains(key)
            {
                errors.invalid(&at.path.index(index), key, "exists in both matchLabelKeys and labelSelector");
            }
            named.insert(key);
        }
    }
    let mismatched: BTreeSet<&str> = at.texts("mismatchLabelKeys").map(|(key, _)| key).collect();
    for (key, path) in at.texts("matchLabelKeys").filter(|(key, _)| mismatched.contains(key)) {
        errors.invalid(&path, key, "exists in both matchLabelKeys and mismatchLabelKeys");
    }
}

pub(crate) fn tolerations(spec: &At<'_>, errors: &mut FieldErrors) {
    spec.each("tolerations").for_each(|at| toleration(&at, errors));
}

fn toleration(at: &At<'_>, errors: &mut FieldErrors) {
    let (key, operator, value, effect) = (at.text("key"), at.text("operator"), at.text("value"), at.text("effect"));
    let at_operator = at.path("operator");
    if !key.is_empty() {
        label_name(at, "key", errors);
    } else if operator != "Exists" {
        let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        errors.invalid(&at_operator, operator, detail);
    }
    if at.given("tolerationSeconds") && effect != "NoExecute" {
        let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        errors.invalid(&at.path("effect"), effect, detail);
    }
    match operator {
        "Equal" | "" => {
            let bad = name::label_value(value);
            if !bad.is_empty() {
                errors.invalid(&at_operator, value, bad.join(";"));
            }
        }
        "Exists" => {
            if !value.is_empty() {
                errors.invalid(&at_operator, value, "value must be empty when `operator` is 'Exists'");
            }
        }
        // Comparisons need a gate that is off by default, but are named all the same.
        "Lt" | "Gt" => errors.not_supported(&at_operator, operator, &["Equal", "Exists", "Lt", "Gt"]),
        _ => errors.not_supported(&at_operator, operator, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        at.one_of("effect", &EFFECTS, errors);
    }
}

/// A node's taints. Upstream looks for them at `metadata.taints`.
pub(crate) fn taints(spec: &At<'_>, path: &FieldPath, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (index, taint) in spec.each("taints").enumerate() {
        let at = At::new(taint.map, path.index(index));
        let (key, value, effect) = (at.text("key"), at.text("value"), at.text("effect"));
        label_name(&at, "key", errors);
        let bad = name::label_value(value);
        if !bad.is_empty() {
            errors.invalid(&at.path("value"), value, bad.join(";"));
        }
        at.require_one_of("effect", &EFFECTS, errors);
        if !seen.insert((effect, key)) {
            let shown = [("Key", "key"), ("Value", "value"), ("Effect", "effect"), ("TimeAdded", "timeAdded")];
            let shown = shown.into_iter().map(|(go, field)| {
                let text = Value::from(at.text(field));
                (go.into(), if field == "timeAdded" { at.value(field) } else { text })
            });
            let detail = "taints must be unique by key and effect pair";
            errors.push(FieldErrorKind::Duplicate, &at.path, Value::Object(shown.collect()), detail);
        }
    }
}

pub(crate) fn spread(spec: &At<'_>, errors: &mut FieldErrors) {
    let all: Vec<At<'_>> = spec.each("topologySpreadConstraints").collect();
    for (index, at) in all.iter().enumerate() {
        let (key, action) = (at.text("topologyKey"), at.text("whenUnsatisfiable"));
        positive(at, "maxSkew", errors);
        if key.is_empty() {
            errors.required(&at.path("topologyKey"), "can not be empty");
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        if !actions.contains(&action) {
            errors.not_supported(&at.path("whenUnsatisfiable"), action, &actions);
        }
        let same = |other: &At<'_>| other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action;
        if all[index + 1..].iter().any(same) {
            let path = at.path("{topologyKey, whenUnsatisfiable}");
            errors.duplicate(&path, format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = at.int("minDomains") {
            positive(at, "minDomains", errors);
            if action != "DoNotSchedule" {
                let detail = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.invalid(&at.path("minDomains"), domains, detail);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            at.one_of(field, &["Honor", "Ignore"], errors);
        }
        match_label_keys(at, errors);
        at.selector("labelSelector", errors);
    }
}

fn positive(at: &At<'_>, field: &str, errors: &mut FieldErrors) {
    let number = at.int(field).unwrap_or_default();
    if number <= 0 {
        errors.invalid(&at.path(field), number, "must be greater than zero");
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(input: &Value, expect: &[&str]) {
        let found = errors(input, |at, errors| {
            affinity(at, errors);
            tolerations(at, errors);
            taints(at, &FieldPath::new("metadata").child("taints"), errors);
            spread(at, errors);
        });
        assert_eq!(found, expect);
    }

    #[test]
    fn affinities() {
        let node = |requirement: Value| value!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}}});
        check(&node(value!({"key": "a", "operator": "In", "values": ["b"]})), &[]);
        let at = "at.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]";
        check(
            &node(value!({"key": "a", "operator": "In"})),
            &[&format!("{at}.values: Required value: must be specified when `operator` is 'In' or 'NotIn'")],
        );
        check(
            &node(value!({"key": "a", "operator": "Is"})),
            &[&format!(r#"{at}.operator: Invalid value: "Is": not a valid selector operator"#)],
        );
        let pod = value!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {"topologyKey": "a"}}]}}});
        check(
            &pod,
            &[
                "at.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
            ],
        );
    }

    #[test]
    fn tolerations_and_taints() {
        check(
            &value!({"tolerations": [{"operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute", "tolerationSeconds": 1}]}),
            &[],
        );
        check(
            &value!({"tolerations": [{"key": "a", "operator": "Exists", "value": "b", "effect": "No"}]}),
            &[
                r#"at.tolerations[0].operator: Invalid value: "b": value must be empty when `operator` is 'Exists'"#,
                r#"at.tolerations[0].effect: Unsupported value: "No": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#,
            ],
        );
        check(
            &value!({"taints": [{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]}),
            &[
                r#"metadata.taints[1]: Duplicate value: {"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair"#,
            ],
        );
    }

    #[test]
    fn spreading() {
        check(
            &value!({"topologySpreadConstraints": [
                {"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway", "minDomains": 1, "matchLabelKeys": ["b"]},
                {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "ScheduleAnyway"}
            ]}),
            &[
                "at.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                r#"at.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}: Duplicate value: "{a, ScheduleAnyway}""#,
                "at.topologySpreadConstraints[0].minDomains: Invalid value: 1: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                "at.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set",
            ],
        );
    }
}
