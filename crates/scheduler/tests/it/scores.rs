//! Scores by plugin, with their weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_apimachinery::selector::LabelSelector;
use corten_scheduler::{NodeChange, Plugin, Pod, Snapshot, decode, explain, schedule};
use serde_json::{Value, json};

use crate::cluster::{asks, merged, node, pod, read, snapshot, value};

fn of(snapshot: &Snapshot, pod: &Pod, plugin: Plugin) -> BTreeMap<String, Option<i64>> {
    let verdicts = explain(snapshot, pod).unwrap();
    let score = |scores: &[(Plugin, i64)]| scores.iter().find(|(known, _)| *known == plugin).map(|(_, score)| *score);
    verdicts.into_iter().map(|verdict| (verdict.node.to_string(), score(&verdict.outcome.unwrap()))).collect()
}

#[track_caller]
fn check(snapshot: &Snapshot, pod: &Value, plugin: Plugin, expected: &[(&str, Option<i64>)]) {
    let expected = expected.iter().map(|(node, score)| ((*node).to_owned(), *score)).collect();
    assert_eq!(of(snapshot, &read(pod), plugin), expected);
}

fn on(name: &str, node: &str, over: Value) -> Value {
    merged(pod(name, json!({"spec": {"nodeName": node}})), over)
}

fn app(name: &str) -> Value {
    json!({"metadata": {"labels": {"app": name}}})
}

#[test]
fn least_allocated_prefers_the_emptier_node() {
    let cluster = snapshot(&[node("a", json!({})), node("b", json!({}))], &[on("x", "a", asks("2", "2Gi"))]);
    // a: CPU (4 - 3) / 4, memory (8 - 4) / 8; b: (4 - 1) / 4, (8 - 2) / 8.
    check(&cluster, &pod("p", asks("1", "2Gi")), Plugin::NodeResourcesFit, &[("a", Some(37)), ("b", Some(75))]);
    assert_eq!(schedule(&cluster, &read(&pod("p", asks("1", "2Gi"))), 0).unwrap().node, "b");
}

#[test]
fn what_a_node_was_seen_to_use_counts_beyond_what_was_asked_for() {
    let mut cluster = snapshot(&[node("a", json!({})), node("b", json!({}))], &[on("x", "a", asks("2", "2Gi"))]);
    let small = pod("p", asks("1", "2Gi"));
    let plugin = Plugin::NodeResourcesFit;
    // a: less than was asked for changes nothing; b: CPU (4 - 4) / 4, memory (8 - 6) / 8.
    cluster.apply(NodeChange::Used("a".into(), (1000, 1 << 30)));
    cluster.apply(NodeChange::Used("b".into(), (3000, 4 << 30)));
    check(&cluster, &small, plugin, &[("a", Some(37)), ("b", Some(12))]);
    // Pods that come later count besides; those that are measured with it do not.
    cluster.assume(&read(&on("y", "b", asks("0", "1Gi"))), "b");
    check(&cluster, &small, plugin, &[("a", Some(37)), ("b", Some(6))]);
    cluster.apply(NodeChange::Used("b".into(), (3000, 4 << 30)));
    check(&cluster, &small, plugin, &[("a", Some(37)), ("b", Some(12))]);
    // It takes no room away, and is gone with its node.
    let whole = pod("q", asks("4", "7Gi"));
    assert_eq!(schedule(&cluster, &read(&whole), 0).unwrap().node, "b");
    cluster.apply(NodeChange::Removed("b".into()));
    cluster.apply(NodeChange::Used("b".into(), (3000, 4 << 30)));
    cluster.apply(NodeChange::Set(decode::node(&value(&node("b", json!({})))).unwrap()));
    check(&cluster, &small, plugin, &[("a", Some(37)), ("b", Some(68))]);
}

#[test]
fn balance_prefers_what_evens_out() {
    let cluster = snapshot(&[node("a", json!({})), node("b", json!({}))], &[on("x", "a", asks("2", "0"))]);
    // a goes from 50 % : 0 to 50 % : 50 %, b from nothing to 0 : 50 %.
    let plugin = Plugin::NodeResourcesBalancedAllocation;
    check(&cluster, &pod("p", asks("0", "4Gi")), plugin, &[("a", Some(87)), ("b", Some(62))]);
    check(&cluster, &pod("p", json!({})), plugin, &[("a", None), ("b", None)]);
}

