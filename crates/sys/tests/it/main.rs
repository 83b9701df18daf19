//! Control groups on the real kernel, and v2's order of steps on a tree of plain files.

use std::fs;
use std::io;
use std::process::Command;

use corten_sys::cgroup::{Device, Hierarchies, Limits, Usage, Write, apply};

#[test]
fn a_group_is_made_limited_joined_and_removed() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CORTEN_TESTS_WITHOUT_ROOT").is_some(), "control groups need root");
        eprintln!("SKIPPED: control groups need root");
        return;
    }
    let hierarchies = Hierarchies::detect().unwrap();
    assert!(hierarchies.has("memory") && hierarchies.has("pids") && hierarchies.has("cpu"));
    let outer = hierarchies.group(format!("corten-test-sys-{}", std::process::id()));
    let group = hierarchies.group(format!("corten-test-sys-{}/inner", std::process::id()));
    group.create().unwrap();
    group.create().unwrap();
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        pids: Some(20),
        cpu_quota_us: Some(50_000),
        cpu_shares: Some(512),
        ..Limits::default()
    };
    let plan = group.limit(&limits);
    apply(&plan).unwrap();
    for Write { path, value } in &plan {
        assert_eq!(fs::read_to_string(path).unwrap().trim(), value, "{}", path.display());
    }
    let mut child = Command::new("sleep").arg("100").spawn().unwrap();
    let joins = group.v1_joins().into_iter().chain(group.v2_folder().map(|folder| folder.join("cgroup.procs")));
    let plan: Vec<_> = joins.map(|path| Write { path, value: child.id().to_string() }).collect();
    apply(&plan).unwrap();
    assert!(fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap().contains("/inner"));
    assert_eq!(group.remove().unwrap_err().source.kind(), io::ErrorKind::ResourceBusy);
    child.kill().unwrap();
    child.wait().unwrap();
    group.remove().unwrap();
    outer.remove().unwrap();
    outer.remove().unwrap();
}

/// A group that holds processes must not hand controllers down; all above it must.
#[test]
fn v2_controllers_are_handed_down_to_the_group_and_no_further() {
    let tree = tempfile::tempdir().unwrap();
    let hierarchies = Hierarchies::default().with_v2(tree.path().to_owned(), &["memory"]);
    hierarchies.group("corten/pod/container").create().unwrap();
    for above in ["", "corten", "corten/pod"] {
        let control = tree.path().join(above).join("cgroup.subtree_control");
        assert_eq!(fs::read_to_string(control).unwrap(), "+memory", "{above}");
    }
    let group = tree.path().join("corten/pod/container");
    assert_eq!(fs::read_dir(group).unwrap().count(), 0);
}

/// v2 has no file for it: a program of the kernel's answers.
#[test]
fn v2_allows_the_devices_of_the_list_and_no_others() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var_os("CORTEN_TESTS_WITHOUT_ROOT").is_some(), "control groups need root");
        eprintln!("SKIPPED: control groups need root");
        return;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let v2 = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("v2 is mounted");
    let hierarchies = Hierarchies::default().with_v2(v2.split(' ').nth(4).unwrap().into(), &[]);
    let group = hierarchies.group(format!("corten-test-devices-{}", std::process::id()));
    group.create().unwrap();
    let (null, zero) = (Device { block: false, major: Some(1), minor: Some(3), only_nodes: false }, (Some(1), Some(5)));
    let nodes = Device { major: None, minor: None, only_nodes: true, ..null };
    group.allow_devices(&[nodes, Device { major: zero.0, minor: zero.1, ..null }, null]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = "echo 0 > $1/cgroup.procs; head -c 1 /dev/zero | wc -c; head -c 1 /dev/full | wc -c; mknod $2/full c 1 7; \
        mknod $2/disk b 8 0; head -c 1 $2/full | wc -c";
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", script, "sh"]).arg(group.v2_folder().unwrap()).arg(folder.path()).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "1\n0\n0\n");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(errors.matches("Operation not permitted").count(), 3, "{errors}");
    group.remove().unwrap();
}

/// What the kernel tells of a group of v2.
#[test]
fn v2_figures_are_read() {
    let tree = tempfile::tempdir().unwrap();
    let hierarchies = Hierarchies::default().with_v2(tree.path().to_owned(), &["cpu", "memory", "pids"]);
    let group = hierarchies.group("a");
    group.create().unwrap();
    let folder = group.v2_folder().unwrap();
    assert!(group.usage().is_err());
    assert!(group.without_swap().is_empty());
    fs::write(folder.join("memory.swap.max"), "max").unwrap();
    apply(&group.without_swap()).unwrap();
    assert_eq!(fs::read_to_string(folder.join("memory.swap.max")).unwrap(), "0");
    let files = [
        ("cpu.stat", "usage_usec 12\nuser_usec 7\n"),
        ("memory.current", "4096\n"),
        ("memory.stat", "anon 1\ninactive_file 96\n"),
        ("memory.events", "oom 3\noom_kill 2\n"),
        ("pids.current", "5\n"),
        ("cgroup.procs", ""),
    ];
    files.iter().for_each(|(file, text)| fs::write(folder.join(file), text).unwrap());
    let expected = Usage { cpu_ns: 12_000, memory_bytes: 4096, inactive_file_bytes: 96, pids: 5 };
    assert_eq!(group.usage().unwrap(), expected);
    assert_eq!((group.oom_kills().unwrap(), group.members().unwrap(), group.kill().unwrap()), (2, Vec::new(), false));
}
