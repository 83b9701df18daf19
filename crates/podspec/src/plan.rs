//! What control asks a pod process to do. Control decides everything (paths, numbers, filter bytes); the pod process only
//! executes, so an old one can serve a new control.

use std::ffi::CString;

use crate::wire::{numbered, record};

record! {
    /// Makes the pod: namespaces and what containers share. Once, before anything is started.
    Setup {
        /// `cgroup.procs` or `tasks` files that the pod process writes itself into.
        1 cgroup_joins: Vec<CString>,
        /// Stay in the host's network namespace.
        2 host_network: bool,
        3 host_ipc: bool,
        4 host_uts: bool,
        5 hostname: CString,
        6 sysctls: Vec<Sysctl>,
        /// Bytes of the tmpfs at /dev/shm that the pod's containers share.
        7 shm_bytes: u64,
        /// Best effort: the kernel may refuse a lower one.
        8 oom_score_adj: Option<i32>,
        /// Containers live in one process namespace, whose first process reaps what they leave.
        9 share_processes: bool,
    }
}

record! {
    /// A file below /proc/sys and its content.
    Sysctl {
        1 path: CString,
        2 value: CString,
    }
}

record! {
    /// Starts a container.
    Start {
        /// Names the process in every later message; chosen by control, never used twice in a pod.
        1 key: u64,
        2 root: Root,
        /// In this order, after the root.
        3 mounts: Vec<Mount>,
        4 devices: Vec<Device>,
        /// Paths inside the container that are covered: files by the host's /dev/null, folders by an empty read-only one.
        5 masked: Vec<CString>,
        6 readonly: Vec<CString>,
        7 output: Output,
        8 credentials: Credentials,
        /// A v2 group that the container is born in.
        9 cgroup2: CString,
        /// v1 `cgroup.procs` files that it joins.
        10 cgroup_joins: Vec<CString>,
        /// Stay in the host's process namespace.
        11 host_pid: bool,
        /// Made after the mounts, before the devices; one that is there stays.
        12 symlinks: Vec<Symlink>,
        /// Standard input, output and error are a terminal of the container's own /dev/pts, which must be among its mounts.
        13 terminal: bool,
        /// Standard input stays open and can be written by whoever attaches; otherwise it is empty.
        14 stdin: bool,
        /// Standard input ends when the first that attached to it lets go of it. Not with a terminal.
        15 stdin_once: bool,
    }
}

record! {
    /// Where the container's files come from.
    Root {
        /// Layers, topmost first.
        1 lowers: Vec<CString>,
        /// Takes what is written; empty with several layers: nothing can be, not even mount points.
        2 upper: CString,
        /// Needed with `upper`. Neither, with one layer: that folder itself, as it is.
        3 work: CString,
        /// The container may not write; mount points are made before that holds.
        4 readonly: bool,
        /// The kernel takes the layers only as one list, as those before 6.7 do.
        5 as_list: bool,
    }
}

record! {
    /// A symbolic link in the container.
    Symlink {
        1 path: CString,
        2 target: CString,
    }
}

numbered! {
    /// What is mounted.
    MountKind {
        Proc = 1,
        Sysfs = 2,
        Tmpfs = 3,
        Devpts = 4,
        Mqueue = 5,
        /// The pod's /dev/shm.
        Shm = 6,
        /// `source` with everything below it.
        Bind = 7,
        /// A v1 hierarchy of control groups, named by `data`.
        Cgroup = 8,
        Cgroup2 = 9,
    }
}

numbered! {
    /// Whether a bind mount takes part in what is mounted on the other side, mount_namespaces(7).
    Propagation {
        Private = 1,
        Slave = 2,
        Shared = 3,
    }
}

record! {
    /// One mount in the container.
    Mount {
        1 kind: MountKind,
        2 source: CString,
        /// Looked up inside the root; made when missing.
        3 target: CString,
        4 readonly: bool,
        5 nosuid: bool,
        6 nodev: bool,
        7 noexec: bool,
        /// Options of the file system, as mount(8) writes them.
        8 data: CString,
        9 propagation: Propagation,
    }
}

record! {
    /// A device node, made in the container's /dev.
    Device {
        /// Absolute, inside the container.
        1 path: CString,
        /// Type and permissions, as in `st_mode`.
        2 mode: u32,
        3 major: u32,
        4 minor: u32,
    }
}

record! {
    /// Where standard output and error go: lines in CRI's log format. Empty: to /dev/null.
    Output {
        1 log_path: CString,
    }
}

record! {
    /// Who the process is and what it may do.
    Credentials {
        1 args: Vec<CString>,
        2 env: Vec<CString>,
        3 cwd: CString,
        4 uid: u32,
        5 gid: u32,
        6 groups: Vec<u32>,
        /// Bit n is capability n.
        7 bounding: u64,
        8 effective: u64,
        9 permitted: u64,
        10 inheritable: u64,
        11 ambient: u64,
        12 no_new_privs: bool,
        /// A filter program: eight bytes an instruction. Empty: none.
        13 seccomp: Box<[u8]>,
        14 rlimits: Vec<Rlimit>,
        15 oom_score_adj: Option<i32>,
        /// 0 means 022.
        16 umask: u32,
    }
}

record! {
    /// One resource limit, by the kernel's number.
    Rlimit {
        1 resource: u32,
        2 soft: u64,
        3 hard: u64,
    }
}

record! {
    /// Runs a process inside a running container.
    Exec {
        1 key: u64,
        /// The container's key.
        2 container: u64,
        3 credentials: Credentials,
        4 output: Output,
        5 cgroup2: CString,
        6 cgroup_joins: Vec<CString>,
        /// The message carries three descriptors: standard input, output, error. `output` is not used.
        7 descriptors: bool,
        /// Its streams are a terminal of the container's /dev/pts, whose other end comes with the answer; `output` and
        /// `descriptors` are not used.
        8 terminal: bool,
    }
}

record! {
    /// Joins a container's streams. The message carries two descriptors, the writing ends of pipes that get a copy of what
    /// comes out of standard output and error from now on; with a terminal the first alone is used. One that does not keep up
    /// is closed: the container never waits. The answer carries the terminal, or the writing end of standard input if there is
    /// one and `stdin` asks for it.
    Attach {
        1 key: u64,
        2 stdin: bool,
    }
}

record! {
    /// Sends a signal to a container's or exec's process.
    Signal {
        1 key: u64,
        2 signal: i32,
        /// Kill it this many milliseconds later, even if control is gone by then. 0: do not.
        3 kill_after_ms: u64,
    }
}

record! {
    /// The exit was recorded by control; the pod process may forget the key.
    Acknowledge {
        1 key: u64,
    }
}

record! {
    /// The log file was renamed: open it anew by its path.
    ReopenLog {
        1 key: u64,
    }
}

record! {
    /// Opens a TCP connection from inside the pod. Answered at once with a descriptor that may still be connecting.
    Connect {
        /// 4 or 16 bytes.
        1 address: Box<[u8]>,
        2 port: u16,
    }
}

record! {
    /// Kills what runs, then answers and ends.
    Shutdown {
        /// End even if exits are not acknowledged; otherwise that is refused.
        1 forget_exits: bool,
    }
}
