//! What a node is told at its start.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::eviction;

#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's name.
    pub name: String,
    /// The data directory.
    pub dir: PathBuf,
    /// For what must not outlive a reboot, and for Secrets: below `/run`.
    pub run_dir: PathBuf,
    /// The node's own addresses, the main one first.
    pub addresses: Vec<IpAddr>,
    /// Where pods ask for names.
    pub cluster_dns: Vec<IpAddr>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// Where the node's own server listens.
    pub port: u16,
    /// The version of Kubernetes that is spoken: `v1.36.3+corten.0.1.0`.
    pub version: String,
    pub pods_max: i64,
    /// Processes and threads of one pod, all containers together: one that forks without end must not take the machine along.
    pub pids_of_pod_max: u64,
    /// When pods have to go.
    pub eviction: eviction::Settings,
}
