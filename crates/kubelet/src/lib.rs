//! The node's part of Kubernetes: runs the pods that are bound to this node through an engine, an image store and a pod
//! network, and tells the API server what became of them.
//!
//! The core is pure: [`plan`] says what to do next for a pod, [`status`] says what to tell of it. The loop
//! feeds them and carries out what they decide; it waits for events alone, never for an interval.

pub mod admission;
mod adopt;
pub mod allowance;
pub mod backoff;
pub mod container;
mod deed;
mod disks;
mod drain;
pub mod env;
pub mod eviction;
pub mod fields;
pub mod files;
mod ground;
mod hook;
mod host_port;
mod http_get;
pub mod kubelet;
mod leave;
mod logs;
pub mod machine;
mod marks;
pub mod node;
pub mod observed;
pub mod paths;
pub mod plan;
pub mod pod;
mod probe;
mod program;
pub mod qos;
pub mod reading;
pub mod server;
pub mod settings;
pub mod sources;
pub mod status;
#[cfg(test)]
mod testing;
pub mod volumes;
mod worker;

use aws_lc_rs::digest::{SHA256, digest};

pub use drain::Traffic;
pub use ground::Parts;
pub use kubelet::start;
pub use leave::leave;
pub use settings::Settings;

/// The name of a container to the API: the same for the same pod, container and attempt, also after a restart.
pub fn container_id(uid: &str, name: &str, attempt: u32) -> String {
    let hash = digest(&SHA256, format!("{uid}/{name}/{attempt}").as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("corten://{hex}")
}
