//! The node's loop: one place that hears of everything (objects, ends of containers, outcomes of deeds, the time), asks the
//! plan of the pod in question, and starts the deeds. Nothing in it waits.

mod act;
mod sources;
mod strays;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_apimachinery::value::{Str, Value};
use corten_client::cache::Key;
use corten_client::controller::{Driver, Leadership};
use corten_client::informer::{Informer, Scope};
use corten_client::{Error, Resource};
use corten_runtime::engine::{self, EngineError, Exit, PodState};
use corten_stdx::task::Stopped;
use tokio::sync::mpsc;

use crate::adopt;
use crate::deed::{self, Subjected};
use crate::env::ServiceView;
use crate::eviction::{self, Order, Watch, pressure};
use crate::ground::{Ground, Parts};
use crate::marks::{Mark, Marks};
use crate::node::facts::Facts;
use crate::observed::{Drain, Ending, Observed, Step, Stop};
use crate::plan::plan;
use crate::pod::Pod;
use crate::reading::Reading;
use crate::worker::{Outcome, Worker};
use crate::{admission, disks, logs, node};
use sources::Followed;
use strays::Strays;

pub const PODS: Resource = Resource::new("", "v1", "pods");
const SERVICES: Resource = Resource::new("", "v1", "services");

/// Outcomes that wait for the loop; deeds wait behind them.
const OUTCOMES_MAX: usize = 1024;

/// Pods that are to go at once; whoever says so waits.
const ORDERS_MAX: usize = 16;

/// Why a node cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("what runs on this node cannot be told")]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Client(#[from] Error),
}

pub(crate) struct Kubelet {
    pub(crate) ground: Arc<Ground>,
    marks: Arc<Marks>,
    informer: Informer<Value>,
    node: Informer<Value>,
    /// The node's own object as it was registered, until the cache has it.
    own: Value,
    workers: BTreeMap<Str, Worker>,
    followed: Followed,
    reading: Reading,
    happened: mpsc::Receiver<engine::Event>,
    outcomes: mpsc::Receiver<(Str, Outcome)>,
    outcome: mpsc::Sender<(Str, Outcome)>,
    /// Pods that the node can bear no longer.
    orders: mpsc::Receiver<Order>,
}

/// Takes over what runs and begins to run what is bound to this node. Resolves when everything is known.
pub async fn start(parts: Parts) -> Result<Reading, StartError> {
    let happened = parts.engine.events();
    let facts = Facts::read(&parts.settings.dir);
    let own = node::object(&parts.settings, &facts);
    let name = &parts.settings.name;
    let bound = Scope { fields: format!("spec.nodeName={name}"), ..Scope::all(PODS) };
    let informer = parts.informers.of::<Value>(bound);
    let node = parts.informers.of::<Value>(node::scope(name));
    let services = parts.informers.of::<ServiceView>(Scope::all(SERVICES));
    let allocatable = own.at(&["status", "allocatable"]).cloned().unwrap_or_default();
    let states = parts.engine.pods().await?;
    informer.synced().await;
    let (outcome, outcomes) = mpsc::channel(OUTCOMES_MAX);
    let (order, orders) = mpsc::channel(ORDERS_MAX);
    let tasks = parts.tasks.clone();
    let ground = Arc::new(Ground { parts, services, allocatable, memory_bytes: facts.memory_bytes });
    let marks = Arc::new(Marks::default());
    let (reading, workers) = (Reading::default(), BTreeMap::new());
    let followed = Followed::new(ground.parts.informers.clone(), marks.clone());
    let mut kubelet =
        Kubelet { ground, marks, informer, node, own, workers, followed, reading, happened, outcomes, outcome, orders };
    kubelet.adopt(states).await;
    let marks = kubelet.marks.clone();
    kubelet.informer.subscribe(move |change| marks.put(Mark::Pod(Key::of(change.held()))));
    let reading = kubelet.reading.clone();
    let (engine, clock) = (kubelet.ground.parts.engine.clone(), kubelet.ground.parts.clock.clone());
    tasks.spawn("log rotation", logs::rotate(reading.clone(), engine, clock, tasks.stopped()));
    let parts = &kubelet.ground.parts;
    let (clock, random, leadership) = (parts.clock.clone(), parts.random.clone(), Leadership::alone());
    let driver = Driver { clock, random, tasks: tasks.clone(), leadership };
    disks::controller(&parts.settings, &parts.client, &parts.informers).run(&driver);
    let watch = Watch::new(kubelet.ground.clone(), reading.clone(), order);
    tasks.spawn("eviction", watch.run(tasks.stopped()));
    let stopped = tasks.stopped();
    tasks.spawn("kubelet", kubelet.run(stopped));
    Ok(reading)
}

