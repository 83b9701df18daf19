//! What is told of pods in each state.

use super::*;
use crate::backoff::Backoff;
use crate::observed::{Ending, Failure, Instance, Verdict};

const NOW_MS: i64 = 1_000_000;

fn pod(policy: &str) -> Value {
    value!({
        "metadata": {"name": "a", "namespace": "shop", "uid": "1", "generation": 3},
        "spec": {"restartPolicy": policy, "initContainers": [{"name": "i", "image": "app"}],
            "containers": [{"name": "c", "image": "app"}]}
    })
}

fn ended(code: i32) -> Option<Ended> {
    let reason = if code == 0 { "Completed" } else { "Error" };
    Some(Ended { code, reason: reason.into(), finished_ns: NOW_MS * 1_000_000, ..Ended::default() })
}

/// `i` and `c` as: `-` not there, `run`, or an exit code.
fn seen(init: &str, main: &str) -> Observed {
    let mut seen = Observed { volumes: Step::There, sandbox: Step::There, started_ms: NOW_MS, ..Observed::default() };
    for (name, state) in [("i", init), ("c", main)] {
        let known = seen.container_mut(name);
        (known.started, known.ready) = (true, true);
        let end = state.parse().ok().and_then(ended);
        known.current = (state != "-").then(|| Instance { end, ..Instance::default() });
    }
    seen.initialized = main != "-";
    seen
}

#[track_caller]
fn check(policy: &str, seen: &Observed, expect: &str) {
    let pod = pod(policy);
    let status = status(Pod(&pod), seen, &["10.0.0.1".to_owned()], NOW_MS);
    let conditions = status.get("conditions").and_then(Value::as_array).expect("conditions");
    let brief: Vec<String> = conditions
        .iter()
        .filter(|condition| condition.str_at(&["status"]) == "False")
        .map(|condition| format!("!{}:{}", condition.str_at(&["type"]), condition.str_at(&["reason"])))
        .collect();
    let state = status.at(&["containerStatuses"]).and_then(Value::as_array).map(|all| {
        let state = all[0].get("state").and_then(Value::as_object).expect("a state");
        let (name, detail) = state.iter().next().expect("one");
        format!("{name} {}", detail.str_at(&["reason"]))
    });
    let state = state.unwrap_or_default();
    assert_eq!(format!("{} {} {}", status.str_at(&["phase"]), state.trim(), brief.join(" ")).trim(), expect);
}

#[test]
fn phases_follow_the_containers() {
    let unready = "!Ready:ContainersNotReady !ContainersReady:ContainersNotReady";
    let early = format!("Pending waiting PodInitializing !Initialized:ContainersNotInitialized {unready}");
    check("Always", &seen("-", "-"), &early);
    check("Always", &seen("run", "-"), &early);
    check("Always", &seen("0", "-"), &format!("Pending waiting PodInitializing {unready}"));
    check("Always", &seen("0", "run"), "Running running");
    check("Always", &seen("0", "1"), &format!("Running terminated Error {unready}"));
    let failed = "!Ready:PodFailed !ContainersReady:PodFailed";
    check("Never", &seen("0", "1"), &format!("Failed terminated Error {failed}"));
    check(
        "Never",
        &seen("2", "-"),
        &format!("Failed waiting PodInitializing !Initialized:ContainersNotInitialized {failed}"),
    );
    let done = "!Ready:PodCompleted !ContainersReady:PodCompleted";
    check("OnFailure", &seen("0", "0"), &format!("Succeeded terminated Completed {done}"));
}

#[test]
fn a_crash_loop_and_a_failed_pull_wait() {
    let unready = "!Ready:ContainersNotReady !ContainersReady:ContainersNotReady";
    let mut crashes = seen("0", "1");
    let mut pause = Backoff::default();
    pause.count(NOW_MS, NOW_MS);
    crashes.container_mut("c").crashes = pause;
    check("Always", &crashes, &format!("Running waiting CrashLoopBackOff {unready}"));
    let mut pull = seen("0", "-");
    let failure =
        Failure { reason: "ErrImagePull", message: "no".to_owned(), at_ms: NOW_MS, retry_ms: NOW_MS + 10_000 };
    pull.container_mut("c").failure = Some(failure.clone());
    check("Always", &pull, &format!("Pending waiting ErrImagePull {unready}"));
    pull.container_mut("c").failure = Some(Failure { at_ms: NOW_MS - 1000, ..failure });
    check("Always", &pull, &format!("Pending waiting ImagePullBackOff {unready}"));
}

