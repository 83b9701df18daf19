//! Starts the deeds that a plan asks for.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::error::unless_gone;
use corten_client::{Delete, Patch};
use corten_image::ImageError;
use corten_runtime::engine::{ContainerId, Exit};
use corten_stdx::error::Chain;
use tokio::sync::watch;

use super::{Kubelet, PODS};
use crate::deed;
use crate::drain;
use crate::ground::Ground;
use crate::hook;
use crate::observed::{Step, Stop};
use crate::plan::{Action, wanted_stop};
use crate::pod::Pod;
use crate::probe::{Kind, Probe};
use crate::status::status;
use crate::worker::{Outcome, Worker, status_patch};

const SIGTERM: i32 = 15;
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Kubelet {
    pub(super) fn act(&mut self, uid: &Str, action: &Action, now_ms: i64) {
        let Some(worker) = self.workers.get_mut(uid) else { return };
        if let Action::PreStop { name, .. } | Action::Signal { name, .. } = action
            && worker.seen.container(name).stop == Stop::No
        {
            tell_stop(&self.ground, worker, name);
        }
        worker.begin(action, now_ms);
        let Some(worker) = self.workers.get(uid) else { return };
        let of = self.subjected(worker);
        match action {
            Action::PrepareVolumes => {
                self.spawn(uid, async move { Outcome::Volumes(deed::prepare_volumes(of, false).await) });
            }
            Action::RemoveVolumes => {
                let ending = worker.seen.ending.as_ref();
                let logs = ending.is_some_and(|ending| ending.orphaned || ending.deleted_grace_s.is_some());
                self.spawn(uid, async move { Outcome::VolumesGone(deed::remove_volumes(of, logs).await) });
            }
            Action::CreateSandbox => {
                self.spawn(uid, async move { Outcome::Sandbox(deed::create_sandbox(of).await) });
            }
            Action::RemoveSandbox => {
                self.spawn(uid, async move { Outcome::SandboxGone(deed::remove_sandbox(of).await) });
            }
            Action::Start(name) => {
                let attempt = worker.seen.container(name).next_attempt;
                let (cancel, cancelled) = watch::channel(false);
                let name = name.clone();
                if let Some(worker) = self.workers.get_mut(uid) {
                    worker.starts.insert(name.clone(), cancel);
                }
                self.spawn(uid, async move {
                    let result = deed::start(of, name.clone(), attempt, cancelled).await;
                    Outcome::Start(name, result)
                });
            }
            Action::Cancel(name) => {
                if let Some(cancel) = worker.starts.get(name) {
                    cancel.send_replace(true);
                }
            }
            Action::Drain { deadline_ms } => {
                let limit = Duration::from_millis(u64::try_from(deadline_ms - now_ms).unwrap_or_default());
                self.spawn(uid, async move {
                    drain::drain(&of, limit).await;
                    Outcome::Drained
                });
            }
            Action::PreStop { name, deadline_ms } => self.pre_stop(uid, name, *deadline_ms, of, now_ms),
            Action::Signal { name, deadline_ms } => self.signal(uid, name, deadline_ms - now_ms),
            Action::TellPause { name, .. } => tell_pause(&self.ground, worker, name),
            Action::DeleteObject => self.delete(uid, of),
        }
    }

    pub(super) fn spawn(&self, uid: &Str, deed: impl Future<Output = Outcome> + Send + 'static) {
        let tasks = &self.ground.parts.tasks;
        let (uid, outcome, mut stopped) = (uid.clone(), self.outcome.clone(), tasks.stopped());
        tasks.spawn("pod", async move {
            let came = tokio::select! {
                biased;
                () = stopped.wait() => return,
                came = deed => came,
            };
            if outcome.send((uid, came)).await.is_err() {
                tracing::debug!("the loop has ended before a deed");
            }
        });
    }

    fn id(&self, uid: &Str, name: &Str) -> Option<ContainerId> {
        let current = self.workers.get(uid)?.seen.container(name).current.as_ref()?;
        Some(ContainerId { pod: uid.to_string(), name: name.to_string(), attempt: current.attempt })
    }

    fn pre_stop(&self, uid: &Str, name: &Str, deadline_ms: i64, of: deed::Subjected, now_ms: i64) {
        let Some(id) = self.id(uid, name) else { return };
        let limit = Duration::from_millis(u64::try_from(deadline_ms - now_ms).unwrap_or_default());
        let name = name.clone();
        self.spawn(uid, async move {
            let attempt = id.attempt;
            if let Some(container) = of.pod().container(&name)
                && let Some(action) = container.hook("preStop")
            {
                let ran = tokio::time::timeout(limit, hook::run(&of, container, &id, action)).await;
                // One that takes too long is no failure: time is simply up.
                if let Ok(Err(error)) = ran {
                    tracing::info!(pod = of.pod().long_name(), container = %name, error, "a preStop hook failed");
                    of.ground.tell(of.pod(), Some(container), false, "FailedPreStopHook", "PreStopHook failed");
                }
            }
            Outcome::Hooked(name, attempt)
        });
    }

    fn signal(&self, uid: &Str, name: &Str, limit_ms: i64) {
        let Some(id) = self.id(uid, name) else { return };
        let Some(worker) = self.workers.get(uid) else { return };
        let signal = stop_signal(&self.ground, worker.pod(), name);
        let limit = Duration::from_millis(u64::try_from(limit_ms).unwrap_or_default());
        let (engine, clock) = (self.ground.parts.engine.clone(), self.ground.parts.clock.clone());
        let name = name.clone();
        self.spawn(uid, async move {
            let result = engine.stop(&id, signal, limit).await;
            if let Err(error) = &result {
                tracing::warn!(container = ?id, %error, "a container is not stopped");
                clock.sleep(REFUSED_PAUSE).await;
            }
            Outcome::Signalled(name, result)
        });
    }

    fn delete(&self, uid: &Str, of: deed::Subjected) {
        self.spawn(uid, async move {
            let pod = of.pod();
            let delete = Delete { grace_period_s: Some(0), ..Delete::of(pod.uid()) };
            let done = of.ground.parts.client.delete(&PODS, pod.namespace(), pod.name(), &delete).await;
            let done = match unless_gone(done) {
                // Another pod has its name by now.
                Err(error) if error.is_conflict() => Ok(()),
                other => other.map(|_| ()),
            };
            Outcome::Deleted(done.map_err(|error| Chain(&error).to_string()))
        });
    }

    /// Follows a container that runs, and lets go of the attempt before it.
    pub(super) fn container_started(&mut self, uid: &Str, name: &Str, early: Option<Exit>) {
        let Some(id) = self.id(uid, name) else { return };
        let Some(worker) = self.workers.get(uid) else { return };
        let known = worker.seen.container(name);
        if known.failure.is_some() {
            return;
        }
        let running = known.is_running();
        if let Some(before) = id.attempt.checked_sub(1) {
            let engine = self.ground.parts.engine.clone();
            let path = self.ground.parts.settings.log_path(worker.pod(), name, 0).with_file_name("");
            let old = ContainerId { attempt: before, ..id.clone() };
            self.ground.parts.tasks.spawn("garbage", async move {
                if let Err(error) = engine.remove(&old).await {
                    tracing::debug!(container = ?old, %error, "an ended container stays");
                }
                // The logs of this attempt and the one before it can still be asked for.
                if let Some(oldest) = before.checked_sub(1) {
                    crate::logs::remove(&path, oldest);
                }
            });
        }
        match early {
            Some(exit) => self.exited(uid, name, id.attempt, exit),
            None if running => self.probe(uid, name),
            None => {}
        }
        self.tell_images();
    }

    fn probe(&mut self, uid: &Str, name: &Str) {
        let Some(id) = self.id(uid, name) else { return };
        let Some(worker) = self.workers.get(uid) else { return };
        let known = worker.seen.container(name);
        let (started, ready) = (known.started, known.ready);
        let Some(container) = worker.pod().container(name) else { return };
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| container.probe(kind.field()).is_some()).collect();
        let (heard, listening) = watch::channel(started);
        for kind in kinds {
            if kind == Kind::Startup && started {
                continue;
            }
            let verdict = match kind {
                Kind::Startup => None,
                // A container lives until the opposite is shown.
                Kind::Liveness => Some(true),
                Kind::Readiness => Some(ready),
            };
            let (of, id, started) = (self.subjected(worker), id.clone(), listening.clone());
            let probe = Probe { of, id, kind, verdict, started };
            self.spawn_probe(uid, probe, listening.clone());
        }
        if let Some(worker) = self.workers.get_mut(uid) {
            worker.probes.insert(name.clone(), heard);
        }
    }

    fn spawn_probe(&self, uid: &Str, probe: Probe, mut listening: watch::Receiver<bool>) {
        let tasks = &self.ground.parts.tasks;
        let (uid, outcome, mut stopped) = (uid.clone(), self.outcome.clone(), tasks.stopped());
        tasks.spawn("probe", async move {
            let unheard = async { while listening.changed().await.is_ok() {} };
            tokio::select! {
                () = stopped.wait() => {}
                () = unheard => {}
                () = probe.run(uid, outcome) => {}
            }
        });
    }

    /// Probes of what was taken over.
    pub(super) fn resume_probes(&mut self, uid: &Str) {
        let Some(worker) = self.workers.get(uid) else { return };
        let running = worker.seen.containers.iter().filter(|(_, known)| known.is_running());
        let running: Vec<Str> = running.map(|(name, _)| name.clone()).collect();
        for name in running {
            self.probe(uid, &name);
        }
    }

    /// Writes the status where it has changed. True when it is found to be told already that everything has ended.
    pub(super) fn tell_status(&mut self, uid: &Str, now_ms: i64) -> bool {
        let Some(worker) = self.workers.get_mut(uid) else { return false };
        let orphaned = worker.seen.ending.as_ref().is_some_and(|ending| ending.orphaned);
        if worker.writing || orphaned || worker.seen.object_left {
            return false;
        }
        if now_ms < worker.write_after_ms {
            let at_ms = worker.write_after_ms;
            worker.wake_ms = Some(worker.wake_ms.map_or(at_ms, |wake_ms| wake_ms.min(at_ms)));
            return false;
        }
        let hosts: Vec<String> = self.ground.parts.settings.addresses.iter().map(ToString::to_string).collect();
        let new = status(worker.pod(), &worker.seen, &hosts, now_ms);
        let under_way = worker.seen.sandbox == Step::UnderWay || worker.seen.volumes == Step::UnderWay;
        let ended = worker.seen.ending.is_some() && worker.seen.is_quiet() && !under_way;
        let old = worker.object.get("status").unwrap_or(&Value::Null);
        let Some(patch) = status_patch(old, &new) else {
            let news = ended && !worker.seen.end_told;
            worker.seen.end_told |= ended;
            return news;
        };
        worker.writing = true;
        let of = self.subjected(&self.workers[uid]);
        self.spawn(uid, async move {
            let pod = of.pod();
            let patch = Patch::Strategic(value!({"metadata": {"uid": (pod.uid())}, "status": patch}));
            let done = of.ground.parts.client.patch(&PODS, pod.namespace(), pod.name(), "status", &patch).await;
            let object = match unless_gone(done) {
                Ok(object) => Ok(object.map(without_managers)),
                Err(error) if error.is_conflict() => Ok(None),
                Err(error) => Err(Chain(&error).to_string()),
            };
            Outcome::Written { object, ended }
        });
        false
    }

    /// Tells the image store what it must keep.
    fn tell_images(&self) {
        let images = &self.ground.parts.images;
        let pods = self.workers.values().map(Worker::pod).filter(|pod| !pod.is_over());
        let references: BTreeSet<&str> =
            pods.flat_map(|pod| pod.containers().map(|container| container.image())).collect();
        let mut ids = Vec::new();
        for reference in references {
            match images.find(reference) {
                Ok(image) => ids.extend(image.map(|image| image.id.clone())),
                // A name that is none has no image.
                Err(ImageError::Reference { .. }) => {}
                // Which images are in use is not known now: what was said before stays, so that none of them is collected.
                Err(error) => {
                    tracing::warn!(reference, error = %Chain(&error), "the images in use cannot be told");
                    return;
                }
            }
        }
        images.set_in_use(ids);
    }

    /// Forgets a pod of which nothing is left, and shows the others to readers.
    pub(super) fn publish(&mut self, uid: &Str) {
        let Some(worker) = self.workers.get(uid) else { return };
        let seen = &worker.seen;
        let absent = |step| matches!(step, Step::Absent { .. });
        let nothing = absent(seen.sandbox) && absent(seen.volumes) && !seen.volumes_begun && seen.is_quiet();
        let orphaned = seen.ending.as_ref().is_some_and(|ending| ending.orphaned);
        if nothing && orphaned {
            self.workers.remove(uid);
            self.reading.remove(uid);
            self.unfollow(uid);
            self.tell_images();
        } else {
            self.reading.put(uid, &self.ground.parts.settings, worker);
        }
    }
}