impl Kubelet {
    async fn run(mut self, mut stopped: Stopped) {
        let clock = self.ground.parts.clock.clone();
        loop {
            let wake_ms = self.workers.values().filter_map(|worker| worker.wake_ms).min();
            tokio::select! {
                () = stopped.wait() => return,
                marks = self.marks.take() => self.marked(marks),
                Some(event) = self.happened.recv() => self.happened(event),
                Some((uid, outcome)) = self.outcomes.recv() => self.came(&uid, outcome),
                Some(order) = self.orders.recv() => self.evict(order),
                () = clock.sleep_until_ms(wake_ms.unwrap_or(i64::MAX)), if wake_ms.is_some() => self.woke(),
            }
        }
    }

    /// Takes over what an earlier process has left, and ends what belongs to nobody any more.
    async fn adopt(&mut self, states: Vec<PodState>) {
        let now_ms = self.ground.parts.clock.now_ms();
        let mut states: BTreeMap<String, PodState> =
            states.into_iter().map(|state| (state.id.clone(), state)).collect();
        let mut known = BTreeSet::new();
        for held in self.informer.cache().all() {
            let state = states.remove(held.head.uid.as_str());
            let object = Arc::new(held.view.clone());
            let mut seen = adopt::observed(Pod(&object), state.as_ref(), now_ms);
            let is_lost = state.as_ref().is_some_and(|state| state.pid == 0);
            if let Some(state) = state.filter(|_| !is_lost && !Pod(&object).is_host_network()) {
                match deed::link(&self.ground, Pod(&object), state.pid).await {
                    Ok(addresses) => seen.addresses = addresses,
                    Err(error) => tracing::warn!(pod = Pod(&object).long_name(), %error, "the link of a pod is lost"),
                }
            }
            let mut worker = Worker::new(object, seen);
            // It was admitted before.
            worker.admitted = worker.seen.started_ms > 0;
            if is_lost {
                worker.lost(now_ms);
            }
            known.insert(held.head.uid.clone());
            self.workers.insert(held.head.uid.clone(), worker);
        }
        for uid in known.iter() {
            self.resume_probes(uid);
            self.look(uid);
        }
        match Strays::find(&self.ground, states.into_keys(), &known).await {
            Ok(strays) => strays.end(&self.ground),
            Err(error) => tracing::warn!(%error, "what pods have left is not found"),
        }
    }

    fn marked(&mut self, marks: BTreeSet<Mark>) {
        // Objects that are gone come first: what they leave is room for new ones.
        for mark in &marks {
            if let Mark::Pod(key) = mark {
                self.objects_gone(key);
            }
        }
        for mark in marks {
            match mark {
                Mark::Pod(key) => self.object_changed(&key),
                Mark::Source(kind, key) => self.source_changed(kind, &key),
            }
        }
    }

    /// Pods that had this name and have it no longer.
    fn objects_gone(&mut self, key: &Key) {
        let uid = self.informer.cache().get(&key.namespace, &key.name).map(|held| held.head.uid.clone());
        let of_name = |worker: &Worker| worker.pod().namespace() == key.namespace && worker.pod().name() == key.name;
        let gone: Vec<Str> = self
            .workers
            .iter()
            .filter(|(known, worker)| Some(*known) != uid.as_ref() && of_name(worker))
            .map(|(known, _)| known.clone())
            .collect();
        for uid in gone {
            self.object_gone(&uid);
        }
    }

    fn object_changed(&mut self, key: &Key) {
        let Some(held) = self.informer.cache().get(&key.namespace, &key.name) else { return };
        let uid = held.head.uid.clone();
        match self.workers.get_mut(&uid) {
            Some(worker) => {
                let labels = |object: &Value| object.at(&["metadata", "labels"]).cloned();
                let notes = |object: &Value| object.at(&["metadata", "annotations"]).cloned();
                let old = (labels(&worker.object), notes(&worker.object));
                worker.take(held.view.clone());
                worker.refresh |= old != (labels(&worker.object), notes(&worker.object));
            }
            None => {
                let seen = Observed { end_told: Pod(&held.view).is_over(), ..Observed::default() };
                self.workers.insert(uid.clone(), Worker::new(Arc::new(held.view.clone()), seen));
            }
        }
        self.look(&uid);
    }

    /// The object is gone: what still runs of it ends.
    fn object_gone(&mut self, uid: &Str) {
        let now_ms = self.ground.parts.clock.now_ms();
        let Some(worker) = self.workers.get_mut(uid) else { return };
        let grace_s = worker.pod().meta().deletion_grace_period_seconds().unwrap_or_else(|| worker.pod().grace_s());
        let deadline_ms = now_ms + grace_s.max(1) * 1000;
        let ending = worker.seen.ending.get_or_insert_with(|| Ending { deadline_ms, ..Ending::default() });
        ending.orphaned = true;
        ending.deadline_ms = ending.deadline_ms.min(deadline_ms);
        worker.seen.object_left = true;
        self.look(uid);
    }

