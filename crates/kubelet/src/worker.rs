//! One pod of the node as the loop holds it: its newest object, what is known of it, and what outcomes make of that. Pure
//! but for the handles of what is under way.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Map, Str, Value};
use corten_runtime::engine::{EngineError, Exit};
use tokio::sync::watch;

use crate::deed::{NotStarted, Started};
use crate::observed::{Container, Drain, Ended, Failure, Instance, Kill, Observed, Step, Stop};
use crate::plan::Action;
use crate::pod::{Pod, Role};
use crate::probe::{Found, Kind};

/// Pauses before something is tried again that the machine or the API refused.
const RETRY_MS: i64 = 2_000;
const START_RETRY_MS: i64 = 10_000;

/// A pod of the node.
pub(crate) struct Worker {
    /// The newest object that was seen, of a cache or of an answer.
    pub(crate) object: Arc<Value>,
    pub(crate) seen: Observed,
    pub(crate) admitted: bool,
    /// A status is being written.
    pub(crate) writing: bool,
    /// A write that failed is tried again then.
    pub(crate) write_after_ms: i64,
    /// Gives up starts that are under way, by container.
    pub(crate) starts: BTreeMap<Str, watch::Sender<bool>>,
    /// Dropping ends the probes of a container; sending `true` says that it has started.
    pub(crate) probes: BTreeMap<Str, watch::Sender<bool>>,
    /// Exits that came before the start was known to have been.
    early: BTreeMap<(Str, u32), Exit>,
    pub(crate) wake_ms: Option<i64>,
    /// Volumes are made true again when what is under way has ended.
    pub(crate) refresh: bool,
    /// When the tokens of its volumes were asked for.
    pub(crate) tokens_at_ms: i64,
}

/// What came of a deed.
pub(crate) enum Outcome {
    Volumes(Result<(), String>),
    Refreshed(Result<(), String>),
    VolumesGone(Result<(), String>),
    Sandbox(Result<Vec<std::net::IpAddr>, String>),
    SandboxGone(Result<(), String>),
    Start(Str, Result<Started, NotStarted>),
    Drained,
    Hooked(Str, u32),
    Signalled(Str, Result<(), EngineError>),
    Found(Found),
    /// The status was written: the object as it is now, and whether it said that everything has ended.
    Written {
        object: Result<Option<Value>, String>,
        ended: bool,
    },
    Deleted(Result<(), String>),
}

impl Worker {
    pub(crate) fn new(object: Arc<Value>, seen: Observed) -> Self {
        Self {
            object,
            seen,
            admitted: false,
            writing: false,
            write_after_ms: 0,
            starts: BTreeMap::new(),
            probes: BTreeMap::new(),
            early: BTreeMap::new(),
            wake_ms: None,
            refresh: false,
            tokens_at_ms: 0,
        }
    }

