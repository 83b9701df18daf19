//! What a node knows of one of its pods, apart from the object: what stands, what runs, what is under way, what failed.
//! The plan reads it, the loop writes it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use corten_apimachinery::value::Str;

use crate::backoff::Backoff;

/// Something that has to be there before containers can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Not there; not tried before a Unix time in milliseconds.
    Absent {
        not_before_ms: i64,
    },
    UnderWay,
    There,
    /// Being taken away.
    Leaving,
}

impl Default for Step {
    fn default() -> Self {
        Self::Absent { not_before_ms: 0 }
    }
}

/// A pod.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub volumes: Step,
    /// Something of the volumes may be there, though they are not.
    pub volumes_begun: bool,
    /// What of the volumes follows other objects is being made true again.
    pub volumes_refreshing: bool,
    pub sandbox: Step,
    /// The sandbox was lost: what is left of it goes before a new one comes.
    pub sandbox_lost: bool,
    pub addresses: Vec<IpAddr>,
    /// A main container has started in this sandbox: regular init containers are done for good.
    pub initialized: bool,
    pub containers: BTreeMap<Str, Container>,
    pub ending: Option<Ending>,
    pub drain: Drain,
    /// The API server has acknowledged the status that says that everything has ended.
    pub end_told: bool,
    /// The object was asked to go, or is gone.
    pub object_left: bool,
    /// When the node took the pod up.
    pub started_ms: i64,
}

/// Whether somebody's requests may still be on their way to a pod that is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drain {
    /// Not looked at yet.
    #[default]
    No,
    UnderWay,
    Done,
}

/// A pod that ends, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Everything is killed then.
    pub deadline_ms: i64,
    /// Its object is being deleted, with so much time to end.
    pub deleted_grace_s: Option<i64>,
    /// Its object is gone already.
    pub orphaned: bool,
    /// The node ends it.
    pub failed: Option<Verdict>,
}

/// Reason and message of the status of a pod that the node has ended or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub reason: String,
    pub message: String,
    /// It could do nothing about it: told as a disruption (`DisruptionTarget`), which budgets and jobs count apart.
    pub disrupts: bool,
}

/// One container of a pod, over all its attempts.
#[derive(Clone, Debug, Default)]
pub struct Container {
    /// The newest that was started.
    pub current: Option<Instance>,
    /// How the one before it ended.
    pub previous: Option<Ended>,
    /// The number of the next one.
    pub next_attempt: u32,
    /// A start is under way.
    pub starting: bool,
    /// Why the last try to start came to nothing before there was a container.
    pub failure: Option<Failure>,
    pub crashes: Backoff,
    pub pulls: Backoff,
    /// Somebody wants it stopped and, by its policy, started again: why, and within how many seconds.
    pub kill: Option<Kill>,
    pub stop: Stop,
    /// Its startup probe has succeeded, or there is none.
    pub started: bool,
    /// Its readiness probe succeeds, or there is none.
    pub ready: bool,
    /// The pause that was last told as an event.
    pub told_ms: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instance {
    pub attempt: u32,
    pub started_ns: i64,
    /// As the status names them.
    pub image: Str,
    pub image_id: Str,
    /// What the specification asked for: another image is another container.
    pub wanted_image: Str,
    pub end: Option<Ended>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub attempt: u32,
    pub code: i32,
    pub signal: i32,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub reason: Str,
    pub message: String,
    /// 0 where it is not known.
    pub started_ns: i64,
    pub finished_ns: i64,
}

/// Why a container waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// `ErrImagePull`, `CreateContainerConfigError`, …
    pub reason: &'static str,
    pub message: String,
    pub at_ms: i64,
    pub retry_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The text of the event.
    pub message: String,
    pub grace_s: i64,
}

/// How far the stop of a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    #[default]
    No,
    /// Its preStop hook runs; everything is over at the deadline.
    Hook {
        deadline_ms: i64,
    },
    /// The hook is done.
    Hooked {
        deadline_ms: i64,
    },
    Signalled {
        deadline_ms: i64,
    },
}

impl Container {
    pub fn is_running(&self) -> bool {
        self.current.as_ref().is_some_and(|current| current.end.is_none())
    }

    pub fn end(&self) -> Option<&Ended> {
        self.current.as_ref()?.end.as_ref()
    }

    /// Neither runs nor is about to.
    pub fn is_quiet(&self) -> bool {
        !self.is_running() && !self.starting
    }
}

impl Ended {
    pub fn finished_ms(&self) -> i64 {
        self.finished_ns / 1_000_000
    }
}

impl Observed {
    pub fn container(&self, name: &str) -> &Container {
        static NONE: Container = Container {
            current: None,
            previous: None,
            next_attempt: 0,
            starting: false,
            failure: None,
            crashes: Backoff::NONE,
            pulls: Backoff::NONE,
            kill: None,
            stop: Stop::No,
            started: false,
            ready: false,
            told_ms: 0,
        };
        self.containers.get(name).unwrap_or(&NONE)
    }

    pub fn container_mut(&mut self, name: &str) -> &mut Container {
        self.containers.entry(name.into()).or_default()
    }

    pub fn is_quiet(&self) -> bool {
        self.containers.values().all(Container::is_quiet)
    }
}
