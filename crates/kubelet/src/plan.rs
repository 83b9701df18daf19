//! What to do next for a pod: a pure function of its object, of what is known of it, and of the time. It is asked after
//! every change, so it decides one step and never waits; when time alone will bring the next step, it says when.
//!
//! Order and pauses are upstream's (`pkg/kubelet/kuberuntime`): volumes, sandbox, init containers one after the other,
//! main containers in their order, each started when the one before has started; stops the other way round.

use corten_apimachinery::value::Str;

use crate::eviction;
use crate::observed::{self, Drain, Ending, Failure, Kill, Observed, Step, Stop, Verdict};
use crate::pod::{Container, Pod, Role};

/// A container gets at least so long between the first signal and the last.
const WINDOW_MS: i64 = 2_000;

/// Requests that are on their way to a pod get so long to end before it hears that it is to go.
const DRAIN_MS: i64 = 2_000;

/// A failed pull is shown as such for so long, then as a pause.
const PULL_ERROR_SHOWN_MS: i64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    PrepareVolumes,
    RemoveVolumes,
    CreateSandbox,
    RemoveSandbox,
    Start(Str),
    /// A start that is under way comes too late.
    Cancel(Str),
    /// Waits until nobody's requests go to the pod, for so long at most.
    Drain {
        deadline_ms: i64,
    },
    /// Runs the hook that comes before a stop.
    PreStop {
        name: Str,
        deadline_ms: i64,
    },
    Signal {
        name: Str,
        deadline_ms: i64,
    },
    /// A container waits before it is tried again; told once a pause.
    TellPause {
        name: Str,
        since_ms: i64,
    },
    DeleteObject,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// When to ask again, if nothing happens before.
    pub wake_ms: Option<i64>,
    /// The pod ends: to be remembered.
    pub ending: Option<Ending>,
}

/// When a container that does not run starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Now,
    /// After a pause that began at `since_ms`.
    At {
        at_ms: i64,
        since_ms: i64,
    },
    Never,
}

/// Decides the next steps.
pub fn plan(pod: Pod<'_>, seen: &Observed, now_ms: i64) -> Plan {
    let mut plan = Plan { ending: ending(pod, seen, now_ms, &mut None), ..Plan::default() };
    match plan.ending.clone() {
        Some(ending) => end(pod, seen, &ending, now_ms, &mut plan),
        None => {
            let mut wake = None;
            ending_by_time(pod, seen, &mut wake);
            plan.wake_ms = wake;
            run(pod, seen, now_ms, &mut plan);
        }
    }
    plan
}

impl Plan {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn wake(&mut self, at_ms: i64) {
        self.wake_ms = Some(self.wake_ms.map_or(at_ms, |known| known.min(at_ms)));
    }

    fn starts(&self) -> bool {
        self.actions.iter().any(|action| matches!(action, Action::Start(_)))
    }
}

/// Whether and how the pod ends, with what was decided before.
fn ending(pod: Pod<'_>, seen: &Observed, now_ms: i64, wake: &mut Option<i64>) -> Option<Ending> {
    let mut known = seen.ending.clone();
    if known.is_none() {
        let failed = overdue(pod, seen, now_ms, wake);
        if failed.is_some() || pod.is_over() || is_over(pod, seen) {
            let deadline_ms = now_ms + pod.grace_s() * 1000;
            known = Some(Ending { deadline_ms, failed, ..Ending::default() });
        }
    }
    if pod.is_deleting() {
        let grace_s = pod.meta().deletion_grace_period_seconds().unwrap_or_else(|| pod.grace_s());
        let deadline_ms = now_ms + grace_s * 1000;
        let ending = known.get_or_insert_with(|| Ending { deadline_ms, ..Ending::default() });
        if ending.deleted_grace_s.is_none_or(|known_s| grace_s < known_s) {
            ending.deleted_grace_s = Some(grace_s);
            ending.deadline_ms = ending.deadline_ms.min(deadline_ms);
        }
    }
    known
}

