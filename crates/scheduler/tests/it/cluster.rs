//! Clusters and pods in few words.

use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::value::Value;
use corten_scheduler::{NodeChange, Pod, Snapshot, decode, explain, schedule};
use serde_json::json;

/// JSON, where fields of `over` replace those of `base`, object by object.
pub(crate) fn merged(mut base: serde_json::Value, over: serde_json::Value) -> serde_json::Value {
    match (&mut base, over) {
        (serde_json::Value::Object(map), serde_json::Value::Object(over)) => {
            for (key, value) in over {
                let below = map.remove(&key).unwrap_or(serde_json::Value::Null);
                map.insert(key, merged(below, value));
            }
            base
        }
        (_, over) => over,
    }
}

/// A node with 4 CPUs, 8 GiB, room for 10 pods and its hostname as a label, changed by `over`.
pub(crate) fn node(name: &str, over: serde_json::Value) -> serde_json::Value {
    let base = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}},
    });
    merged(base, over)
}

/// A pod in namespace `default`, changed by `over`.
pub(crate) fn pod(name: &str, over: serde_json::Value) -> serde_json::Value {
    let base = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "spec": {}});
    merged(base, over)
}

/// A container that asks for CPU and memory.
pub(crate) fn asks(cpu: &str, memory: &str) -> serde_json::Value {
    json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]}})
}

pub(crate) fn value(json: &serde_json::Value) -> Value {
    json::parse(json.to_string().as_bytes()).unwrap().value
}

pub(crate) fn read(json: &serde_json::Value) -> Arc<Pod> {
    Arc::new(decode::pod(&value(json)).unwrap())
}

pub(crate) fn snapshot(nodes: &[serde_json::Value], pods: &[serde_json::Value]) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for node in nodes {
        snapshot.apply(NodeChange::Set(decode::node(&value(node)).unwrap()));
    }
    for pod in pods {
        let pod = read(pod);
        let node = pod.node_name.clone();
        snapshot.assume(&pod, &node);
    }
    snapshot
}

/// The nodes that can take the pod, or the text that says why there is none.
#[track_caller]
pub(crate) fn check(snapshot: &Snapshot, pod: &serde_json::Value, expected: Result<&[&str], &str>) {
    let pod = read(pod);
    match expected {
        Ok(nodes) => {
            let verdicts = explain(snapshot, &pod).unwrap();
            let feasible: Vec<&str> = verdicts
                .iter()
                .filter(|verdict| verdict.outcome.is_ok())
                .map(|verdict| verdict.node.as_str())
                .collect();
            assert_eq!(feasible, nodes, "{verdicts:?}");
            assert!(nodes.contains(&schedule(snapshot, &pod, 7).unwrap().node.as_str()));
        }
        Err(text) => assert_eq!(schedule(snapshot, &pod, 7).unwrap_err().text(), text),
    }
}
