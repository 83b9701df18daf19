//! Tables of plans: a pod in a few words, what is known of it in a few more, and the actions that follow.

use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use super::*;
use crate::observed::{Ended, Instance};

const NOW_MS: i64 = 1_000_000;

/// `name` is a main container, `init:name`, `sidecar:name` and `debug:name` are others; `+hook` adds a preStop hook.
fn pod(containers: &str, spec: Value) -> Value {
    let (mut inits, mut mains, mut debugs) = (Vec::new(), Vec::new(), Vec::new());
    for word in containers.split_whitespace() {
        let (word, hook) = word.split_once('+').map_or((word, false), |(word, _)| (word, true));
        let (role, name) = word.split_once(':').unwrap_or(("main", word));
        let mut container = value!({"name": name, "image": "app"});
        let map = container.as_object_mut().expect("an object");
        if hook {
            map.insert("lifecycle", value!({"preStop": {"sleep": {"seconds": 1}}}));
        }
        match role {
            "init" => inits.push(container),
            "sidecar" => {
                map.insert("restartPolicy", "Always");
                inits.push(container);
            }
            "debug" => debugs.push(container),
            _ => mains.push(container),
        }
    }
    let mut pod = value!({"metadata": {"name": "a", "namespace": "shop", "uid": "1"}, "spec": spec});
    let map = pod.object_entry("spec");
    map.insert("initContainers", inits);
    map.insert("containers", mains);
    map.insert("ephemeralContainers", debugs);
    pod
}

/// Everything stands; containers are `name=run`, `name=starting`, `name=exit:CODE`, `name=hooked` and so on.
fn seen(containers: &str) -> Observed {
    let mut seen = Observed { volumes: Step::There, sandbox: Step::There, ..Observed::default() };
    for word in containers.split_whitespace() {
        let (name, state) = word.split_once('=').expect("name=state");
        let known = seen.container_mut(name);
        known.started = true;
        let instance = Instance { wanted_image: "app".into(), ..Instance::default() };
        let (state, code) = state.split_once(':').unwrap_or((state, "0"));
        match state {
            "starting" => known.starting = true,
            "exit" => {
                let finished_ns = NOW_MS * 1_000_000;
                let end = Ended { code: code.parse().expect("a code"), finished_ns, ..Ended::default() };
                known.current = Some(Instance { end: Some(end), ..instance });
            }
            other => {
                known.current = Some(instance);
                known.stop = match other {
                    "hook" => Stop::Hook { deadline_ms: NOW_MS + 30_000 },
                    "hooked" => Stop::Hooked { deadline_ms: NOW_MS + 30_000 },
                    "signalled" => Stop::Signalled { deadline_ms: NOW_MS + 30_000 },
                    _ => Stop::No,
                };
                known.started = other != "early";
                if other == "kill" {
                    known.kill = Some(Kill { message: "Container a failed liveness probe".to_owned(), grace_s: 5 });
                }
            }
        }
    }
    seen
}

fn brief(plan: &Plan) -> String {
    let after = |at_ms: &i64| format!("{}s", (at_ms - NOW_MS) / 1000);
    let words: Vec<String> = plan
        .actions
        .iter()
        .map(|action| match action {
            Action::Start(name) => format!("start {name}"),
            Action::Cancel(name) => format!("cancel {name}"),
            Action::Drain { deadline_ms } => format!("drain {}ms", deadline_ms - NOW_MS),
            Action::PreStop { name, deadline_ms } => format!("hook {name} {}", after(deadline_ms)),
            Action::Signal { name, deadline_ms } => format!("signal {name} {}", after(deadline_ms)),
            Action::TellPause { name, .. } => format!("pause {name}"),
            other => format!("{other:?}"),
        })
        .chain(plan.wake_ms.map(|at_ms| format!("wake {}", after(&at_ms))))
        .collect();
    words.join(", ")
}

#[track_caller]
fn check(containers: &str, policy: &str, known: &str, expect: &str) {
    let pod = pod(containers, value!({"restartPolicy": policy}));
    assert_eq!(brief(&plan(Pod(&pod), &seen(known), NOW_MS)), expect);
}

