//! What to tell of a pod: its `status` as a pure function of its object and of what is known of it. Fields, reasons and
//! texts are upstream's (`pkg/kubelet/kubelet_pods.go`, `pkg/kubelet/status/generate.go`).

mod conditions;
mod phase;

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use crate::backoff::go_duration;
use crate::observed::{self, Ended, Observed, Step};
use crate::plan::{Due, due};
use crate::pod::{Container, Pod, Role};
use crate::{container_id, qos};

/// The status of a pod at a moment. Conditions that are others' are as they were.
pub fn status(pod: Pod<'_>, seen: &Observed, host_addresses: &[String], now_ms: i64) -> Value {
    let mut status = pod.0.get("status").filter(|status| !status.is_null()).cloned().unwrap_or_else(Value::object);
    let Some(map) = status.as_object_mut() else { return Value::object() };
    let lists = [
        ("initContainerStatuses", pod.init_containers().collect::<Vec<_>>()),
        ("containerStatuses", pod.main_containers().collect()),
        ("ephemeralContainerStatuses", pod.ephemeral_containers().collect()),
    ];
    let refused = seen.ending.as_ref().is_some_and(|ending| ending.failed.is_some()) && seen.containers.is_empty();
    for (field, containers) in lists {
        if containers.is_empty() || refused {
            continue;
        }
        let all = containers.into_iter().map(|container| container_status(pod, container, seen, now_ms));
        map.insert(field, all.collect::<Vec<_>>());
    }
    phase::set(pod, seen, map);
    set_addresses(pod, seen, host_addresses, map);
    map.insert("qosClass", qos::class(pod).name());
    if seen.started_ms > 0 {
        map.insert_if_absent("startTime", || Time::from_millis(seen.started_ms).to_rfc3339().into());
    }
    map.insert("observedGeneration", pod.meta().generation());
    conditions::set(pod, seen, map, now_ms);
    status
}

fn set_addresses(pod: Pod<'_>, seen: &Observed, host_addresses: &[String], map: &mut Map) {
    let list =
        |addresses: &[String]| -> Vec<Value> { addresses.iter().map(|ip| value!({"ip": (ip.as_str())})).collect() };
    if let Some(first) = host_addresses.first() {
        map.insert("hostIP", first.as_str());
        map.insert("hostIPs", list(host_addresses));
    }
    let own: Vec<String> = seen.addresses.iter().map(ToString::to_string).collect();
    let addresses = if pod.is_host_network() { host_addresses } else { own.as_slice() };
    if let Some(first) = addresses.first() {
        map.insert("podIP", first.as_str());
        map.insert("podIPs", list(addresses));
    }
}

fn container_status(pod: Pod<'_>, container: Container<'_>, seen: &Observed, now_ms: i64) -> Value {
    let known = seen.container(container.name());
    let (state, last) = states(pod, container, seen, known, now_ms);
    let current = known.current.as_ref();
    let image = current.map(|current| current.image.as_str()).filter(|image| !image.is_empty());
    let mut status = Map::new();
    status.insert("name", container.name());
    status.insert("state", state);
    status.insert("lastState", last);
    status.insert("ready", is_ready(container, known));
    status.insert("restartCount", current.map_or(0, |current| i64::from(current.attempt)));
    status.insert("image", image.unwrap_or(container.image()));
    status.insert("imageID", current.map(|current| current.image_id.as_str()).unwrap_or_default());
    if let Some(current) = current {
        status.insert("containerID", container_id(pod.uid(), container.name(), current.attempt));
    }
    if container.role != Role::Ephemeral {
        status.insert("started", known.is_running() && known.started);
        if let Some(requests) = container.value.at(&["resources", "requests"]).filter(|requests| !requests.is_null()) {
            status.insert("allocatedResources", requests.clone());
        }
        let resources = container.value.get("resources").filter(|resources| !resources.is_null());
        status.insert("resources", resources.cloned().unwrap_or_else(Value::object));
    }
    let mounts: Vec<Value> = container.list("volumeMounts").iter().map(mount_status).collect();
    if !mounts.is_empty() {
        status.insert("volumeMounts", mounts);
    }
    status.into()
}

