//! What hollow nodes write: the size and shape of what kubelets write.

use serde_json::{Value, json};

use super::{PREFIX, Pod};
use crate::http::Request;

pub(super) const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// A moment in the past; what is renewed counts from there.
const DAY: &str = "2026-01-01T";

pub(super) fn post(path: &str, object: &Value) -> Request {
    Request::new("POST", path).body("application/json", object.to_string())
}

pub(super) fn node(number: usize) -> Value {
    let name = name(number);
    let zone = format!("zone-{}", number % 10);
    let held = json!({"cpu": "16", "memory": "64Gi", "ephemeral-storage": "200Gi", "pods": "110"});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64",
            "topology.kubernetes.io/zone": zone,
        }},
        "status": {
            "capacity": held, "allocatable": held,
            "conditions": conditions(0),
            "addresses": [
                {"type": "InternalIP", "address": address(number)}, {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "machineID": format!("{number:032x}"), "systemUUID": format!("{number:032x}"),
                "bootID": format!("{number:032x}"), "kernelVersion": "6.12.0", "osImage": "Debian GNU/Linux 13",
                "containerRuntimeVersion": "hollow://1", "kubeletVersion": "v1.36.3", "kubeProxyVersion": "",
                "operatingSystem": "linux", "architecture": "amd64",
            },
            "images": (0..10).map(|image| json!({
                "names": [format!("registry.example/app-{image}:1"), format!("registry.example/app-{image}@sha256:{image:064x}")],
                "sizeBytes": 300 << 20,
            })).collect::<Vec<Value>>(),
        },
    })
}

pub(super) fn lease(number: usize) -> Value {
    let name = name(number);
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": time(0)},
    })
}

pub(super) fn renewal(number: usize, round: usize) -> Request {
    let patch = json!({"spec": {"renewTime": time(round)}});
    Request::new("PATCH", format!("{LEASES}/{}", name(number))).body("application/merge-patch+json", patch.to_string())
}

pub(super) fn heartbeat(number: usize, round: usize) -> Request {
    let patch = json!({"status": {"conditions": conditions(round)}});
    let path = format!("/api/v1/nodes/{}/status", name(number));
    Request::new("PATCH", path).body("application/strategic-merge-patch+json", patch.to_string())
}

/// All its containers run.
pub(super) fn running(pod: &Pod, count: usize) -> Request {
    let at = format!("{DAY}00:00:00Z");
    let address = format!("10.{}.{}.{}", 128 + (count >> 16), (count >> 8) & 0xff, count & 0xff);
    let condition =
        |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": at});
    let status = json!({
        "phase": "Running", "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.1"}], "startTime": at,
        "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [
            condition("PodReadyToStartContainers"), condition("Initialized"), condition("Ready"),
            condition("ContainersReady"),
        ],
        "containerStatuses": [{
            "name": "app", "image": "registry.example/app-1:1", "imageID": format!("registry.example/app-1@sha256:{:064x}", 1),
            "containerID": format!("hollow://{count:064x}"), "ready": true, "started": true, "restartCount": 0,
            "state": {"running": {"startedAt": at}}, "lastState": {},
        }],
    });
    let patch = json!({"metadata": {"uid": pod.metadata.uid}, "status": status});
    let path = format!("{}/status", path(pod));
    Request::new("PATCH", path).body("application/strategic-merge-patch+json", patch.to_string())
}

/// Nothing of it runs any more.
pub(super) fn end(pod: &Pod) -> Request {
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod.metadata.uid}});
    Request::new("DELETE", path(pod)).body("application/json", options.to_string())
}

fn path(pod: &Pod) -> String {
    format!("/api/v1/namespaces/{}/pods/{}", pod.metadata.namespace, pod.metadata.name)
}

fn name(number: usize) -> String {
    format!("{PREFIX}{number:04}")
}

fn address(number: usize) -> String {
    format!("10.0.{}.{}", number >> 8, number & 0xff)
}

fn conditions(round: usize) -> Value {
    let heartbeat = time(round).replace(".000000", "");
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({"type": kind, "status": status, "reason": reason, "message": format!("kubelet says {reason}"),
            "lastHeartbeatTime": heartbeat, "lastTransitionTime": format!("{DAY}00:00:00Z")})
    };
    json!([
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
        condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        condition("Ready", "True", "KubeletReady"),
    ])
}

/// Another one for every round, as far as a day has seconds.
fn time(round: usize) -> String {
    format!("{DAY}{:02}:{:02}:{:02}.000000Z", round / 3600 % 24, round / 60 % 60, round % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_renews() {
        assert_eq!(time(3_661), "2026-01-01T01:01:01.000000Z");
        assert_ne!(renewal(1, 1).body, renewal(1, 2).body);
        assert_ne!(heartbeat(1, 1).body, heartbeat(1, 2).body);
    }
}
