//! What others may read of the node's pods while the loop goes on: the node's server, the rotation of logs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corten_apimachinery::value::{Str, Value};
use corten_runtime::engine::ContainerId;
use futures_core::future::BoxFuture;
use tokio::sync::watch;

use crate::server::{ContainerView, Host, LogFile, PodView};
use crate::settings::Settings;
use crate::worker::Worker;

/// A pod as the loop last left it.
#[derive(Clone, Debug)]
pub struct PodReading {
    pub object: Arc<Value>,
    pub containers: Vec<ContainerReading>,
}

/// A container of any kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerReading {
    pub name: String,
    /// The newest attempt, if there was one.
    pub attempt: Option<u32>,
    pub running: bool,
    /// The reason why it waits, where it has never run.
    pub waits: String,
    /// The log of the newest attempt, and of the one before it.
    pub log: PathBuf,
    pub previous_log: Option<(u32, PathBuf)>,
}

/// Cheap to clone.
#[derive(Clone, Default)]
pub struct Reading(Arc<Shared>);

struct Shared {
    pods: Mutex<BTreeMap<Str, PodReading>>,
    changed: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { pods: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Reading {
    fn pods_mut(&self) -> MutexGuard<'_, BTreeMap<Str, PodReading>> {
        self.0.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pod of this node, by UID.
    pub fn all(&self) -> Vec<(Str, PodReading)> {
        self.pods_mut().iter().map(|(uid, pod)| (uid.clone(), pod.clone())).collect()
    }

    pub fn named(&self, namespace: &str, name: &str) -> Option<(Str, PodReading)> {
        let of_name = |pod: &PodReading| {
            pod.object.str_at(&["metadata", "namespace"]) == namespace
                && pod.object.str_at(&["metadata", "name"]) == name
        };
        self.pods_mut().iter().find(|(_, pod)| of_name(pod)).map(|(uid, pod)| (uid.clone(), pod.clone()))
    }

    /// Resolves when this attempt of a container does not run, which may be at once.
    async fn wait_end(&self, id: &ContainerId) {
        let runs = || {
            let pods = self.pods_mut();
            let containers = pods.get(id.pod.as_str()).map(|pod| pod.containers.as_slice()).unwrap_or_default();
            containers.iter().any(|one| one.name == id.name && one.attempt == Some(id.attempt) && one.running)
        };
        let mut changed = self.0.changed.subscribe();
        changed.wait_for(|_| !runs()).await.expect("the sender is held by this handle");
    }

    pub(crate) fn put(&self, uid: &Str, settings: &Settings, worker: &Worker) {
        let pod = worker.pod();
        let containers = pod.containers().map(|container| {
            let known = worker.seen.container(container.name());
            let attempt = known.current.as_ref().map(|current| current.attempt);
            let log = |attempt| settings.log_path(pod, container.name(), attempt);
            let creating =
                if pod.spec_list("initContainers").is_empty() { "ContainerCreating" } else { "PodInitializing" };
            ContainerReading {
                name: container.name().to_owned(),
                attempt,
                running: known.is_running(),
                waits: known.failure.as_ref().map_or(creating, |failure| failure.reason).to_owned(),
                log: log(attempt.unwrap_or_default()),
                previous_log: attempt.and_then(|attempt| attempt.checked_sub(1)).map(|before| (before, log(before))),
            }
        });
        let reading = PodReading { object: worker.object.clone(), containers: containers.collect() };
        self.pods_mut().insert(uid.clone(), reading);
        self.0.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn remove(&self, uid: &Str) {
        self.pods_mut().remove(uid);
        self.0.changed.send_modify(|count| *count += 1);
    }
}

impl PodReading {
    fn view(&self, uid: &str) -> PodView {
        let name = self.object.str_at(&["metadata", "name"]);
        PodView {
            uid: uid.to_owned(),
            namespace: self.object.str_at(&["metadata", "namespace"]).to_owned(),
            name: name.to_owned(),
            containers: self.containers.iter().map(|container| container.view(name)).collect(),
        }
    }
}

impl ContainerReading {
    fn view(&self, pod: &str) -> ContainerView {
        let name = &self.name;
        let waits = || format!("container {name:?} in pod {pod:?} is waiting to start: {}", self.waits);
        let before = || format!("previous terminated container {name:?} in pod {pod:?} not found");
        let file = |(attempt, path)| LogFile { path, attempt };
        ContainerView {
            name: name.clone(),
            running: self.attempt.filter(|_| self.running),
            log: self.attempt.map(|attempt| file((attempt, self.log.clone()))).ok_or_else(waits),
            previous_log: self.previous_log.clone().map(file).ok_or_else(before),
        }
    }
}

impl Host for Reading {
    fn pod(&self, namespace: &str, name: &str) -> Option<PodView> {
        self.named(namespace, name).map(|(uid, pod)| pod.view(&uid))
    }

    fn pods(&self) -> Vec<PodView> {
        self.all().iter().map(|(uid, pod)| pod.view(uid)).collect()
    }

    fn objects(&self) -> Vec<Value> {
        self.all().iter().map(|(_, pod)| (*pod.object).clone()).collect()
    }

    fn ended<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, ()> {
        Box::pin(self.wait_end(id))
    }
}