/// When the pod's own deadline will end it.
fn ending_by_time(pod: Pod<'_>, seen: &Observed, wake: &mut Option<i64>) {
    overdue(pod, seen, i64::MIN, wake);
}

fn overdue(pod: Pod<'_>, seen: &Observed, now_ms: i64, wake: &mut Option<i64>) -> Option<Verdict> {
    let limit_s = pod.spec("activeDeadlineSeconds")?.as_i64()?;
    let at_ms = seen.started_ms + limit_s * 1000;
    if now_ms < at_ms {
        *wake = Some(at_ms);
        return None;
    }
    Some(Verdict {
        reason: "DeadlineExceeded".to_owned(),
        message: "Pod was active on the node longer than the specified deadline".to_owned(),
        ..Verdict::default()
    })
}

/// Nothing of the pod will run again, sidecars apart.
fn is_over(pod: Pod<'_>, seen: &Observed) -> bool {
    let ended_for_good = |container: Container<'_>| {
        let known = seen.container(container.name());
        !known.starting && known.end().is_some_and(|end| !container.restarts(pod, end.code))
    };
    let init_failed = !seen.initialized
        && pod.init_containers().filter(|container| container.role == Role::Init).any(|container| {
            let failed = seen.container(container.name()).end().is_some_and(|end| end.code != 0);
            failed && ended_for_good(container)
        });
    init_failed || pod.main_containers().all(ended_for_good)
}

/// Brings up what is missing.
fn run(pod: Pod<'_>, seen: &Observed, now_ms: i64, plan: &mut Plan) {
    match seen.volumes {
        Step::Absent { not_before_ms } if now_ms < not_before_ms => return plan.wake(not_before_ms),
        Step::Absent { .. } if seen.volumes_refreshing => return,
        Step::Absent { .. } => return plan.act(Action::PrepareVolumes),
        Step::UnderWay | Step::Leaving => return,
        Step::There => {}
    }
    match seen.sandbox {
        Step::There if seen.sandbox_lost => {
            if seen.is_quiet() {
                plan.act(Action::RemoveSandbox);
            }
        }
        Step::There => containers(pod, seen, now_ms, plan),
        Step::Absent { not_before_ms } if now_ms < not_before_ms => plan.wake(not_before_ms),
        Step::Absent { .. } => plan.act(Action::CreateSandbox),
        Step::UnderWay | Step::Leaving => {}
    }
}

fn containers(pod: Pod<'_>, seen: &Observed, now_ms: i64, plan: &mut Plan) {
    for container in pod.containers() {
        let known = seen.container(container.name());
        if let Some(kill) = wanted_stop(pod, container, known) {
            let deadline_ms = match known.stop {
                Stop::No => now_ms + kill.grace_s * 1000,
                Stop::Hook { deadline_ms } | Stop::Hooked { deadline_ms } | Stop::Signalled { deadline_ms } => {
                    deadline_ms
                }
            };
            stop(container, known, deadline_ms, true, now_ms, plan);
        }
    }
    if seen.containers.values().any(|container| container.starting) {
        return;
    }
    for container in pod.init_containers() {
        match container.role {
            Role::Sidecar => keep(pod, container, seen, now_ms, plan),
            _ if !seen.initialized && !has_succeeded(seen, container) => keep(pod, container, seen, now_ms, plan),
            _ => {}
        }
        if !seen.initialized && !is_passed(container, seen) {
            return;
        }
    }
    for container in pod.main_containers() {
        keep(pod, container, seen, now_ms, plan);
    }
    for container in pod.ephemeral_containers() {
        keep(pod, container, seen, now_ms, plan);
    }
}

fn has_succeeded(seen: &Observed, container: Container<'_>) -> bool {
    seen.container(container.name()).end().is_some_and(|end| end.code == 0)
}

