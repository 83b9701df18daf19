//! Which objects a quota is about: those of its amounts' kinds that are in all of its scopes.

use corten_apimachinery::value::{Map, Value};

use crate::measure::Measure;
use crate::pod::{is_best_effort, is_terminating};

const CLASS: &str = "volumeAttributesClassName";

/// Whether a quota limits something of this object.
pub(crate) fn covers(quota: &Value, measure: &Measure, object: &Value) -> bool {
    let hard = quota.at(&["status", "hard"]).and_then(Value::as_object);
    hard.into_iter().flat_map(Map::keys).any(|name| measure.has(name)) && in_scopes(quota, measure, object)
}

/// Whether an object is in all scopes of a quota.
pub fn in_scopes(quota: &Value, measure: &Measure, object: &Value) -> bool {
    let list = |path: &[&str]| quota.at(path).and_then(Value::as_array).unwrap_or_default();
    let mut plain = list(&["spec", "scopes"]).iter().filter_map(Value::as_str);
    let mut chosen = list(&["spec", "scopeSelector", "matchExpressions"]).iter();
    let is_in = |scope: &str, operator: &str, values: &[Value]| match measure {
        Measure::Pods => pod(object, scope, operator, values),
        Measure::Claims => scope == "VolumeAttributesClass" && claim(object, operator, values),
        _ => false,
    };
    plain.all(|scope| is_in(scope, "Exists", &[]))
        && chosen.all(|one| {
            let values = one.get("values").and_then(Value::as_array).unwrap_or_default();
            is_in(one.str_at(&["scopeName"]), one.str_at(&["operator"]), values)
        })
}

fn pod(pod: &Value, scope: &str, operator: &str, values: &[Value]) -> bool {
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => {
            matches(operator, values, Some(pod.str_at(&["spec", "priorityClassName"])).filter(|name| !name.is_empty()))
        }
        "CrossNamespacePodAffinity" => reaches_out(pod),
        _ => false,
    }
}

fn matches(operator: &str, values: &[Value], own: Option<&str>) -> bool {
    let is_named = own.is_some_and(|own| values.iter().any(|value| value.as_str() == Some(own)));
    match operator {
        "Exists" => own.is_some(),
        "DoesNotExist" => own.is_none(),
        "In" => is_named,
        "NotIn" => !is_named,
        _ => false,
    }
}

fn claim(claim: &Value, operator: &str, values: &[Value]) -> bool {
    let names = [
        claim.str_at(&["spec", CLASS]),
        claim.str_at(&["status", "currentVolumeAttributesClassName"]),
        claim.str_at(&["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"]),
    ];
    let mut named = names.into_iter().filter(|name| !name.is_empty()).peekable();
    if named.peek().is_none() {
        return matches(operator, values, None);
    }
    named.any(|name| matches(operator, values, Some(name)))
}

/// Whether a term of a pod's affinities looks into other namespaces.
fn reaches_out(pod: &Value) -> bool {
    let is_out = |term: &Value| {
        let named = term.get("namespaces").and_then(Value::as_array).is_some_and(|named| !named.is_empty());
        named || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let terms = |when| pod.at(&["spec", "affinity", kind, when]).and_then(Value::as_array).unwrap_or_default();
        terms("requiredDuringSchedulingIgnoredDuringExecution").iter().any(is_out)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .iter()
                .any(|term| term.get("podAffinityTerm").is_some_and(is_out))
    })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn is_in(scopes: Value, object: &Value, measure: &Measure) -> bool {
        in_scopes(&value!({"spec": scopes}), measure, object)
    }

    fn chosen(scope: &str, operator: &str, values: Vec<&str>) -> Value {
        value!({"scopeSelector": {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": values}]}})
    }

    #[test]
    fn pods_are_in_scopes_by_their_spec() {
        let check = |scopes: Value, pod: Value, expect: bool| {
            assert_eq!(is_in(scopes.clone(), &pod, &Measure::Pods), expect, "{scopes:?} {pod:?}");
        };
        let ends = || value!({"spec": {"activeDeadlineSeconds": 10}});
        check(value!({"scopes": ["Terminating", "BestEffort"]}), ends(), true);
        check(value!({"scopes": ["NotTerminating"]}), ends(), false);
        check(value!({"scopes": ["NotTerminating", "NotBestEffort"]}), value!({"spec": {}}), false);
        let of_class = || value!({"spec": {"priorityClassName": "high"}});
        check(chosen("PriorityClass", "In", vec!["low", "high"]), of_class(), true);
        check(chosen("PriorityClass", "NotIn", vec!["high"]), of_class(), false);
        check(chosen("PriorityClass", "NotIn", vec!["high"]), value!({}), true);
        check(chosen("PriorityClass", "DoesNotExist", vec![]), of_class(), false);
        let near = |term: Value| value!({"spec": {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term}]}}}});
        check(value!({"scopes": ["CrossNamespacePodAffinity"]}), near(value!({"namespaces": ["other"]})), true);
        check(value!({"scopes": ["CrossNamespacePodAffinity"]}), near(value!({"namespaces": []})), false);
    }

    #[test]
    fn claims_know_one_scope_and_others_none() {
        let claim = value!({"spec": {"volumeAttributesClassName": "gold"}});
        assert!(is_in(chosen("VolumeAttributesClass", "In", vec!["gold"]), &claim, &Measure::Claims));
        assert!(!is_in(value!({"scopes": ["Terminating"]}), &claim, &Measure::Claims));
        assert!(!is_in(value!({"scopes": ["Terminating"]}), &claim, &Measure::Services));
        assert!(is_in(value!({}), &claim, &Measure::Services));
    }
}
