//! The controllers of the built-in kinds, one file each in one shape: a pure `plan` that decides from one view, and a
//! `reconcile` that carries it out with preconditions. Queues, caches, time and tasks are the driver's.

use std::sync::Arc;

use corten_client::{Client, Informers};
use corten_stdx::clock::Clock;

pub mod deployment;
pub mod garbage;
pub mod namespace;
mod pod;
pub mod replica_set;
pub mod root_ca;
pub mod service_account;

/// What every controller stands on.
pub struct Base {
    /// Caches, shared by all controllers.
    pub informers: Informers,
    /// A client under the service account of a name in `kube-system`.
    pub client_of: Arc<dyn Fn(&'static str) -> Client + Send + Sync>,
    pub clock: Clock,
}