fn mount_status(mount: &Value) -> Value {
    let mut status = Map::new();
    for field in ["name", "mountPath", "readOnly"] {
        if let Some(value) = mount.get(field) {
            status.insert(field, value.clone());
        }
    }
    if mount.get("readOnly").and_then(Value::as_bool) == Some(true) {
        status.insert("recursiveReadOnly", "Disabled");
    }
    status.into()
}

/// Whether the container counts as ready: an init container when it has done its work.
fn is_ready(container: Container<'_>, known: &observed::Container) -> bool {
    match container.role {
        Role::Init => known.end().is_some_and(|end| end.code == 0),
        Role::Ephemeral => false,
        Role::Sidecar | Role::Main => known.is_running() && known.started && known.ready,
    }
}

/// `state` and `lastState`.
fn states(
    pod: Pod<'_>,
    container: Container<'_>,
    seen: &Observed,
    known: &observed::Container,
    now_ms: i64,
) -> (Value, Value) {
    let last = || known.previous.as_ref().map_or_else(Value::object, |end| terminated(pod, container, end));
    let ends = seen.ending.is_some();
    if let Some(current) = &known.current
        && current.end.is_none()
    {
        return (value!({"running": {"startedAt": (time(current.started_ns))}}), last());
    }
    let end = known.end().map(|end| terminated(pod, container, end));
    let waits = if ends { None } else { waiting(pod, container, known, now_ms) };
    match (waits, end) {
        (Some(waiting), Some(end)) => (waiting, end),
        (Some(waiting), None) => (waiting, last()),
        (None, Some(end)) => (end, last()),
        (None, None) => {
            let reason =
                if pod.spec_list("initContainers").is_empty() { "ContainerCreating" } else { "PodInitializing" };
            (value!({"waiting": {"reason": reason}}), last())
        }
    }
}

/// Why a container that does not run is not being started this moment.
fn waiting(pod: Pod<'_>, container: Container<'_>, known: &observed::Container, now_ms: i64) -> Option<Value> {
    if known.starting {
        return None;
    }
    if let Some(failure) = &known.failure {
        if failure.is_pull_pause(now_ms) {
            let message =
                format!("Back-off pulling image {:?}: {}: {}", container.image(), failure.reason, failure.message);
            return Some(value!({"waiting": {"reason": "ImagePullBackOff", "message": message}}));
        }
        return Some(value!({"waiting": {"reason": (failure.reason), "message": (failure.message.as_str())}}));
    }
    known.end()?;
    match due(pod, container, known, now_ms) {
        Due::At { .. } => {
            let pause = go_duration(known.crashes.pause_ms());
            let message =
                format!("back-off {pause} restarting failed container={} pod={}", container.name(), pod.long_name());
            Some(value!({"waiting": {"reason": "CrashLoopBackOff", "message": message}}))
        }
        Due::Now | Due::Never => None,
    }
}

fn terminated(pod: Pod<'_>, container: Container<'_>, end: &Ended) -> Value {
    let mut state = Map::new();
    state.insert("exitCode", i64::from(end.code));
    if end.signal != 0 {
        state.insert("signal", i64::from(end.signal));
    }
    if !end.reason.is_empty() {
        state.insert("reason", end.reason.clone());
    }
    if !end.message.is_empty() {
        state.insert("message", end.message.as_str());
    }
    state.insert("startedAt", time(end.started_ns));
    state.insert("finishedAt", time(end.finished_ns));
    state.insert("containerID", container_id(pod.uid(), container.name(), end.attempt));
    value!({"terminated": state})
}

/// Null where it is not known.
fn time(ns: i64) -> Value {
    if ns == 0 { Value::Null } else { Time::from_millis(ns / 1_000_000).to_rfc3339().into() }
}

/// The pod has a sandbox with its network.
pub(crate) fn has_sandbox(seen: &Observed) -> bool {
    seen.sandbox == Step::There && !seen.sandbox_lost
}

#[cfg(test)]
mod tests;
