//! A runtime of its own for a test, with an instance's name of its own, and what it leaves on the machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLockReadGuard};
use std::time::Duration;

use corten_runtime::engine::{ContainerId, ContainerState, Engine, EngineError, Event, Exit};
use corten_runtime::own::{Own, Settings};
use corten_runtime::spec::{ContainerSpec, PodSpec};
use corten_stdx::clock::Clock;
use corten_stdx::task::Tasks;
use corten_sys::cgroup::Hierarchies;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::container::{ALONE, LIMIT, folder};

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Node {
    pub(crate) folder: TempDir,
    pub(crate) own: Own,
    pub(crate) events: mpsc::Receiver<Event>,
    pub(crate) instance: String,
    tasks: Tasks,
    _shared: RwLockReadGuard<'static, ()>,
}

impl Node {
    #[expect(clippy::await_holding_lock, reason = "held for the whole test, by a thread that does nothing else")]
    pub(crate) async fn new() -> Option<Self> {
        let shared = ALONE.read().unwrap_or_else(PoisonError::into_inner);
        let folder = folder()?;
        let instance = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (own, tasks) = open(folder.path(), &instance).await.unwrap();
        let events = own.events();
        Some(Self { folder, own, events, instance, tasks, _shared: shared })
    }

    /// The runtime's process ends, as far as a pod can tell, and another takes its place.
    pub(crate) async fn restart(&mut self) {
        assert_eq!(self.tasks.stop(LIMIT).await, 0);
        let (own, tasks) = open(self.folder.path(), &self.instance).await.unwrap();
        self.own = own;
        self.tasks = tasks;
        self.events = self.own.events();
    }

    /// Another runtime beside this one, which loses its pods to it.
    pub(crate) async fn reopen(&self) -> Result<(), EngineError> {
        open(self.folder.path(), &self.instance).await.map(drop)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A pod of this name.
    pub(crate) async fn pod(&self, id: &str) -> PodSpec {
        let spec = self.pod_spec(id);
        self.own.create_pod(&spec).await.unwrap();
        spec
    }

    pub(crate) fn pod_spec(&self, id: &str) -> PodSpec {
        PodSpec {
            id: id.to_owned(),
            namespace: "default".to_owned(),
            name: id.to_owned(),
            hostname: id.to_owned(),
            cgroup: PathBuf::from(format!("burstable/pod{id}")),
            ..PodSpec::default()
        }
    }

    /// A container `main` that runs a shell script.
    pub(crate) fn spec(&self, script: &str) -> ContainerSpec {
        ContainerSpec {
            name: "main".to_owned(),
            layers: vec![self.path("root")],
            args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: vec![("PATH".to_owned(), "/bin".to_owned())],
            log_path: self.path("logs/main.log"),
            ..ContainerSpec::default()
        }
    }

    pub(crate) async fn start(&self, pod: &str, spec: &ContainerSpec) -> Result<ContainerState, EngineError> {
        self.own.start(pod, spec).await
    }

    pub(crate) async fn next_event(&mut self) -> Event {
        let next = tokio::time::timeout(LIMIT, self.events.recv()).await;
        next.expect("it happens within the limit").expect("the runtime is there")
    }

    pub(crate) async fn exit(&mut self) -> (ContainerId, Exit) {
        match self.next_event().await {
            Event::Exited(id, exit) => (id, exit),
            other @ Event::PodGone(_) => panic!("{other:?}"),
        }
    }

    /// Runs a container in a pod of its own to its end, and gives what it printed.
    pub(crate) async fn output(&mut self, spec: &ContainerSpec) -> String {
        let pod = format!("p{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.output_in(&self.pod_spec(&pod), spec).await
    }

    pub(crate) async fn output_in(&mut self, pod: &PodSpec, spec: &ContainerSpec) -> String {
        self.own.create_pod(pod).await.unwrap();
        self.start(&pod.id, spec).await.unwrap();
        let (_, exit) = self.exit().await;
        let text = log(&spec.log_path);
        assert_eq!(exit.code, 0, "{text}");
        self.own.remove_pod(&pod.id).await.unwrap();
        fs::remove_file(&spec.log_path).unwrap();
        text
    }

    /// Groups of pods that are left, in all hierarchies.
    pub(crate) fn pod_groups(&self) -> usize {
        let roots = fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path());
        let roots = roots.chain([PathBuf::from("/sys/fs/cgroup")]);
        let above = roots.map(|root| root.join(format!("corten-{}/burstable", self.instance)));
        let groups = above.filter(|group| group.exists()).flat_map(|group| fs::read_dir(group).unwrap());
        groups.filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }
}

impl Drop for Node {
    /// What a failed test leaves is ended; pods of a test that went well are gone.
    fn drop(&mut self) {
        let hierarchies = Hierarchies::detect().unwrap();
        let group = hierarchies.group(format!("corten-{}", self.instance));
        let gone = crate::container::wait_until(|| !group.kill().unwrap() && group.remove_all().is_ok());
        assert!(gone || std::thread::panicking(), "processes of {} are left", self.instance);
    }
}

async fn open(folder: &Path, instance: &str) -> Result<(Own, Tasks), EngineError> {
    let tasks = Tasks::new();
    let settings = Settings {
        instance: instance.to_owned(),
        pods: folder.join("pods"),
        sockets: folder.join("run"),
        hierarchies: Hierarchies::detect().unwrap(),
        tasks: tasks.clone(),
        clock: Clock::system(),
    };
    Ok((Own::open(settings).await?, tasks))
}

/// Content of a log's lines.
pub(crate) fn log(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Looks again and again, without holding the thread.
pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    let looked = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, looked).await.expect("it holds within the limit");
}
