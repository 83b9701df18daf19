//! An engine, images and a network that only remember.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use corten_image::{Config, Credentials, Image, ImageError, Images};
use corten_kubelet::Traffic;
use corten_kubelet::eviction::gauge::Gauges;
use corten_kubelet::eviction::threshold::{Level, Levels, Signal};
use corten_network::{HostPort, NetworkError, PodNetwork};
use corten_runtime::engine::{
    Attached, ContainerId, ContainerState, Engine, EngineError, Event, Exit, PodState, Running, Streams, Usage,
};
use corten_runtime::spec::{ContainerSpec, ExecSpec, Limits, PodSpec};
use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, watch};

#[derive(Default)]
pub(crate) struct FakeEngine {
    state: Mutex<State>,
    /// Pods that are to be removed stay for now.
    held: watch::Sender<bool>,
}

/// No process has this number.
const NOBODY: u32 = u32::MAX;

#[derive(Default)]
struct State {
    pods: BTreeMap<String, PodState>,
    /// Everything that was ever started.
    started: Vec<ContainerSpec>,
    events: Option<mpsc::Sender<Event>>,
    /// Nothing ends when it is told to.
    stubborn: bool,
    /// Bytes of memory by name of container.
    memory: BTreeMap<String, u64>,
}

fn done<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl FakeEngine {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under it")
    }

    /// `name/attempt` of everything that was ever started.
    pub(crate) fn started(&self) -> Vec<String> {
        self.state().started.iter().map(|spec| format!("{}/{}", spec.name, spec.attempt)).collect()
    }

    pub(crate) fn spec(&self, name: &str) -> ContainerSpec {
        self.state().started.iter().rfind(|spec| spec.name == name).cloned().expect("it was started")
    }

    pub(crate) fn pod_ids(&self) -> Vec<String> {
        self.state().pods.keys().cloned().collect()
    }

    pub(crate) fn is_running(&self, name: &str) -> bool {
        let state = self.state();
        let mut all = state.pods.values().flat_map(|pod| &pod.containers);
        all.any(|one| one.id.name == name && one.exit.is_none())
    }

    /// From now on nothing ends when it is told to.
    pub(crate) fn ignore_stops(&self) {
        self.state().stubborn = true;
    }

    /// What a container of this name uses from now on.
    pub(crate) fn use_memory(&self, name: &str, bytes: u64) {
        self.state().memory.insert(name.to_owned(), bytes);
    }

    /// Ends the newest attempt of a container.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let id = {
            let state = self.state();
            let all = state.pods.values().flat_map(|pod| &pod.containers);
            let running = all.filter(|one| one.id.name == name && one.exit.is_none());
            running.map(|one| one.id.clone()).next_back().expect("it runs")
        };
        self.end(&id, code);
    }

    fn end(&self, id: &ContainerId, code: i32) {
        let exit = Exit { code, finished_ns: now_ns(), ..Exit::default() };
        let mut state = self.state();
        let pod = state.pods.get_mut(&id.pod).expect("the pod is there");
        let container = pod.containers.iter_mut().find(|one| one.id == *id).expect("the container is there");
        container.exit = Some(exit);
        if let Some(events) = &state.events {
            // Nobody listens between two lives of a node.
            drop(events.try_send(Event::Exited(id.clone(), exit)));
        }
    }

    /// Whether pods that are to be removed stay for now.
    pub(crate) fn hold_removals(&self, hold: bool) {
        self.held.send_replace(hold);
    }

    /// The machine goes down and comes up: every process is gone, and what is left of pods is records.
    pub(crate) fn reboot(&self) {
        let died = Exit { code: 137, signal: 9, finished_ns: now_ns(), ..Exit::default() };
        for pod in self.state().pods.values_mut() {
            pod.pid = 0;
            pod.containers.iter_mut().for_each(|container| container.exit = Some(container.exit.unwrap_or(died)));
        }
    }

    /// The pod's process dies, with everything in it.
    pub(crate) fn lose(&self, pod: &str) {
        let mut state = self.state();
        state.pods.remove(pod);
        let events = state.events.as_ref().expect("somebody listens");
        events.try_send(Event::PodGone(pod.to_owned())).expect("there is room");
    }
}

fn now_ns() -> i64 {
    corten_stdx::clock::Clock::system().now_ms() * 1_000_000
}