    pub(crate) fn pod(&self) -> Pod<'_> {
        Pod(&self.object)
    }

    /// Takes an object if it is newer than what is known.
    pub(crate) fn take(&mut self, object: Value) {
        let number = |object: &Value| Meta::of(object).resource_version().parse::<u64>().unwrap_or_default();
        if number(&object) >= number(&self.object) {
            self.object = Arc::new(object);
        }
    }

    /// Remembers that an action is under way.
    pub(crate) fn begin(&mut self, action: &Action, now_ms: i64) {
        match action {
            Action::PrepareVolumes => (self.seen.volumes, self.seen.volumes_begun) = (Step::UnderWay, true),
            Action::RemoveVolumes => self.seen.volumes = Step::Leaving,
            Action::CreateSandbox => self.seen.sandbox = Step::UnderWay,
            Action::RemoveSandbox => self.seen.sandbox = Step::Leaving,
            Action::Start(name) => {
                let known = self.seen.container_mut(name);
                if let (None, Some(end)) = (&known.failure, known.end().cloned()) {
                    known.crashes.count(end.finished_ms(), now_ms);
                }
                known.starting = true;
            }
            Action::Drain { .. } => self.seen.drain = Drain::UnderWay,
            Action::PreStop { name, deadline_ms } => {
                self.seen.container_mut(name).stop = Stop::Hook { deadline_ms: *deadline_ms };
            }
            Action::Signal { name, deadline_ms } => {
                self.seen.container_mut(name).stop = Stop::Signalled { deadline_ms: *deadline_ms };
            }
            Action::TellPause { name, since_ms } => self.seen.container_mut(name).told_ms = *since_ms,
            Action::DeleteObject => self.seen.object_left = true,
            Action::Cancel(_) => {}
        }
    }

    /// A start has ended, well or not. Gives the exit of a container that has gone in the meantime.
    pub(crate) fn started(&mut self, name: &Str, result: Result<Started, NotStarted>, now_ms: i64) -> Option<Exit> {
        self.starts.remove(name);
        let grace_s = self.pod().grace_s();
        let object = self.object.clone();
        let container = Pod(&object).container(name);
        let has = |field: &str| container.is_some_and(|container| container.probe(field).is_some());
        let main = container.is_some_and(|container| container.role == Role::Main);
        let known = self.seen.container_mut(name);
        known.starting = false;
        match result {
            Ok(Started { instance, hook_failed }) => {
                let attempt = instance.attempt;
                known.previous = known.end().cloned().or(known.previous.take());
                known.next_attempt = attempt + 1;
                (known.failure, known.kill, known.stop) = (None, None, Stop::No);
                known.pulls.reset();
                (known.started, known.ready) = (!has("startupProbe"), !has("readinessProbe"));
                if hook_failed {
                    known.kill = Some(Kill { message: "FailedPostStartHook".to_owned(), grace_s });
                }
                known.current = Some(instance);
                self.seen.initialized |= main;
                self.early.remove(&(name.clone(), attempt))
            }
            Err(NotStarted { reason, message, volumes_lost: true }) => {
                known.failure = Some(Failure { reason, message, at_ms: now_ms, retry_ms: now_ms });
                self.seen.volumes = Step::default();
                None
            }
            Err(NotStarted { reason, message, volumes_lost: false }) => {
                let failure = if reason == "ErrImagePull" {
                    known.pulls.count(now_ms, now_ms);
                    let retry_ms = known.pulls.until(now_ms).unwrap_or(now_ms);
                    Failure { reason, message, at_ms: now_ms, retry_ms }
                } else {
                    Failure { reason, message, at_ms: now_ms, retry_ms: now_ms + START_RETRY_MS }
                };
                known.failure = Some(failure);
                None
            }
        }
    }

    /// A container has ended. The message is what it left behind.
    pub(crate) fn exited(&mut self, name: &Str, attempt: u32, exit: Exit, message: String) {
        self.probes.remove(name);
        let known = self.seen.container_mut(name);
        let Some(current) = known.current.as_mut().filter(|current| current.attempt == attempt) else { return };
        let reason = if exit.out_of_memory {
            "OOMKilled"
        } else if exit.code == 0 {
            "Completed"
        } else {
            "Error"
        };
        let (started_ns, finished_ns) = (current.started_ns, exit.finished_ns);
        let (code, signal) = (exit.code, exit.signal);
        current.end = Some(Ended { attempt, code, signal, reason: reason.into(), message, started_ns, finished_ns });
        (known.kill, known.stop, known.ready, known.started) = (None, Stop::No, false, false);
    }

    /// Whether this exit is of a container whose start is known; one that is not is kept until it is.
    pub(crate) fn is_known(&mut self, name: &Str, attempt: u32, exit: Exit) -> bool {
        let known = self.seen.container(name).current.as_ref().is_some_and(|current| current.attempt == attempt);
        if !known {
            self.early.insert((name.clone(), attempt), exit);
        }
        known
    }

    /// The sandbox is gone, and everything in it.
    pub(crate) fn lost(&mut self, now_ms: i64) {
        self.probes.clear();
        let init: Vec<Str> = self
            .pod()
            .init_containers()
            .filter(|container| container.role == Role::Init)
            .map(|container| container.name().into())
            .collect();
        for (name, known) in &mut self.seen.containers {
            lose(known, now_ms);
            if init.contains(name) {
                // Init containers run again in a new sandbox.
                known.previous = known.current.take().and_then(|current| current.end).or(known.previous.take());
            }
        }
        self.seen.sandbox_lost = true;
        self.seen.initialized = false;
    }

    /// What a probe has found out.
    pub(crate) fn found(&mut self, found: &Found) {
        let object = self.object.clone();
        let pod = Pod(&object);
        let ends = self.seen.ending.is_some();
        let known = self.seen.container_mut(&found.name);
        let current = known.current.as_ref().is_some_and(|current| current.attempt == found.attempt);
        if !current || !known.is_running() {
            return;
        }
        match (found.kind, found.holds) {
            (Kind::Readiness, holds) => known.ready = holds,
            (Kind::Startup, true) => {
                known.started = true;
                if let Some(probes) = self.probes.get(&found.name) {
                    probes.send_replace(true);
                }
            }
            (Kind::Liveness, true) => {}
            (kind, false) if !ends => {
                let Some(container) = pod.container(&found.name) else { return };
                let probe = container.probe(kind.field());
                let grace_s = probe.and_then(|probe| probe.i64_at(&["terminationGracePeriodSeconds"]));
                let word = if kind == Kind::Startup { "startup" } else { "liveness" };
                let again = if container.restarts(pod, 137) { ", will be restarted" } else { "" };
                let message = format!("Container {} failed {word} probe{again}", found.name);
                known.kill = Some(Kill { message, grace_s: grace_s.unwrap_or_else(|| pod.grace_s()) });
            }
            (_, false) => {}
        }
    }

    /// Takes room on the node. A pod of which nothing will run again has given its own back, though its object may still be
    /// there; what runs of one whose object is gone has been told to end (`isPodInactive` in `pkg/kubelet/kubelet_pods.go`).
    pub(crate) fn takes_room(&self) -> bool {
        let ending = self.seen.ending.as_ref();
        let gone = ending.is_some_and(|ending| ending.orphaned || self.seen.is_quiet());
        self.admitted && !self.pod().is_over() && !gone
    }

    /// When to try the same thing again.
    pub(crate) fn retry_at(now_ms: i64) -> Step {
        Step::Absent { not_before_ms: now_ms + RETRY_MS }
    }
}

