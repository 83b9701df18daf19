//! Why what makes pods has not as many as it wants: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

use super::finding::{Finding, condition, event, held};

/// How many pods are wanted, and how many of them are there and well.
struct Count {
    wanted: i64,
    well: i64,
}

/// What blocks it by itself. `worst` is what blocks one of its pods, with that pod's name.
pub(crate) fn explain(object: &Value, kind: &str, worst: Option<(&str, &[Finding])>, events: &[Value]) -> Vec<Finding> {
    let (name, namespace) = (Meta::of(object).name(), Meta::of(object).namespace());
    let describe = format!("kubectl describe {kind} {name} -n {namespace}");
    if let Some(held) = held(object) {
        return vec![held.then(describe)];
    }
    let generation = Meta::of(object).generation();
    if object.i64_at(&["status", "observedGeneration"]).is_some_and(|seen| seen < generation) {
        return vec![Finding::new("the controllers have not seen its newest form").then("corten status")];
    }
    let mut findings = Vec::new();
    if let Some(failure) = condition(object, "ReplicaFailure").filter(|one| one.str_at(&["status"]) == "True") {
        let next = format!("kubectl get resourcequotas,limitranges -n {namespace}");
        findings.push(Finding::new(format!("no pod can be made: {}", failure.str_at(&["message"]))).then(next));
    }
    if let Some(failed) = condition(object, "Failed").filter(|one| one.str_at(&["status"]) == "True") {
        let fact = format!("it has failed ({}): {}", failed.str_at(&["reason"]), failed.str_at(&["message"]));
        findings.push(Finding::new(fact).then(format!("kubectl logs job/{name} -n {namespace}")));
    }
    let count = count(object, kind);
    if count.well >= count.wanted && findings.is_empty() {
        return findings;
    }
    if let Some((pod, blocked)) = worst {
        findings.extend(blocked.first().map(|first| {
            let fact = format!("{} of {} pods are well; {pod}: {}", count.well, count.wanted, first.fact);
            first.next.iter().fold(Finding::new(fact), |finding, next| finding.then(next.clone()))
        }));
    }
    if findings.is_empty() {
        findings.extend(
            event(events, &["FailedCreate"])
                .map(|message| Finding::new(format!("no pod can be made: {message}")).then(describe.clone())),
        );
    }
    if findings.is_empty() && flag(object, "paused") {
        let fact = "its rollout is paused";
        findings.push(Finding::new(fact).then(format!("kubectl rollout resume {kind} {name} -n {namespace}")));
    }
    if findings.is_empty() && flag(object, "suspend") {
        findings.push(Finding::new("it is suspended").then(describe.clone()));
    }
    let late =
        condition(object, "Progressing").is_some_and(|one| one.str_at(&["reason"]) == "ProgressDeadlineExceeded");
    if late {
        let next = format!("kubectl rollout undo {kind} {name} -n {namespace}");
        findings.push(Finding::new("its rollout has not come forward within its deadline").then(next));
    }
    if findings.is_empty() {
        let fact = format!("{} of {} pods are well; the others are on their way", count.well, count.wanted);
        findings.push(Finding::new(fact).then(format!("kubectl get pods -n {namespace}")));
    }
    findings
}

fn flag(object: &Value, field: &str) -> bool {
    object.at(&["spec", field]).and_then(Value::as_bool) == Some(true)
}

fn count(object: &Value, kind: &str) -> Count {
    let status = |field: &str| object.i64_at(&["status", field]).unwrap_or_default();
    match kind {
        "daemonset" => {
            let well = status("numberAvailable").min(status("updatedNumberScheduled"));
            Count { wanted: status("desiredNumberScheduled"), well }
        }
        "job" => {
            let wanted =
                object.i64_at(&["spec", "completions"]).or(object.i64_at(&["spec", "parallelism"])).unwrap_or(1);
            Count { wanted, well: status("succeeded") + status("ready") }
        }
        "replicaset" => Count { wanted: replicas(object), well: status("availableReplicas") },
        _ => Count { wanted: replicas(object), well: status("availableReplicas").min(status("updatedReplicas")) },
    }
}

fn replicas(object: &Value) -> i64 {
    object.i64_at(&["spec", "replicas"]).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[track_caller]
    fn check(status: Value, worst: Option<&str>, expect: &[&str]) {
        let object = value!({"metadata": {"name": "web", "namespace": "shop", "generation": 2},
            "spec": {"replicas": 2}, "status": status});
        let blocked = worst.map(|fact| vec![Finding::new(fact).then("look")]);
        let found = explain(&object, "deployment", blocked.as_deref().map(|found| ("web-1", found)), &[]);
        let facts: Vec<&str> = found.iter().map(|finding| finding.fact.as_str()).collect();
        assert_eq!(facts, expect);
    }

    #[test]
    fn what_blocks_a_workload_is_named() {
        let status =
            |available: i64| value!({"observedGeneration": 2, "availableReplicas": available, "updatedReplicas": 2});
        check(status(2), None, &[]);
        check(status(1), Some("it is ill"), &["1 of 2 pods are well; web-1: it is ill"]);
        check(status(1), None, &["1 of 2 pods are well; the others are on their way"]);
        check(value!({"observedGeneration": 1}), None, &["the controllers have not seen its newest form"]);
        let mut failing = status(0);
        failing.as_object_mut().expect("an object").insert(
            "conditions",
            value!([{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"},
                {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]),
        );
        check(
            failing,
            None,
            &["no pod can be made: exceeded quota", "its rollout has not come forward within its deadline"],
        );
    }

    #[test]
    fn each_kind_counts_in_its_own_way() {
        let of = |object: Value, kind: &str| {
            let count = count(&object, kind);
            (count.wanted, count.well)
        };
        let set = value!({"status": {"desiredNumberScheduled": 3, "numberAvailable": 3, "updatedNumberScheduled": 1}});
        assert_eq!(of(set, "daemonset"), (3, 1));
        let job = value!({"spec": {"completions": 4}, "status": {"succeeded": 1, "ready": 1}});
        assert_eq!(of(job, "job"), (4, 2));
        assert_eq!(of(value!({"status": {"availableReplicas": 1}}), "replicaset"), (1, 1));
    }
}