impl Engine for FakeEngine {
    fn create_pod<'a>(&'a self, spec: &'a PodSpec) -> BoxFuture<'a, Result<u32, EngineError>> {
        let new = || PodState { id: spec.id.clone(), pid: NOBODY, containers: Vec::new() };
        let mut state = self.state();
        let pod = state.pods.entry(spec.id.clone()).or_insert_with(new);
        // What is left of one whose process is gone is cleared.
        if pod.pid == 0 {
            *pod = new();
        }
        done(Ok(NOBODY))
    }

    fn start<'a>(
        &'a self,
        pod: &'a str,
        spec: &'a ContainerSpec,
    ) -> BoxFuture<'a, Result<ContainerState, EngineError>> {
        let id = ContainerId { pod: pod.to_owned(), name: spec.name.clone(), attempt: spec.attempt };
        let state = ContainerState { id, pid: 2, started_ns: now_ns(), exit: None };
        let mut all = self.state();
        if all.pods.get(pod).is_none_or(|pod| pod.pid == 0) {
            return done(Err(EngineError::Gone(pod.to_owned())));
        }
        all.started.push(spec.clone());
        all.pods.get_mut(pod).expect("the pod is there").containers.push(state.clone());
        done(Ok(state))
    }

    fn stop<'a>(&'a self, id: &'a ContainerId, signal: i32, _: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
        if !self.state().stubborn {
            self.end(id, 128 + signal);
        }
        done(Ok(()))
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), EngineError>> {
        if let Some(pod) = self.state().pods.get_mut(&id.pod) {
            pod.containers.retain(|one| one.id != *id);
        }
        done(Ok(()))
    }

    fn remove_pod<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        let mut held = self.held.subscribe();
        Box::pin(async move {
            assert!(held.wait_for(|held| !held).await.is_ok(), "the fake outlives the node");
            self.state().pods.remove(pod);
            Ok(())
        })
    }

    fn exec<'a>(
        &'a self,
        id: &'a ContainerId,
        _: &'a ExecSpec,
        _: Streams,
    ) -> BoxFuture<'a, Result<Running, EngineError>> {
        done(Err(EngineError::Gone(id.name.clone())))
    }

    fn attach<'a>(&'a self, id: &'a ContainerId, _: bool) -> BoxFuture<'a, Result<Attached, EngineError>> {
        done(Err(EngineError::Gone(id.name.clone())))
    }

    fn connect<'a>(&'a self, pod: &'a str, _: u16) -> BoxFuture<'a, Result<OwnedFd, EngineError>> {
        done(Err(EngineError::Gone(pod.to_owned())))
    }

    fn resize<'a>(&'a self, _: &'a str, _: &'a str, _: &'a Limits) -> BoxFuture<'a, Result<(), EngineError>> {
        done(Ok(()))
    }

    fn reopen_log<'a>(&'a self, _: &'a ContainerId) -> BoxFuture<'a, Result<(), EngineError>> {
        done(Ok(()))
    }

    fn usage<'a>(&'a self, pod: &'a str, name: &'a str) -> BoxFuture<'a, Result<Usage, EngineError>> {
        let state = self.state();
        let Some(known) = state.pods.get(pod) else { return done(Err(EngineError::Gone(pod.to_owned()))) };
        let running = known.containers.iter().filter(|one| one.exit.is_none());
        let own = running.map(|one| &one.id.name).filter(|own| name.is_empty() || *own == name);
        let working_set_bytes = own.filter_map(|own| state.memory.get(own)).sum();
        done(Ok(Usage { working_set_bytes, ..Usage::default() }))
    }

    fn written(&self, _: &ContainerId) -> Option<PathBuf> {
        None
    }

    fn pods(&self) -> BoxFuture<'_, Result<Vec<PodState>, EngineError>> {
        done(Ok(self.state().pods.values().cloned().collect()))
    }

    fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(64);
        self.state().events = Some(sender);
        receiver
    }

    fn path_in<'a>(&'a self, id: &'a ContainerId, _: &'a str) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        done(Err(EngineError::Gone(id.name.clone())))
    }
}

/// A node of 1 GiB and a disk of 1000 bytes that has enough of both, as long as nobody says otherwise.
#[derive(Default)]
pub(crate) struct FakeGauges {
    /// Memory is short while a container of this name runs.
    hog: Mutex<Option<(Arc<FakeEngine>, String)>>,
    /// The disk is short, until images go where they are what fills it.
    disk: Mutex<Fill>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fill {
    #[default]
    Little,
    Images,
    Other,
}

impl FakeGauges {
    pub(crate) fn fill_memory(&self, engine: &Arc<FakeEngine>, name: &str) {
        *self.hog.lock().expect("no panic under it") = Some((engine.clone(), name.to_owned()));
    }

