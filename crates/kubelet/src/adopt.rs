//! What a node that starts finds: pods that an earlier process of its own began, and what the API server was told of
//! them. Nothing that runs is started again. Pure.

use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Str, Value};
use corten_runtime::engine::{ContainerState, PodState};

use crate::observed::{Container, Ended, Instance, Observed, Step};
use crate::pod::{self, Pod, Role};

/// What is known of a pod at the start: from the engine, where it has it, and from its status otherwise.
pub(crate) fn observed(pod: Pod<'_>, state: Option<&PodState>, now_ms: i64) -> Observed {
    let there = if state.is_some() { Step::There } else { Step::default() };
    let mut seen = Observed {
        volumes: there,
        volumes_begun: true,
        sandbox: there,
        end_told: pod.is_over(),
        started_ms: time_ms(pod.0.str_at(&["status", "startTime"])).unwrap_or_default(),
        ..Observed::default()
    };
    for container in pod.containers() {
        let told = told(pod, container);
        let states = state.map(|state| state.containers.as_slice()).unwrap_or_default();
        let mut own: Vec<_> = states.iter().filter(|state| state.id.name == container.name()).collect();
        own.sort_by_key(|state| state.id.attempt);
        let known = match own.pop() {
            Some(newest) => from_engine(newest, own.pop(), container, told),
            None => from_status(told, container.role, state.is_none(), now_ms),
        };
        seen.initialized |= container.role == Role::Main && state.is_some() && known.current.is_some();
        if known.current.is_some() || known.next_attempt > 0 {
            seen.containers.insert(container.name().into(), known);
        }
    }
    seen
}

/// The container's status in the object.
fn told<'a>(pod: Pod<'a>, container: pod::Container<'_>) -> &'a Value {
    let lists = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
    let mut all = lists.into_iter().flat_map(|list| pod.status_list(list));
    all.find(|status| status.str_at(&["name"]) == container.name()).unwrap_or(&Value::Null)
}

fn from_engine(
    newest: &ContainerState,
    before: Option<&ContainerState>,
    container: pod::Container<'_>,
    told: &Value,
) -> Container {
    let attempt = newest.id.attempt;
    let same = told.i64_at(&["restartCount"]) == Some(attempt.into());
    let text = |field: &str| Str::from(told.str_at(&[field]));
    let is = |field: &str| told.get(field).and_then(Value::as_bool).unwrap_or_default();
    // The API server may not have been told of this start yet. What no probe judges holds from the start on.
    let holds = |probe, told| newest.exit.is_none() && (container.probe(probe).is_none() || same && is(told));
    let end = newest.exit.is_some().then(|| {
        let known = ended(told.at(&["state", "terminated"]), attempt).filter(|_| same);
        known.unwrap_or_else(|| from_exit(newest))
    });
    let last = if same { told.at(&["lastState", "terminated"]) } else { told.at(&["state", "terminated"]) };
    let previous = attempt.checked_sub(1).and_then(|previous| ended(last, previous));
    Container {
        current: Some(Instance {
            attempt,
            started_ns: newest.started_ns,
            image: text("image"),
            image_id: text("imageID"),
            wanted_image: Str::default(),
            end,
        }),
        previous: previous.or_else(|| before.map(from_exit)),
        next_attempt: attempt + 1,
        started: holds("startupProbe", "started"),
        ready: holds("readinessProbe", "ready"),
        ..Container::default()
    }
}

fn from_exit(state: &ContainerState) -> Ended {
    let exit = state.exit.unwrap_or_default();
    let reason = match (exit.out_of_memory, exit.code) {
        (true, _) => "OOMKilled",
        (_, 0) => "Completed",
        _ => "Error",
    };
    Ended {
        attempt: state.id.attempt,
        code: exit.code,
        signal: exit.signal,
        reason: reason.into(),
        message: String::new(),
        started_ns: state.started_ns,
        finished_ns: exit.finished_ns,
    }
}

/// A container that the engine does not know: it never was, or was lost with its sandbox (a reboot).
fn from_status(told: &Value, role: Role, sandbox_lost: bool, now_ms: i64) -> Container {
    let ran = !told.str_at(&["containerID"]).is_empty();
    let attempt = u32::try_from(told.i64_at(&["restartCount"]).unwrap_or_default()).unwrap_or_default();
    if !ran {
        return Container::default();
    }
    let last = ended(told.at(&["lastState", "terminated"]), attempt.saturating_sub(1));
    let end = ended(told.at(&["state", "terminated"]), attempt).or_else(|| {
        let started_ns = time_ms(told.str_at(&["state", "running", "startedAt"]))? * 1_000_000;
        Some(Ended {
            attempt,
            code: 137,
            reason: "ContainerStatusUnknown".into(),
            message: "The container could not be located when the pod was terminated".to_owned(),
            started_ns,
            finished_ns: now_ms * 1_000_000,
            ..Ended::default()
        })
    });
    let mut known = Container { next_attempt: attempt + 1, previous: last, ..Container::default() };
    // In a new sandbox init containers run again; how they ended last is all that stays of them.
    if role == Role::Init && sandbox_lost {
        known.previous = end.or(known.previous);
        return known;
    }
    known.current = end.map(|end| Instance {
        attempt,
        started_ns: end.started_ns,
        image: told.str_at(&["image"]).into(),
        image_id: told.str_at(&["imageID"]).into(),
        wanted_image: Str::default(),
        end: Some(end),
    });
    known
}

