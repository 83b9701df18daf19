//! What is mounted in every container, and what of it is covered or read-only.

use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};

use corten_podspec::{Mount, MountKind, Propagation, Symlink};

use super::host::Host;
use super::{c_path, c_string};
use crate::engine::EngineError;
use crate::spec::{self, ContainerSpec, PodSpec};

/// What of /proc may be read and not written.
const READONLY: [&CStr; 5] = [c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

pub(super) fn readonly_paths() -> Vec<CString> {
    READONLY.iter().map(|path| (*path).to_owned()).collect()
}

/// With what each processor of this machine tells of its temperature.
pub(super) fn masked_paths(processors: usize) -> Vec<CString> {
    let throttle = (0..processors).map(|number| format!("/sys/devices/system/cpu/cpu{number}/thermal_throttle"));
    let there = throttle.filter(|path| Path::new(path).exists());
    let all = MASKED.iter().map(|path| (*path).to_owned()).chain(there);
    all.map(|path| CString::new(path).expect("the paths hold no zero byte")).collect()
}

/// In the order in which they are made: what the container gives lies over the defaults, an inner one over an outer one.
pub(super) fn mounts(host: &Host, pod: &PodSpec, spec: &ContainerSpec) -> Result<Vec<Mount>, EngineError> {
    let mut asked: Vec<&spec::Mount> = spec.mounts.iter().collect();
    asked.sort_by_key(|mount| mount.target.components().count());
    let mut made = defaults(host, pod, spec)?;
    let is_asked =
        |target: &CStr| asked.iter().any(|mount| mount.target.as_os_str().as_encoded_bytes() == target.to_bytes());
    made.retain(|mount| !is_asked(&mount.target));
    for mount in asked {
        made.push(bind(mount)?);
    }
    Ok(made)
}

fn bind(mount: &spec::Mount) -> Result<Mount, EngineError> {
    if !mount.target.is_absolute() {
        return Err(EngineError::Invalid(format!("mount target {} is not absolute", mount.target.display())));
    }
    Ok(Mount {
        kind: MountKind::Bind,
        source: c_path(&mount.source)?,
        target: c_path(&mount.target)?,
        readonly: mount.readonly,
        propagation: match mount.propagation {
            spec::Propagation::Private => Propagation::Private,
            spec::Propagation::HostToContainer => Propagation::Slave,
            spec::Propagation::Bidirectional => Propagation::Shared,
        },
        ..Mount::default()
    })
}

fn defaults(host: &Host, pod: &PodSpec, spec: &ContainerSpec) -> Result<Vec<Mount>, EngineError> {
    let privileged = spec.security.privileged;
    let system = |kind, target: &CStr, data: &CStr| Mount {
        kind,
        target: target.to_owned(),
        data: data.to_owned(),
        nosuid: true,
        noexec: true,
        nodev: true,
        ..Mount::default()
    };
    let mut made = vec![
        system(MountKind::Proc, c"/proc", c""),
        Mount { nodev: false, noexec: false, ..system(MountKind::Tmpfs, c"/dev", c"mode=755,size=65536k") },
        Mount { nodev: false, ..system(MountKind::Devpts, c"/dev/pts", c"newinstance,ptmxmode=0666,mode=0620,gid=5") },
        system(MountKind::Shm, c"/dev/shm", c""),
        system(MountKind::Mqueue, c"/dev/mqueue", c""),
        if pod.host_network {
            // A new sysfs shows the network namespace of its maker; that of the host belongs to the host.
            Mount { source: c"/sys".to_owned(), readonly: !privileged, ..system(MountKind::Bind, c"/sys", c"") }
        } else {
            Mount { readonly: !privileged, ..system(MountKind::Sysfs, c"/sys", c"") }
        },
    ];
    made.extend(control_groups(host, !privileged)?);
    Ok(made)
}

/// v2 alone is one mount; v1 has a folder with one for each hierarchy, as hosts do.
fn control_groups(host: &Host, readonly: bool) -> Result<Vec<Mount>, EngineError> {
    let group = |kind, target: PathBuf, data: &str| {
        let (target, data) = (c_path(target)?, c_string(data)?);
        let mount = Mount { kind, target, data, readonly, nosuid: true, noexec: true, nodev: true, ..Mount::default() };
        Ok::<_, EngineError>(mount)
    };
    let base = Path::new("/sys/fs/cgroup");
    if host.cgroup1.is_empty() {
        return if host.has_cgroup2 {
            Ok(vec![group(MountKind::Cgroup2, base.to_owned(), "")?])
        } else {
            Ok(Vec::new())
        };
    }
    let mut made = vec![group(MountKind::Tmpfs, base.to_owned(), "mode=755")?];
    for options in &host.cgroup1 {
        let folder = options.strip_prefix("name=").unwrap_or(options);
        made.push(group(MountKind::Cgroup, base.join(folder), options)?);
    }
    Ok(made)
}

/// Where one hierarchy has several controllers, each is found under its own name too, as on hosts.
pub(super) fn control_group_links(host: &Host) -> Result<Vec<Symlink>, EngineError> {
    let several = host.cgroup1.iter().filter(|options| options.contains(','));
    let names = several.flat_map(|options| options.split(',').map(move |name| (name, options)));
    let link = |(name, options): (&str, &String)| {
        Ok(Symlink { path: c_path(Path::new("/sys/fs/cgroup").join(name))?, target: c_string(options.as_str())? })
    };
    names.map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(spec: &ContainerSpec, host: &Host) -> Vec<String> {
        let made = mounts(host, &PodSpec::default(), spec).unwrap();
        made.iter().map(|mount| mount.target.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn outer_mounts_come_first_and_replace_defaults() {
        let mount = |target: &str| spec::Mount {
            source: "/tmp".into(),
            target: target.into(),
            readonly: false,
            propagation: spec::Propagation::Private,
        };
        let asked = vec![mount("/a/b"), mount("/dev/shm"), mount("/a")];
        let spec = ContainerSpec { mounts: asked, ..ContainerSpec::default() };
        let host = Host { has_cgroup2: true, ..Host::default() };
        let expected = ["/proc", "/dev", "/dev/pts", "/dev/mqueue", "/sys", "/sys/fs/cgroup", "/a", "/a/b", "/dev/shm"];
        assert_eq!(targets(&spec, &host), expected);
        let wrong = ContainerSpec { mounts: vec![mount("a")], ..ContainerSpec::default() };
        assert!(mounts(&host, &PodSpec::default(), &wrong).is_err());
    }

    #[test]
    fn each_hierarchy_of_v1_has_its_folder() {
        let host = Host { cgroup1: vec!["cpu,cpuacct".to_owned(), "name=systemd".to_owned()], ..Host::default() };
        let spec = ContainerSpec::default();
        let all = targets(&spec, &host);
        let expected = ["/sys/fs/cgroup", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/systemd"];
        assert_eq!(all[all.len() - 3..], expected);
        let links = control_group_links(&host).unwrap();
        let links: Vec<_> =
            links.iter().map(|link| (link.path.to_str().unwrap(), link.target.to_str().unwrap())).collect();
        let expected = [("/sys/fs/cgroup/cpu", "cpu,cpuacct"), ("/sys/fs/cgroup/cpuacct", "cpu,cpuacct")];
        assert_eq!(links, expected);
    }
}
