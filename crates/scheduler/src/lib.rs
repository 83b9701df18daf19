//! Where a pod runs: kube-scheduler's default profile as pure functions, and the [`binder`] that feeds them and carries out
//! what they decide.
//!
//! A [`Snapshot`] is the cluster as the scheduler sees it, in columns, changed in place by what happened. [`schedule`]
//! finds the best node for a pod or says why there is none, in upstream's words; [`preempt`] chooses whom to evict;
//! [`explain`] shows every node's verdict. The same snapshot, pod and seed give the same answer, whatever the order in
//! which the cluster came to be.
//!
//! Upstream looks at a sample of the nodes of a large cluster; here every node is looked at.

pub mod binder;
mod counts;
pub mod decode;
mod filter;
pub mod hints;
mod outcome;
mod plugins;
mod pool;
mod preempt;
pub mod queue;
mod schedule;
mod snapshot;
mod view;
pub mod volumes;

pub use outcome::{Plugin, Reason, Unschedulable, Verdict};
pub use preempt::{Budget, NoPreemption, Preemption, preempt};
pub use schedule::{NodeScore, Placement, explain, schedule};
pub use snapshot::{NodeChange, Snapshot, UnknownPod};
pub use view::{
    Effect, HostPort, Image, Labels, NodeSelector, NodeTerm, NodeView, Peer, Pod, Spread, Taint, Term, Terms,
    Toleration, TolerationOperator, Unsatisfiable, label,
};
