//! Horizontal pod autoscalers. Version 2 is stored; version 1 has fields for one CPU target alone.

use corten_apimachinery::field::{FieldErrorKind, FieldErrors, FieldPath};
use corten_apimachinery::kind::{Column, Strategy, Validation};
use corten_apimachinery::value::Value;

use super::KindRules;
use super::column::{NONE, UNKNOWN, UNSET, age, int, list, name, plain, text};
use crate::rules::validation::autoscaling;

pub(crate) const KINDS: &[KindRules] = &[KindRules {
    strategy: |base| Strategy { validate: Some(validate), ..base },
    columns,
    convert: |version| (version == "v1").then(super::convert::autoscaler::conversion),
    ..KindRules::new("autoscaling", "HorizontalPodAutoscaler")
}];

/// The rules are those of the stored form.
fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    let stored = |scaler: &Value| match scaler.str_at(&["apiVersion"]) {
        "autoscaling/v1" => (super::convert::autoscaler::conversion().to_storage)(scaler.clone()),
        _ => Ok(scaler.clone()),
    };
    match (stored(validation.object), validation.old.map(stored).transpose()) {
        (Ok(object), Ok(old)) => {
            let validation = Validation { object: &object, old: old.as_ref(), ..validation };
            autoscaling::autoscaler(validation, errors);
        }
        (Err(error), _) | (_, Err(error)) => {
            errors.push(FieldErrorKind::Internal, &FieldPath::root(), Value::Null, error);
        }
    }
}

fn columns() -> Vec<Column> {
    vec![
        name(),
        text("Reference", |autoscaler, _| {
            let part = |field| autoscaler.str_at(&["spec", "scaleTargetRef", field]);
            format!("{}/{}", part("kind"), part("name")).into()
        }),
        text("Targets", |autoscaler, _| targets(autoscaler).into()),
        text("MinPods", |autoscaler, _| match autoscaler.at(&["spec", "minReplicas"]) {
            Some(replicas) => plain(replicas).into(),
            None => UNSET.into(),
        }),
        text("MaxPods", |autoscaler, _| int(autoscaler, &["spec", "maxReplicas"])),
        text("Replicas", |autoscaler, _| int(autoscaler, &["status", "currentReplicas"])),
        age(),
    ]
}

/// Current and wanted value of the first two metrics: `cpu: 12%/80%, 3/5 (avg)`.
fn targets(autoscaler: &Value) -> String {
    if autoscaler.str_at(&["apiVersion"]) == "autoscaling/v1" {
        // What does not convert was not stored either.
        let stored = (super::convert::autoscaler::conversion().to_storage)(autoscaler.clone());
        return stored.map_or_else(|_| UNKNOWN.to_owned(), |stored| targets(&stored));
    }
    let metrics = list(autoscaler, &["spec", "metrics"]);
    let states = list(autoscaler, &["status", "currentMetrics"]);
    let all: Vec<String> =
        metrics.iter().enumerate().map(|(index, metric)| target(metric, states.get(index))).collect();
    match all.split_at_checked(2) {
        _ if all.is_empty() => NONE.to_owned(),
        Some((first, rest)) if !rest.is_empty() => format!("{} + {} more...", first.join(", "), rest.len()),
        _ => all.join(", "),
    }
}

fn target(metric: &Value, state: Option<&Value>) -> String {
    let field = match metric.str_at(&["type"]) {
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "Pods" => "pods",
        "Object" => "object",
        "External" => "external",
        _ => return "<unknown type>".to_owned(),
    };
    let wanted = |value: &str| metric.at(&[field, "target", value]).filter(|value| !value.is_null()).map(plain);
    let current = |value: &str| {
        let value = state.and_then(|state| state.at(&[field, "current", value])).filter(|value| !value.is_null());
        value.map_or_else(|| UNKNOWN.to_owned(), plain)
    };
    let average = wanted("averageValue");
    match (field, average) {
        ("pods", average) => format!("{}/{}", current("averageValue"), average.unwrap_or_else(|| "0".to_owned())),
        ("resource" | "containerResource", Some(average)) => {
            format!("{}: {}/{average}", metric.str_at(&[field, "name"]), current("averageValue"))
        }
        ("resource" | "containerResource", None) => {
            let percent = |text: String| if text == UNKNOWN { text } else { format!("{text}%") };
            let wanted =
                wanted("averageUtilization").map_or_else(|| "<auto>".to_owned(), |wanted| format!("{wanted}%"));
            format!("{}: {}/{wanted}", metric.str_at(&[field, "name"]), percent(current("averageUtilization")))
        }
        (_, Some(average)) => format!("{}/{average} (avg)", current("averageValue")),
        (_, None) => format!("{}/{}", current("value"), wanted("value").unwrap_or_else(|| "0".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn autoscalers() {
        let autoscaler = value!({
            "spec": {
                "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}},
                    {"type": "External", "external": {"target": {"averageValue": "5"}}},
                    {"type": "Pods", "pods": {"target": {"averageValue": "1"}}}
                ]
            },
            "status": {
                "currentReplicas": 2, "currentMetrics": [{"type": "Resource", "resource": {"current": {"averageUtilization": 12}}}]
            }
        });
        check(
            "autoscaling",
            "HorizontalPodAutoscaler",
            &autoscaler,
            &["Deployment/d", "cpu: 12%/80%, <unknown>/5 (avg) + 1 more...", "1", "5", "2"],
        );
        let version_1 = value!({
            "apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {},
            "spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "D", "name": "d"}, "targetCPUUtilizationPercentage": 50}
        });
        check(
            "autoscaling",
            "HorizontalPodAutoscaler",
            &version_1,
            &["D/d", "cpu: <unknown>/50%", "<unset>", "2", "0"],
        );
    }
}
