//! Why a server takes no pods.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

use super::finding::{Finding, condition, list};

/// Conditions that are well where they are false.
const PRESSURES: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"];

pub(crate) fn explain(node: &Value) -> Vec<Finding> {
    let name = Meta::of(node).name();
    let describe = format!("kubectl describe node {name}");
    let mut findings = Vec::new();
    match condition(node, "Ready") {
        Some(ready) if ready.str_at(&["status"]) == "True" => {}
        Some(ready) if ready.str_at(&["status"]) == "Unknown" => {
            let since = ready.str_at(&["lastTransitionTime"]);
            let fact =
                format!("nothing was heard of it since {since}: its corten does not run, or cannot reach the API");
            findings.push(Finding::new(fact).then(format!("corten node --server URL   # on {name}, as root")));
        }
        Some(ready) => {
            findings
                .push(Finding::new(format!("it is not ready: {}", ready.str_at(&["message"]))).then(describe.clone()));
        }
        None => findings.push(Finding::new("it has not said yet whether it is ready").then(describe.clone())),
    }
    for kind in PRESSURES {
        let bad = condition(node, kind).filter(|condition| condition.str_at(&["status"]) == "True");
        findings.extend(bad.map(|condition| {
            Finding::new(format!("{kind}: {}", condition.str_at(&["message"]))).then("corten status")
        }));
    }
    if node.at(&["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true) {
        findings.push(Finding::new("it is cordoned: no new pods go there").then(format!("kubectl uncordon {name}")));
    }
    let taints = list(node, &["spec", "taints"])
        .iter()
        .filter(|taint| !taint.str_at(&["key"]).starts_with("node.kubernetes.io/"));
    findings.extend(taints.map(|taint| {
        let (key, effect) = (taint.str_at(&["key"]), taint.str_at(&["effect"]));
        let fact = format!("it has the taint {key}:{effect}, which pods have to tolerate");
        Finding::new(fact).then(format!("kubectl taint node {name} {key}-"))
    }));
    findings
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn what_ails_a_server_is_named() {
        let facts = |node: Value| -> Vec<String> { explain(&node).into_iter().map(|finding| finding.fact).collect() };
        let conditions = |ready: &str, pressure: &str| {
            value!([{"type": "Ready", "status": ready, "message": "m", "lastTransitionTime": "t"},
                {"type": "DiskPressure", "status": pressure, "message": "full"}])
        };
        assert!(facts(value!({"status": {"conditions": (conditions("True", "False"))}})).is_empty());
        let node = value!({
            "spec": {"unschedulable": true, "taints": [{"key": "gpu", "effect": "NoSchedule"}, {"key": "node.kubernetes.io/unschedulable"}]},
            "status": {"conditions": (conditions("False", "True"))}
        });
        assert_eq!(
            facts(node),
            [
                "it is not ready: m",
                "DiskPressure: full",
                "it is cordoned: no new pods go there",
                "it has the taint gpu:NoSchedule, which pods have to tolerate",
            ]
        );
        let silent = facts(value!({"status": {"conditions": (conditions("Unknown", "False"))}}));
        assert_eq!(silent, ["nothing was heard of it since t: its corten does not run, or cannot reach the API"]);
        assert_eq!(facts(value!({})), ["it has not said yet whether it is ready"]);
    }
}
