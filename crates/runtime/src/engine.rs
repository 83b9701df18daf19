//! What a node asks of whatever runs its containers. Corten's own runtime is one answer; a CRI client would be another.
//!
//! Nothing here waits for a sync interval: what happens to a container is an [`Event`] at once. All calls are safe to repeat
//! after a crash of the caller: [`Engine::pods`] tells everything that there is.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use futures_core::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::spec::{ContainerSpec, ExecSpec, Limits, PodSpec};

/// Why something was not done. The text is for `kubectl describe`: what failed, and about what.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EngineError {
    /// The specification cannot be carried out, however often it is tried: an unknown user, a missing program.
    #[error("{0}")]
    Invalid(String),
    /// The program could not be run: the code that a shell would give (126, 127, 128).
    #[error("{text}")]
    NotRun { code: i32, text: String },
    /// There is no such pod, container or process.
    #[error("{0} is not there")]
    Gone(String),
    /// The machine refused; it may work later.
    #[error("{0}")]
    Failed(String),
}

/// A container by pod, name and attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    pub pod: String,
    pub name: String,
    pub attempt: u32,
}

/// What a pod is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodState {
    pub id: String,
    /// Of the pod process; its network namespace is `/proc/<pid>/ns/net`. 0: it is gone, and everything in it; what is left
    /// is for [`Engine::remove_pod`], or is cleared by [`Engine::create_pod`].
    pub pid: u32,
    pub containers: Vec<ContainerState>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerState {
    pub id: ContainerId,
    /// Of the container's first process; 0 when it has ended.
    pub pid: u32,
    /// Nanoseconds since 1970.
    pub started_ns: i64,
    pub exit: Option<Exit>,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exit {
    /// 128 + n when signal n ended it.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    pub finished_ns: i64,
    /// The kernel killed it, or a process of it, for want of memory.
    pub out_of_memory: bool,
}

/// What happened, in the order in which it did within one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Exited(ContainerId, Exit),
    /// The pod process is gone, and everything in it.
    PodGone(String),
}

/// Where an exec's streams end; what is `None` is empty. With a terminal, only `stdin` is given: the terminal's own end comes
/// back from [`Engine::exec`].
#[derive(Debug, Default)]
pub struct Streams {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// A process that runs beside a container's own.
#[derive(Debug)]
pub struct Running {
    /// The terminal, where one was asked for: read and written, its size set by ioctl_tty(2).
    pub terminal: Option<OwnedFd>,
    /// Resolves with the exit.
    pub exit: tokio::sync::oneshot::Receiver<Exit>,
    pub pid: u32,
}

/// A container's own streams, to write to and to read a copy from.
#[derive(Debug)]
pub struct Attached {
    /// The terminal, or the writing end of standard input; none when the container has no standard input.
    pub input: Option<OwnedFd>,
    pub terminal: bool,
    /// A copy of what the container prints from now on. With a terminal everything is on `stdout`. Whoever does not keep up
    /// with the container is cut off; a copy that ends while the container runs says so.
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// What was used, read from control groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_ns: u64,
    pub memory_bytes: u64,
    /// Memory that cannot be taken back by dropping caches.
    pub working_set_bytes: u64,
    pub pids: u64,
}

/// Runs pods.
pub trait Engine: Send + Sync {
    /// Makes the pod's process and namespaces; does nothing for one that stands. Resolves with its pid.
    fn create_pod<'a>(&'a self, spec: &'a PodSpec) -> BoxFuture<'a, Result<u32, EngineError>>;

    /// Starts a container. One that was started before under this name and attempt is left as it is.
    fn start<'a>(&'a self, pod: &'a str, spec: &'a ContainerSpec)
    -> BoxFuture<'a, Result<ContainerState, EngineError>>;

    /// Sends a signal to the container's first process and, after the limit, kills everything in the container, even if
    /// the caller is gone by then. Its end comes as an event.
    fn stop<'a>(&'a self, id: &'a ContainerId, signal: i32, limit: Duration) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Forgets an ended container: its writable layer goes, its log stays.
    fn remove<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Ends the pod: kills what still runs, removes namespaces, control groups and files, logs excepted.
    fn remove_pod<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Runs a program in a container.
    fn exec<'a>(
        &'a self,
        id: &'a ContainerId,
        spec: &'a ExecSpec,
        streams: Streams,
    ) -> BoxFuture<'a, Result<Running, EngineError>>;

    /// Joins a running container's streams; its input only where `stdin` asks for it, since an input that serves one client
    /// ends with that one.
    fn attach<'a>(&'a self, id: &'a ContainerId, stdin: bool) -> BoxFuture<'a, Result<Attached, EngineError>>;

    /// A TCP connection to `port` on the pod's own loopback, made from inside its network namespace.
    fn connect<'a>(&'a self, pod: &'a str, port: u16) -> BoxFuture<'a, Result<OwnedFd, EngineError>>;

    /// Changes the limits of a container that runs, or of the pod (`name` empty).
    fn resize<'a>(&'a self, pod: &'a str, name: &'a str, limits: &'a Limits) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Goes on in a new log file: the old one was renamed.
    fn reopen_log<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<(), EngineError>>;

    /// What a container uses, or the whole pod (`name` empty).
    fn usage<'a>(&'a self, pod: &'a str, name: &'a str) -> BoxFuture<'a, Result<Usage, EngineError>>;

    /// The folder with what a container has written outside of its mounts, where this engine keeps it in one.
    fn written(&self, id: &ContainerId) -> Option<PathBuf>;

    /// Everything that runs or has ended and was not removed: those of an earlier process of ours too.
    fn pods(&self) -> BoxFuture<'_, Result<Vec<PodState>, EngineError>>;

    /// What happens from now on. Only the newest receiver is served.
    fn events(&self) -> mpsc::Receiver<Event>;

    /// The file that a path inside a running container means, for messages that a container leaves behind
    /// (`terminationMessagePath`) when that is no mount.
    fn path_in<'a>(&'a self, id: &'a ContainerId, path: &'a str) -> BoxFuture<'a, Result<PathBuf, EngineError>>;
}
