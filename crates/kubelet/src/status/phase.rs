//! The phase of a pod, with reason and message.

use corten_apimachinery::value::Map;

use crate::observed::Observed;
use crate::pod::{Pod, Role};

pub(super) fn set(pod: Pod<'_>, seen: &Observed, map: &mut Map) {
    let failed = seen.ending.as_ref().and_then(|ending| ending.failed.as_ref());
    if pod.is_over() {
        return;
    }
    if let Some(failed) = failed {
        map.insert("phase", "Failed");
        map.insert("reason", failed.reason.as_str());
        map.insert("message", failed.message.as_str());
        return;
    }
    let phase = phase(pod, seen);
    if phase != pod.phase() {
        map.remove("reason");
        map.remove("message");
    }
    map.insert("phase", phase);
}

/// How a container counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Count {
    Running,
    /// It has never run to its end.
    Waiting,
    Stopped {
        succeeded: bool,
        restarts: bool,
    },
}

fn phase(pod: Pod<'_>, seen: &Observed) -> &'static str {
    let mut mains = Vec::new();
    let (mut init_pending, mut sidecar_pending, mut init_failed) = (false, false, false);
    for container in pod.init_containers().chain(pod.main_containers()) {
        let known = seen.container(container.name());
        let end = known.end().or(known.previous.as_ref());
        let count = match end {
            _ if known.is_running() => Count::Running,
            None => Count::Waiting,
            Some(end) => Count::Stopped { succeeded: end.code == 0, restarts: container.restarts(pod, end.code) },
        };
        match (container.role, count) {
            (Role::Init, Count::Stopped { succeeded: true, .. }) if known.end().is_some() => {}
            (Role::Init, Count::Stopped { succeeded: false, restarts }) => init_failed |= !restarts,
            (Role::Init, _) => init_pending = true,
            (Role::Sidecar, Count::Running) => {
                sidecar_pending |= !known.started;
                mains.push(count);
            }
            (Role::Sidecar, Count::Waiting) => {
                sidecar_pending = true;
                mains.push(count);
            }
            (Role::Sidecar, Count::Stopped { .. }) => {}
            (Role::Main | Role::Ephemeral, _) => mains.push(count),
        }
    }
    if init_failed {
        return "Failed";
    }
    let init_pending = !seen.initialized && (init_pending || sidecar_pending);
    if init_pending || mains.contains(&Count::Waiting) {
        // A pod that is over and never came to run everything has failed all the same.
        return if seen.ending.is_some() && seen.is_quiet() { over(&mains) } else { "Pending" };
    }
    if mains.contains(&Count::Running) {
        return "Running";
    }
    let goes_on = mains.iter().any(|count| matches!(count, Count::Stopped { restarts: true, .. }));
    if goes_on && seen.ending.is_none() { "Running" } else { over(&mains) }
}

fn over(mains: &[Count]) -> &'static str {
    let succeeded = mains.iter().all(|count| matches!(count, Count::Stopped { succeeded: true, .. }));
    if succeeded { "Succeeded" } else { "Failed" }
}
