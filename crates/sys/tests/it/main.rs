//! Control groups on the real kernel, and v2's order of steps on a tree of plain files.

use std::fs;
use std::io;
use std::process::Command;

use corten_sys::cgroup::{Hierarchies, Limits, Write, apply};

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