fn lose(known: &mut Container, now_ms: i64) {
    if let Some(Instance { attempt, started_ns, end: end @ None, .. }) = &mut known.current {
        *end = Some(Ended {
            attempt: *attempt,
            code: 137,
            signal: 0,
            reason: "ContainerStatusUnknown".into(),
            message: "The container could not be located when the pod was terminated".to_owned(),
            started_ns: *started_ns,
            finished_ns: now_ms * 1_000_000,
        });
    }
    (known.kill, known.stop, known.ready, known.started) = (None, Stop::No, false, false);
}

/// The change that makes the one status the other; `None` where they are the same. Conditions are merged by type, so
/// those of others are left out; lists of addresses are replaced.
pub(crate) fn status_patch(old: &Value, new: &Value) -> Option<Map> {
    let none = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&none), new.as_object().unwrap_or(&none));
    let mut patch = Map::new();
    for (field, value) in new.iter().filter(|(field, value)| old.get(field) != Some(*value)) {
        let value = match field.as_str() {
            "conditions" => changed(old.get("conditions"), value),
            "podIPs" | "hostIPs" => replaced(old.get(field), value),
            _ => value.clone(),
        };
        patch.insert(field.clone(), value);
    }
    for (field, _) in old.iter().filter(|(field, _)| !new.contains_key(field)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(patch)
}

fn changed(old: Option<&Value>, new: &Value) -> Value {
    let old = old.and_then(Value::as_array).unwrap_or_default();
    let new = new.as_array().unwrap_or_default();
    // A reason that is no longer given has to be taken out of what is merged.
    let whole = |condition: &Value| {
        let mut condition = condition.clone();
        let before = old.iter().find(|before| before.str_at(&["type"]) == condition.str_at(&["type"]));
        let gone: Vec<&str> = ["reason", "message"]
            .into_iter()
            .filter(|field| before.is_some_and(|before| before.get(field).is_some()) && condition.get(field).is_none())
            .collect();
        if let Some(map) = condition.as_object_mut() {
            gone.into_iter().for_each(|field| drop(map.insert(field, Value::Null)));
        }
        condition
    };
    Value::Array(new.iter().filter(|condition| !old.contains(condition)).map(whole).collect())
}

