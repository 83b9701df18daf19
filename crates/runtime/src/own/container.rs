//! Containers of a pod: start, stop, end, removal.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corten_podspec::{Done, Exec, Failed, ReopenLog, Signal, Start, Step};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::pod::Pod;
use super::record::{ContainerRecord, check_name};
use super::{Node, blocking};
use crate::Error;
use crate::engine::{ContainerId, ContainerState, EngineError, Event, Exit};
use crate::plan::{self, Identity, Places, c_path, devices, not_run, refused};
use crate::spec::{ContainerSpec, PodSpec};

const KILL: i32 = 9;
const NO_SUCH_PROCESS: i32 = 3;

/// What is known of a container.
pub(super) struct Container {
    pub(super) key: u64,
    /// The pod process has started it. Before that nobody hears of it.
    pub(super) began: bool,
    pid: u32,
    started_ns: i64,
    pub(super) exit: Option<Exit>,
}

impl Container {
    const fn asked(key: u64) -> Self {
        Self { key, began: false, pid: 0, started_ns: 0, exit: None }
    }

    pub(super) fn recorded(record: &ContainerRecord) -> Self {
        let ContainerRecord { key, started_ns, exit } = *record;
        Self { key, began: exit.is_some() || started_ns > 0, pid: 0, started_ns, exit }
    }

    pub(super) fn began(&mut self, pid: u32, started_ns: u64) {
        self.began = true;
        self.pid = pid;
        self.started_ns = i64::try_from(started_ns).unwrap_or(i64::MAX);
    }

    const fn record(&self) -> ContainerRecord {
        ContainerRecord { key: self.key, started_ns: self.started_ns, exit: self.exit }
    }

    pub(super) fn describe(&self, pod: &str, name: &str, attempt: u32) -> ContainerState {
        ContainerState {
            id: ContainerId { pod: pod.to_owned(), name: name.to_owned(), attempt },
            pid: if self.exit.is_some() { 0 } else { self.pid },
            started_ns: self.started_ns,
            exit: self.exit,
        }
    }
}

fn entry(id: &ContainerId) -> (String, u32) {
    (id.name.clone(), id.attempt)
}

fn gone(id: &ContainerId) -> EngineError {
    EngineError::Gone(format!("container {} of pod {}", id.name, id.pod))
}

/// Starts a container that is not there yet.
pub(super) async fn start(node: &Arc<Node>, pod: &str, spec: ContainerSpec) -> Result<ContainerState, EngineError> {
    check_name(&spec.name)?;
    let pod = node.pod(pod)?;
    let _turn = pod.turn.read().await;
    let link = pod.link()?;
    let pod_spec = pod.spec();
    let id = ContainerId { pod: pod_spec.id.clone(), name: spec.name.clone(), attempt: spec.attempt };
    let key = match begin(&pod, &id)? {
        Begun::There(state) => return Ok(state),
        Begun::New { key } => key,
    };
    let args = spec.args.clone();
    let planned = {
        let (node, id) = (node.clone(), id.clone());
        blocking(move || prepare(&node, &pod_spec, &id, &spec, key)).await
    };
    let started = match planned {
        Ok(plan) => link.call(plan, &[]).await.map_err(|error| (is_lost(&error), not_run(error, &args))),
        Err(error) => Err((false, error)),
    };
    match started {
        Ok(answer) => Ok(record_start(node, &pod, &id, &answer.done).await),
        // Whether it runs, the next connection tells.
        Err((true, error)) => Err(error),
        Err((false, error)) => {
            pod.state().containers.remove(&entry(&id));
            forget(node, &pod.spec(), &id).await?;
            Err(error)
        }
    }
}

/// The connection broke before the answer.
const fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Io(_) | Error::Closed | Error::Unexpected)
}

enum Begun {
    There(ContainerState),
    New { key: u64 },
}

/// Takes the place of a new container, so that nobody else starts it.
fn begin(pod: &Pod, id: &ContainerId) -> Result<Begun, EngineError> {
    let mut state = pod.state();
    match state.containers.get(&entry(id)) {
        Some(container) if container.began => {
            return Ok(Begun::There(container.describe(&id.pod, &id.name, id.attempt)));
        }
        Some(_) => return Err(EngineError::Failed(format!("container {} is being started", id.name))),
        None => {}
    }
    state.last_key += 1;
    let key = state.last_key;
    state.containers.insert(entry(id), Container::asked(key));
    Ok(Begun::New { key })
}

/// Everything that is on this side before the pod process is asked.
fn prepare(node: &Node, pod: &PodSpec, id: &ContainerId, spec: &ContainerSpec, key: u64) -> Result<Start, EngineError> {
    let identity = Identity::resolve(&node.host, pod, spec)?;
    node.files.make_container(id, &ContainerRecord { key, ..ContainerRecord::default() })?;
    if let Some(folder) = spec.log_path.parent() {
        let made = std::fs::create_dir_all(folder);
        made.map_err(|error| EngineError::Failed(format!("log folder {}: {error}", folder.display())))?;
    }
    let devices = devices::allowed(&spec.security, &devices::nodes(spec)?);
    let group = node.groups.container(pod, id)?;
    let (cgroup2, cgroup_joins) = node.groups.make_container(&group, &spec.limits, devices.as_deref())?;
    let (upper, work) = (c_path(node.files.upper(id))?, c_path(node.files.work(id))?);
    let places = Places { key, upper, work, cgroup2, cgroup_joins };
    let plan = plan::start(&node.host, pod, spec, &identity, places)?;
    let template = Exec {
        container: key,
        credentials: plan.credentials.clone(),
        cgroup2: plan.cgroup2.clone(),
        cgroup_joins: plan.cgroup_joins.clone(),
        ..Exec::default()
    };
    node.files.write_exec(id, template)?;
    Ok(plan)
}

