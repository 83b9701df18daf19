//! What a pod and its containers are to the runtime: plain structs, every decision taken, no object of Kubernetes. Paths are
//! the host's unless a comment says otherwise.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A pod without its containers: namespaces and what they share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PodSpec {
    /// Names the pod for ever: a UID. Also the name of its folder and of its socket.
    pub id: String,
    /// For people and log folders.
    pub namespace: String,
    pub name: String,
    pub hostname: String,
    pub host_network: bool,
    pub host_pid: bool,
    pub host_ipc: bool,
    /// Containers see each other's processes.
    pub share_processes: bool,
    /// Names below /proc/sys with dots, as sysctl(8) writes them.
    pub sysctls: BTreeMap<String, String>,
    /// The pod's control group, below the instance's: `burstable/pod<uid>`.
    pub cgroup: PathBuf,
    pub limits: Limits,
}

/// Limits of a pod or a container. What is `None` is not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Relative weight, as cgroup v1's `cpu.shares` (2 to 262144).
    pub cpu_shares: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_milli: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
    /// Bytes a second, on each disk of the machine.
    pub io_read_bps: Option<u64>,
    pub io_write_bps: Option<u64>,
    /// Huge pages by page size in bytes.
    pub hugepages_bytes: BTreeMap<u64, u64>,
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSpec {
    /// The name within the pod, and how often it was started before: together they name the container.
    pub name: String,
    pub attempt: u32,
    /// Layer folders, topmost first.
    pub layers: Vec<PathBuf>,
    pub readonly_root: bool,
    /// Program and arguments; the program is looked up in the container's PATH.
    pub args: Vec<String>,
    /// In order; a later one of the same name wins.
    pub env: Vec<(String, String)>,
    /// Inside the container; made when missing. Empty is `/`.
    pub cwd: String,
    pub user: User,
    pub mounts: Vec<Mount>,
    pub devices: Vec<PathBuf>,
    pub security: Security,
    pub limits: Limits,
    /// As `oom_score_adj`; best effort.
    pub oom_score_adj: i32,
    /// Lines in CRI's format go here; its folder is made.
    pub log_path: PathBuf,
    pub tty: bool,
    /// Standard input is kept open for attach; otherwise it is empty.
    pub stdin: bool,
    /// Standard input ends when the first attached client leaves.
    pub stdin_once: bool,
}

/// Who a container's process is. Numbers win; a name is looked up in the container's own /etc/passwd and /etc/group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// What the image says: `user`, `user:group`, numbers or names. Used where the numbers are not given.
    pub image_user: String,
    pub supplemental_groups: Vec<u32>,
    /// The groups that the container's /etc/group gives the user are left out.
    pub strict_groups: bool,
    /// The process must not be root: an image that says so, or a name that cannot be resolved, is refused.
    pub must_not_be_root: bool,
}

/// What a container may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    pub privileged: bool,
    /// Names without the prefix `CAP_`; `ALL` is every one.
    pub add_capabilities: Vec<String>,
    pub drop_capabilities: Vec<String>,
    /// Set unless the pod asks to be allowed: set-uid programs gain nothing.
    pub no_new_privileges: bool,
    pub seccomp: Seccomp,
    /// /proc is shown whole.
    pub unmasked_proc: bool,
}

/// The filter of system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Seccomp {
    #[default]
    RuntimeDefault,
    Unconfined,
    /// A profile file in the field's JSON format.
    File(PathBuf),
}

/// Something of the host that the container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub source: PathBuf,
    /// Inside the container.
    pub target: PathBuf,
    pub readonly: bool,
    pub propagation: Propagation,
}

/// Whether mounts made on one side are seen on the other, mount_namespaces(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A process beside a container's own, in all its namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecSpec {
    pub args: Vec<String>,
    pub tty: bool,
}