#[test]
fn preferring_taints_and_terms_are_weighed() {
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "PreferNoSchedule"}]}});
    let nodes = [node("a", tainted), node("b", json!({"metadata": {"labels": {"disk": "ssd"}}})), node("c", json!({}))];
    let cluster = snapshot(&nodes, &[]);
    check(
        &cluster,
        &pod("p", json!({})),
        Plugin::TaintToleration,
        &[("a", Some(0)), ("b", Some(300)), ("c", Some(300))],
    );
    let term =
        |weight: i64, expression: Value| json!({"weight": weight, "preference": {"matchExpressions": [expression]}});
    let prefers = json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        term(10, json!({"key": "disk", "operator": "Exists"})),
        term(5, json!({"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["a"]})),
    ]}}}});
    let expected = [("a", Some(0)), ("b", Some(200)), ("c", Some(66))];
    check(&cluster, &pod("p", prefers), Plugin::NodeAffinity, &expected);
}

#[test]
fn images_count_by_size_and_spread() {
    let has = |bytes: i64| json!({"status": {"images": [{"names": ["r/i:latest"], "sizeBytes": bytes}]}});
    let cluster = snapshot(&[node("a", has(1_000 << 20)), node("b", has(200 << 20)), node("c", json!({}))], &[]);
    let wants = pod("p", json!({"spec": {"containers": [{"image": "r/i"}]}}));
    // Two of three nodes have it: 667 and 133 MiB of the range from 23 to 1000.
    check(&cluster, &wants, Plugin::ImageLocality, &[("a", Some(65)), ("b", Some(11)), ("c", Some(0))]);
    let other = pod("p", json!({"spec": {"containers": [{"image": "r/i:2"}]}}));
    check(&cluster, &other, Plugin::ImageLocality, &[("a", None), ("b", None), ("c", None)]);
}

#[test]
fn preferred_peers_pull_and_push() {
    let term = |key: &str| json!({"topologyKey": key, "labelSelector": {"matchLabels": {"app": "db"}}});
    let weighted = json!([{"weight": 50, "podAffinityTerm": term("kubernetes.io/hostname")}]);
    let prefers = |field: &str| json!({"spec": {"affinity": {field: {"preferredDuringSchedulingIgnoredDuringExecution": weighted}}}});
    let nodes = [node("a", json!({})), node("b", json!({}))];
    let plugin = Plugin::InterPodAffinity;
    let cluster = snapshot(&nodes, &[on("x", "a", app("db"))]);
    check(&cluster, &pod("p", prefers("podAffinity")), plugin, &[("a", Some(200)), ("b", Some(0))]);
    check(&cluster, &pod("p", prefers("podAntiAffinity")), plugin, &[("a", Some(0)), ("b", Some(200))]);
    let theirs = snapshot(&nodes, &[on("x", "a", prefers("podAntiAffinity"))]);
    check(&theirs, &pod("p", app("db")), plugin, &[("a", Some(0)), ("b", Some(200))]);
    check(&theirs, &pod("p", app("web")), plugin, &[("a", None), ("b", None)]);
}

#[test]
fn soft_spread_prefers_the_emptier_domain() {
    let zone = |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone}}}));
    let cluster = snapshot(&[zone("a", "1"), zone("b", "2")], &[on("x", "a", app("web")), on("y", "a", app("web"))]);
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    let soft = merged(pod("p", app("web")), json!({"spec": {"topologySpreadConstraints": [constraint]}}));
    check(&cluster, &soft, Plugin::PodTopologySpread, &[("a", Some(0)), ("b", Some(200))]);
}

#[test]
fn pods_of_one_owner_spread_by_default() {
    let cluster = snapshot(&[node("a", json!({})), node("b", json!({}))], &[on("x", "a", app("web"))]);
    let plain = read(&pod("p", app("web")));
    assert!(of(&cluster, &plain, Plugin::PodTopologySpread).values().all(Option::is_none));
    let selector = LabelSelector::parse("app=web").unwrap();
    let owned = Arc::new(Pod { siblings: Some(selector), ..(*plain).clone() });
    let scores = of(&cluster, &owned, Plugin::PodTopologySpread);
    assert!(scores["b"] > scores["a"], "{scores:?}");
}

#[test]
fn equals_are_told_apart_by_the_seed_alone() {
    let names: Vec<String> = (0..20).map(|number| format!("n{number}")).collect();
    let nodes: Vec<Value> = names.iter().map(|name| node(name, json!({}))).collect();
    let turned: Vec<Value> = nodes.iter().rev().cloned().collect();
    let pod = read(&pod("p", asks("1", "1Gi")));
    let choose = |nodes: &[Value], seed| schedule(&snapshot(nodes, &[]), &pod, seed).unwrap();
    let chosen: Vec<_> = (0..40).map(|seed| choose(&nodes, seed).node).collect();
    let again: Vec<_> = (0..40).map(|seed| choose(&turned, seed).node).collect();
    assert_eq!(chosen, again);
    let different: std::collections::BTreeSet<_> = chosen.iter().collect();
    assert!(different.len() > 10, "{different:?}");
}