    fn happened(&mut self, event: engine::Event) {
        let now_ms = self.ground.parts.clock.now_ms();
        match event {
            engine::Event::Exited(id, exit) => {
                let (uid, name) = (Str::from(id.pod), Str::from(id.name));
                let Some(worker) = self.workers.get_mut(&uid) else { return };
                if worker.is_known(&name, id.attempt, exit) {
                    self.exited(&uid, &name, id.attempt, exit);
                }
                self.look(&uid);
            }
            engine::Event::PodGone(id) => {
                let uid = Str::from(id);
                let Some(worker) = self.workers.get_mut(&uid) else { return };
                if worker.seen.sandbox == Step::There && worker.seen.ending.is_none() {
                    let note = "Pod sandbox changed, it will be killed and re-created.";
                    self.ground.tell(worker.pod(), None, true, "SandboxChanged", note);
                }
                worker.lost(now_ms);
                self.look(&uid);
            }
        }
    }

    fn exited(&mut self, uid: &Str, name: &Str, attempt: u32, exit: Exit) {
        let Some(worker) = self.workers.get_mut(uid) else { return };
        let object = worker.object.clone();
        let pod = Pod(&object);
        let settings = &self.ground.parts.settings;
        let message = pod.container(name).map(|container| deed::message(settings, pod, container, attempt, exit.code));
        worker.exited(name, attempt, exit, message.unwrap_or_default());
    }

    fn came(&mut self, uid: &Str, outcome: Outcome) {
        let now_ms = self.ground.parts.clock.now_ms();
        let Some(worker) = self.workers.get_mut(uid) else { return };
        let warn = |worker: &Worker, reason: &str, note: &str| {
            self.ground.tell(worker.pod(), None, false, reason, note);
        };
        match outcome {
            Outcome::Volumes(Ok(())) => worker.seen.volumes = Step::There,
            Outcome::Volumes(Err(error)) => {
                warn(worker, "FailedMount", &error);
                worker.seen.volumes = Worker::retry_at(now_ms);
            }
            Outcome::Refreshed(result) => {
                worker.seen.volumes_refreshing = false;
                if let Err(error) = result {
                    warn(worker, "FailedMount", &error);
                }
            }
            Outcome::VolumesGone(Ok(())) => (worker.seen.volumes, worker.seen.volumes_begun) = (Step::default(), false),
            Outcome::VolumesGone(Err(error)) => {
                warn(worker, "FailedKillPod", &format!("error killing pod: {error}"));
                worker.seen.volumes = Worker::retry_at(now_ms);
                worker.wake_ms = Some(now_ms);
            }
            Outcome::Sandbox(Ok(addresses)) => {
                (worker.seen.sandbox, worker.seen.sandbox_lost) = (Step::There, false);
                worker.seen.addresses = addresses;
            }
            Outcome::Sandbox(Err(error)) => {
                warn(worker, "FailedCreatePodSandBox", &format!("Failed to create pod sandbox: {error}"));
                worker.seen.sandbox = Worker::retry_at(now_ms);
            }
            Outcome::SandboxGone(Ok(())) => {
                (worker.seen.sandbox, worker.seen.sandbox_lost) = (Step::default(), false);
            }
            Outcome::SandboxGone(Err(error)) => {
                warn(worker, "FailedKillPod", &format!("error killing pod: {error}"));
                worker.seen.sandbox = Step::There;
            }
            Outcome::Start(name, result) => {
                let early = worker.started(&name, result, now_ms);
                self.container_started(uid, &name, early);
            }
            Outcome::Drained => worker.seen.drain = Drain::Done,
            Outcome::Hooked(name, attempt) => {
                let known = worker.seen.container_mut(&name);
                let same = known.current.as_ref().is_some_and(|current| current.attempt == attempt);
                if let (true, Stop::Hook { deadline_ms }) = (same, known.stop) {
                    known.stop = Stop::Hooked { deadline_ms };
                }
            }
            Outcome::Signalled(name, result) => self.signalled(uid, &name, result),
            Outcome::Found(found) => worker.found(&found),
            Outcome::Written { object, ended } => written(worker, object, ended, now_ms),
            Outcome::Deleted(Ok(())) => {}
            Outcome::Deleted(Err(error)) => {
                tracing::warn!(pod = worker.pod().long_name(), error, "a pod's object is not deleted");
                worker.seen.object_left = false;
            }
        }
        self.look(uid);
    }

