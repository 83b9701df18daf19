//! Horizontal pod autoscalers of `autoscaling/v1`, stored as v2. Version 1 has a field for one CPU target; what it has no
//! field for travels in annotations, as upstream writes them, so that a read and a write back lose nothing.

use corten_apimachinery::kind::Conversion;
use corten_apimachinery::value::{Map, Value};
use corten_apimachinery::{json, quantity::Quantity, value};

use super::{conform, put, take};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
/// Of versions that are gone; dropped all the same.
const TOLERANCES: [&str; 2] =
    ["autoscaling.alpha.kubernetes.io/scale-down-tolerance", "autoscaling.alpha.kubernetes.io/scale-up-tolerance"];

const CONDITION: &str = "HorizontalPodAutoscalerCondition";

/// What version 1 aims at where nothing is said, in percent of the CPU request.
const CPU_UTILIZATION: i64 = 80;

/// Paths in a v2 metric and in a v1 metric.
type Paths = &'static [(&'static [&'static str], &'static [&'static str])];

const METRIC_SPECS: &[(&str, Paths)] = &[
    (
        "object",
        &[
            (&["describedObject"], &["target"]),
            (&["metric", "name"], &["metricName"]),
            (&["metric", "selector"], &["selector"]),
            (&["target", "value"], &["targetValue"]),
            (&["target", "averageValue"], &["averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            (&["metric", "name"], &["metricName"]),
            (&["metric", "selector"], &["selector"]),
            (&["target", "averageValue"], &["targetAverageValue"]),
        ],
    ),
    (
        "resource",
        &[
            (&["name"], &["name"]),
            (&["target", "averageUtilization"], &["targetAverageUtilization"]),
            (&["target", "averageValue"], &["targetAverageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            (&["name"], &["name"]),
            (&["container"], &["container"]),
            (&["target", "averageUtilization"], &["targetAverageUtilization"]),
            (&["target", "averageValue"], &["targetAverageValue"]),
        ],
    ),
    (
        "external",
        &[
            (&["metric", "name"], &["metricName"]),
            (&["metric", "selector"], &["metricSelector"]),
            (&["target", "value"], &["targetValue"]),
            (&["target", "averageValue"], &["targetAverageValue"]),
        ],
    ),
];

const METRIC_STATES: &[(&str, Paths)] = &[
    (
        "object",
        &[
            (&["describedObject"], &["target"]),
            (&["metric", "name"], &["metricName"]),
            (&["metric", "selector"], &["selector"]),
            (&["current", "value"], &["currentValue"]),
            (&["current", "averageValue"], &["averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            (&["metric", "name"], &["metricName"]),
            (&["metric", "selector"], &["selector"]),
            (&["current", "averageValue"], &["currentAverageValue"]),
        ],
    ),
    (
        "resource",
        &[
            (&["name"], &["name"]),
            (&["current", "averageUtilization"], &["currentAverageUtilization"]),
            (&["current", "averageValue"], &["currentAverageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            (&["name"], &["name"]),
            (&["container"], &["container"]),
            (&["current", "averageUtilization"], &["currentAverageUtilization"]),
            (&["current", "averageValue"], &["currentAverageValue"]),
        ],
    ),
    (
        "external",
        &[
            (&["metric", "name"], &["metricName"]),
            (&["metric", "selector"], &["metricSelector"]),
            (&["current", "value"], &["currentValue"]),
            (&["current", "averageValue"], &["currentAverageValue"]),
        ],
    ),
];

pub(crate) fn conversion() -> Conversion {
    super::between("HorizontalPodAutoscaler", ("autoscaling/v2", to_v2), ("autoscaling/v1", to_v1))
}

fn to_v1(autoscaler: &mut Value) -> Result<(), String> {
    drop_annotations(autoscaler);
    let metrics = taken_list(autoscaler, &["spec", "metrics"]);
    let (cpu, others): (Vec<_>, Vec<_>) = metrics.into_iter().partition(is_cpu_utilization);
    if let Some(percent) = cpu.first().and_then(|metric| metric.at(&["resource", "target", "averageUtilization"])) {
        put(autoscaler, &["spec", "targetCPUUtilizationPercentage"], percent.clone());
    }
    annotate_all(autoscaler, METRICS, others, "MetricSpec", |metric| old_metric(metric, METRIC_SPECS))?;

    let states = taken_list(autoscaler, &["status", "currentMetrics"]);
    let current = states.iter().filter(|state| is_cpu(state));
    let current = current.filter_map(|state| state.at(&["resource", "current", "averageUtilization"])).next_back();
    if let Some(percent) = current {
        put(autoscaler, &["status", "currentCPUUtilizationPercentage"], percent.clone());
    }
    annotate_all(autoscaler, CURRENT_METRICS, states, "MetricStatus", |state| old_metric(state, METRIC_STATES))?;

    let conditions = taken_list(autoscaler, &["status", "conditions"]);
    annotate_all(autoscaler, CONDITIONS, conditions, CONDITION, |condition| condition)?;
    if let Some(behavior) = take(autoscaler, &["spec", "behavior"]).filter(|behavior| !behavior.is_null()) {
        annotate(autoscaler, BEHAVIOR, &untagged_behavior(&behavior));
    }
    Ok(())
}

fn to_v2(autoscaler: &mut Value) -> Result<(), String> {
    let mut metrics = annotated_list(autoscaler, METRICS, "MetricSpec");
    metrics = metrics.into_iter().map(|metric| new_metric(metric, METRIC_SPECS)).collect();
    metrics.iter_mut().for_each(set_target_type);
    let percent = take(autoscaler, &["spec", "targetCPUUtilizationPercentage"]).and_then(|percent| percent.as_i64());
    let percent = percent.or_else(|| metrics.is_empty().then_some(CPU_UTILIZATION));
    metrics.extend(percent.map(cpu_metric));
    put(autoscaler, &["spec", "metrics"], Value::Array(metrics));
    if let Some(behavior) = annotated_behavior(autoscaler) {
        put(autoscaler, &["spec", "behavior"], behavior);
    }

    let states = annotated_list(autoscaler, CURRENT_METRICS, "MetricStatus").into_iter();
    let mut states: Vec<_> = states.map(|state| new_metric(state, METRIC_STATES)).collect();
    if let Some(percent) = take(autoscaler, &["status", "currentCPUUtilizationPercentage"])
        && states.is_empty()
    {
        let current = value!({"averageUtilization": (percent)});
        states.push(value!({"type": "Resource", "resource": {"name": "cpu", "current": current}}));
    }
    put(autoscaler, &["status", "currentMetrics"], Value::Array(states));
    let conditions = annotated_list(autoscaler, CONDITIONS, CONDITION);
    put(autoscaler, &["status", "conditions"], Value::Array(conditions));
    drop_annotations(autoscaler);
    Ok(())
}

fn is_cpu(metric: &Value) -> bool {
    metric.str_at(&["type"]) == "Resource" && metric.str_at(&["resource", "name"]) == "cpu"
}

fn is_cpu_utilization(metric: &Value) -> bool {
    is_cpu(metric) && metric.at(&["resource", "target", "averageUtilization"]).is_some()
}

fn cpu_metric(percent: i64) -> Value {
    let target = value!({"type": "Utilization", "averageUtilization": percent});
    value!({"type": "Resource", "resource": {"name": "cpu", "target": target}})
}

/// A v2 metric in the form of v1.
fn old_metric(mut metric: Value, sources: &[(&str, Paths)]) -> Value {
    for (source, paths) in sources {
        if let Some(mut new) = take(&mut metric, &[*source]) {
            let mut old = Value::object();
            for (from, to) in *paths {
                take(&mut new, from).into_iter().for_each(|value| put(&mut old, to, value));
            }
            put(&mut metric, &[*source], old);
        }
    }
    metric
}

/// A v1 metric in the form of v2, but for the target's type.
fn new_metric(mut metric: Value, sources: &[(&str, Paths)]) -> Value {
    for (source, paths) in sources {
        if let Some(mut old) = take(&mut metric, &[*source]) {
            let mut new = Value::object();
            for (to, from) in *paths {
                take(&mut old, from).into_iter().for_each(|value| put(&mut new, to, value));
            }
            put(&mut metric, &[*source], new);
        }
    }
    metric
}

/// Version 1 tells the target's type by which of its values is set.
fn set_target_type(metric: &mut Value) {
    for (source, _) in METRIC_SPECS {
        let Some(source_value) = metric.get_mut(source) else { continue };
        let has = |field| source_value.at(&["target", field]).is_some_and(|value| !value.is_null());
        let ty = match *source {
            "object" if !has("averageValue") => "Value",
            "external" if has("value") => "Value",
            "resource" | "containerResource" if has("averageUtilization") => "Utilization",
            _ => "AverageValue",
        };
        // Version 1 cannot leave out an object's value, and zero fails validation beside an average.
        let value = source_value.at(&["target", "value"]).map(Quantity::from_value);
        if *source == "object"
            && ty == "AverageValue"
            && value.is_some_and(|value| value.is_ok_and(|value| value.is_zero()))
        {
            take(source_value, &["target", "value"]);
        }
        put(source_value, &["target", "type"], ty.into());
    }
}

/// The fields of upstream's internal type, which has no tags: each with a capital, and none left out.
fn untagged_behavior(behavior: &Value) -> Value {
    let rules = |name| behavior.get(name).filter(|rules| !rules.is_null()).map_or(Value::Null, untagged_rules);
    value!({"ScaleUp": (rules("scaleUp")), "ScaleDown": (rules("scaleDown"))})
}

fn untagged_rules(rules: &Value) -> Value {
    let field = |name| rules.get(name).cloned().unwrap_or_default();
    let policy = |policy: &Value| {
        let field = |name| policy.get(name).cloned().unwrap_or_default();
        value!({"Type": (field("type")), "Value": (field("value")), "PeriodSeconds": (field("periodSeconds"))})
    };
    let policies = rules.get("policies").and_then(Value::as_array);
    let policies = policies.map_or(Value::Null, |policies| Value::Array(policies.iter().map(policy).collect()));
    value!({
        "StabilizationWindowSeconds": (field("stabilizationWindowSeconds")), "SelectPolicy": (field("selectPolicy")),
        "Policies": policies, "Tolerance": (field("tolerance"))
    })
}

/// Field names with a small first letter again.
fn tagged(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (small(&key).into(), tagged(value))).collect::<Map>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(tagged).collect()),
        other => other,
    }
}

fn small(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

fn taken_list(object: &mut Value, path: &[&str]) -> Vec<Value> {
    match take(object, path) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// Writes a list into an annotation; none for an empty one.
fn annotate_all(
    object: &mut Value,
    name: &'static str,
    items: Vec<Value>,
    kind: &str,
    old: impl Fn(Value) -> Value,
) -> Result<(), String> {
    let items: Result<Vec<_>, _> = items.into_iter().map(|item| conform(old(item), kind, "autoscaling/v1")).collect();
    let items = items?;
    if !items.is_empty() {
        annotate(object, name, &Value::Array(items));
    }
    Ok(())
}

fn annotate(object: &mut Value, name: &'static str, value: &Value) {
    put(object, &["metadata", "annotations", name], json::to_string(value).into());
}

/// What an annotation holds. Users can write annotations: one that is no JSON is ignored, as upstream does.
fn annotated(object: &Value, name: &str) -> Option<Value> {
    let text = object.at(&["metadata", "annotations", name])?.as_str()?;
    match json::parse(text.as_bytes()) {
        Ok(parsed) => Some(parsed.value),
        Err(_) => None,
    }
}

/// The items in an annotation; none where they are not of this kind.
fn annotated_list(object: &Value, name: &str, kind: &str) -> Vec<Value> {
    let Some(Value::Array(items)) = annotated(object, name) else { return Vec::new() };
    let items: Result<Vec<_>, _> = items.into_iter().map(|item| conform(item, kind, "autoscaling/v1")).collect();
    items.unwrap_or_else(|_| Vec::new())
}

fn annotated_behavior(object: &Value) -> Option<Value> {
    let behavior = conform(tagged(annotated(object, BEHAVIOR)?), "HorizontalPodAutoscalerBehavior", "autoscaling/v2");
    match behavior {
        Ok(behavior) if behavior != Value::object() => Some(behavior),
        Ok(_) | Err(_) => None,
    }
}

fn drop_annotations(object: &mut Value) {
    for name in [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].into_iter().chain(TOLERANCES) {
        take(object, &["metadata", "annotations", name]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2() -> Value {
        let text = r#"{"kind":"HorizontalPodAutoscaler","apiVersion":"autoscaling/v2","metadata":{"name":"a",
            "annotations":{"b":"c"}},"spec":{"scaleTargetRef":{"kind":"Deployment","name":"d"},"minReplicas":1,"maxReplicas":5,
            "metrics":[{"type":"Resource","resource":{"name":"memory","target":{"type":"AverageValue","averageValue":"1Gi"}}},
            {"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"10"}}},
            {"type":"Object","object":{"describedObject":{"kind":"Service","name":"s"},"metric":{"name":"n"},
            "target":{"type":"AverageValue","averageValue":"7"}}},
            {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":60}}}],
            "behavior":{"scaleUp":{"policies":[{"type":"Pods","value":4,"periodSeconds":15}],"selectPolicy":"Max"}}},
            "status":{"desiredReplicas":2,"currentMetrics":[{"type":"Resource","resource":{"name":"cpu",
            "current":{"averageValue":"100m","averageUtilization":50}}}],
            "conditions":[{"type":"AbleToScale","status":"True","lastTransitionTime":"2026-11-21T10:00:00Z"}]}}"#;
        conform(json::parse(text.as_bytes()).unwrap().value, "HorizontalPodAutoscaler", "autoscaling/v2").unwrap()
    }

    #[test]
    fn version_1_shows_cpu_and_keeps_the_rest_in_annotations() {
        let old = (conversion().from_storage)(v2()).unwrap();
        assert_eq!(old.i64_at(&["spec", "targetCPUUtilizationPercentage"]), Some(60));
        assert_eq!(old.i64_at(&["status", "currentCPUUtilizationPercentage"]), Some(50));
        let metrics = old.str_at(&["metadata", "annotations", METRICS]);
        assert!(
            metrics.starts_with(r#"[{"type":"Resource","resource":{"name":"memory","targetAverageValue":"1Gi"}},"#),
            "{metrics}"
        );
        assert_eq!(
            old.str_at(&["metadata", "annotations", BEHAVIOR]),
            concat!(
                r#"{"ScaleUp":{"StabilizationWindowSeconds":null,"SelectPolicy":"Max","#,
                r#""Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}"#
            )
        );
        assert_eq!((conversion().to_storage)(old).unwrap(), v2());
    }

    #[test]
    fn version_1_without_a_target_aims_at_the_default() {
        let old =
            value!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 3}});
        let new = (conversion().to_storage)(old).unwrap();
        assert_eq!(new.at(&["spec", "metrics"]).unwrap(), &value!([(cpu_metric(80))]));
    }

    #[test]
    fn annotations_that_users_broke_are_ignored() {
        for text in ["[1]", "{", "[{\"type\":3}]"] {
            let old = value!({"metadata": {"annotations": {"autoscaling.alpha.kubernetes.io/metrics": text}}});
            let new = (conversion().to_storage)(old).unwrap();
            assert_eq!(new.at(&["spec", "metrics"]).unwrap().as_array().unwrap().len(), 1, "{text}");
            assert!(new.at(&["metadata", "annotations"]).is_none(), "{text}");
        }
    }
}
