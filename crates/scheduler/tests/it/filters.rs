//! One table a plugin: which nodes can take a pod, and upstream's text where none can.

use corten_scheduler::{NodeChange, decode};
use serde_json::{Value, json};

use crate::cluster::{asks, check, merged, node, pod, read, snapshot, value};

fn labelled(name: &str, labels: Value) -> Value {
    node(name, json!({"metadata": {"labels": labels}}))
}

/// A pod on a node.
fn placed(name: &str, on: &str, over: Value) -> Value {
    merged(pod(name, json!({"spec": {"nodeName": on}})), over)
}

fn app(name: &str) -> Value {
    json!({"metadata": {"labels": {"app": name}}})
}

#[test]
fn without_nodes_there_is_nothing_to_say() {
    check(&snapshot(&[], &[]), &pod("p", json!({})), Err("no nodes available to schedule pods"));
}

#[test]
fn a_gated_pod_is_not_tried() {
    let gated = pod("p", json!({"spec": {"schedulingGates": [{"name": "a/b"}, {"name": "c"}]}}));
    let cluster = snapshot(&[node("a", json!({}))], &[]);
    check(&cluster, &gated, Err("waiting for scheduling gates: [a/b c]"));
}

#[test]
fn cordoned_nodes_take_only_what_tolerates_it() {
    let nodes = [node("a", json!({"spec": {"unschedulable": true}})), node("b", json!({}))];
    check(&snapshot(&nodes, &[]), &pod("p", json!({})), Ok(&["b"]));
    check(
        &snapshot(&nodes[..1], &[]),
        &pod("p", json!({})),
        Err("0/1 nodes are available: 1 node(s) were unschedulable."),
    );
    let tolerant =
        json!({"spec": {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}});
    check(&snapshot(&nodes, &[]), &pod("p", tolerant), Ok(&["a", "b"]));
}

#[test]
fn a_node_name_leaves_one_node() {
    let cluster = snapshot(&[node("a", json!({})), node("b", json!({}))], &[]);
    check(&cluster, &placed("p", "b", json!({})), Ok(&["b"]));
    let text = "0/2 nodes are available: 2 node(s) didn't match the requested node name.";
    check(&cluster, &placed("p", "c", json!({})), Err(text));
}

#[test]
fn taints_repel_unless_tolerated() {
    let taint = |key: &str, effect: &str| json!({"key": key, "value": "v", "effect": effect});
    let tainted = |name: &str, taints: Value| node(name, json!({"spec": {"taints": taints}}));
    let nodes = [
        tainted("a", json!([taint("k", "NoSchedule")])),
        tainted("b", json!([taint("k", "NoExecute")])),
        tainted("c", json!([taint("k", "PreferNoSchedule")])),
        tainted("d", json!([taint("k", "NoSchedule"), taint("l", "NoSchedule")])),
    ];
    let cluster = snapshot(&nodes, &[]);
    let tolerates = |tolerations: Value| pod("p", json!({"spec": {"tolerations": tolerations}}));
    check(&cluster, &pod("p", json!({})), Ok(&["c"]));
    check(&cluster, &tolerates(json!([{"key": "k", "value": "v"}])), Ok(&["a", "b", "c"]));
    check(&cluster, &tolerates(json!([{"key": "k", "value": "w"}])), Ok(&["c"]));
    check(&cluster, &tolerates(json!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}])), Ok(&["a", "c"]));
    check(&cluster, &tolerates(json!([{"operator": "Exists"}])), Ok(&["a", "b", "c", "d"]));
    check(&cluster, &tolerates(json!([{"key": "k", "operator": "Gt", "value": "1"}])), Ok(&["c"]));
    let text = "0/2 nodes are available: 2 node(s) had untolerated taint(s).";
    check(&snapshot(&nodes[..2], &[]), &pod("p", json!({})), Err(text));
}

