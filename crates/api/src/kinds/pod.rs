//! Pods.

mod columns;
mod prepare;
mod quality;

use corten_apimachinery::kind::{FieldValue, SelectableField, Serve, Strategy};
use corten_apimachinery::value::{Str, Value};

use super::KindRules;
use super::field;

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy {
            generation: true,
            delete_returns_object: true,
            prepare: Some(prepare::prepare),
            settle: Some(prepare::settle),
            validate: Some(crate::rules::validation::pod::validate),
            warn: Some(super::warning::pod),
            graceful: Some(grace_period_s),
            ..base
        },
        columns: columns::columns,
        selectable_fields,
        serve: |subresource| match subresource {
            "ephemeralcontainers" => Some(Serve::Part(prepare::ephemeral_containers)),
            "resize" => Some(Serve::Part(prepare::resize)),
            _ => None,
        },
        ..KindRules::new("", "Pod")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(crate::rules::validation::pod::binding), ..base },
        ..KindRules::new("", "Binding")
    },
];

fn selectable_fields() -> Vec<SelectableField> {
    let computed = |name: &str, value: fn(&Value) -> Str| SelectableField {
        name: name.into(),
        value: FieldValue::Computed(value),
    };
    vec![
        field("spec.nodeName"),
        field("spec.restartPolicy"),
        field("spec.schedulerName"),
        field("spec.serviceAccountName"),
        computed("spec.hostNetwork", |pod| super::boolean_text(pod, &["spec", "hostNetwork"])),
        field("status.phase"),
        computed("status.podIP", |pod| first_ip(pod).into()),
        computed("status.podIPs", |pod| first_ip(pod).into()),
        field("status.nominatedNodeName"),
        // The name that nodeName had in early versions.
        SelectableField { name: "spec.host".into(), ..field("spec.nodeName") },
    ]
}

fn first_ip(pod: &Value) -> &str {
    super::column::list(pod, &["status", "podIPs"]).first().map(|ip| ip.str_at(&["ip"])).unwrap_or_default()
}

/// How long a deleted pod may take: what the request says, else what the pod says. A pod that never ran or no longer
/// runs is gone at once.
fn grace_period_s(pod: &Value, asked_s: Option<i64>) -> i64 {
    let running = !pod.str_at(&["spec", "nodeName"]).is_empty()
        && !matches!(pod.str_at(&["status", "phase"]), "Failed" | "Succeeded");
    let period_s = asked_s.or_else(|| pod.i64_at(&["spec", "terminationGracePeriodSeconds"])).unwrap_or_default();
    match period_s {
        _ if !running => 0,
        ..0 => 1,
        period_s => period_s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    #[test]
    fn grace_periods() {
        let running =
            value!({"spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}});
        assert_eq!(grace_period_s(&running, None), 30);
        assert_eq!(grace_period_s(&running, Some(5)), 5);
        assert_eq!(grace_period_s(&running, Some(-5)), 1);
        let done = value!({"spec": {"nodeName": "n"}, "status": {"phase": "Failed"}});
        assert_eq!(grace_period_s(&done, Some(5)), 0);
        assert_eq!(grace_period_s(&value!({"spec": {}}), Some(5)), 0);
    }
}