#[track_caller]
fn check_deleted(containers: &str, known: &str, expect: &str) {
    let mut pod = pod(containers, Value::object());
    let metadata = pod.object_entry("metadata");
    metadata.insert("deletionTimestamp", "2026-01-01T00:00:00Z");
    metadata.insert("deletionGracePeriodSeconds", 30);
    assert_eq!(brief(&plan(Pod(&pod), &seen(known), NOW_MS)), expect);
}

#[test]
fn what_stands_comes_in_order() {
    let pod = pod("a", Value::object());
    let mut seen = Observed::default();
    let step = |seen: &mut Observed, expect: &str| {
        assert_eq!(brief(&plan(Pod(&pod), seen, NOW_MS)), expect);
    };
    step(&mut seen, "PrepareVolumes");
    seen.volumes = Step::UnderWay;
    step(&mut seen, "");
    seen.volumes = Step::Absent { not_before_ms: NOW_MS + 2000 };
    step(&mut seen, "wake 2s");
    (seen.volumes, seen.volumes_refreshing) = (Step::default(), true);
    step(&mut seen, "");
    (seen.volumes, seen.volumes_refreshing) = (Step::There, false);
    step(&mut seen, "CreateSandbox");
    seen.sandbox = Step::There;
    step(&mut seen, "start a");
    seen.sandbox_lost = true;
    step(&mut seen, "RemoveSandbox");
}

#[test]
fn containers_start_one_after_the_other() {
    check("a b", "Always", "", "start a");
    check("a b", "Always", "a=starting", "");
    check("a b", "Always", "a=run", "start b");
    check("a b", "Always", "a=run b=run", "");
    check("a debug:d", "Always", "a=run", "start d");
    check("a debug:d", "Always", "a=run d=exit:1", "");
}

#[test]
fn init_containers_come_first() {
    check("init:i init:j a", "Always", "", "start i");
    check("init:i init:j a", "Always", "i=run", "");
    check("init:i init:j a", "Always", "i=exit:0", "start j");
    check("init:i init:j a", "Always", "i=exit:0 j=exit:0", "start a");
    check("init:i init:j a", "Always", "i=exit:3", "start i");
    check("init:i a", "Never", "i=exit:3", "");
    check("sidecar:s a", "Always", "", "start s");
    check("sidecar:s a", "Always", "s=early", "");
    check("sidecar:s a", "Always", "s=run", "start a");
    check("sidecar:s init:i a", "Always", "s=run", "start i");
    check("sidecar:s init:i a", "Always", "s=exit:0 i=run", "start s");
}

#[test]
fn sidecars_are_kept_when_the_pod_is_initialized() {
    let pod = pod("init:i sidecar:s a", Value::object());
    let mut seen = seen("i=exit:0 s=exit:1 a=run");
    seen.initialized = true;
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS)), "start s");
    seen.containers.remove("i");
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS)), "start s");
}

#[test]
fn policies_decide_who_starts_again() {
    check("a", "Always", "a=exit:0", "start a");
    check("a b", "OnFailure", "a=exit:0 b=run", "");
    check("a b", "OnFailure", "a=exit:1 b=run", "start a");
    check("a b", "Never", "a=exit:1 b=run", "");
    let mut by_rule = pod("a b", value!({"restartPolicy": "Never"}));
    let rule = value!({"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}});
    let containers = by_rule.at_mut(&["spec", "containers"]).and_then(Value::as_array_mut).expect("containers");
    containers[0].as_object_mut().expect("an object").insert("restartPolicyRules", vec![rule]);
    assert_eq!(brief(&plan(Pod(&by_rule), &seen("a=exit:42 b=run"), NOW_MS)), "start a");
    assert_eq!(brief(&plan(Pod(&by_rule), &seen("a=exit:1 b=run"), NOW_MS)), "");
}

#[test]
fn a_crash_loop_pauses_and_is_told_once() {
    let pod = pod("a", Value::object());
    let mut seen = seen("a=exit:1");
    seen.container_mut("a").crashes.count(NOW_MS, NOW_MS);
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS)), "pause a, wake 10s");
    seen.container_mut("a").told_ms = NOW_MS;
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS)), "wake 10s");
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS + 10_000)), "start a");
}

