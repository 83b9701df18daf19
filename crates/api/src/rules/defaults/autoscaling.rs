//! Horizontal pod autoscalers, in both versions.

use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, given, object_mut, text, zero};
use crate::rules::RuleTable;

/// The share of its CPU request that a pod is kept at where nothing else is asked for.
const CPU_PERCENT: i64 = 80;
/// Where version 1 keeps the metrics that it has no fields for.
const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";

pub(in crate::rules) const RULES: RuleTable = &[
    (
        "autoscaling/v1.HorizontalPodAutoscaler",
        fills(|autoscaler| {
            let annotated = object_mut(autoscaler, "metadata")
                .and_then(|metadata| object_mut(metadata, "annotations"))
                .is_some_and(|annotations| !text(annotations, METRICS).is_empty());
            let spec = autoscaler.object_entry("spec");
            absent(spec, "minReplicas", 1);
            if !annotated {
                absent(spec, "targetCPUUtilizationPercentage", CPU_PERCENT);
            }
        }),
    ),
    (
        "autoscaling/v2.HorizontalPodAutoscalerSpec",
        fills(|spec| {
            absent(spec, "minReplicas", 1);
            zero(spec, "metrics", cpu_metric());
            if let Some(behavior) = object_mut(spec, "behavior") {
                behavior_rules(behavior);
            }
        }),
    ),
];

fn cpu_metric() -> Value {
    value!([{
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_PERCENT}}
    }])
}

/// Once a behaviour is asked for, both directions are spelled out: doubling or four pods every 15 seconds up, and
/// everything every 15 seconds down.
fn behavior_rules(behavior: &mut Map) {
    let everything = || value!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let up = behavior.object_entry("scaleUp");
    absent(up, "stabilizationWindowSeconds", 0);
    rules(up, vec![value!({"type": "Pods", "value": 4, "periodSeconds": 15}), everything()]);
    rules(behavior.object_entry("scaleDown"), vec![everything()]);
}

fn rules(rules: &mut Map, policies: Vec<Value>) {
    absent(rules, "selectPolicy", "Max");
    if !given(rules, "policies") {
        rules.insert("policies", Value::Array(policies));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn version_1() {
        check(
            "autoscaling/v1.HorizontalPodAutoscaler",
            value!({"spec": {"maxReplicas": 3}}),
            &value!({"spec": {"maxReplicas": 3, "minReplicas": 1, "targetCPUUtilizationPercentage": 80}}),
        );
    }

    #[test]
    fn version_2() {
        check(
            "autoscaling/v2.HorizontalPodAutoscalerSpec",
            value!({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 5}}}),
            &value!({
                "minReplicas": 1,
                "metrics": [{
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
                }],
                "behavior": {
                    "scaleUp": {
                        "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                        "policies": [
                            {"type": "Pods", "value": 4, "periodSeconds": 15},
                            {"type": "Percent", "value": 100, "periodSeconds": 15}
                        ]
                    },
                    "scaleDown": {
                        "stabilizationWindowSeconds": 5, "selectPolicy": "Max",
                        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]
                    }
                }
            }),
        );
    }
}
