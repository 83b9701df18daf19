//! Which events bring a pod back into the queue.

use std::collections::BTreeSet;

use corten_scheduler::hints::{Event, may_help};
use corten_scheduler::{NodeView, Plugin, decode};
use serde_json::{Value, json};

use crate::cluster::{asks, merged, node, pod, read, value};

fn view(json: &Value) -> NodeView {
    decode::node(&value(json)).unwrap()
}

#[track_caller]
fn check(over: Value, plugin: Plugin, event: Event<'_>, expected: bool) {
    let pod = read(&pod("p", over));
    assert_eq!(may_help(&pod, &BTreeSet::from([plugin]), event), expected, "{plugin:?} {event:?}");
}

#[test]
fn nodes_help_if_they_turn_suitable() {
    let plain = view(&node("a", json!({})));
    let tainted = view(&node("a", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}})));
    let plugin = Plugin::TaintToleration;
    check(json!({}), plugin, Event::Node { old: None, new: &plain }, true);
    check(json!({}), plugin, Event::Node { old: None, new: &tainted }, false);
    check(json!({}), plugin, Event::Node { old: Some(&tainted), new: &plain }, true);
    check(json!({}), plugin, Event::Node { old: Some(&plain), new: &plain }, false);
    let ssd = view(&node("a", json!({"metadata": {"labels": {"disk": "ssd"}}})));
    let wants = json!({"spec": {"nodeSelector": {"disk": "ssd"}}});
    check(wants.clone(), Plugin::NodeAffinity, Event::Node { old: Some(&plain), new: &ssd }, true);
    check(wants, Plugin::NodeAffinity, Event::Node { old: None, new: &plain }, false);
    let cordoned = view(&node("a", json!({"spec": {"unschedulable": true}})));
    check(json!({}), Plugin::NodeUnschedulable, Event::Node { old: Some(&cordoned), new: &plain }, true);
}

#[test]
fn resources_help_if_they_grow() {
    let (small, large) =
        (view(&node("a", json!({}))), view(&node("a", json!({"status": {"allocatable": {"cpu": "8"}}}))));
    let plugin = Plugin::NodeResourcesFit;
    check(asks("5", "1Gi"), plugin, Event::Node { old: Some(&small), new: &large }, true);
    check(asks("9", "1Gi"), plugin, Event::Node { old: Some(&small), new: &large }, false);
    check(asks("5", "1Gi"), plugin, Event::Node { old: None, new: &small }, false);
    check(asks("3", "1Gi"), plugin, Event::Node { old: Some(&small), new: &small }, false);
    let (two, one) = (read(&pod("x", asks("2", "1Gi"))), read(&pod("x", asks("1", "1Gi"))));
    check(asks("1", "1Gi"), plugin, Event::PodGone(&two), true);
    check(asks("1", "1Gi"), plugin, Event::PodPlaced(&two), false);
    check(asks("1", "1Gi"), plugin, Event::PodChanged { old: &two, new: &one }, true);
    check(asks("1", "1Gi"), plugin, Event::PodChanged { old: &one, new: &two }, false);
}

#[test]
fn ports_help_if_they_were_in_the_way() {
    let port = |number: i64| json!({"spec": {"containers": [{"ports": [{"hostPort": number}]}]}});
    let gone = read(&pod("x", port(80)));
    check(port(80), Plugin::NodePorts, Event::PodGone(&gone), true);
    check(port(81), Plugin::NodePorts, Event::PodGone(&gone), false);
}

#[test]
fn peers_help_if_they_match() {
    let app = |name: &str| json!({"metadata": {"labels": {"app": name}}});
    let term = json!([{"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}]);
    let with =
        |field: &str| json!({"spec": {"affinity": {field: {"requiredDuringSchedulingIgnoredDuringExecution": term}}}});
    let (db, web) = (read(&pod("x", app("db"))), read(&pod("x", app("web"))));
    let plugin = Plugin::InterPodAffinity;
    check(with("podAffinity"), plugin, Event::PodPlaced(&db), true);
    check(with("podAffinity"), plugin, Event::PodPlaced(&web), false);
    check(with("podAffinity"), plugin, Event::PodChanged { old: &web, new: &db }, true);
    check(with("podAntiAffinity"), plugin, Event::PodGone(&db), true);
    check(with("podAntiAffinity"), plugin, Event::PodGone(&web), false);
    let shy = read(&pod("x", with("podAntiAffinity")));
    check(app("db"), plugin, Event::PodGone(&shy), true);
    check(app("web"), plugin, Event::PodGone(&shy), false);
    let zoned = view(&node("a", json!({"metadata": {"labels": {"zone": "1"}}})));
    let plain = view(&node("a", json!({})));
    check(with("podAffinity"), plugin, Event::Node { old: Some(&plain), new: &zoned }, true);
    check(with("podAntiAffinity"), plugin, Event::Node { old: Some(&plain), new: &zoned }, false);
    check(with("podAntiAffinity"), plugin, Event::Node { old: Some(&zoned), new: &plain }, true);
}

#[test]
fn spread_helps_if_the_count_changes() {
    let app = |name: &str| json!({"metadata": {"labels": {"app": name}}});
    let constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}}});
    let spread = merged(app("web"), json!({"spec": {"topologySpreadConstraints": [constraint]}}));
    let (web, db) = (read(&pod("x", app("web"))), read(&pod("x", app("db"))));
    let plugin = Plugin::PodTopologySpread;
    check(spread.clone(), plugin, Event::PodPlaced(&web), true);
    check(spread.clone(), plugin, Event::PodGone(&db), false);
    check(spread.clone(), plugin, Event::PodChanged { old: &db, new: &web }, true);
    let zoned = view(&node("a", json!({"metadata": {"labels": {"zone": "1"}}})));
    check(spread.clone(), plugin, Event::Node { old: None, new: &zoned }, true);
    check(spread, plugin, Event::Node { old: None, new: &view(&node("a", json!({}))) }, false);
}

#[test]
fn a_change_of_the_pod_itself_helps() {
    let (gated, free) = (json!({"spec": {"schedulingGates": [{"name": "g"}]}}), json!({}));
    let (old, new) = (read(&pod("p", gated.clone())), read(&pod("p", free)));
    check(gated.clone(), Plugin::SchedulingGates, Event::PodChanged { old: &old, new: &new }, true);
    check(gated.clone(), Plugin::SchedulingGates, Event::PodChanged { old: &old, new: &old }, false);
    check(gated, Plugin::SchedulingGates, Event::PodGone(&read(&pod("x", json!({})))), false);
}