#[test]
fn a_failed_pull_is_shown_then_paused() {
    let pod = pod("a b", Value::object());
    let mut seen = seen("");
    let failure =
        Failure { reason: "ErrImagePull", message: "no".to_owned(), at_ms: NOW_MS, retry_ms: NOW_MS + 10_000 };
    seen.container_mut("a").failure = Some(failure);
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS)), "start b, wake 1s");
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS + 1000)), "pause a, start b, wake 10s");
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS + 10_000)), "start a");
}

#[test]
fn a_probe_stops_a_container() {
    check("a", "Always", "a=kill", "signal a 5s");
    check("a+hook", "Always", "a=kill", "hook a 5s");
    let mut changed = pod("a", Value::object());
    let containers = changed.at_mut(&["spec", "containers"]).and_then(Value::as_array_mut).expect("containers");
    containers[0].as_object_mut().expect("an object").insert("image", "app:2");
    assert_eq!(brief(&plan(Pod(&changed), &seen("a=run"), NOW_MS)), "signal a 30s");
}

#[test]
fn a_deleted_pod_stops_in_order() {
    check_deleted("a b", "a=run b=run", "signal a 30s, signal b 30s");
    check_deleted("a+hook b", "a=run b=run", "hook a 30s, signal b 30s");
    check_deleted("a+hook", "a=hook", "wake 30s");
    check_deleted("a+hook", "a=hooked", "signal a 30s");
    check_deleted("a", "a=signalled", "");
    check_deleted("a", "a=starting", "cancel a");
    check_deleted("sidecar:s sidecar:t a", "s=run t=run a=signalled", "wake 30s");
    check_deleted("sidecar:s sidecar:t a", "s=run t=run a=exit:0", "signal t 30s, wake 30s");
    check_deleted("sidecar:s sidecar:t a", "s=run t=exit:0 a=exit:0", "signal s 30s");
    check_deleted("a", "a=exit:0", "");
}

/// A ready pod with an address is deleted.
#[track_caller]
fn check_drained(spec: Value, grace_s: i64, drain: Drain, known: &str, expect: &str) {
    let mut pod = pod("a sidecar:s b+hook", spec);
    let metadata = pod.object_entry("metadata");
    metadata.insert("deletionTimestamp", "2026-01-01T00:00:00Z");
    metadata.insert("deletionGracePeriodSeconds", grace_s);
    pod.object_entry("status").insert("conditions", value!([{"type": "Ready", "status": "True"}]));
    let addresses = vec![[10, 244, 0, 3].into()];
    let seen = Observed { drain, addresses, ..seen(known) };
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS)), expect);
}

#[test]
fn a_pod_that_serves_drains_before_it_is_signalled() {
    let none = Value::object;
    check_drained(none(), 30, Drain::No, "a=run b=run", "drain 2000ms, hook b 30s, wake 30s");
    check_drained(none(), 30, Drain::UnderWay, "a=run b=hooked", "wake 30s");
    check_drained(none(), 30, Drain::Done, "a=run b=hooked", "signal a 30s, signal b 30s");
    check_drained(none(), 30, Drain::Done, "s=run a=exit:0 b=exit:0", "signal s 30s");
    check_drained(none(), 3, Drain::No, "a=run", "drain 1500ms, wake 3s");
    check_drained(none(), 0, Drain::No, "a=run b=run", "signal a 2s, signal b 2s");
    check_drained(none(), 0, Drain::UnderWay, "a=run", "signal a 2s");
    check_drained(none(), 30, Drain::No, "a=exit:0 b=exit:0", "");
    check_drained(value!({"hostNetwork": true}), 30, Drain::No, "a=run", "signal a 30s");
}