/// The init container does not hold up those behind it.
fn is_passed(container: Container<'_>, seen: &Observed) -> bool {
    match container.role {
        Role::Sidecar => {
            let known = seen.container(container.name());
            known.is_running() && known.started
        }
        _ => has_succeeded(seen, container),
    }
}

/// Why a container that runs is to stop, while its pod goes on.
pub fn wanted_stop(pod: Pod<'_>, container: Container<'_>, known: &observed::Container) -> Option<Kill> {
    if !known.is_running() {
        return None;
    }
    let changed = || {
        let wanted = known.current.as_ref().map(|current| current.wanted_image.as_str()).unwrap_or_default();
        let changes = matches!(container.role, Role::Main | Role::Sidecar);
        (changes && !wanted.is_empty() && wanted != container.image()).then(|| Kill {
            message: format!("Container {} definition changed, will be restarted", container.name()),
            grace_s: pod.grace_s(),
        })
    };
    known.kill.clone().or_else(changed)
}

/// Sees to it that a container runs, as far as its policy wants that. One start at a time.
fn keep(pod: Pod<'_>, container: Container<'_>, seen: &Observed, now_ms: i64, plan: &mut Plan) {
    let known = seen.container(container.name());
    if known.is_running() || known.starting || plan.starts() {
        return;
    }
    match due(pod, container, known, now_ms) {
        Due::Now => plan.act(Action::Start(container.name().into())),
        Due::At { at_ms, since_ms } => {
            plan.wake(at_ms);
            tell_pause(container, known, since_ms, now_ms, plan);
        }
        Due::Never => {}
    }
}

fn tell_pause(container: Container<'_>, known: &observed::Container, since_ms: i64, now_ms: i64, plan: &mut Plan) {
    if known.told_ms == since_ms || known.failure.as_ref().is_some_and(|failure| !failure.is_pull()) {
        return;
    }
    if known.failure.is_some() && now_ms < since_ms + PULL_ERROR_SHOWN_MS {
        return plan.wake(since_ms + PULL_ERROR_SHOWN_MS);
    }
    plan.act(Action::TellPause { name: container.name().into(), since_ms });
}

/// When a container that does not run starts.
pub fn due(pod: Pod<'_>, container: Container<'_>, known: &observed::Container, now_ms: i64) -> Due {
    let pause = if let Some(failure) = &known.failure {
        Some((failure.retry_ms, failure.at_ms))
    } else if let Some(end) = known.end() {
        if !container.restarts(pod, end.code) {
            return Due::Never;
        }
        let since_ms = end.finished_ms();
        known.crashes.until(since_ms).map(|at_ms| (at_ms, since_ms))
    } else {
        None
    };
    match pause {
        Some((at_ms, since_ms)) if now_ms < at_ms => Due::At { at_ms, since_ms },
        _ => Due::Now,
    }
}

impl Failure {
    pub fn is_pull(&self) -> bool {
        self.reason == "ErrImagePull"
    }

    /// A failed pull is now shown as the pause before the next one.
    pub fn is_pull_pause(&self, now_ms: i64) -> bool {
        self.is_pull() && now_ms >= self.at_ms + PULL_ERROR_SHOWN_MS
    }
}

/// Stops what runs, then takes away what stands.
fn end(pod: Pod<'_>, seen: &Observed, ending: &Ending, now_ms: i64, plan: &mut Plan) {
    let drained = is_drained(pod, seen, ending, now_ms, plan);
    for container in pod.containers() {
        let known = seen.container(container.name());
        if known.starting {
            plan.act(Action::Cancel(container.name().into()));
        }
        if known.is_running() {
            let turn = now_ms >= ending.deadline_ms || drained && is_turn(pod, container, seen);
            stop(container, known, ending.deadline_ms, turn, now_ms, plan);
        }
    }
    let waits = !seen.is_quiet() || !(seen.end_told || ending.orphaned || makes_room(ending));
    let making = seen.volumes == Step::UnderWay || seen.volumes_refreshing || seen.sandbox == Step::UnderWay;
    if waits || making {
        return;
    }
    match (seen.sandbox, seen.volumes) {
        (Step::There, _) => plan.act(Action::RemoveSandbox),
        (Step::Leaving, _) | (_, Step::Leaving) => {}
        (_, Step::There) => plan.act(Action::RemoveVolumes),
        _ if seen.volumes_begun => plan.act(Action::RemoveVolumes),
        _ if ending.deleted_grace_s.is_some() && !seen.object_left => plan.act(Action::DeleteObject),
        _ => {}
    }
}

