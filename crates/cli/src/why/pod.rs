//! Why a pod does not run, or takes no requests.

use std::collections::BTreeMap;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

use super::finding::{Finding, condition, event, held, is_ready, list};

/// What is known of a pod.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Value,
    pub(crate) events: &'a [Value],
    /// The last line of the log of each container that keeps dying.
    pub(crate) last_lines: &'a BTreeMap<String, String>,
    /// Why each node refuses a pod that has none.
    pub(crate) refusals: &'a [(String, Vec<String>)],
    /// The node that it is bound to, if that is there.
    pub(crate) node: Option<&'a Value>,
}

/// Everything that blocks a pod; nothing where it is well.
pub(crate) fn explain(facts: &Facts<'_>) -> Vec<Finding> {
    let pod = facts.pod;
    if Meta::of(pod).deletion_timestamp().is_some() {
        return vec![leaving(facts)];
    }
    match pod.str_at(&["status", "phase"]) {
        "Succeeded" => return Vec::new(),
        "Failed" => return vec![failed(facts)],
        _ => {}
    }
    if pod.str_at(&["spec", "nodeName"]).is_empty() {
        return vec![unbound(facts)];
    }
    let mut findings: Vec<Finding> = lost(facts).into_iter().collect();
    for (field, specs) in [("initContainerStatuses", "initContainers"), ("containerStatuses", "containers")] {
        let statuses = list(pod, &["status", field]);
        findings.extend(statuses.iter().filter_map(|status| container(facts, status)));
        let unknown = list(pod, &["spec", specs]).len() > statuses.len() && statuses.is_empty();
        if unknown && field == "containerStatuses" && findings.is_empty() {
            findings.push(starting(facts));
        }
    }
    if findings.is_empty() && !is_ready(pod) {
        findings.push(not_ready(facts));
    }
    findings
}

