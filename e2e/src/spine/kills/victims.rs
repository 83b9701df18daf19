//! Who may be killed, and how. Processes are found by their control groups, which nobody leaves: names and parents are anybody's,
//! and a neighbour has the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::super::node::Node;

/// How long the kernel may take to end a killed process, on a busy machine.
const GONE_WITHIN_S: i64 = 30;

/// What a process of an instance is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Edge,
    /// The process of the pod with this UID.
    Pod(String),
    /// One of a container of the pod with this UID, and whether it is the container's first.
    Container(String, bool),
}

/// Processes of this instance's groups: all but control and the holder, which are in whatever group control was started in.
pub(crate) fn programs(instance: &str) -> Result<Vec<(i32, Role)>> {
    let root = format!("/corten-{instance}/");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that ends while we look is none.
        let Ok(groups) = fs::read_to_string(entry.path().join("cgroup")) else { continue };
        let Some(group) = groups.lines().find_map(|line| Some(line.split_once(&root)?.1)) else { continue };
        // Nor is one that has ended and that nobody has waited for; it has no memory, and so no words.
        if fs::read(entry.path().join("cmdline")).is_ok_and(|words| words.is_empty()) {
            continue;
        }
        found.extend(role(group, &entry.path()).map(|role| (pid, role)));
    }
    found.sort_unstable();
    Ok(found)
}

/// By the group's name below the instance's: `edge`, `.../podUID/pod`, `.../podUID/CONTAINER-ATTEMPT`.
fn role(group: &str, process: &Path) -> Option<Role> {
    let mut parts = group.rsplit('/');
    let last = parts.next()?;
    if last == "edge" {
        return Some(Role::Edge);
    }
    let uid = parts.next()?.strip_prefix("pod")?.to_owned();
    Some(if last == "pod" { Role::Pod(uid) } else { Role::Container(uid, is_first(process)) })
}

/// Whether it is the first process of its namespace (`NSpid` in proc_pid_status(5)).
fn is_first(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    ids.and_then(|ids| ids.split_whitespace().next_back()) == Some("1")
}

/// Host processes of the containers of a pod.
pub(crate) fn containers(programs: &[(i32, Role)], uid: &str) -> Vec<i32> {
    let of_pod = |role: &Role| matches!(role, Role::Container(of, _) if of == uid);
    programs.iter().filter(|(_, role)| of_pod(role)).map(|(pid, _)| *pid).collect()
}

/// The process that runs `corten edge` for this instance, if there is one.
pub(crate) fn edge(instance: &str) -> Result<Option<i32>> {
    Ok(programs(instance)?.into_iter().find(|(_, role)| *role == Role::Edge).map(|(pid, _)| pid))
}

/// Who has started a process.
pub(crate) fn parent(pid: i32) -> Result<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
    parent.and_then(|parent| parent.parse().ok()).context("a process has a parent")
}

/// UIDs of a namespace's pods that have been on this node, by the folders of their logs.
pub(super) fn pods(node: &Node, namespace: &str) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(node.data().join("logs/pods"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let [of, _, uid] = name.split('_').collect::<Vec<_>>()[..]
            && of == namespace
        {
            found.insert(uid.to_owned());
        }
    }
    Ok(found)
}

/// Kills a process and waits until it and `others`, which end with it, are gone. Whether it was there.
pub(crate) fn kill(pid: i32, others: &[i32]) -> Result<bool> {
    let open = |pid: i32| match pidfd_open(Pid::from_raw(pid).context("a process has an id")?, PidfdFlags::empty()) {
        Err(Errno::SRCH) => Ok(None),
        other => Ok::<_, anyhow::Error>(Some(other?)),
    };
    let Some(victim) = open(pid)? else { return Ok(false) };
    let others: Vec<_> = others.iter().map(|pid| open(*pid)).collect::<Result<_>>()?;
    match pidfd_send_signal(&victim, Signal::KILL) {
        Err(Errno::SRCH) => return Ok(false),
        other => other.context("kill")?,
    }
    for process in others.iter().flatten().chain([&victim]) {
        let limit = Timespec { tv_sec: GONE_WITHIN_S, tv_nsec: 0 };
        let gone = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit))?;
        ensure!(gone == 1, "{pid} was killed, and something of it does not end");
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_says_whose_a_process_is() {
        let own = Path::new("/proc/self");
        let of = |group| role(group, own);
        assert_eq!(of("edge"), Some(Role::Edge));
        assert_eq!(of("burstable/pod1-2/pod"), Some(Role::Pod("1-2".to_owned())));
        assert_eq!(of("pod1-2/shell-0"), Some(Role::Container("1-2".to_owned(), is_first(own))));
        assert_eq!(of("other"), None);
    }

    #[test]
    fn a_killed_process_is_gone_and_one_that_was_gone_is_not_counted() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("it starts");
        let pid = i32::try_from(child.id()).expect("small");
        assert!(kill(pid, &[]).expect("it may be killed"));
        child.wait().expect("it has ended");
        assert!(!kill(pid, &[]).expect("nobody is there"));
    }
}