fn ended(told: Option<&Value>, attempt: u32) -> Option<Ended> {
    let told = told.filter(|told| !told.is_null())?;
    let number = |field: &str| told.i64_at(&[field]).and_then(|number| i32::try_from(number).ok()).unwrap_or_default();
    let ns = |field: &str| time_ms(told.str_at(&[field])).unwrap_or_default() * 1_000_000;
    Some(Ended {
        attempt,
        code: number("exitCode"),
        signal: number("signal"),
        reason: told.str_at(&["reason"]).into(),
        message: told.str_at(&["message"]).to_owned(),
        started_ns: ns("startedAt"),
        finished_ns: ns("finishedAt"),
    })
}

fn time_ms(text: &str) -> Option<i64> {
    Time::parse(text).ok().map(|time| time.seconds * 1000)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_runtime::engine::{ContainerId, Exit};

    use super::*;

    fn pod() -> Value {
        let running = value!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let last = value!({"terminated": {"exitCode": 7, "reason": "Error"}});
        value!({
            "metadata": {"uid": "1"},
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "c"}, {"name": "new"}]},
            "status": {
                "initContainerStatuses": [{"name": "i", "containerID": "x", "restartCount": 0,
                    "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
                "containerStatuses": [{"name": "c", "containerID": "x", "image": "app:1", "restartCount": 2, "ready": true,
                    "started": true, "state": running, "lastState": last}, {"name": "new", "restartCount": 0}]
            }
        })
    }

    fn state(exit: Option<i32>) -> PodState {
        let exit = exit.map(|code| Exit { code, ..Exit::default() });
        let id = ContainerId { pod: "1".to_owned(), name: "c".to_owned(), attempt: 2 };
        let containers = vec![ContainerState { id, pid: 9, started_ns: 5, exit }];
        PodState { id: "1".to_owned(), pid: 8, containers }
    }

    #[test]
    fn what_runs_goes_on() {
        let pod = pod();
        let seen = observed(Pod(&pod), Some(&state(None)), 0);
        let known = seen.container("c");
        let current = known.current.as_ref().expect("it runs");
        assert_eq!((current.attempt, current.started_ns, current.image.as_str()), (2, 5, "app:1"));
        assert!(known.is_running() && known.ready && known.started && seen.initialized);
        assert_eq!(known.previous.as_ref().map(|end| (end.attempt, end.code)), Some((1, 7)));
        assert_eq!(seen.container("i").end().map(|end| end.code), Some(0));
        assert_eq!(seen.container("new").next_attempt, 0);
    }

    #[test]
    fn what_was_started_before_it_was_told_goes_on_by_its_probes() {
        let check = |probes: Value, expect: (bool, bool)| {
            let mut pod = pod();
            let told = value!([{"name": "c", "restartCount": 1, "ready": true, "started": true}]);
            *pod.at_mut(&["status", "containerStatuses"]).expect("it is there") = told;
            *pod.at_mut(&["spec", "containers"]).expect("it is there") = value!([probes]);
            let seen = observed(Pod(&pod), Some(&state(None)), 0);
            let known = seen.container("c");
            assert_eq!((known.started, known.ready), expect);
        };
        check(value!({"name": "c"}), (true, true));
        check(value!({"name": "c", "readinessProbe": {}}), (true, false));
        check(value!({"name": "c", "startupProbe": {}}), (false, true));
        check(value!({"name": "c", "startupProbe": {}, "readinessProbe": {}}), (false, false));
    }

    #[test]
    fn what_ended_meanwhile_has_ended() {
        let pod = pod();
        let seen = observed(Pod(&pod), Some(&state(Some(3))), 0);
        assert_eq!(seen.container("c").end().map(|end| (end.code, end.reason.as_str())), Some((3, "Error")));
    }

    #[test]
    fn after_a_reboot_everything_begins_anew() {
        let pod = pod();
        let seen = observed(Pod(&pod), None, 0);
        let known = seen.container("c");
        assert_eq!(known.end().map(|end| (end.code, end.reason.as_str())), Some((137, "ContainerStatusUnknown")));
        assert_eq!((known.next_attempt, seen.initialized, seen.sandbox), (3, false, Step::default()));
        let init = seen.container("i");
        assert_eq!((init.end(), init.previous.as_ref().map(|end| end.code), init.next_attempt), (None, Some(0), 1));
    }
}