/// Whether waiting alone does not help a pod any more.
pub(crate) fn is_stuck(pod: &Value) -> bool {
    const STUCK: [&str; 4] = ["CrashLoopBackOff", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"];
    let statuses = ["initContainerStatuses", "containerStatuses"];
    let mut all = statuses.iter().flat_map(|field| list(pod, &["status", field]));
    pod.str_at(&["status", "phase"]) == "Failed"
        || all.any(|status| STUCK.contains(&status.str_at(&["state", "waiting", "reason"])))
}

/// `-n shop web`, for kubectl.
fn place(pod: &Value) -> String {
    format!("-n {} {}", Meta::of(pod).namespace(), Meta::of(pod).name())
}

fn describe(pod: &Value) -> String {
    format!("kubectl describe pod {}", place(pod))
}

fn leaving(facts: &Facts<'_>) -> Finding {
    let pod = facts.pod;
    let (name, namespace) = (Meta::of(pod).name(), Meta::of(pod).namespace());
    if let Some(lost) = lost(facts) {
        let next = format!("kubectl delete pod {} --force --grace-period=0", place(pod));
        return Finding::new(format!("it is being deleted, and {}", lost.fact)).then(next);
    }
    held(pod).map(|held| held.then(format!("kubectl get pod {name} -n {namespace} -o yaml"))).unwrap_or_else(|| {
        let grace = Meta::of(pod).deletion_grace_period_seconds().unwrap_or_default();
        Finding::new(format!("it is being deleted, and its programs have {grace} s to end")).then(describe(pod))
    })
}

fn failed(facts: &Facts<'_>) -> Finding {
    let pod = facts.pod;
    let (reason, message) = (pod.str_at(&["status", "reason"]), pod.str_at(&["status", "message"]));
    if !reason.is_empty() {
        return Finding::new(format!("its server gave it up ({reason}): {message}")).then("corten status");
    }
    let statuses = list(pod, &["status", "containerStatuses"]).iter();
    let ended = statuses.filter_map(|status| Some((status.str_at(&["name"]), status.at(&["state", "terminated"])?)));
    let bad = ended.filter(|(_, ended)| ended.i64_at(&["exitCode"]) != Some(0)).map(|(name, ended)| exit(name, ended));
    let said: Vec<String> = bad.collect();
    Finding::new(format!("it has ended for good: {}", said.join("; "))).then(format!("kubectl logs {}", place(pod)))
}

fn unbound(facts: &Facts<'_>) -> Finding {
    let pod = facts.pod;
    let gates: Vec<&str> = list(pod, &["spec", "schedulingGates"]).iter().map(|gate| gate.str_at(&["name"])).collect();
    if !gates.is_empty() {
        return Finding::new(format!("no server is looked for while its gates are there: {}", gates.join(", ")))
            .then(describe(pod));
    }
    let Some(scheduled) = condition(pod, "PodScheduled").filter(|one| one.str_at(&["status"]) == "False") else {
        return Finding::new("no server has been looked for yet: the scheduler does not run, or is about to")
            .then("corten status");
    };
    let mut fact = format!("no server takes it: {}", scheduled.str_at(&["message"]));
    for (node, reasons) in facts.refusals {
        fact.push_str(&format!("\n{node}: {}", reasons.join(", ")));
    }
    let all = |text: &str| facts.refusals.iter().any(|(_, reasons)| reasons.iter().any(|one| one.contains(text)));
    let next = if all("Insufficient") || all("Too many pods") {
        "corten status"
    } else if all("taint") {
        "kubectl get nodes -o custom-columns=NAME:.metadata.name,TAINTS:.spec.taints"
    } else if all("unschedulable") {
        "kubectl uncordon NODE"
    } else if all("affinity") || all("label") {
        "kubectl get nodes --show-labels"
    } else {
        return Finding::new(fact).then(describe(pod));
    };
    Finding::new(fact).then(next)
}

/// The pod's server, where that is silent.
fn lost(facts: &Facts<'_>) -> Option<Finding> {
    let name = facts.pod.str_at(&["spec", "nodeName"]);
    let Some(node) = facts.node else {
        return Some(Finding::new(format!("its server {name} is not there any more")).then("kubectl get nodes"));
    };
    let ready = condition(node, "Ready").filter(|ready| ready.str_at(&["status"]) != "True")?;
    let fact = format!("its server {name} is not ready: {}", ready.str_at(&["message"]));
    Some(Finding::new(fact).then(format!("corten why node/{name}")))
}

fn starting(facts: &Facts<'_>) -> Finding {
    match event(facts.events, &["FailedMount", "FailedCreatePodSandBox", "NetworkNotReady"]) {
        Some(message) => Finding::new(format!("it cannot be made ready: {message}")).then(describe(facts.pod)),
        None => Finding::new("its server has not begun with it yet").then(describe(facts.pod)),
    }
}

/// What blocks one container.
fn container(facts: &Facts<'_>, status: &Value) -> Option<Finding> {
    let (pod, name) = (facts.pod, status.str_at(&["name"]));
    let (reason, message) =
        (status.str_at(&["state", "waiting", "reason"]), status.str_at(&["state", "waiting", "message"]));
    match reason {
        "" => None,
        "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" | "ImageInspectError" => {
            // While it waits to try again, the message says what failed behind what it does.
            let why = message.rsplit("ErrImagePull: ").next().unwrap_or_default();
            let image = image(pod, name);
            let finding = Finding::new(format!("the image {image} of container {name} cannot be had: {why}"));
            Some(if image.starts_with("localhost/") {
                finding.then("corten image ls").then("corten image import FILE")
            } else {
                finding.then(describe(pod))
            })
        }
        "CrashLoopBackOff" => Some(dies(facts, status)),
        "ContainerCreating" | "PodInitializing" => event(facts.events, &["FailedMount", "FailedCreatePodSandBox"])
            .map(|why| Finding::new(format!("container {name} waits: {why}")).then(describe(pod))),
        _ => {
            Some(Finding::new(format!("container {name} cannot be started ({reason}): {message}")).then(describe(pod)))
        }
    }
}

fn dies(facts: &Facts<'_>, status: &Value) -> Finding {
    let name = status.str_at(&["name"]);
    let restarts = status.i64_at(&["restartCount"]).unwrap_or_default();
    let last = status.at(&["lastState", "terminated"]);
    let how = last.map_or_else(|| format!("container {name} ends"), |last| exit(name, last));
    let mut fact = format!("{how}, after {restarts} restarts");
    if let Some(line) = facts.last_lines.get(name) {
        fact.push_str(&format!("\nits log ends with: {line}"));
    }
    let finding = Finding::new(fact).then(format!("kubectl logs {} -c {name} --previous", place(facts.pod)));
    match last.map(|last| last.str_at(&["reason"])) {
        Some("OOMKilled") => finding.then("corten status"),
        _ => finding,
    }
}

/// How a container ended.
fn exit(name: &str, ended: &Value) -> String {
    let code = ended.i64_at(&["exitCode"]).unwrap_or_default();
    match (ended.str_at(&["reason"]), code) {
        ("OOMKilled", _) => format!("container {name} was killed, having used more memory than its limit (OOMKilled)"),
        (_, 0) => format!("the program of container {name} comes to its end (exit code 0)"),
        (_, 128..) => format!("container {name} is ended by signal {} (exit code {code})", code - 128),
        _ => format!("container {name} ends with exit code {code}"),
    }
}

fn not_ready(facts: &Facts<'_>) -> Finding {
    let pod = facts.pod;
    let waiting: Vec<&str> = list(pod, &["status", "containerStatuses"])
        .iter()
        .filter(|status| status.at(&["ready"]).and_then(Value::as_bool) != Some(true))
        .map(|status| status.str_at(&["name"]))
        .collect();
    if let Some(message) = event(facts.events, &["Unhealthy"]).filter(|_| !waiting.is_empty()) {
        return Finding::new(format!("container {} runs and is not ready: {message}", waiting.join(", ")))
            .then(format!("kubectl logs {}", place(pod)));
    }
    let gates = list(pod, &["spec", "readinessGates"]).iter().map(|gate| gate.str_at(&["conditionType"]));
    let closed: Vec<&str> = gates
        .filter(|gate| condition(pod, gate).is_none_or(|condition| condition.str_at(&["status"]) != "True"))
        .collect();
    if !closed.is_empty() {
        return Finding::new(format!("it waits for its readiness gates: {}", closed.join(", "))).then(describe(pod));
    }
    let message = condition(pod, "Ready").map(|ready| ready.str_at(&["message"])).unwrap_or_default();
    let said =
        if message.is_empty() { "it is not ready yet".to_owned() } else { format!("it is not ready: {message}") };
    Finding::new(said).then(describe(pod))
}

fn image<'a>(pod: &'a Value, container: &str) -> &'a str {
    let specs = list(pod, &["spec", "initContainers"]).iter().chain(list(pod, &["spec", "containers"]));
    let mut own = specs.filter(|spec| spec.str_at(&["name"]) == container);
    own.next().map(|spec| spec.str_at(&["image"])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn pod(status: Value) -> Value {
        value!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"nodeName": "one", "containers": [{"name": "app", "image": "localhost/app:1"}]}, "status": status
        })
    }

    fn container(state: Value) -> Value {
        value!({"phase": "Pending", "containerStatuses": [
            {"name": "app", "ready": false, "restartCount": 4, "state": state,
                "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}]})
    }

    fn waiting(reason: &str) -> Value {
        container(value!({"waiting": {"reason": reason, "message": "said so"}}))
    }

    #[track_caller]
    fn check(pod: &Value, events: &[(&str, &str)], expect: &[(&str, &str)]) {
        let event = |(reason, message): &(&str, &str)| value!({"reason": (*reason), "message": (*message)});
        let events: Vec<Value> = events.iter().map(event).collect();
        let last_lines = BTreeMap::from([("app".to_owned(), "no database".to_owned())]);
        let refusals = [("one".to_owned(), vec!["Insufficient cpu".to_owned()])];
        let node = value!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let facts = Facts { pod, events: &events, last_lines: &last_lines, refusals: &refusals, node: Some(&node) };
        let found = explain(&facts);
        let found: Vec<(&str, &str)> =
            found.iter().map(|finding| (finding.fact.as_str(), finding.next[0].as_str())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_well_pod_has_nothing() {
        let ready = value!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "app", "ready": true, "state": {"running": {}}}]});
        check(&pod(ready), &[], &[]);
        check(&pod(value!({"phase": "Succeeded"})), &[], &[]);
    }

    #[test]
    fn what_blocks_a_container_is_named() {
        check(
            &pod(waiting("ImagePullBackOff")),
            &[],
            &[("the image localhost/app:1 of container app cannot be had: said so", "corten image ls")],
        );
        check(
            &pod(waiting("CrashLoopBackOff")),
            &[],
            &[(
                "container app ends with exit code 3, after 4 restarts\nits log ends with: no database",
                "kubectl logs -n shop web -c app --previous",
            )],
        );
        check(
            &pod(waiting("CreateContainerConfigError")),
            &[],
            &[(
                "container app cannot be started (CreateContainerConfigError): said so",
                "kubectl describe pod -n shop web",
            )],
        );
        check(
            &pod(waiting("ContainerCreating")),
            &[("FailedMount", "no secret")],
            &[("container app waits: no secret", "kubectl describe pod -n shop web")],
        );
        check(
            &pod(container(value!({"running": {}}))),
            &[("Unhealthy", "Readiness probe failed: 500")],
            &[("container app runs and is not ready: Readiness probe failed: 500", "kubectl logs -n shop web")],
        );
    }

    #[test]
    fn what_keeps_a_pod_from_a_server_is_named() {
        let mut unbound = pod(value!({"phase": "Pending", "conditions": [
            {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}]}));
        unbound.object_entry("spec").remove("nodeName");
        let fact = "no server takes it: 0/1 nodes are available: 1 Insufficient cpu.\none: Insufficient cpu";
        check(&unbound, &[], &[(fact, "corten status")]);
        unbound.object_entry("spec").insert("schedulingGates", value!([{"name": "wait"}]));
        let fact = "no server is looked for while its gates are there: wait";
        check(&unbound, &[], &[(fact, "kubectl describe pod -n shop web")]);
    }

    #[test]
    fn a_silent_server_is_named() {
        let pod = pod(waiting("ContainerCreating"));
        let node = value!({"status": {"conditions": [{"type": "Ready", "status": "Unknown", "message": "silent"}]}});
        let facts = Facts { pod: &pod, events: &[], last_lines: &BTreeMap::new(), refusals: &[], node: Some(&node) };
        assert_eq!(explain(&facts)[0].fact, "its server one is not ready: silent");
        assert_eq!(explain(&Facts { node: None, ..facts })[0].fact, "its server one is not there any more");
    }

    #[test]
    fn a_pod_that_leaves_says_what_holds_it() {
        let mut pod = pod(value!({"phase": "Running"}));
        pod.object_entry("metadata").insert("deletionTimestamp", "2026-01-01T00:00:00Z");
        pod.object_entry("metadata").insert("deletionGracePeriodSeconds", 30);
        check(
            &pod,
            &[],
            &[("it is being deleted, and its programs have 30 s to end", "kubectl describe pod -n shop web")],
        );
        pod.object_entry("metadata").insert("finalizers", value!(["example.com/keep"]));
        let fact = "its deletion was asked for at 2026-01-01T00:00:00Z, and finalizers hold it: example.com/keep";
        check(&pod, &[], &[(fact, "kubectl get pod web -n shop -o yaml")]);
    }
}
