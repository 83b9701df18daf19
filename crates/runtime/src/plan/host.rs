//! Facts of this machine that plans depend on, looked up once.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use super::{capabilities, mounts};
use crate::engine::EngineError;
use crate::seccomp::Filters;

/// What this machine and this process have.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// Those that this process has and may hand on.
    pub(crate) capabilities: u64,
    pub(crate) masked: Vec<CString>,
    /// v1's hierarchies, by the options that they are mounted with.
    pub(crate) cgroup1: Vec<String>,
    pub(crate) has_cgroup2: bool,
    pub(crate) filters: Filters,
    /// overlayfs takes one layer after the other (since 6.7), not only a list.
    pub(crate) layers_one_by_one: bool,
}

impl Host {
    /// Looks, and tries on two folders of ours.
    pub(crate) fn detect(one: &Path, other: &Path) -> Result<Self, EngineError> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| EngineError::Failed(format!("{path} cannot be read: {error}")))
        };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut host = Self::mounted(&read("/proc/self/mountinfo")?);
        host.capabilities = permitted(&read("/proc/self/status")?) & capabilities::ALL;
        host.masked = mounts::masked_paths(processors);
        // Every kernel takes a list, so that is what a failure leads to, whatever its cause: the kernel is too old for more, or
        // just now loads what it needs for any of it.
        host.layers_one_by_one = overlay(&[one.to_owned(), other.to_owned()]).is_ok();
        Ok(host)
    }

    fn mounted(mountinfo: &str) -> Self {
        let mut host = Self::default();
        for line in mountinfo.lines() {
            let Some((_, file_system)) = line.split_once(" - ") else { continue };
            let mut fields = file_system.split(' ');
            match (fields.next(), fields.nth(1)) {
                (Some("cgroup2"), _) => host.has_cgroup2 = true,
                (Some("cgroup"), Some(options)) => host.cgroup1.extend(hierarchy(options)),
                _ => {}
            }
        }
        host.cgroup1.sort();
        host.cgroup1.dedup();
        host
    }
}

/// Layers, topmost first, as one detached read-only tree.
pub(super) fn overlay(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let system = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers {
        fsconfig_set_string(&system, "lowerdir+", layer)?;
    }
    fsconfig_create(&system)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// What names a hierarchy among the options of its mount.
fn hierarchy(options: &str) -> Option<String> {
    let other = ["rw", "ro", "xattr", "noprefix", "clone_children"];
    let names: Vec<&str> =
        options.split(',').filter(|option| !other.contains(option) && !option.starts_with("release_agent=")).collect();
    (!names.is_empty()).then(|| names.join(","))
}

fn permitted(status: &str) -> u64 {
    let set = |name| status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix(name)?.trim(), 16).ok());
    set("CapPrm:").unwrap_or(0) & set("CapBnd:").unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_known_by_their_options() {
        let host = Host::mounted(
            "32 31 0:29 / /c/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /c/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd\n\
             41 31 0:38 / /c/unified rw shared:3 - cgroup2 cgroup2 rw\n",
        );
        assert_eq!(host.cgroup1, ["cpu,cpuacct", "name=systemd"]);
        assert!(host.has_cgroup2);
        assert_eq!(permitted("CapPrm:\t00000000000000ff\nCapBnd:\t000000000000000f\n"), 15);
    }
}