#[test]
fn node_selectors_and_required_terms_both_hold() {
    let nodes = [
        labelled("a", json!({"disk": "ssd", "size": "10"})),
        labelled("b", json!({"disk": "hdd", "size": "5"})),
        labelled("c", json!({})),
    ];
    let cluster = snapshot(&nodes, &[]);
    let requires = |terms: Value| {
        pod(
            "p",
            json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}}),
        )
    };
    let expression = |key: &str, operator: &str, values: &[&str]| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    check(&cluster, &pod("p", json!({"spec": {"nodeSelector": {"disk": "ssd"}}})), Ok(&["a"]));
    check(&cluster, &requires(json!([expression("disk", "In", &["hdd", "nvme"])])), Ok(&["b"]));
    check(&cluster, &requires(json!([expression("disk", "NotIn", &["hdd"])])), Ok(&["a", "c"]));
    check(&cluster, &requires(json!([expression("disk", "Exists", &[])])), Ok(&["a", "b"]));
    check(&cluster, &requires(json!([expression("disk", "DoesNotExist", &[])])), Ok(&["c"]));
    check(&cluster, &requires(json!([expression("size", "Gt", &["7"])])), Ok(&["a"]));
    check(&cluster, &requires(json!([expression("size", "Lt", &["7"])])), Ok(&["b"]));
    let either = json!([expression("disk", "In", &["ssd"]), expression("disk", "In", &["hdd"])]);
    check(&cluster, &requires(either), Ok(&["a", "b"]));
    let text = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector.";
    check(&cluster, &requires(json!([])), Err(text));
    check(&cluster, &requires(json!([{}])), Err(text));
}

