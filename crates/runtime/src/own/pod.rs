//! One pod: its process, from making or finding it to its end, and what is known of its containers.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_podspec::{Acknowledge, Exited, ProcessState, Shutdown, Welcome};
use tokio::sync::{RwLock, oneshot};

use super::container::Container;
use super::link::Link;
use super::record::{ContainerRecord, check_name};
use super::{Node, blocking, container};
use crate::Error;
use crate::engine::{ContainerId, EngineError, Event, Exit, PodState};
use crate::plan::{self, refused};
use crate::spec::PodSpec;

/// A pod process that has not ended by then after it was told to is killed.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// Attempts to come back to a pod process that has cut the connection but still listens.
const RECONNECTS_MAX: u32 = 20;
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// Pause before an end that could not be written down is written again.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// Code of a process that died with its pod.
const KILLED: i32 = 137;

pub(super) struct Pod {
    /// Held to read by what happens in a pod, to write by what makes or ends it.
    pub(super) turn: RwLock<()>,
    /// Held by who writes a container's record: its start and its end may come at the same moment, and the end is to stay.
    pub(super) records: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) spec: Arc<PodSpec>,
    phase: Phase,
    pid: u32,
    pub(super) containers: BTreeMap<(String, u32), Container>,
    /// Who waits for the end of what runs beside a container.
    pub(super) execs: HashMap<u64, oneshot::Sender<Exit>>,
    pub(super) last_key: u64,
}

enum Phase {
    New,
    Runs(Arc<Link>),
    /// The pod process is gone.
    Gone,
    /// It is being ended by us.
    Ending,
}

