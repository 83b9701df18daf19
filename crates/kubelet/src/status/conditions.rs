//! The conditions of a pod that its node answers for.

use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Map, Value};

use super::has_sandbox;
use crate::observed::Observed;
use crate::pod::{Pod, Role};

/// Those of the node, in the order in which they are told.
const OWN: [&str; 5] = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];

/// Somebody ends the pod, which is not to blame; a node tells it where it does so itself.
const DISRUPTION: &str = "DisruptionTarget";

struct Condition {
    holds: bool,
    reason: &'static str,
    message: String,
}

impl Condition {
    const TRUE: Self = Self { holds: true, reason: "", message: String::new() };

    fn fails(reason: &'static str, message: String) -> Self {
        Self { holds: false, reason, message }
    }
}

/// Sets the node's conditions and leaves those of others.
pub(super) fn set(pod: Pod<'_>, seen: &Observed, status: &mut Map, now_ms: i64) {
    let all: Vec<Value> =
        ["initContainerStatuses", "containerStatuses"].iter().flat_map(|field| list(status, field)).collect();
    let phase = status.get("phase").and_then(Value::as_str).unwrap_or_default().to_owned();
    let ready = containers_ready(pod, &all, &phase);
    let old = list(status, "conditions");
    let mut conditions: Vec<Value> =
        old.iter().filter(|condition| !OWN.contains(&condition.str_at(&["type"]))).cloned().collect();
    let sandbox = Condition { holds: has_sandbox(seen), ..Condition::TRUE };
    let initialized = initialized(pod, seen, &all, &phase);
    let gates = if ready.holds { gates(pod, &conditions) } else { containers_ready(pod, &all, &phase) };
    let own = [sandbox, initialized, gates, ready, Condition::TRUE];
    for (kind, condition) in OWN.into_iter().zip(own) {
        let old = old.iter().find(|old| old.str_at(&["type"]) == kind);
        conditions.push(dated(kind, &condition, old, pod.meta().generation(), now_ms));
    }
    if let Some(why) = seen.ending.as_ref().and_then(|ending| ending.failed.as_ref()).filter(|why| why.disrupts) {
        let condition = Condition { holds: true, reason: "TerminationByKubelet", message: why.message.clone() };
        let known = |one: &&Value| one.str_at(&["type"]) == DISRUPTION;
        let told = dated(DISRUPTION, &condition, old.iter().find(known), pod.meta().generation(), now_ms);
        conditions.retain(|one| !known(&one));
        conditions.push(told);
    }
    status.insert("conditions", conditions);
}

fn list(status: &Map, field: &str) -> Vec<Value> {
    status.get(field).and_then(Value::as_array).unwrap_or_default().to_vec()
}

fn dated(kind: &str, condition: &Condition, old: Option<&Value>, generation: i64, now_ms: i64) -> Value {
    let state = if condition.holds { "True" } else { "False" };
    let since = old.filter(|old| old.str_at(&["status"]) == state).map(|old| old.str_at(&["lastTransitionTime"]));
    let since = match since {
        Some(since) if !since.is_empty() => since.into(),
        _ => Time::from_millis(now_ms).to_rfc3339(),
    };
    let mut dated = Map::new();
    dated.insert("type", kind);
    dated.insert("observedGeneration", generation);
    dated.insert("status", state);
    dated.insert("lastProbeTime", Value::Null);
    dated.insert("lastTransitionTime", since);
    for (field, text) in [("reason", condition.reason), ("message", condition.message.as_str())] {
        if !text.is_empty() {
            dated.insert(field, text);
        }
    }
    dated.into()
}

fn containers_ready(pod: Pod<'_>, statuses: &[Value], phase: &str) -> Condition {
    let counted = pod.init_containers().filter(|container| container.role == Role::Sidecar);
    let mut unknown = Vec::new();
    let mut unready = Vec::new();
    for container in counted.chain(pod.main_containers()) {
        match statuses.iter().find(|status| status.str_at(&["name"]) == container.name()) {
            None => unknown.push(container.name()),
            Some(status) if status.get("ready").and_then(Value::as_bool) != Some(true) => {
                unready.push(container.name())
            }
            Some(_) => {}
        }
    }
    match phase {
        "Succeeded" if unknown.is_empty() => return Condition::fails("PodCompleted", String::new()),
        "Failed" => return Condition::fails("PodFailed", String::new()),
        _ => {}
    }
    let message = listed(&[("unknown", &unknown), ("unready", &unready)]);
    if message.is_empty() { Condition::TRUE } else { Condition::fails("ContainersNotReady", message) }
}

/// `containers with unready status: [a b]`, and so on, joined.
fn listed(groups: &[(&str, &[&str])]) -> String {
    let filled = groups.iter().filter(|(_, names)| !names.is_empty());
    let texts: Vec<String> =
        filled.map(|(word, names)| format!("containers with {word} status: [{}]", names.join(" "))).collect();
    texts.join(", ")
}

fn gates(pod: Pod<'_>, conditions: &[Value]) -> Condition {
    let mut problems = Vec::new();
    for gate in pod.spec_list("readinessGates") {
        let kind = gate.str_at(&["conditionType"]);
        match conditions.iter().find(|condition| condition.str_at(&["type"]) == kind) {
            None => problems.push(format!("corresponding condition of pod readiness gate {kind:?} does not exist.")),
            Some(condition) => {
                let state = condition.str_at(&["status"]);
                if state != "True" {
                    problems.push(format!("the status of pod readiness gate {kind:?} is not \"True\", but {state}"));
                }
            }
        }
    }
    if problems.is_empty() { Condition::TRUE } else { Condition::fails("ReadinessGatesNotReady", problems.join(", ")) }
}

fn initialized(pod: Pod<'_>, seen: &Observed, statuses: &[Value], phase: &str) -> Condition {
    let mut unknown = Vec::new();
    let mut incomplete = Vec::new();
    for container in pod.init_containers() {
        let Some(status) = statuses.iter().find(|status| status.str_at(&["name"]) == container.name()) else {
            unknown.push(container.name());
            continue;
        };
        let field = if container.role == Role::Sidecar { "started" } else { "ready" };
        if status.get(field).and_then(Value::as_bool) != Some(true) {
            incomplete.push(container.name());
        }
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return Condition { reason: "PodCompleted", ..Condition::TRUE };
    }
    if seen.initialized {
        return Condition::TRUE;
    }
    let message = listed(&[("unknown", &unknown), ("incomplete", &incomplete)]);
    if message.is_empty() { Condition::TRUE } else { Condition::fails("ContainersNotInitialized", message) }
}
