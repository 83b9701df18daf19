//! Device nodes and links in /dev.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use corten_podspec::{Device, Symlink};
use corten_sys::cgroup::Device as Allowed;
use rustix::fs::{major, minor};

use super::c_path;
use crate::engine::EngineError;
use crate::spec::{ContainerSpec, Security};

const KIND: u32 = 0o170_000;
const CHARACTER: u32 = 0o020_000;

/// What every container has, of type character: name, major, minor.
const DEFAULT: [(&CStr, u32, u32); 6] = [
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];

const LINKS: [(&CStr, &CStr); 6] = [
    (c"/dev/fd", c"/proc/self/fd"),
    (c"/dev/stdin", c"/proc/self/fd/0"),
    (c"/dev/stdout", c"/proc/self/fd/1"),
    (c"/dev/stderr", c"/proc/self/fd/2"),
    (c"/dev/core", c"/proc/kcore"),
    (c"/dev/ptmx", c"pts/ptmx"),
];

/// Folders and files of the host's /dev that a privileged container has its own of.
const NOT_SHARED: [&str; 7] = ["pts", "shm", "fd", "mqueue", "console", ".lxc", ".udev"];

/// What may be used beside the nodes that a container has: any node may be made, terminals may be used.
const ALLOWED: [Allowed; 4] = [
    Allowed { block: false, major: None, minor: None, only_nodes: true },
    Allowed { block: true, major: None, minor: None, only_nodes: true },
    Allowed { block: false, major: Some(5), minor: Some(2), only_nodes: false },
    Allowed { block: false, major: Some(136), minor: None, only_nodes: false },
];

/// What a container may use. None: everything, for a privileged one.
pub(crate) fn allowed(security: &Security, nodes: &[Device]) -> Option<Vec<Allowed>> {
    let own = nodes.iter().map(|node| Allowed {
        block: node.mode & KIND != CHARACTER,
        major: Some(node.major),
        minor: Some(node.minor),
        only_nodes: false,
    });
    (!security.privileged).then(|| ALLOWED.into_iter().chain(own).collect())
}

/// One to a file that this kernel does not have is not made.
pub(super) fn links() -> Vec<Symlink> {
    let link = |(path, target): &(&CStr, &CStr)| Symlink { path: (*path).to_owned(), target: (*target).to_owned() };
    let has_core = Path::new("/proc/kcore").exists();
    LINKS.iter().filter(|(path, _)| has_core || *path != c"/dev/core").map(link).collect()
}

/// The default ones, those that the container asks for, and all of the host for a privileged one.
pub(crate) fn nodes(spec: &ContainerSpec) -> Result<Vec<Device>, EngineError> {
    let default = |(path, major, minor): &(&CStr, u32, u32)| {
        let path: CString = (*path).to_owned();
        Device { path, mode: CHARACTER | 0o666, major: *major, minor: *minor }
    };
    let mut found: Vec<Device> = DEFAULT.iter().map(default).collect();
    let mut asked = spec.devices.clone();
    if spec.security.privileged {
        of_host(Path::new("/dev"), &mut asked).map_err(|error| EngineError::Failed(format!("/dev: {error}")))?;
    }
    for path in asked {
        let node = node(&path)?;
        if !found.iter().any(|known| known.path == node.path) && !LINKS.iter().any(|(link, _)| *link == &*node.path) {
            found.push(node);
        }
    }
    Ok(found)
}

fn node(path: &Path) -> Result<Device, EngineError> {
    let invalid = |why: String| EngineError::Invalid(format!("device {}: {why}", path.display()));
    let facts = fs::metadata(path).map_err(|error| invalid(error.to_string()))?;
    let kind = facts.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return Err(invalid("is no device".to_owned()));
    }
    Ok(Device { path: c_path(path)?, mode: facts.mode(), major: major(facts.rdev()), minor: minor(facts.rdev()) })
}

/// What disappears meanwhile is not there.
fn of_host(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let is_own = NOT_SHARED.iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && !is_own {
            of_host(&entry.path(), found)?;
        } else if (kind.is_char_device() || kind.is_block_device()) && !is_own {
            found.push(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_of_the_host_has_the_same_numbers() {
        let spec = ContainerSpec { devices: vec!["/dev/null".into()], ..ContainerSpec::default() };
        assert_eq!(nodes(&spec).unwrap().len(), DEFAULT.len());
        let null = node(Path::new("/dev/null")).unwrap();
        assert_eq!((null.major, null.minor, null.mode & KIND), (1, 3, CHARACTER));
        let spec = ContainerSpec { devices: vec!["/etc/passwd".into()], ..ContainerSpec::default() };
        let error = nodes(&spec).unwrap_err();
        assert_eq!(error, EngineError::Invalid("device /etc/passwd: is no device".to_owned()));
    }
}