#[test]
fn who_does_not_serve_does_not_drain() {
    let mut pod = pod("a", value!({"activeDeadlineSeconds": 1}));
    let addresses: Vec<std::net::IpAddr> = vec![[10, 244, 0, 3].into()];
    let ready = |status: &str| value!([{"type": "Ready", "status": (status)}]);
    pod.object_entry("status").insert("conditions", ready("True"));
    let of = |known: &str| Observed { addresses: addresses.clone(), ..seen(known) };
    assert_eq!(brief(&plan(Pod(&pod), &of("a=run"), NOW_MS)), "signal a 30s", "its own deadline has passed");
    pod.object_entry("spec").insert("activeDeadlineSeconds", NOW_MS);
    assert_eq!(brief(&plan(Pod(&pod), &of("a=kill"), NOW_MS)), "signal a 5s, wake 999000s", "a probe has failed");
    let metadata = pod.object_entry("metadata");
    metadata.insert("deletionTimestamp", "2026-01-01T00:00:00Z");
    metadata.insert("deletionGracePeriodSeconds", 30);
    pod.object_entry("status").insert("conditions", ready("False"));
    assert_eq!(brief(&plan(Pod(&pod), &of("a=run"), NOW_MS)), "signal a 30s", "it is not ready");
}

#[test]
fn a_shorter_grace_counts() {
    let mut pod = pod("a", Value::object());
    let metadata = pod.object_entry("metadata");
    metadata.insert("deletionTimestamp", "2026-01-01T00:00:00Z");
    metadata.insert("deletionGracePeriodSeconds", 1);
    let mut seen = seen("a=signalled");
    let deadline_ms = NOW_MS + 30_000;
    seen.ending = Some(Ending { deadline_ms, deleted_grace_s: Some(30), ..Ending::default() });
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS)), "signal a 2s");
}

#[test]
fn an_ended_pod_is_taken_away_after_it_was_told() {
    let pod = pod("a", value!({"restartPolicy": "Never"}));
    let mut seen = seen("a=exit:0");
    let step = |seen: &mut Observed, expect: &str| {
        let plan = plan(Pod(&pod), seen, NOW_MS);
        seen.ending = plan.ending.clone();
        assert_eq!(brief(&plan), expect);
    };
    step(&mut seen, "");
    (seen.end_told, seen.volumes_refreshing) = (true, true);
    step(&mut seen, "");
    seen.volumes_refreshing = false;
    step(&mut seen, "RemoveSandbox");
    seen.sandbox = Step::default();
    step(&mut seen, "RemoveVolumes");
    seen.volumes = Step::default();
    step(&mut seen, "");
    seen.ending.as_mut().expect("it ends").deleted_grace_s = Some(0);
    step(&mut seen, "DeleteObject");
}

#[test]
fn sidecars_of_a_completed_pod_stop() {
    check("sidecar:s a", "Never", "s=run a=exit:0", "signal s 30s");
    check("sidecar:s a", "OnFailure", "s=run a=exit:0", "signal s 30s");
}

#[test]
fn a_deadline_ends_the_pod() {
    let pod = pod("a", value!({"activeDeadlineSeconds": 20}));
    let mut seen = seen("a=run");
    seen.started_ms = NOW_MS - 15_000;
    assert_eq!(brief(&plan(Pod(&pod), &seen, NOW_MS)), "wake 5s");
    seen.started_ms = NOW_MS - 20_000;
    let plan = plan(Pod(&pod), &seen, NOW_MS);
    assert_eq!(brief(&plan), "signal a 30s");
    assert_eq!(
        plan.ending.and_then(|ending| ending.failed).map(|failed| failed.reason),
        Some("DeadlineExceeded".into())
    );
}

/// The API server may be on the disk that is full, and takes no news until there is room.
#[test]
fn who_goes_to_make_room_leaves_before_that_is_told() {
    let step = |known: &str, reason: &str| {
        let failed = Some(Verdict { reason: reason.to_owned(), ..Verdict::default() });
        let ending = Some(Ending { deadline_ms: NOW_MS + 1_000, failed, ..Ending::default() });
        brief(&plan(Pod(&pod("a", Value::object())), &Observed { ending, ..seen(known) }, NOW_MS))
    };
    assert_eq!(step("a=run", "Evicted"), "signal a 2s");
    assert_eq!(step("a=exit:143", "Evicted"), "RemoveSandbox");
    assert_eq!(step("a=exit:143", "DeadlineExceeded"), "");
}