async fn record_start(node: &Arc<Node>, pod: &Pod, id: &ContainerId, done: &Done) -> ContainerState {
    let state = {
        let mut state = pod.state();
        let container = state.containers.entry(entry(id)).or_insert_with(|| Container::asked(0));
        container.began(done.pid, done.started_ns);
        container.describe(&id.pod, &id.name, id.attempt)
    };
    // What ends at once may have ended by now, and even be removed.
    let _turn = pod.records.lock().await;
    let record = pod.state().containers.get(&entry(id)).map(Container::record);
    // The record's key alone is enough to find it again: the pod process knows the rest.
    if let Some(record) = record {
        let (node, id) = (node.clone(), id.clone());
        if let Err(error) = blocking(move || node.files.write_container(&id, &record)).await {
            tracing::warn!(%error, "start is not recorded");
        }
    }
    state
}

/// If the key is a container's, its end is written down. What is left of it is killed and its group removed.
pub(super) async fn ended(
    node: &Arc<Node>,
    pod: &Arc<Pod>,
    key: u64,
    exit: Exit,
) -> Result<Option<Event>, EngineError> {
    let spec = pod.spec();
    let turn = pod.records.lock().await;
    let found = {
        let state = pod.state();
        let mut all = state.containers.iter();
        all.find(|(_, container)| container.key == key && container.exit.is_none()).map(
            |((name, attempt), container)| {
                (ContainerId { pod: spec.id.clone(), name: name.clone(), attempt: *attempt }, container.record())
            },
        )
    };
    let Some((id, record)) = found else { return Ok(None) };
    let group = node.groups.container(&spec, &id)?;
    let exit = Exit { out_of_memory: node.groups.was_out_of_memory(&group), ..exit };
    {
        let (node, id) = (node.clone(), id.clone());
        let record = ContainerRecord { exit: Some(exit), ..record };
        blocking(move || node.files.write_container(&id, &record)).await?;
    }
    if let Some(container) = pod.state().containers.get_mut(&entry(&id)) {
        container.began = true;
        container.exit = Some(exit);
    }
    drop(turn);
    if let Err(error) = node.groups.clear(&group, &node.clock).await {
        tracing::warn!(%error, container = id.name, "control group is left until the container is removed");
    }
    Ok(Some(Event::Exited(id, exit)))
}

/// Whether the container runs, and under which key.
pub(super) fn running(pod: &Pod, id: &ContainerId) -> Result<Option<u64>, EngineError> {
    let state = pod.state();
    let container = state.containers.get(&entry(id)).filter(|container| container.began).ok_or_else(|| gone(id))?;
    Ok(container.exit.is_none().then_some(container.key))
}

pub(super) async fn stop(node: &Node, id: &ContainerId, signal: i32, limit: Duration) -> Result<(), EngineError> {
    let pod = node.pod(&id.pod)?;
    let Some(key) = running(&pod, id)? else { return Ok(()) };
    let kill_after_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let signal = if kill_after_ms == 0 { KILL } else { signal };
    match pod.link()?.call(Signal { key, signal, kill_after_ms }, &[]).await {
        // It ended meanwhile.
        Err(Error::Failed(Failed { step: Step::State | Step::Signal, errno: NO_SUCH_PROCESS, .. })) => Ok(()),
        other => other.map(drop).map_err(refused),
    }
}

pub(super) async fn remove(node: &Arc<Node>, id: &ContainerId) -> Result<(), EngineError> {
    let Ok(pod) = node.pod(&id.pod) else { return Ok(()) };
    let _turn = pod.turn.read().await;
    match running(&pod, id) {
        Ok(None) => {}
        Ok(Some(_)) => return Err(EngineError::Failed(format!("container {} runs", id.name))),
        Err(_) => return Ok(()),
    }
    forget(node, &pod.spec(), id).await?;
    pod.state().containers.remove(&entry(id));
    Ok(())
}

async fn forget(node: &Arc<Node>, spec: &PodSpec, id: &ContainerId) -> Result<(), EngineError> {
    node.groups.clear(&node.groups.container(spec, id)?, &node.clock).await?;
    let (node, id) = (node.clone(), id.clone());
    blocking(move || node.files.remove_container(&id)).await
}

pub(super) async fn reopen_log(node: &Node, id: &ContainerId) -> Result<(), EngineError> {
    let pod = node.pod(&id.pod)?;
    let Some(key) = running(&pod, id)? else { return Ok(()) };
    match pod.link()?.call(ReopenLog { key }, &[]).await {
        Err(Error::Failed(Failed { step: Step::State, errno: NO_SUCH_PROCESS, .. })) => Ok(()),
        other => other.map(drop).map_err(refused),
    }
}

/// Looks the path up with the container's root as its limit, so that the result holds no link.
pub(super) fn path_in(node: &Node, id: &ContainerId, path: &str) -> Result<PathBuf, EngineError> {
    let pod = node.pod(&id.pod)?;
    let pid = {
        let state = pod.state();
        let container = state.containers.get(&entry(id)).ok_or_else(|| gone(id))?;
        if container.exit.is_some() || container.pid == 0 {
            return Err(gone(id));
        }
        container.pid
    };
    let failed = |error: rustix::io::Errno| EngineError::Failed(format!("{path} in container {}: {error}", id.name));
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let open = OFlags::PATH | OFlags::CLOEXEC;
    let limit = openat(CWD, &root, open | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(&limit, path, open, Mode::empty(), inside).map_err(failed)?;
    let shown = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found)));
    let shown = shown.map_err(|error| EngineError::Failed(format!("{path}: {error}")))?;
    Ok(root.join(shown.strip_prefix("/").unwrap_or(&shown)))
}
