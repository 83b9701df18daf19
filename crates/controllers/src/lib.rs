//! The controllers of the built-in kinds, one file each in one shape: a pure `plan` that decides from one view, and a
//! `reconcile` that carries it out with preconditions. Queues, caches, time and tasks are the driver's.

use std::sync::Arc;

use corten_client::events::Recorder;
use corten_client::{Client, Informers};
use corten_stdx::clock::Clock;

pub mod autoscaler;
mod backend;
pub mod certificate;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoint_slice_mirroring;
pub mod endpoints;
pub mod garbage;
pub mod job;
pub mod local_provisioner;
mod name_hash;
pub mod namespace;
mod node;
pub mod node_ipam;
pub mod node_lifecycle;
mod owned;
mod pod;
pub mod pod_gc;
pub mod replica_set;
pub mod resource_quota;
mod revision;
pub mod root_ca;
pub mod service_account;
pub mod stateful_set;
pub mod taint_eviction;
pub mod token_cleaner;
pub mod ttl_after_finished;
pub mod volume_binder;
pub mod volume_expansion;
pub mod volume_protection;

/// What every controller stands on.
pub struct Base {
    /// Caches, shared by all controllers.
    pub informers: Informers,
    /// A client under the service account of a name in `kube-system`.
    pub client_of: Arc<dyn Fn(&'static str) -> Client + Send + Sync>,
    /// The recorder of an account and a component's name.
    pub recorder_of: Arc<dyn Fn(&'static str, &'static str) -> Recorder + Send + Sync>,
    pub clock: Clock,
}
