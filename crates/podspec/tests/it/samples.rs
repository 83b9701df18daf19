//! One message of each kind with every field set. Fields that come later go into new samples at the end.

use std::ffi::CString;

use corten_podspec::Serve;
use corten_podspec::{
    Acknowledge, Attach, Connect, Credentials, Device, Done, Event, Exec, Exited, Failed, Hello, Mount, MountKind,
    Output, ProcessState, Propagation, ReopenLog, Request, Rlimit, Root, Setup, Shutdown, Signal, Start, Step, Symlink,
    Sysctl, Welcome,
};
use corten_podspec::{Drain, EdgeOrder, End, Forget, Held, HolderEvent, HolderRequest, Keep, Lend, Run};

fn c(text: &str) -> CString {
    CString::new(text).expect("no zero byte")
}

fn credentials() -> Credentials {
    Credentials {
        args: vec![c("/bin/sh"), c("")],
        env: vec![c("A=b")],
        cwd: c("/srv"),
        uid: 1000,
        gid: 1001,
        groups: vec![0, 7],
        bounding: 1,
        effective: 2,
        permitted: 3,
        inheritable: 4,
        ambient: 5,
        no_new_privs: true,
        seccomp: [6, 0, 0, 0, 0, 0, 0xff, 0x7f].into(),
        rlimits: vec![Rlimit { resource: 7, soft: 10, hard: u64::MAX }],
        oom_score_adj: Some(0),
        umask: 0o77,
    }
}

fn start() -> Start {
    let mount = Mount {
        kind: MountKind::Bind,
        source: c("/a"),
        target: c("/b"),
        readonly: true,
        nosuid: true,
        nodev: true,
        noexec: true,
        data: c("mode=755"),
        ..Mount::default()
    };
    Start {
        key: 1,
        root: Root {
            lowers: vec![c("/l1"), c("/l2")],
            upper: c("/u"),
            work: c("/w"),
            readonly: true,
            ..Root::default()
        },
        mounts: vec![mount],
        devices: vec![Device { path: c("/dev/null"), mode: 0o20666, major: 1, minor: 3 }],
        masked: vec![c("/proc/kcore")],
        readonly: vec![c("/proc/sys")],
        output: Output { log_path: c("/log") },
        credentials: credentials(),
        cgroup2: c("/sys/fs/cgroup/x"),
        cgroup_joins: vec![c("/sys/fs/cgroup/pids/x/cgroup.procs")],
        host_pid: true,
        symlinks: vec![Symlink { path: c("/dev/fd"), target: c("/proc/self/fd") }],
        ..Start::default()
    }
}

fn setup() -> Setup {
    Setup {
        cgroup_joins: vec![c("/sys/fs/cgroup/pids/p/cgroup.procs")],
        host_network: true,
        host_ipc: true,
        host_uts: true,
        hostname: c("web-0"),
        sysctls: vec![Sysctl { path: c("net/ipv4/ip_forward"), value: c("1") }],
        shm_bytes: 64 << 20,
        oom_score_adj: Some(-998),
        ..Setup::default()
    }
}

/// A mount with all that came after the first version.
fn later_mount() -> Mount {
    let (kind, propagation) = (MountKind::Cgroup2, Propagation::Shared);
    Mount { kind, propagation, target: c("/sys/fs/cgroup"), ..Mount::default() }
}

fn exec() -> Exec {
    Exec {
        key: 2,
        container: 1,
        credentials: credentials(),
        output: Output { log_path: c("/log") },
        cgroup2: c("/g"),
        cgroup_joins: vec![c("/j")],
        descriptors: true,
        ..Exec::default()
    }
}

pub(crate) fn requests() -> Vec<Request> {
    vec![
        Hello { version: 1 }.into(),
        setup().into(),
        start().into(),
        exec().into(),
        Signal { key: 1, signal: 15, kill_after_ms: 30_000 }.into(),
        Acknowledge { key: 1 }.into(),
        ReopenLog { key: 1 }.into(),
        Connect { address: [127, 0, 0, 1].into(), port: 80 }.into(),
        Shutdown { forget_exits: true }.into(),
        Start { terminal: true, stdin: true, stdin_once: true, ..Start::default() }.into(),
        Exec { terminal: true, ..Exec::default() }.into(),
        Attach { key: 1, stdin: true }.into(),
        Setup { share_processes: true, ..Setup::default() }.into(),
        Start { mounts: vec![later_mount()], ..Start::default() }.into(),
        Start { root: Root { as_list: true, ..Root::default() }, ..Start::default() }.into(),
    ]
}

fn exited() -> Exited {
    Exited { key: 2, code: 137, signal: 9, finished_ns: 1_700_000_000_000_000_001, log_bytes_dropped: 5 }
}

pub(crate) fn events() -> Vec<Event> {
    let running = ProcessState { key: 1, pid: 100, started_ns: 3, exited: None };
    let ended = ProcessState { key: 2, pid: 0, started_ns: 4, exited: Some(exited()) };
    vec![
        Welcome { version: 1, set_up: true, processes: vec![running, ended], ..Welcome::default() }.into(),
        Done { pid: 100, descriptor: true, ..Done::default() }.into(),
        Failed { step: Step::Mount, errno: 22, about: "/proc".to_owned() }.into(),
        exited().into(),
        Done { terminal: true, ..Done::default() }.into(),
        Welcome { pid: 77, ..Welcome::default() }.into(),
        Done { started_ns: 1_700_000_000_000_000_001, ..Done::default() }.into(),
    ]
}

pub(crate) fn holder_requests() -> Vec<HolderRequest> {
    let keep = Keep { name: "http".to_owned(), bytes: Box::new([1, 2]) };
    let run = Run { credentials: credentials(), cgroup_joins: vec![c("/sys/fs/cgroup/a/cgroup.procs")], drain_ms: 5 };
    vec![
        Hello { version: 1 }.into(),
        keep.into(),
        Forget { name: "http".to_owned() }.into(),
        run.into(),
        End { drain_ms: 6 }.into(),
        Lend { name: "http".to_owned() }.into(),
    ]
}

pub(crate) fn holder_events() -> Vec<HolderEvent> {
    let failed = Failed { step: Step::Exec, errno: 2, about: "x".to_owned() };
    let held = Held {
        version: 1,
        names: vec!["http".to_owned(), "key".to_owned()],
        pid: 7,
        starts: 8,
        ready: true,
        failed: Some(failed.clone()),
    };
    vec![held.into(), Done::default().into(), failed.into()]
}

pub(crate) fn edge_orders() -> Vec<EdgeOrder> {
    let keep = Keep { name: "key".to_owned(), bytes: Box::new([3]) };
    vec![
        keep.into(),
        Forget { name: "key".to_owned() }.into(),
        Drain { drain_ms: 9 }.into(),
        Serve { version: 1 }.into(),
    ]
}