#[test]
fn terms_that_name_nodes_leave_the_others_out() {
    let nodes = [node("a", json!({})), node("b", json!({})), node("c", json!({}))];
    let cluster = snapshot(&nodes, &[]);
    let field = |operator: &str, names: &[&str]| json!({"key": "metadata.name", "operator": operator, "values": names});
    let requires = |fields: Value, asks: Value| {
        let affinity = json!({"spec": {"affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}}}}});
        merged(pod("p", affinity), asks)
    };
    check(&cluster, &requires(json!([field("In", &["b"])]), json!({})), Ok(&["b"]));
    check(&cluster, &requires(json!([field("NotIn", &["b"])]), json!({})), Ok(&["a", "c"]));
    let text = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    check(&cluster, &requires(json!([field("In", &["b"])]), asks("5", "1")), Err(text));
    let text = "0/3 nodes are available: pod affinity terms conflict.";
    check(&cluster, &requires(json!([field("In", &["a"]), field("In", &["b"])]), json!({})), Err(text));
}

#[test]
fn host_ports_are_taken_once() {
    let port = |ip: &str, protocol: &str, port: i64| json!({"spec": {"containers": [{"name": "c", "ports": [{"hostPort": port, "hostIP": ip, "protocol": protocol}]}]}});
    let cluster = snapshot(&[node("a", json!({}))], &[placed("x", "a", port("10.0.0.1", "TCP", 80))]);
    let text = "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    check(&cluster, &pod("p", port("", "", 80)), Err(text));
    check(&cluster, &pod("p", port("10.0.0.1", "TCP", 80)), Err(text));
    check(&cluster, &pod("p", port("10.0.0.2", "TCP", 80)), Ok(&["a"]));
    check(&cluster, &pod("p", port("10.0.0.1", "UDP", 80)), Ok(&["a"]));
    check(&cluster, &pod("p", port("10.0.0.1", "TCP", 81)), Ok(&["a"]));
}

#[test]
fn resources_are_counted_by_node() {
    let nodes = [
        node("a", json!({"status": {"allocatable": {"example.com/gpu": "2"}}})),
        node("b", json!({"status": {"allocatable": {"pods": "1"}}})),
    ];
    let placed = [placed("x", "a", asks("3", "1Gi")), placed("y", "b", asks("1", "1Gi"))];
    let cluster = snapshot(&nodes, &placed);
    check(&cluster, &pod("p", asks("1", "1Gi")), Ok(&["a"]));
    check(&cluster, &pod("p", json!({})), Ok(&["a"]));
    let text = "0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods.";
    check(&cluster, &pod("p", asks("1001m", "7Gi")), Err(text));
    let text = "0/2 nodes are available: 1 Too many pods, 2 Insufficient cpu, 2 Insufficient memory.";
    check(&cluster, &pod("p", asks("3001m", "7.5Gi")), Err(text));
    let gpus = |number: &str| {
        pod("p", json!({"spec": {"containers": [{"resources": {"requests": {"example.com/gpu": number}}}]}}))
    };
    check(&cluster, &gpus("2"), Ok(&["a"]));
    let text = "0/2 nodes are available: 1 Too many pods, 2 Insufficient example.com/gpu.";
    check(&cluster, &gpus("3"), Err(text));
}

fn zones() -> [Value; 4] {
    [("a1", "a"), ("a2", "a"), ("b1", "b"), ("n", "")].map(|(name, zone)| match zone {
        "" => node(name, json!({})),
        zone => labelled(name, json!({"zone": zone})),
    })
}

fn spread(over: Value) -> Value {
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    merged(pod("p", app("web")), json!({"spec": {"topologySpreadConstraints": [merged(constraint, over)]}}))
}

#[test]
fn hard_spread_bounds_the_skew() {
    let cluster = snapshot(&zones(), &[placed("x", "a1", app("web")), placed("y", "a2", app("other"))]);
    check(&cluster, &spread(json!({})), Ok(&["b1"]));
    check(&cluster, &spread(json!({"maxSkew": 2})), Ok(&["a1", "a2", "b1"]));
    check(&cluster, &spread(json!({"minDomains": 3})), Ok(&["b1"]));
    let two = [placed("x", "a1", app("web")), placed("y", "b1", app("web"))];
    check(&snapshot(&zones(), &two), &spread(json!({})), Ok(&["a1", "a2", "b1"]));
    let text = "0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), \
                3 node(s) didn't match pod topology spread constraints.";
    check(&snapshot(&zones(), &two), &spread(json!({"minDomains": 3})), Err(text));
}

#[test]
fn pods_that_are_leaving_do_not_count_for_spread() {
    let leaving = merged(app("web"), json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
    let cluster = snapshot(&zones(), &[placed("x", "a1", leaving)]);
    check(&cluster, &spread(json!({})), Ok(&["a1", "a2", "b1"]));
}

#[test]
fn spread_counts_the_nodes_that_its_policies_include() {
    let mut nodes = zones().to_vec();
    nodes[2] = merged(nodes[2].clone(), json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    let cluster = snapshot(&nodes, &[placed("x", "a1", app("web"))]);
    let text = "0/4 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label), \
                1 node(s) had untolerated taint(s), 2 node(s) didn't match pod topology spread constraints.";
    check(&cluster, &spread(json!({})), Err(text));
    check(&cluster, &spread(json!({"nodeTaintsPolicy": "Honor"})), Ok(&["a1", "a2"]));
    let only_a = json!({"spec": {"nodeSelector": {"zone": "a"}}});
    let cluster = snapshot(&zones(), &[placed("x", "a1", app("web"))]);
    check(&cluster, &merged(spread(json!({})), only_a.clone()), Ok(&["a1", "a2"]));
    let ignoring = merged(spread(json!({"nodeAffinityPolicy": "Ignore"})), only_a);
    let text = "0/4 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, \
                2 node(s) didn't match pod topology spread constraints.";
    check(&cluster, &ignoring, Err(text));
}

#[test]
fn spread_looks_at_one_revision_if_asked_to() {
    let of = |revision: &str| json!({"metadata": {"labels": {"app": "web", "rev": revision}}});
    let cluster = snapshot(&zones(), &[placed("x", "a1", of("1"))]);
    let asks = |revision| merged(spread(json!({"matchLabelKeys": ["rev"]})), of(revision));
    check(&cluster, &asks("1"), Ok(&["b1"]));
    check(&cluster, &asks("2"), Ok(&["a1", "a2", "b1"]));
}

fn peers(field: &str, term: Value) -> Value {
    let base = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}});
    json!({"spec": {"affinity": {field: {"requiredDuringSchedulingIgnoredDuringExecution": [merged(base, term)]}}}})
}

#[test]
fn pod_affinity_stays_near() {
    let cluster = snapshot(&zones(), &[placed("x", "a1", app("db"))]);
    check(&cluster, &pod("p", peers("podAffinity", json!({}))), Ok(&["a1", "a2"]));
    let text = "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.";
    let empty = snapshot(&zones(), &[]);
    check(&empty, &pod("p", peers("podAffinity", json!({}))), Err(text));
    let first = merged(pod("p", peers("podAffinity", json!({}))), app("db"));
    check(&empty, &first, Ok(&["a1", "a2", "b1"]));
}

#[test]
fn pod_anti_affinity_works_both_ways() {
    let away = peers("podAntiAffinity", json!({}));
    let cluster = snapshot(&zones(), &[placed("x", "a1", app("db"))]);
    check(&cluster, &pod("p", away.clone()), Ok(&["b1", "n"]));
    let shy = snapshot(&zones(), &[placed("x", "a1", away.clone())]);
    check(&shy, &pod("p", app("db")), Ok(&["b1", "n"]));
    check(&shy, &pod("p", app("web")), Ok(&["a1", "a2", "b1", "n"]));
    let only_a = json!({"spec": {"nodeSelector": {"zone": "a"}}});
    let text = "0/4 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, \
                2 node(s) didn't match pod anti-affinity rules.";
    check(&cluster, &pod("p", merged(away, only_a.clone())), Err(text));
    let text = "0/4 nodes are available: 2 node(s) didn't match Pod's node affinity/selector, \
                2 node(s) didn't satisfy existing pods anti-affinity rules.";
    check(&shy, &pod("p", merged(app("db"), only_a)), Err(text));
}

#[test]
fn pod_terms_mean_their_own_namespace_unless_they_say_more() {
    let other = |name: &str| merged(app("db"), json!({"metadata": {"namespace": name}}));
    let mut cluster = snapshot(&zones(), &[placed("x", "a1", other("red"))]);
    cluster.apply(NodeChange::Namespace("red".into(), decode::labels(Some(&value(&json!({"team": "r"}))))));
    let all = &["a1", "a2", "b1", "n"];
    check(&cluster, &pod("p", peers("podAntiAffinity", json!({}))), Ok(all));
    check(&cluster, &pod("p", peers("podAntiAffinity", json!({"namespaces": ["red"]}))), Ok(&["b1", "n"]));
    check(&cluster, &pod("p", peers("podAntiAffinity", json!({"namespaceSelector": {}}))), Ok(&["b1", "n"]));
    let team = |name| json!({"namespaceSelector": {"matchLabels": {"team": name}}});
    check(&cluster, &pod("p", peers("podAntiAffinity", team("r"))), Ok(&["b1", "n"]));
    check(&cluster, &pod("p", peers("podAntiAffinity", team("s"))), Ok(all));
}

#[test]
fn room_is_kept_for_nominated_pods() {
    let mut cluster = snapshot(&[node("a", json!({}))], &[]);
    let waiting = read(&merged(pod("w", asks("3", "1Gi")), json!({"spec": {"priority": 5}})));
    cluster.nominate(&waiting, "a");
    let with_priority = |priority| merged(pod("p", asks("2", "1Gi")), json!({"spec": {"priority": priority}}));
    check(&cluster, &with_priority(5), Err("0/1 nodes are available: 1 Insufficient cpu."));
    check(&cluster, &with_priority(6), Ok(&["a"]));
    cluster.forget_nomination("w");
    check(&cluster, &with_priority(5), Ok(&["a"]));
}
