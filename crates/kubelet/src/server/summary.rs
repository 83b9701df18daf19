//! What the node tells of its pods: the objects, what they use, and a few counts.

use std::fmt::Write as _;

use corten_apimachinery::json;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_runtime::engine::Usage;

use super::answer::{Answer, json as as_json, text};
use super::{Host, PodView, Server};

/// `/pods`: a list as the API has it.
pub(super) fn pods(host: &dyn Host) -> Answer {
    let items = Value::Array(host.objects());
    let list = value!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    as_json(json::to_vec(&list))
}

/// `/stats/summary`: what control groups say at this moment. What has just ended is left out.
pub(super) async fn summary(server: &Server) -> Answer {
    let now = Time::from_seconds(server.clock.now_s()).to_rfc3339();
    let mut pods = Vec::new();
    for pod in server.host.pods() {
        if let Some(usage) = usage(server, &pod, "").await {
            pods.push(pod_stats(server, &pod, usage, &now).await);
        }
    }
    let node = value!({"nodeName": (server.node.as_str())});
    let pods = Value::Array(pods);
    as_json(json::to_vec(&value!({"node": node, "pods": pods})))
}

async fn pod_stats(server: &Server, pod: &PodView, whole: Usage, now: &str) -> Value {
    let mut containers = Vec::new();
    for container in pod.containers.iter().filter(|container| container.running.is_some()) {
        if let Some(usage) = usage(server, pod, &container.name).await {
            let mut stats = resources(usage, now);
            stats.insert("name", container.name.as_str());
            containers.push(Value::Object(stats));
        }
    }
    let mut stats = resources(whole, now);
    stats.insert(
        "podRef",
        value!({"name": (pod.name.as_str()), "namespace": (pod.namespace.as_str()), "uid": (pod.uid.as_str())}),
    );
    stats.insert("containers", Value::Array(containers));
    Value::Object(stats)
}

async fn usage(server: &Server, pod: &PodView, container: &str) -> Option<Usage> {
    match server.engine.usage(&pod.uid, container).await {
        Ok(usage) => Some(usage),
        Err(error) => {
            tracing::debug!(%error, pod = pod.name, container, "usage is not known");
            None
        }
    }
}

fn resources(usage: Usage, now: &str) -> value::Map {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut map = value::Map::default();
    map.insert("cpu", value!({"time": now, "usageCoreNanoSeconds": (number(usage.cpu_ns))}));
    map.insert(
        "memory",
        value!({
            "time": now,
            "usageBytes": (number(usage.memory_bytes)),
            "workingSetBytes": (number(usage.working_set_bytes))
        }),
    );
    map.insert("process_stats", value!({"process_count": (number(usage.pids))}));
    map
}

/// `/metrics`: counts in Prometheus' text format.
pub(super) fn metrics(host: &dyn Host) -> Answer {
    let pods = host.pods();
    let running = |pod: &PodView| pod.containers.iter().filter(|container| container.running.is_some()).count();
    let containers: usize = pods.iter().map(running).sum();
    let alive = pods.iter().filter(|pod| running(pod) > 0).count();
    let mut out = String::new();
    for (name, help, value) in [
        ("kubelet_running_pods", "Pods with a running container.", alive),
        ("kubelet_running_containers", "Containers that run.", containers),
    ] {
        writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}").expect("a string takes all");
    }
    text(out)
}
