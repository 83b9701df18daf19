//! Who has to leave.

use corten_scheduler::{Budget, decode, preempt, schedule};
use serde_json::{Value, json};

use crate::cluster::{asks, merged, node, pod, read, snapshot, value};

fn on(name: &str, node: &str, priority: i32, over: Value) -> Value {
    merged(pod(name, json!({"spec": {"nodeName": node, "priority": priority}})), over)
}

fn important(over: Value) -> Value {
    merged(pod("p", json!({"spec": {"priority": 100}})), over)
}

/// The node, the victims and the violations; or the whole text of the event.
#[track_caller]
fn check(
    nodes: &[Value],
    pods: &[Value],
    pod: &Value,
    budgets: &[Budget],
    expected: Result<(&str, &[&str], usize), &str>,
) {
    let (cluster, pod) = (snapshot(nodes, pods), read(pod));
    let failure = schedule(&cluster, &pod, 1).unwrap_err();
    match (preempt(&cluster, &pod, &failure, budgets, 1), expected) {
        (Ok(found), Ok((node, victims, violations))) => {
            let names: Vec<&str> = found.victims.iter().map(|victim| victim.name.as_str()).collect();
            assert_eq!((found.node.as_str(), &names[..], found.violations), (node, victims, violations));
        }
        (Err(none), Err(text)) => assert_eq!(failure.text_with(&none), text),
        (found, expected) => panic!("{found:?} is not {expected:?}"),
    }
}

#[test]
fn the_least_important_leave() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let pods = [on("x", "a", 10, asks("4", "1Gi")), on("y", "b", 5, asks("4", "1Gi"))];
    check(&nodes, &pods, &important(asks("1", "1Gi")), &[], Ok(("b", &["y"], 0)));
}

#[test]
fn as_few_as_possible_leave() {
    let nodes = [node("a", json!({}))];
    let pods = [
        on("w", "a", 1, asks("1", "1Gi")),
        on("x", "a", 3, asks("1", "1Gi")),
        on("y", "a", 2, asks("1", "1Gi")),
        on("z", "a", 100, asks("1", "1Gi")),
    ];
    check(&nodes, &pods, &important(asks("2", "1Gi")), &[], Ok(("a", &["y", "w"], 0)));
}

#[test]
fn a_node_with_fewer_victims_is_better_at_equal_priority() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let pods =
        [on("w", "a", 1, asks("2", "1Gi")), on("x", "a", 1, asks("2", "1Gi")), on("y", "b", 1, asks("4", "1Gi"))];
    check(&nodes, &pods, &important(asks("3", "1Gi")), &[], Ok(("b", &["y"], 0)));
}

#[test]
fn the_youngest_leave() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let since =
        |hour: &str| merged(asks("4", "1Gi"), json!({"status": {"startTime": format!("2026-01-01T{hour}:00:00Z")}}));
    let pods = [on("x", "a", 1, since("10")), on("y", "b", 1, since("12"))];
    check(&nodes, &pods, &important(asks("1", "1Gi")), &[], Ok(("b", &["y"], 0)));
}

#[test]
fn budgets_are_kept_where_that_is_possible() {
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let app = merged(asks("4", "1Gi"), json!({"metadata": {"labels": {"app": "db"}}}));
    let pods = [on("x", "a", 10, asks("4", "1Gi")), on("y", "b", 5, app)];
    let budget = |allowed: i64| {
        let object = json!({"metadata": {"namespace": "default"}, "spec": {"selector": {"matchLabels": {"app": "db"}}},
            "status": {"disruptionsAllowed": allowed}});
        [decode::budget(&value(&object)).unwrap()]
    };
    let preemptor = important(asks("1", "1Gi"));
    check(&nodes, &pods, &preemptor, &budget(0), Ok(("a", &["x"], 0)));
    check(&nodes, &pods, &preemptor, &budget(1), Ok(("b", &["y"], 0)));
    check(&nodes[1..], &pods[1..], &preemptor, &budget(0), Ok(("b", &["y"], 1)));
}

#[test]
fn ports_and_peers_are_made_free() {
    let nodes = [node("a", json!({}))];
    let port = json!({"spec": {"containers": [{"ports": [{"hostPort": 80}]}]}});
    check(&nodes, &[on("x", "a", 1, port.clone())], &important(port), &[], Ok(("a", &["x"], 0)));
    let away = json!({"spec": {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}]}}}});
    let db = json!({"metadata": {"labels": {"app": "db"}}});
    check(
        &nodes,
        &[on("x", "a", 1, db.clone()), on("y", "a", 1, json!({}))],
        &important(away.clone()),
        &[],
        Ok(("a", &["x"], 0)),
    );
    check(&nodes, &[on("x", "a", 1, away)], &important(db), &[], Ok(("a", &["x"], 0)));
}

#[test]
fn the_text_says_why_nobody_leaves() {
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    let nodes = [node("a", json!({})), node("b", tainted), node("c", json!({}))];
    let pods = [
        on("x", "a", 100, asks("4", "1Gi")),
        on("y", "c", 100, asks("3500m", "1Gi")),
        on("z", "c", 1, asks("100m", "1Gi")),
    ];
    let text = "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. preemption: 0/3 nodes are \
                available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod, 1 Preemption is not helpful \
                for scheduling.";
    check(&nodes, &pods, &important(asks("1", "1Gi")), &[], Err(text));
    let never = merged(important(asks("1", "1Gi")), json!({"spec": {"preemptionPolicy": "Never"}}));
    let text = "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.";
    check(&nodes[..1], &pods[..1], &never, &[], Err(text));
    let huge = "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful \
                for scheduling.";
    check(&nodes[..1], &pods[..1], &important(asks("5", "1Gi")), &[], Err(huge));
}

#[test]
fn a_pod_waits_for_its_victims() {
    let leaving = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": {"conditions": [
        {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}});
    let nodes = [node("a", json!({}))];
    let pods = [on("x", "a", 1, merged(asks("4", "1Gi"), leaving))];
    let nominated = merged(important(asks("1", "1Gi")), json!({"status": {"nominatedNodeName": "a"}}));
    let text = "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to a terminating pod on the \
                nominated node.";
    check(&nodes, &pods, &nominated, &[], Err(text));
}
