//! Corten's own runtime: one pod process for each pod, which outlives this process. What is known of a pod is what its process
//! tells and what small files say; a new process of ours finds both and goes on.
//!
//! In the folder of pods, `<id>/containers/` has `pod.json` and `<container>/<attempt>/{container.json,upper,work}`; what else
//! is in a pod's folder belongs to others. What an exec needs holds the container's environment, with its Secrets: it lies
//! beside the pod process' socket, in memory.

mod container;
mod exec;
mod groups;
mod link;
mod pod;
mod record;

use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_podspec::Connect;
use corten_stdx::clock::Clock;
use corten_stdx::task::Tasks;
use corten_sys::cgroup::Hierarchies;
use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use crate::Program;
use crate::engine::{
    Attached, ContainerId, ContainerState, Engine, EngineError, Event, PodState, Running, Streams, Usage,
};
use crate::plan::{Host, refused};
use crate::spec::{ContainerSpec, ExecSpec, Limits, PodSpec};

use groups::Groups;
use pod::Pod;
use record::Files;

/// Events that wait for the node to take them; pods wait behind them, nothing is lost.
const EVENTS_MAX: usize = 1024;

/// Where the runtime keeps what, and by whom its tasks are run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Six hexadecimal digits that name this installation; its control groups are `corten-<instance>`.
    pub instance: String,
    /// The folder of pods: writable layers and records.
    pub pods: PathBuf,
    /// The folder of sockets, in memory and short: a socket's path has 108 bytes.
    pub sockets: PathBuf,
    pub hierarchies: Hierarchies,
    pub tasks: Tasks,
    pub clock: Clock,
}

/// The runtime. Cheap to clone.
#[derive(Clone)]
pub struct Own(Arc<Node>);

/// What all pods share.
struct Node {
    program: Program,
    host: Host,
    files: Files,
    groups: Groups,
    tasks: Tasks,
    clock: Clock,
    pods: Mutex<BTreeMap<String, Arc<Pod>>>,
    events: Mutex<Option<mpsc::Sender<Event>>>,
}

impl Own {
    /// Makes the folders, and takes over every pod that an earlier process of this instance has left.
    ///
    /// # Errors
    /// When a folder or a record cannot be used, or the kernel lacks what pods need.
    pub async fn open(settings: Settings) -> Result<Self, EngineError> {
        let (pods, sockets) = (settings.pods.clone(), settings.sockets.clone());
        let files = Files::open(settings.pods, settings.sockets)?;
        let program = Program::load().map_err(|error| EngineError::Failed(format!("the pod program: {error}")))?;
        let node = Arc::new(Node {
            program,
            host: Host::detect(&pods, &sockets)?,
            files,
            groups: Groups::new(settings.hierarchies, &settings.instance),
            tasks: settings.tasks,
            clock: settings.clock,
            pods: Mutex::default(),
            events: Mutex::default(),
        });
        pod::adopt_all(&node).await?;
        Ok(Self(node))
    }

    /// Runs to its end even if the caller loses interest: what is half done would be nobody's.
    async fn to_the_end<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (sender, receiver) = oneshot::channel();
        self.0.tasks.spawn(name, async move {
            if sender.send(work.await).is_err() {
                tracing::debug!(name, "nobody waits for this any more");
            }
        });
        receiver.await.unwrap_or_else(|_| Err(EngineError::Failed(format!("{name} ended with a panic"))))
    }
}

impl Node {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pod>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pod(&self, id: &str) -> Result<Arc<Pod>, EngineError> {
        self.pods().get(id).cloned().ok_or_else(|| EngineError::Gone(format!("pod {id}")))
    }

    /// Tells whoever listens. Nobody: it is found by [`Engine::pods`].
    async fn tell(&self, event: Event) {
        let sender = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = sender
            && sender.send(event).await.is_err()
        {
            tracing::debug!("nobody listens to events");
        }
    }
}

/// File work on a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(EngineError::Failed(format!("file work ended: {error}"))))
}

impl Engine for Own {
    fn create_pod<'a>(&'a self, spec: &'a PodSpec) -> BoxFuture<'a, Result<u32, EngineError>> {
        let (node, spec) = (self.0.clone(), spec.clone());
        Box::pin(self.to_the_end("create pod", async move { pod::create(&node, spec).await }))
    }

    fn start<'a>(
        &'a self,
        pod: &'a str,
        spec: &'a ContainerSpec,
    ) -> BoxFuture<'a, Result<ContainerState, EngineError>> {
        let (node, pod, spec) = (self.0.clone(), pod.to_owned(), spec.clone());
        Box::pin(self.to_the_end("start container", async move { container::start(&node, &pod, spec).await }))
    }

    fn stop<'a>(&'a self, id: &'a ContainerId, signal: i32, limit: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(container::stop(&self.0, id, signal, limit))
    }

    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), EngineError>> {
        let (node, id) = (self.0.clone(), id.clone());
        Box::pin(self.to_the_end("remove container", async move { container::remove(&node, &id).await }))
    }

    fn remove_pod<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        let (node, pod) = (self.0.clone(), pod.to_owned());
        Box::pin(self.to_the_end("remove pod", async move { pod::remove(&node, &pod).await }))
    }

    fn exec<'a>(
        &'a self,
        id: &'a ContainerId,
        spec: &'a ExecSpec,
        streams: Streams,
    ) -> BoxFuture<'a, Result<Running, EngineError>> {
        Box::pin(exec::exec(&self.0, id, spec, streams))
    }

    fn attach<'a>(&'a self, id: &'a ContainerId, stdin: bool) -> BoxFuture<'a, Result<Attached, EngineError>> {
        Box::pin(exec::attach(&self.0, id, stdin))
    }

    fn connect<'a>(&'a self, pod: &'a str, port: u16) -> BoxFuture<'a, Result<OwnedFd, EngineError>> {
        Box::pin(async move {
            let link = self.0.pod(pod)?.link()?;
            let answer = link.call(Connect { address: [127, 0, 0, 1].into(), port }, &[]).await.map_err(refused)?;
            answer.descriptor.ok_or_else(|| EngineError::Failed("the pod process sent no connection".to_owned()))
        })
    }

    fn resize<'a>(&'a self, pod: &'a str, name: &'a str, limits: &'a Limits) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let group = self.0.pod(pod)?.group_of(&self.0, name)?;
            self.0.groups.resize(&group, limits)
        })
    }

    fn reopen_log<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(container::reopen_log(&self.0, id))
    }

    fn usage<'a>(&'a self, pod: &'a str, name: &'a str) -> BoxFuture<'a, Result<Usage, EngineError>> {
        Box::pin(async move {
            let group = self.0.pod(pod)?.group_of(&self.0, name)?;
            self.0.groups.usage(&group)
        })
    }

    fn written(&self, id: &ContainerId) -> Option<PathBuf> {
        Some(self.0.files.upper(id))
    }

    fn pods(&self) -> BoxFuture<'_, Result<Vec<PodState>, EngineError>> {
        Box::pin(async move { Ok(self.0.pods().values().filter_map(|pod| pod.describe()).collect()) })
    }

    fn events(&self) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        *self.0.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    fn path_in<'a>(&'a self, id: &'a ContainerId, path: &'a str) -> BoxFuture<'a, Result<PathBuf, EngineError>> {
        Box::pin(async move { container::path_in(&self.0, id, path) })
    }
}