impl Pod {
    fn new(spec: PodSpec) -> Self {
        let state = State {
            spec: Arc::new(spec),
            phase: Phase::New,
            pid: 0,
            containers: BTreeMap::new(),
            execs: HashMap::new(),
            last_key: 0,
        };
        Self { turn: RwLock::new(()), records: tokio::sync::Mutex::default(), state: Mutex::new(state) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spec(&self) -> Arc<PodSpec> {
        self.state().spec.clone()
    }

    pub(super) fn link(&self) -> Result<Arc<Link>, EngineError> {
        let state = self.state();
        match &state.phase {
            Phase::Runs(link) => Ok(link.clone()),
            _ => Err(EngineError::Gone(format!("pod {}", state.spec.id))),
        }
    }

    /// The group of a container's newest attempt, or the pod's own for the empty name.
    pub(super) fn group_of(&self, node: &Node, name: &str) -> Result<PathBuf, EngineError> {
        let spec = self.spec();
        if name.is_empty() {
            return node.groups.pod(&spec);
        }
        let attempt =
            self.state().containers.keys().filter(|(known, _)| known == name).map(|(_, attempt)| *attempt).max();
        let attempt = attempt.ok_or_else(|| EngineError::Gone(format!("container {name}")))?;
        node.groups.container(&spec, &ContainerId { pod: spec.id.clone(), name: name.to_owned(), attempt })
    }

    /// What there is to tell; nothing of a pod that is being made.
    pub(super) fn describe(&self) -> Option<PodState> {
        let state = self.state();
        if matches!(state.phase, Phase::New) {
            return None;
        }
        let containers = state.containers.iter().filter(|(_, container)| container.began);
        let containers =
            containers.map(|((name, attempt), container)| container.describe(&state.spec.id, name, *attempt));
        Some(PodState { id: state.spec.id.clone(), pid: state.pid, containers: containers.collect() })
    }

    fn runs(&self, link: &Arc<Link>, pid: u32) {
        let mut state = self.state();
        state.phase = Phase::Runs(link.clone());
        state.pid = pid;
    }
}

/// Makes the pod, unless it stands. What is left of one whose process is gone is cleared first.
pub(super) async fn create(node: &Arc<Node>, spec: PodSpec) -> Result<u32, EngineError> {
    check_name(&spec.id)?;
    let pod = node.pods().entry(spec.id.clone()).or_insert_with(|| Arc::new(Pod::new(spec.clone()))).clone();
    let _turn = pod.turn.write().await;
    let left = {
        let state = pod.state();
        match state.phase {
            Phase::Runs(_) => return Ok(state.pid),
            Phase::Ending => return Err(EngineError::Gone(format!("pod {}", spec.id))),
            Phase::Gone => Some(state.spec.clone()),
            Phase::New => None,
        }
    };
    if let Some(old) = left {
        clear(node, &old).await?;
        pod.state().containers.clear();
    }
    pod.state().spec = Arc::new(spec.clone());
    let made = make(node, &pod, &spec).await;
    if let Err(error) = &made {
        tracing::debug!(pod = spec.id, %error, "pod was not made");
        pod.state().phase = Phase::Ending;
        node.pods().remove(&spec.id);
        clear(node, &spec).await?;
    }
    made
}

async fn make(node: &Arc<Node>, pod: &Arc<Pod>, spec: &PodSpec) -> Result<u32, EngineError> {
    let (setup, child, connection) = {
        let (node, spec) = (node.clone(), spec.clone());
        blocking(move || {
            node.files.write_pod(&spec)?;
            let joins = node.groups.make_pod(&spec)?;
            let setup = plan::setup(&spec, joins)?;
            let socket = node.files.socket(&spec.id);
            let spawned = crate::spawn(&node.program, &socket);
            let (child, connection) = spawned
                .map_err(|error| EngineError::Failed(format!("pod process at {}: {error}", socket.display())))?;
            Ok((setup, child, connection))
        })
        .await?
    };
    let asked = async {
        let link = Link::new(connection)?;
        let welcome = link.hello().await?;
        link.call_alone(setup).await?;
        Ok::<_, Error>((Arc::new(link), welcome.pid))
    };
    let (link, pid) = match asked.await {
        Ok(ready) => ready,
        Err(error) => {
            // Without its connection it ends by itself: it is not set up.
            reap(Some(child)).await;
            return Err(refused(error));
        }
    };
    pod.runs(&link, pid);
    node.tasks.spawn("pod", follow(node.clone(), pod.clone(), link, Some(child)));
    Ok(pid)
}

/// Waits for the end of a pod process that is our child.
async fn reap(child: Option<Child>) {
    let Some(mut child) = child else { return };
    let ended = blocking(move || child.wait().map_err(|error| EngineError::Failed(error.to_string())));
    if let Err(error) = ended.await {
        tracing::warn!(%error, "pod process was not waited for");
    }
}

/// Takes over every pod of the records.
pub(super) async fn adopt_all(node: &Arc<Node>) -> Result<(), EngineError> {
    // The record is the first thing that a pod gets, and its groups go before it does.
    node.files.remains()?.iter().try_for_each(|id| node.files.remove_pod(id))?;
    node.files.sweep()?;
    for (id, spec) in node.files.pods()? {
        let spec = match spec {
            Ok(spec) => spec,
            Err(error) => {
                discard(node, &id, error).await?;
                continue;
            }
        };
        let pod = Arc::new(Pod::new(spec));
        load(&pod, node.files.containers(&id)?);
        match come_back(node, &id).await {
            Found::Here(link, welcome) => {
                resume(node, &pod, &link, welcome).await;
                node.tasks.spawn("pod", follow(node.clone(), pod.clone(), link, None));
            }
            Found::Nobody | Found::Silent => is_gone(node, &pod),
        }
        node.pods().insert(id, pod);
    }
    Ok(())
}

/// Removes what is left of a pod whose record cannot be read: the machine lost its power before it was on disk. With a process
/// that lives that is no explanation, and nothing is touched.
async fn discard(node: &Node, id: &str, error: EngineError) -> Result<(), EngineError> {
    match come_back(node, id).await {
        Found::Nobody => {}
        Found::Here(..) | Found::Silent => return Err(error),
    }
    tracing::error!(pod = id, %error, "pod is removed: its record cannot be read");
    node.files.remove_pod(id)
}

fn load(pod: &Pod, containers: Vec<(ContainerId, ContainerRecord)>) {
    let mut state = pod.state();
    for (id, record) in containers {
        state.last_key = state.last_key.max(record.key);
        state.containers.insert((id.name, id.attempt), Container::recorded(&record));
    }
}

/// Who is at a pod's socket.
enum Found {
    /// Nobody, or one that was never set up and ends without us.
    Nobody,
    /// Somebody who listens and does not answer, or answers another control.
    Silent,
    Here(Arc<Link>, Welcome),
}

/// Connects to a pod process that should be there.
async fn come_back(node: &Node, id: &str) -> Found {
    let socket = node.files.socket(id);
    for _ in 0..RECONNECTS_MAX {
        match Link::adopt(&socket).await {
            Ok((_, welcome)) if !welcome.set_up => return Found::Nobody,
            Ok((link, welcome)) => return Found::Here(Arc::new(link), welcome),
            Err(Error::Io(error))
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Found::Nobody;
            }
            Err(error) => tracing::debug!(pod = id, %error, "pod process does not answer"),
        }
        node.clock.sleep(RECONNECT_PAUSE).await;
    }
    tracing::error!(pod = id, "pod process listens but does not answer: given up");
    Found::Silent
}

/// Compares what is known with what the pod process says, which is right.
async fn resume(node: &Arc<Node>, pod: &Arc<Pod>, link: &Arc<Link>, welcome: Welcome) {
    let known: BTreeMap<u64, &ProcessState> = welcome.processes.iter().map(|process| (process.key, process)).collect();
    {
        let mut state = pod.state();
        state.last_key = state.last_key.max(known.keys().last().copied().unwrap_or(0));
        // What was asked for and did not come to be is no container.
        state.containers.retain(|_, container| container.exit.is_some() || known.contains_key(&container.key));
        for container in state.containers.values_mut() {
            if let Some(process) = known.get(&container.key) {
                container.began(process.pid, process.started_ns);
            }
        }
    }
    pod.runs(link, welcome.pid);
    for exited in welcome.processes.into_iter().filter_map(|process| process.exited) {
        ended(node, pod, link, exited).await;
    }
}

/// Takes what the pod process tells, until it is gone or we are told to end.
async fn follow(node: Arc<Node>, pod: Arc<Pod>, mut link: Arc<Link>, child: Option<Child>) {
    let mut stopped = node.tasks.stopped();
    loop {
        let told = tokio::select! {
            told = link.next_exit() => told,
            // Whoever has asked the pod process for something still gets its answer.
            () = stopped.wait() => return link.finish().await,
        };
        match told {
            Ok(exited) => ended(&node, &pod, &link, exited).await,
            Err(error) => {
                let id = pod.spec().id.clone();
                tracing::debug!(pod = id, %error, "connection to the pod process has ended");
                let Found::Here(newer, welcome) = come_back(&node, &id).await else { break };
                resume(&node, &pod, &newer, welcome).await;
                link = newer;
            }
        }
    }
    reap(child).await;
    let was_ours = matches!(pod.state().phase, Phase::Ending);
    if !was_ours {
        let spec = pod.spec();
        is_gone(&node, &pod);
        // What lived in the host's process namespace has not died with it.
        if let Err(error) = clear_groups(&node, &spec).await {
            tracing::error!(pod = spec.id, %error, "control group is left");
        }
        node.tell(Event::PodGone(spec.id.clone())).await;
    }
}

/// Everything in the pod has died with its process.
fn is_gone(node: &Node, pod: &Pod) {
    let mut state = pod.state();
    state.phase = Phase::Gone;
    state.pid = 0;
    state.execs.clear();
    state.containers.retain(|_, container| container.began);
    let died = Exit { code: KILLED, signal: 9, finished_ns: node.clock.now_ms() * 1_000_000, out_of_memory: false };
    for container in state.containers.values_mut() {
        container.exit.get_or_insert(died);
    }
}

async fn clear_groups(node: &Node, spec: &PodSpec) -> Result<(), EngineError> {
    node.groups.clear(&node.groups.pod(spec)?, &node.clock).await
}

/// Removes all that a pod without a process has left.
async fn clear(node: &Arc<Node>, spec: &PodSpec) -> Result<(), EngineError> {
    clear_groups(node, spec).await?;
    let (node, id) = (node.clone(), spec.id.clone());
    blocking(move || node.files.remove_pod(&id)).await
}

/// A process has ended: whoever waits is told, and the pod process may forget it once that is written down.
async fn ended(node: &Arc<Node>, pod: &Arc<Pod>, link: &Arc<Link>, exited: Exited) {
    let key = exited.key;
    let exit = Exit {
        code: exited.code,
        signal: exited.signal,
        finished_ns: i64::try_from(exited.finished_ns).unwrap_or(i64::MAX),
        out_of_memory: false,
    };
    if let Some(waits) = pod.state().execs.remove(&key)
        && waits.send(exit).is_err()
    {
        tracing::debug!(key, "nobody waits for this exit");
    }
    let Some(event) = recorded(node, pod, key, exit).await else { return };
    if let Err(error) = link.post(Acknowledge { key }).await {
        tracing::debug!(key, %error, "exit is acknowledged after the next connection");
    }
    if let Some(event) = event {
        node.tell(event).await;
    }
}

/// Writes an end down, be it later: a disk may be full for a while. `None` when the pod goes, or we are told to end; the pod process
/// keeps it for the next connection.
async fn recorded(node: &Arc<Node>, pod: &Arc<Pod>, key: u64, exit: Exit) -> Option<Option<Event>> {
    let mut stopped = node.tasks.stopped();
    loop {
        match container::ended(node, pod, key, exit).await {
            Ok(event) => return Some(event),
            Err(error) => tracing::error!(pod = pod.spec().id, key, %error, "exit is not recorded yet"),
        }
        tokio::select! {
            () = stopped.wait() => return None,
            () = node.clock.sleep(RECORD_AGAIN) => {}
        }
        pod.link().ok()?;
    }
}

/// Ends a pod and removes all of it. One that is not there is removed already.
pub(super) async fn remove(node: &Arc<Node>, id: &str) -> Result<(), EngineError> {
    let Some(pod) = node.pods().get(id).cloned() else { return Ok(()) };
    let _turn = pod.turn.write().await;
    let link = pod.link().ok();
    let spec = pod.spec();
    pod.state().phase = Phase::Ending;
    if let Some(link) = link {
        let shutdown = link.call(Shutdown { forget_exits: true }, &[]);
        match tokio::time::timeout(SHUTDOWN_MAX, shutdown).await {
            Ok(Ok(_) | Err(Error::Closed)) => {}
            Ok(Err(error)) => tracing::warn!(pod = id, %error, "pod process refuses to end: it is killed"),
            Err(_) => tracing::warn!(pod = id, "pod process does not end: it is killed"),
        }
    }
    clear(node, &spec).await?;
    pod.state().execs.clear();
    node.pods().remove(id);
    Ok(())
}
