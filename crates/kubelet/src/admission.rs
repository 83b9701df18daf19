//! Whether this node takes a pod that was bound to it: resources, host ports, node selectors, taints
//! (`pkg/kubelet/lifecycle/predicate.go`). A refused pod has failed, with upstream's reasons.

use std::collections::BTreeSet;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::Value;

use crate::observed::Verdict;
use crate::pod::Pod;
use crate::qos::pod_amount;

/// Decides about a pod beside those that the node has taken already.
pub fn admit(pod: Pod<'_>, others: &[Pod<'_>], node: &Value) -> Result<(), Verdict> {
    let predicate = |name: &str, text: &str| Verdict {
        reason: name.to_owned(),
        message: format!("Predicate {name} failed: {text}"),
        ..Verdict::default()
    };
    check_os(pod)?;
    check_resources(pod, others, node)?;
    if !selects(pod, node) {
        return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    let taken: BTreeSet<_> = others.iter().flat_map(|other| host_ports(*other)).collect();
    if host_ports(pod).any(|port| taken.iter().any(|other| clash(&port, other))) {
        return Err(predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    if !tolerates(pod, node) {
        return Err(predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate"));
    }
    Ok(())
}

fn check_os(pod: Pod<'_>) -> Result<(), Verdict> {
    let verdict = |reason: &str, message: &str| Verdict {
        reason: reason.to_owned(),
        message: message.to_owned(),
        ..Verdict::default()
    };
    let os = pod.spec("os").map(|os| os.str_at(&["name"])).unwrap_or_default();
    if !os.is_empty() && os != "linux" {
        let message = "Failed to admit pod as the OS field doesn't match node OS";
        return Err(verdict("PodOSNotSupported", message));
    }
    if pod.meta().label("kubernetes.io/os").is_some_and(|os| os != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(verdict("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    Ok(())
}

fn check_resources(pod: Pod<'_>, others: &[Pod<'_>], node: &Value) -> Result<(), Verdict> {
    let allocatable = |name: &str| {
        let quantity = node.at(&["status", "allocatable", name]).and_then(|value| Quantity::from_value(value).ok());
        quantity.map(|quantity| if name == "cpu" { quantity.milli_value() } else { quantity.value() })
    };
    let refused = |name: &str, requested: i64, used: i64, capacity: i64| Verdict {
        reason: format!("OutOf{name}"),
        message: format!(
            "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
        ..Verdict::default()
    };
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if let Some(capacity) = allocatable("pods").filter(|capacity| count + 1 > *capacity) {
        return Err(refused("pods", 1, count, capacity));
    }
    for name in ["cpu", "memory", "ephemeral-storage"] {
        let requested = pod_amount(pod, "requests", name, false).unwrap_or_default();
        let Some(capacity) = allocatable(name) else { continue };
        let used = others.iter().filter_map(|other| pod_amount(*other, "requests", name, false)).sum::<i64>();
        if requested > 0 && requested > capacity - used {
            return Err(refused(name, requested, used, capacity));
        }
    }
    Ok(())
}

fn selects(pod: Pod<'_>, node: &Value) -> bool {
    let labels = Meta::of(node);
    let wanted = pod.spec("nodeSelector").and_then(Value::as_object);
    let selected =
        wanted.into_iter().flat_map(|map| map.iter()).all(|(key, value)| labels.label(key) == value.as_str());
    let required = ["nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    let terms = pod.spec("affinity").and_then(|affinity| affinity.at(&required)).and_then(Value::as_array);
    selected && terms.is_none_or(|terms| terms.iter().any(|term| matches(term, labels)))
}

fn matches(term: &Value, node: Meta<'_>) -> bool {
    let list = |field: &str| term.get(field).and_then(Value::as_array).unwrap_or_default();
    let (labels, fields) = (list("matchExpressions"), list("matchFields"));
    let of_label = |expression: &Value| node.label(expression.str_at(&["key"])).map(str::to_owned);
    let of_field =
        |expression: &Value| (expression.str_at(&["key"]) == "metadata.name").then(|| node.name().to_owned());
    (!labels.is_empty() || !fields.is_empty())
        && labels.iter().all(|expression| holds(expression, of_label(expression)))
        && fields.iter().all(|expression| holds(expression, of_field(expression)))
}

fn holds(expression: &Value, value: Option<String>) -> bool {
    let values = expression.get("values").and_then(Value::as_array).unwrap_or_default();
    let listed = || value.as_deref().is_some_and(|value| values.iter().any(|one| one.as_str() == Some(value)));
    let numbers = || {
        let bound = values.first().and_then(Value::as_str)?.parse::<i64>().ok()?;
        Some((value.as_deref()?.parse::<i64>().ok()?, bound))
    };
    match expression.str_at(&["operator"]) {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => numbers().is_some_and(|(value, bound)| value > bound),
        "Lt" => numbers().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

type HostPort = (String, String, i64);

fn host_ports<'a>(pod: Pod<'a>) -> impl Iterator<Item = HostPort> + 'a {
    let containers = pod.init_containers().chain(pod.main_containers());
    containers.flat_map(|container| container.list("ports")).filter_map(|port| {
        let number = port.i64_at(&["hostPort"]).filter(|number| *number > 0)?;
        Some((port.str_at(&["protocol"]).to_owned(), port.str_at(&["hostIP"]).to_owned(), number))
    })
}

fn clash(a: &HostPort, b: &HostPort) -> bool {
    let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || any(&a.1) || any(&b.1))
}

/// Only taints that also end pods count here; the others are the scheduler's business.
fn tolerates(pod: Pod<'_>, node: &Value) -> bool {
    let taints = node.at(&["spec", "taints"]).and_then(Value::as_array).unwrap_or_default();
    taints
        .iter()
        .filter(|taint| taint.str_at(&["effect"]) == "NoExecute")
        .all(|taint| is_tolerated(pod, taint.str_at(&["key"]), taint.str_at(&["value"]), "NoExecute"))
}

/// Whether a pod bears a taint.
pub(crate) fn is_tolerated(pod: Pod<'_>, taint: &str, value: &str, effect: &str) -> bool {
    pod.spec_list("tolerations").iter().any(|toleration| {
        let (of, key) = (toleration.str_at(&["effect"]), toleration.str_at(&["key"]));
        let of_effect = of.is_empty() || of == effect;
        let of_key = key == taint || key.is_empty();
        let of_value = match toleration.str_at(&["operator"]) {
            "Exists" => true,
            _ => !key.is_empty() && toleration.str_at(&["value"]) == value,
        };
        of_effect && of_key && of_value
    })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn node() -> Value {
        value!({
            "metadata": {"name": "n", "labels": {"zone": "a"}},
            "spec": {"taints": [{"key": "gone", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3"}}
        })
    }

    fn pod(cpu: &str, more: Value) -> Value {
        let container = value!({
            "name": "c", "resources": {"requests": {"cpu": cpu}}, "ports": [{"hostPort": 80, "protocol": "TCP"}]
        });
        let mut spec = value!({"containers": [container], "tolerations": [{"operator": "Exists"}]});
        for (field, value) in more.as_object().expect("fields").iter() {
            spec.as_object_mut().expect("an object").insert(field.clone(), value.clone());
        }
        value!({"metadata": {"name": "p"}, "spec": spec})
    }

    #[track_caller]
    fn check(pod: &Value, others: &[&Value], expect: &str) {
        let others: Vec<_> = others.iter().map(|other| Pod(other)).collect();
        let seen = admit(Pod(pod), &others, &node())
            .map_or_else(|verdict| format!("{}: {}", verdict.reason, verdict.message), |()| "taken".into());
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_node_takes_what_it_can() {
        let none = Value::object();
        let one = pod("1500m", none.clone());
        check(&one, &[], "taken");
        let full = "OutOfcpu: Node didn't have enough resource: cpu, requested: 1500, used: 1500, capacity: 2000";
        check(&one, &[&one], full);
        let small = pod("1m", none);
        check(
            &small,
            &[&small],
            "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        );
        check(
            &small,
            &[&small, &small, &small],
            "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
        );
        let affinity = "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        check(&pod("1", value!({"nodeSelector": {"zone": "b"}})), &[], affinity);
        check(&pod("1", value!({"nodeSelector": {"zone": "a"}})), &[], "taken");
        let term = value!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]});
        let required =
            value!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}});
        check(&pod("1", value!({"affinity": required})), &[], affinity);
        let taint =
            "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        check(&pod("1", value!({"tolerations": []})), &[], taint);
    }
}