    pub(crate) fn fill_disk(&self, fill: Fill) {
        *self.disk.lock().expect("no panic under it") = fill;
    }

    pub(crate) fn filled(&self) -> Fill {
        *self.disk.lock().expect("no panic under it")
    }
}

impl Gauges for FakeGauges {
    fn levels(&self) -> Levels {
        let hog = self.hog.lock().expect("no panic under it").clone();
        let is_short = hog.is_some_and(|(engine, name)| engine.is_running(&name));
        let memory = Level { available: if is_short { 50 << 20 } else { 500 << 20 }, capacity: 1 << 30 };
        let disk = Level { available: if self.filled() == Fill::Little { 500 } else { 50 }, capacity: 1000 };
        Levels::from([(Signal::MemoryAvailable, memory), (Signal::NodefsAvailable, disk)])
    }

    fn images_apart(&self) -> bool {
        false
    }
}

/// Has every image but `missing`, which no registry has either.
pub(crate) struct FakeImages(pub(crate) Arc<FakeGauges>);

impl Images for FakeImages {
    fn find(&self, reference: &str) -> Result<Option<Arc<Image>>, ImageError> {
        let config = Config { cmd: vec!["/app".to_owned()], ..Config::default() };
        let tags = vec![format!("registry.example/{reference}")];
        let image = Image { id: "sha256:1".to_owned(), tags, config, ..Image::default() };
        Ok((reference != "missing").then(|| Arc::new(image)))
    }

    fn pull<'a>(&'a self, reference: &'a str, _: &'a [Credentials]) -> BoxFuture<'a, Result<Arc<Image>, ImageError>> {
        done(Err(ImageError::NotFound { reference: reference.to_owned(), detail: "nobody has it".to_owned() }))
    }

    fn list(&self) -> Vec<Arc<Image>> {
        Vec::new()
    }

    fn set_in_use(&self, _: Vec<String>) {}

    fn remove_unused(&self) -> Result<u64, ImageError> {
        if self.0.filled() != Fill::Images {
            return Ok(0);
        }
        self.0.fill_disk(Fill::Little);
        Ok(1000)
    }
}

/// Leads to every pod until it is told to let go.
#[derive(Default)]
pub(crate) struct FakeTraffic {
    pub(crate) asked: watch::Sender<Vec<IpAddr>>,
    pub(crate) left: watch::Sender<bool>,
}

impl Traffic for FakeTraffic {
    fn left(&self, address: IpAddr) -> BoxFuture<'_, ()> {
        self.asked.send_modify(|asked| asked.push(address));
        let mut left = self.left.subscribe();
        Box::pin(async move { assert!(left.wait_for(|left| *left).await.is_ok(), "the fake outlives the node") })
    }
}

#[derive(Default)]
pub(crate) struct FakeNetwork(Mutex<BTreeMap<String, (IpAddr, Vec<HostPort>)>>);

impl FakeNetwork {
    /// Ports of the node that lead to some pod.
    pub(crate) fn published(&self) -> Vec<HostPort> {
        self.0.lock().expect("no panic under it").values().flat_map(|(_, ports)| ports.clone()).collect()
    }
}

impl PodNetwork for FakeNetwork {
    fn attach<'a>(&'a self, pod: &'a str, _: u32) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>> {
        let mut known = self.0.lock().expect("no panic under it");
        let next = u8::try_from(known.len() + 2).expect("few pods");
        let new = || (IpAddr::from([10, 244, 0, next]), Vec::new());
        done(Ok(vec![known.entry(pod.to_owned()).or_insert_with(new).0]))
    }

    fn publish<'a>(&'a self, pod: &'a str, ports: &'a [HostPort]) -> BoxFuture<'a, Result<(), NetworkError>> {
        let mut known = self.0.lock().expect("no panic under it");
        let found = known.get_mut(pod).map(|(_, own)| *own = ports.to_vec());
        done(found.ok_or_else(|| NetworkError::Unlinked { pod: pod.to_owned() }))
    }

    fn detach<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        self.0.lock().expect("no panic under it").remove(pod);
        done(Ok(()))
    }

    fn attached(&self) -> Vec<String> {
        self.0.lock().expect("no panic under it").keys().cloned().collect()
    }
}
