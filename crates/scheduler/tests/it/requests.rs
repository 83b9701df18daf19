//! What a pod asks for in all.

use serde_json::{Value, json};

use crate::cluster::{merged, pod, read};

#[track_caller]
fn requests(spec: Value, status: Value, expected: &[(&str, i64)]) {
    let pod = read(&pod("p", json!({"spec": spec, "status": status})));
    let found: Vec<(&str, i64)> = pod.requests.iter().map(|(name, amount)| (name.as_str(), *amount)).collect();
    assert_eq!(found, expected);
}

fn container(name: &str, cpu: &str) -> Value {
    json!({"name": name, "resources": {"requests": {"cpu": cpu}}})
}

fn sidecar(name: &str, cpu: &str) -> Value {
    merged(container(name, cpu), json!({"restartPolicy": "Always"}))
}

#[test]
fn containers_add_up_and_init_containers_do_not() {
    let two = json!([container("a", "100m"), container("b", "0.2")]);
    requests(json!({"containers": two}), json!({}), &[("cpu", 300)]);
    let small = json!({"containers": two, "initContainers": [container("i", "250m")]});
    requests(small, json!({}), &[("cpu", 300)]);
    let large = json!({"containers": two, "initContainers": [container("i", "350m"), container("j", "50m")]});
    requests(large, json!({}), &[("cpu", 350)]);
}

#[test]
fn sidecars_run_beside_what_comes_after_them() {
    let spec = |init: Value| json!({"containers": [container("a", "100m")], "initContainers": init});
    requests(spec(json!([sidecar("s", "50m")])), json!({}), &[("cpu", 150)]);
    requests(spec(json!([sidecar("s", "50m"), container("i", "200m")])), json!({}), &[("cpu", 250)]);
    requests(spec(json!([container("i", "200m"), sidecar("s", "50m")])), json!({}), &[("cpu", 200)]);
}

#[test]
fn overhead_comes_on_top_of_pod_level_requests() {
    let spec = json!({
        "containers": [container("a", "100m")],
        "resources": {"requests": {"cpu": "500m", "example.com/gpu": "1"}},
        "overhead": {"cpu": "10m", "memory": "1Mi"},
    });
    requests(spec, json!({}), &[("cpu", 510), ("memory", 1 << 20)]);
}

#[test]
fn a_resize_counts_the_larger_side_until_it_is_done() {
    let spec = json!({"containers": [container("a", "100m")]});
    let held = |cpu: &str| {
        json!({"containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": cpu}},
        "allocatedResources": {"cpu": "50m"}}]})
    };
    requests(spec.clone(), held("300m"), &[("cpu", 300)]);
    requests(spec.clone(), held("70m"), &[("cpu", 100)]);
    let infeasible = json!({"conditions": [{"type": "PodResizePending", "reason": "Infeasible"}]});
    requests(spec, merged(held("70m"), infeasible), &[("cpu", 70)]);
}

#[test]
fn only_resources_that_nodes_have_are_kept() {
    let container = json!({"resources": {"requests":
        {"hugepages-2Mi": "4Mi", "example.com/gpu": "2", "ephemeral-storage": "1k", "storage": "9", "memory": "1.5"}}});
    let expected = [("ephemeral-storage", 1000), ("example.com/gpu", 2), ("hugepages-2Mi", 4 << 20), ("memory", 2)];
    requests(json!({"containers": [container]}), json!({}), &expected);
}

#[test]
fn scores_suppose_something_of_containers_that_ask_for_nothing() {
    let usual = |spec: Value| read(&pod("p", json!({"spec": spec}))).usual;
    assert_eq!(usual(json!({"containers": [{"name": "a"}, {"name": "b"}]})), (200, 400 << 20));
    assert_eq!(usual(json!({"containers": [container("a", "1"), {"name": "b"}]})), (1100, 400 << 20));
}