fn replaced(old: Option<&Value>, new: &Value) -> Value {
    let mut items = new.as_array().unwrap_or_default().to_vec();
    if old.and_then(Value::as_array).is_some_and(|old| !old.is_empty()) {
        items.insert(0, corten_apimachinery::value!({"$patch": "replace"}));
    }
    Value::Array(items)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::{json, value};

    use super::*;
    use crate::observed::{Ending, Verdict};
    use crate::plan;

    #[track_caller]
    fn check(old: Value, new: Value, expect: &str) {
        let patch = status_patch(&old, &new).map(|patch| json::to_string(&patch.into()));
        assert_eq!(patch.as_deref().unwrap_or("nothing"), expect);
    }

    #[test]
    fn a_patch_has_what_changed() {
        check(value!({"phase": "Running"}), value!({"phase": "Running"}), "nothing");
        check(
            value!({"phase": "Pending", "reason": "x"}),
            value!({"phase": "Running"}),
            r#"{"phase":"Running","reason":null}"#,
        );
        let old =
            value!({"conditions": [{"type": "A", "status": "False", "reason": "r"}, {"type": "B", "status": "True"}]});
        let new = value!({"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]});
        check(old, new, r#"{"conditions":[{"type":"A","status":"True","reason":null}]}"#);
        let replaced = r#"{"podIPs":[{"$patch":"replace"},{"ip":"2"}]}"#;
        check(value!({"podIPs": [{"ip": "1"}]}), value!({"podIPs": [{"ip": "2"}]}), replaced);
    }

    fn worker() -> Worker {
        let pod = value!({"metadata": {"name": "a", "uid": "1"}, "spec": {
            "containers": [{"name": "c", "readinessProbe": {}, "livenessProbe": {"terminationGracePeriodSeconds": 3}}]}});
        Worker::new(Arc::new(pod), Observed::default())
    }

    fn started(attempt: u32) -> Result<Started, NotStarted> {
        Ok(Started { instance: Instance { attempt, ..Instance::default() }, hook_failed: false })
    }

    #[test]
    fn what_has_ended_takes_no_room() {
        let check = |containers: bool, ending: Option<Ending>, expect: bool| {
            let mut worker = worker();
            worker.admitted = true;
            if containers {
                worker.seen.container_mut("c").current = Some(Instance::default());
            }
            worker.seen.ending = ending;
            assert_eq!(worker.takes_room(), expect);
        };
        let ending = Ending::default;
        check(false, None, true);
        check(true, None, true);
        check(true, Some(ending()), true);
        check(false, Some(ending()), false);
        check(true, Some(Ending { failed: Some(Verdict::default()), ..ending() }), true);
        check(true, Some(Ending { orphaned: true, ..ending() }), false);
        assert!(!worker().takes_room(), "it is not admitted");
    }

    #[test]
    fn a_start_without_its_volumes_waits_for_them() {
        let mut worker = worker();
        worker.seen.volumes = Step::There;
        worker.started(&"c".into(), Err(NotStarted::without_volumes()), 5);
        assert_eq!(worker.seen.volumes, Step::default());
        let due =
            plan::due(worker.pod(), worker.pod().container("c").expect("it is there"), worker.seen.container("c"), 5);
        assert_eq!(due, plan::Due::Now);
    }

    #[test]
    fn an_exit_that_overtakes_its_start_is_not_lost() {
        let mut worker = worker();
        let exit = Exit { code: 3, ..Exit::default() };
        let name = Str::from("c");
        worker.begin(&Action::Start(name.clone()), 0);
        assert!(!worker.is_known(&name, 0, exit));
        assert_eq!(worker.started(&name, started(0), 0), Some(exit));
        worker.exited(&name, 0, exit, "bye".to_owned());
        let known = worker.seen.container("c");
        assert_eq!(known.end().map(|end| (end.code, end.message.as_str())), Some((3, "bye")));
        worker.begin(&Action::Start(name.clone()), 5);
        assert_eq!(worker.started(&name, started(1), 6), None);
        let known = worker.seen.container("c");
        assert_eq!((known.previous.as_ref().map(|end| end.code), known.next_attempt), (Some(3), 2));
    }

    #[test]
    fn probes_make_ready_and_stop() {
        let mut worker = worker();
        let name = Str::from("c");
        assert_eq!(worker.started(&name, started(0), 0), None);
        let found = |kind, holds| Found { name: name.clone(), attempt: 0, kind, holds };
        assert!(!worker.seen.container("c").ready);
        worker.found(&found(Kind::Readiness, true));
        assert!(worker.seen.container("c").ready);
        worker.found(&Found { attempt: 7, ..found(Kind::Liveness, false) });
        assert_eq!(worker.seen.container("c").kill, None);
        worker.found(&found(Kind::Liveness, false));
        let message = "Container c failed liveness probe, will be restarted".to_owned();
        assert_eq!(worker.seen.container("c").kill, Some(Kill { message, grace_s: 3 }));
    }

    #[test]
    fn a_failed_pull_waits_longer_each_time() {
        let mut worker = worker();
        let name = Str::from("c");
        let failed = || Err(NotStarted::new("ErrImagePull", "no"));
        let mut pauses = Vec::new();
        for now_ms in [0, 20_000] {
            assert_eq!(worker.started(&name, failed(), now_ms), None);
            pauses.push(worker.seen.container("c").failure.as_ref().map(|failure| failure.retry_ms - now_ms));
        }
        assert_eq!(pauses, [Some(10_000), Some(20_000)]);
    }
}
