//! What the node tells of its pods: the objects, what they use, and a few counts.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use corten_apimachinery::json;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_runtime::engine::Usage;
use corten_stats::{Claim, Room, Stats};

use super::answer::{Answer, json as as_json, text};
use super::logs::blocking;
use super::{Host, PodView, Server};
use crate::machine::{Disk, Machine};
use crate::paths::disk_volume;
use crate::pod::Pod;
use crate::volumes::claim_name;

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
        if let Some(usage) = server.usage(&pod, "").await {
            pods.push(pod_stats(server, &pod, usage, &now).await);
        }
    }
    let mut node = value!({"nodeName": (server.node.as_str())});
    if let (Some(machine), Some(map)) = (server.machine(), node.as_object_mut()) {
        whole(&machine, &now, map);
    }
    let pods = Value::Array(pods);
    as_json(json::to_vec(&value!({"node": node, "pods": pods})))
}

/// What the node itself uses.
fn whole(machine: &Machine, now: &str, node: &mut value::Map) {
    let Machine { cpu_ns, started_s, memory_total_bytes, working_set_bytes, disk } = *machine;
    let available = memory_total_bytes.saturating_sub(working_set_bytes);
    node.insert("startTime", Time::from_seconds(started_s).to_rfc3339());
    node.insert("cpu", value!({"time": now, "usageCoreNanoSeconds": (number(cpu_ns))}));
    node.insert(
        "memory",
        value!({"time": now, "availableBytes": (number(available)), "workingSetBytes": (number(working_set_bytes))}),
    );
    node.insert(
        "fs",
        value!({
            "time": now, "availableBytes": (number(disk.free_bytes)), "capacityBytes": (number(disk.total_bytes)),
            "usedBytes": (number(disk.used_bytes))
        }),
    );
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

async fn pod_stats(server: &Server, pod: &PodView, whole: Usage, now: &str) -> Value {
    let mut containers = Vec::new();
    for container in pod.containers.iter().filter(|container| container.running.is_some()) {
        if let Some(usage) = server.usage(pod, &container.name).await {
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

fn resources(usage: Usage, now: &str) -> value::Map {
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

/// `/metrics`: counts, and what the node has of everything.
pub(super) async fn metrics(server: &Server) -> Answer {
    let pods = server.host.pods();
    let (dir, objects) = (server.dir.clone(), server.host.objects());
    // A file system that hangs holds up who asks, and nobody else.
    let volumes = blocking(move || claimed(&dir, &objects)).await;
    let volumes = volumes.inspect_err(|error| tracing::warn!(%error, "how full volumes are is not known"));
    let running = |pod: &PodView| pod.containers.iter().filter(|container| container.running.is_some()).count();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let stats = Stats {
        running_pods: Some(count(pods.iter().filter(|pod| running(pod) > 0).count())),
        running_containers: Some(count(pods.iter().map(running).sum())),
        certificate_s: server.identity.borrow().ends_s().map(|ends_s| ends_s - server.clock.wall_s()),
        disk: server.machine().map(|machine| room(machine.disk)),
        volumes: volumes.unwrap_or_default(),
    };
    text(stats.to_text())
}

/// How full the claimed volumes of pods are, by their claims: those with a file system of their own, since the others are the
/// node's disk once more.
fn claimed(dir: &Path, pods: &[Value]) -> io::Result<BTreeMap<Claim, Room>> {
    let mut seen = BTreeMap::new();
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
    let own = device(dir)?;
    for pod in pods.iter().map(Pod) {
        for volume in pod.spec_list("volumes") {
            let Some(name) = claim_name(pod, volume) else { continue };
            let path = disk_volume(dir, pod.uid(), volume.str_at(&["name"]));
            // It is not there before the pod starts, and after it; and some file systems have no size.
            if device(&path).is_ok_and(|device| device != own)
                && let Ok(disk) = Disk::of(&path)
                && disk.total_bytes > 0
            {
                seen.insert(Claim { namespace: pod.namespace().to_owned(), name }, room(disk));
            }
        }
    }
    Ok(seen)
}

fn room(disk: Disk) -> Room {
    Room { used_bytes: number(disk.used_bytes), available_bytes: number(disk.free_bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_with_a_size_of_their_own_are_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let claim = |name: &str| value!({"name": name, "persistentVolumeClaim": {"claimName": (format!("of-{name}"))}});
        let volumes = value!([
            (claim("own")), (claim("same")), (claim("endless")), (claim("none")), {"name": "e", "emptyDir": {}}
        ]);
        let pod = value!({"metadata": {"name": "p", "namespace": "shop", "uid": "1"}, "spec": {"volumes": volumes}});
        for name in ["same", "e"] {
            std::fs::create_dir_all(disk_volume(dir.path(), "1", name)).expect("a folder");
        }
        // As if something were mounted there.
        for (name, shown) in [("own", "/dev"), ("endless", "/proc")] {
            std::os::unix::fs::symlink(shown, disk_volume(dir.path(), "1", name)).expect("a link");
        }
        let seen = claimed(dir.path(), &[pod]).unwrap();
        let names: Vec<_> = seen.keys().map(|claim| (claim.namespace.as_str(), claim.name.as_str())).collect();
        assert_eq!(names, [("shop", "of-own")]);
    }
}