fn without_managers(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

fn tell_stop(ground: &Ground, worker: &Worker, name: &Str) {
    let pod = worker.pod();
    let Some(container) = pod.container(name) else { return };
    let wanted = wanted_stop(pod, container, worker.seen.container(name)).filter(|_| worker.seen.ending.is_none());
    let note = wanted.map_or_else(|| format!("Stopping container {name}"), |kill| kill.message);
    ground.tell(pod, Some(container), true, "Killing", &note);
}

fn tell_pause(ground: &Ground, worker: &Worker, name: &Str) {
    let pod = worker.pod();
    let Some(container) = pod.container(name) else { return };
    if worker.seen.container(name).failure.is_some() {
        let note = format!("Back-off pulling image {:?}", container.image());
        ground.tell(pod, Some(container), true, "BackOff", &note);
        ground.tell(pod, Some(container), false, "Failed", "Error: ImagePullBackOff");
    } else {
        let note = format!("Back-off restarting failed container {name} in pod {}", pod.long_name());
        ground.tell(pod, Some(container), false, "BackOff", &note);
    }
}

/// The signal that asks a container to end: its own, its image's, or SIGTERM.
fn stop_signal(ground: &Ground, pod: Pod<'_>, name: &str) -> i32 {
    let Some(container) = pod.container(name) else { return SIGTERM };
    let own = container.value.str_at(&["lifecycle", "stopSignal"]);
    if !own.is_empty() {
        return signal_number(own);
    }
    let image = ground.parts.images.find(container.image()).ok().flatten();
    image.map_or(SIGTERM, |image| signal_number(&image.config.stop_signal))
}

fn signal_number(text: &str) -> i32 {
    let name = text.trim_start_matches("SIG");
    let names = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM",
    ];
    let position = names.iter().position(|known| *known == name).and_then(|at| i32::try_from(at + 1).ok());
    let others = [("WINCH", 28), ("CONT", 18), ("STOP", 19), ("PWR", 30)];
    let other = || others.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
    position.or_else(other).or_else(|| name.parse().ok()).filter(|number| *number > 0).unwrap_or(SIGTERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(
            ["", "SIGTERM", "TERM", "15", "SIGQUIT", "SIGWINCH", "9", "x"].map(signal_number),
            [15, 15, 15, 15, 3, 28, 9, 15]
        );
    }
}