    fn signalled(&mut self, uid: &Str, name: &Str, result: Result<(), EngineError>) {
        let now_ms = self.ground.parts.clock.now_ms();
        let Some(worker) = self.workers.get_mut(uid) else { return };
        let known = worker.seen.container_mut(name);
        let (attempt, Stop::Signalled { deadline_ms }) =
            (known.current.as_ref().map_or(0, |current| current.attempt), known.stop)
        else {
            return;
        };
        match result {
            Ok(()) => {}
            Err(EngineError::Gone(_)) => {
                let exit = Exit { code: 137, finished_ns: now_ms * 1_000_000, ..Exit::default() };
                self.exited(uid, name, attempt, exit);
            }
            Err(_) => known.stop = Stop::Hooked { deadline_ms },
        }
    }

    fn woke(&mut self) {
        let now_ms = self.ground.parts.clock.now_ms();
        let due = self.workers.iter().filter(|(_, worker)| worker.wake_ms.is_some_and(|at_ms| at_ms <= now_ms));
        let due: Vec<Str> = due.map(|(uid, _)| uid.clone()).collect();
        for uid in due {
            self.look(&uid);
        }
    }

    /// Does what the plan says, and tells what has become of the pod.
    pub(crate) fn look(&mut self, uid: &Str) {
        let now_ms = self.ground.parts.clock.now_ms();
        self.admit(uid, now_ms);
        loop {
            let Some(worker) = self.workers.get_mut(uid) else { return };
            let plan = plan(worker.pod(), &worker.seen, now_ms);
            worker.seen.ending = plan.ending;
            worker.wake_ms = plan.wake_ms;
            for action in plan.actions {
                self.act(uid, &action, now_ms);
            }
            self.refresh(uid, now_ms);
            if !self.tell_status(uid, now_ms) {
                break;
            }
        }
        self.follow(uid);
        self.publish(uid);
    }

    /// Decides once whether the node takes the pod.
    fn admit(&mut self, uid: &Str, now_ms: i64) {
        let Some(worker) = self.workers.get(uid) else { return };
        if worker.admitted || worker.seen.ending.is_some() {
            return;
        }
        let others: Vec<Pod<'_>> = self.workers.values().filter(|other| other.takes_room()).map(Worker::pod).collect();
        let held = self.node.cache().get("", &self.ground.parts.settings.name);
        let node = held.as_ref().map_or(&self.own, |held| &held.view);
        // A pod that is leaving or over is not asked again.
        let exempt = worker.pod().is_deleting() || worker.pod().is_over();
        let under = self.ground.parts.pressure.now();
        let admit =
            || pressure::admit(worker.pod(), under).and_then(|()| admission::admit(worker.pod(), &others, node));
        let verdict = if exempt { Ok(()) } else { admit() };
        let Some(worker) = self.workers.get_mut(uid) else { return };
        worker.admitted = true;
        worker.seen.started_ms = if worker.seen.started_ms == 0 { now_ms } else { worker.seen.started_ms };
        if let Err(verdict) = verdict {
            self.ground.tell(worker.pod(), None, false, &verdict.reason, &verdict.message);
            worker.seen.ending = Some(Ending { deadline_ms: now_ms, failed: Some(verdict), ..Ending::default() });
        }
    }

    /// The node cannot bear a pod any longer.
    fn evict(&mut self, order: Order) {
        let Order { uid, verdict } = order;
        let now_ms = self.ground.parts.clock.now_ms();
        let Some(worker) = self.workers.get_mut(&uid) else { return };
        if worker.pod().is_over() || worker.seen.object_left {
            return;
        }
        let deadline_ms = now_ms + eviction::GRACE_MS;
        let mut ending = worker.seen.ending.take().unwrap_or(Ending { deadline_ms, ..Ending::default() });
        ending.deadline_ms = ending.deadline_ms.min(deadline_ms);
        if ending.failed.is_none() {
            self.ground.tell(worker.pod(), None, false, &verdict.reason, &verdict.message);
            ending.failed = Some(verdict);
        }
        worker.seen.ending = Some(ending);
        self.look(&uid);
    }

    pub(crate) fn subjected(&self, worker: &Worker) -> Subjected {
        let (ground, object) = (self.ground.clone(), worker.object.clone());
        Subjected { ground, object, addresses: worker.seen.addresses.clone() }
    }
}

/// A status was written, or not.
fn written(worker: &mut Worker, object: Result<Option<Value>, String>, ended: bool, now_ms: i64) {
    worker.writing = false;
    match object {
        Ok(object) => {
            worker.seen.end_told |= ended;
            object.into_iter().for_each(|object| worker.take(object));
        }
        Err(error) => {
            tracing::warn!(pod = worker.pod().long_name(), error, "a pod's status is not written");
            worker.write_after_ms = now_ms + 1000;
        }
    }
}