#[test]
fn a_refused_pod_has_no_containers() {
    let failed = Some(Verdict { reason: "OutOfcpu".to_owned(), message: "no".to_owned(), ..Verdict::default() });
    let ending = Some(Ending { failed, ..Ending::default() });
    let refused = Observed { ending, started_ms: NOW_MS, ..Observed::default() };
    let pod = pod("Always");
    let status = status(Pod(&pod), &refused, &[], NOW_MS);
    assert_eq!((status.str_at(&["phase"]), status.str_at(&["reason"])), ("Failed", "OutOfcpu"));
    assert_eq!(status.get("containerStatuses"), None);
}

#[test]
fn a_pod_that_its_node_cannot_bear_is_a_target_of_disruption() {
    let mut seen = seen("0", "run");
    let failed = Some(Verdict { reason: "Evicted".to_owned(), message: "low".to_owned(), disrupts: true });
    seen.ending = Some(Ending { failed, ..Ending::default() });
    let mut pod = pod("Always");
    let told = |pod: &Value, now_ms| {
        let status = status(Pod(pod), &seen, &[], now_ms);
        let conditions = status.get("conditions").and_then(Value::as_array).expect("conditions").to_vec();
        let mut own = conditions.iter().filter(|one| one.str_at(&["type"]) == "DisruptionTarget");
        let condition = own.next().expect("it is told").clone();
        assert!(own.next().is_none(), "once");
        (status, condition)
    };
    let (first, condition) = told(&pod, NOW_MS);
    let said = ["status", "reason", "message"].map(|field| condition.str_at(&[field]).to_owned());
    assert_eq!(said, ["True", "TerminationByKubelet", "low"]);
    pod.as_object_mut().expect("a pod").insert("status", first);
    assert_eq!(told(&pod, NOW_MS + 5_000).1, condition, "it is told as it was");
}

#[test]
fn conditions_of_others_stay_and_gates_count() {
    let mut pod = pod("Always");
    pod.object_entry("spec").insert("readinessGates", vec![value!({"conditionType": "shop/gate"})]);
    let ready = |pod: &Value| {
        let status = status(Pod(pod), &seen("0", "run"), &[], NOW_MS);
        let conditions = status.get("conditions").and_then(Value::as_array).expect("conditions").to_vec();
        let ready = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Ready").expect("it is there");
        (conditions.len(), ready.str_at(&["message"]).to_owned())
    };
    assert_eq!(ready(&pod), (5, "corresponding condition of pod readiness gate \"shop/gate\" does not exist.".into()));
    let gate = value!({"type": "shop/gate", "status": "False"});
    pod.object_entry("status").insert("conditions", vec![gate]);
    assert_eq!(ready(&pod), (6, "the status of pod readiness gate \"shop/gate\" is not \"True\", but False".into()));
    let gate = value!({"type": "shop/gate", "status": "True"});
    pod.object_entry("status").insert("conditions", vec![gate]);
    assert_eq!(ready(&pod), (6, String::new()));
}

#[test]
fn addresses_and_ids_are_told() {
    let pod = pod("Always");
    let mut seen = seen("0", "run");
    seen.addresses = vec!["10.244.0.7".parse().expect("an address")];
    let status = status(Pod(&pod), &seen, &["192.0.2.1".to_owned()], NOW_MS);
    assert_eq!((status.str_at(&["podIP"]), status.str_at(&["hostIP"])), ("10.244.0.7", "192.0.2.1"));
    let statuses = status.get("containerStatuses").and_then(Value::as_array).expect("statuses");
    assert!(statuses[0].str_at(&["containerID"]).starts_with("corten://"));
}