/// A pod goes because its node is short of room, and what it has there goes at once: an API server on the same disk may be unable to
/// write down that it has ended until then.
fn makes_room(ending: &Ending) -> bool {
    ending.failed.as_ref().is_some_and(|why| why.reason == eviction::REASON)
}

/// Whether no request is cut off by a signal. Where that has to be waited for, hooks run meanwhile, and half of the grace
/// period stays for the containers.
fn is_drained(pod: Pod<'_>, seen: &Observed, ending: &Ending, now_ms: i64, plan: &mut Plan) -> bool {
    match seen.drain {
        Drain::Done => true,
        Drain::UnderWay => false,
        Drain::No => {
            let limit_ms = DRAIN_MS.min((ending.deadline_ms - now_ms) / 2);
            let waits = is_serving(pod, seen, ending) && limit_ms > 0;
            if waits {
                plan.act(Action::Drain { deadline_ms: now_ms + limit_ms });
            }
            !waits
        }
    }
}

/// The pod is deleted while Services lead to it. Those that the node ends by itself are endpoints until they have ended.
fn is_serving(pod: Pod<'_>, seen: &Observed, ending: &Ending) -> bool {
    let ready = pod.condition("Ready").is_some_and(|ready| ready.str_at(&["status"]) == "True");
    let runs = seen.containers.values().any(observed::Container::is_running);
    let linked = !pod.is_host_network() && !seen.addresses.is_empty();
    ending.deleted_grace_s.is_some() && !ending.orphaned && ready && runs && linked
}

/// Sidecars stop after all others, the last one first.
fn is_turn(pod: Pod<'_>, container: Container<'_>, seen: &Observed) -> bool {
    if container.role != Role::Sidecar {
        return true;
    }
    let later = pod.init_containers().rev().take_while(|other| other.name() != container.name());
    let others = pod.containers().filter(|other| other.role != Role::Sidecar);
    later.chain(others).all(|other| seen.container(other.name()).is_quiet())
}

/// The next step of a stop: hook, signal, or a nearer deadline.
fn stop(
    container: Container<'_>,
    known: &observed::Container,
    deadline_ms: i64,
    turn: bool,
    now_ms: i64,
    plan: &mut Plan,
) {
    let name = Str::from(container.name());
    let limit_ms = deadline_ms.max(now_ms + WINDOW_MS);
    match known.stop {
        Stop::No if container.hook("preStop").is_some() && now_ms < deadline_ms => {
            plan.act(Action::PreStop { name, deadline_ms });
        }
        Stop::Hook { deadline_ms: told_ms } if now_ms < told_ms.min(deadline_ms) => plan.wake(told_ms.min(deadline_ms)),
        Stop::Signalled { deadline_ms: told_ms } => {
            if limit_ms < told_ms {
                plan.act(Action::Signal { name, deadline_ms: limit_ms });
            }
        }
        Stop::No | Stop::Hook { .. } | Stop::Hooked { .. } if turn => {
            plan.act(Action::Signal { name, deadline_ms: limit_ms });
        }
        Stop::No | Stop::Hook { .. } | Stop::Hooked { .. } => plan.wake(deadline_ms),
    }
}

#[cfg(test)]
mod tests;
