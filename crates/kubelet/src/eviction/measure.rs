//! What pods use: memory and processes from control groups, and what they have written on the node's disk. A walk over files
//! costs, so that it is made only where somebody is short of room, or a pod has a limit of it.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_apimachinery::value::{Str, Value};
use corten_runtime::engine::{ContainerId, Engine, Usage};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::rank::{Candidate, Used};
use crate::deed::blocking;
use crate::paths::in_memory;
use crate::pod::Pod;
use crate::reading::PodReading;
use crate::settings::Settings;

/// Folders in folders; what lies deeper is not counted.
const DEPTH_MAX: usize = 256;

/// What has been written below some folders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Written {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// What a pod has written on the node's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OnDisk {
    /// Outside of volumes, and logs; by container.
    pub(super) containers: Vec<(String, Written)>,
    /// Volumes that go with the pod, by name.
    pub(super) volumes: Vec<(String, Written)>,
}

impl OnDisk {
    pub(super) fn whole(&self) -> Written {
        let mut whole = Written::default();
        self.containers.iter().chain(&self.volumes).for_each(|(_, written)| whole.add(*written));
        whole
    }
}

/// Where a pod writes.
struct Places {
    containers: Vec<(String, Vec<PathBuf>)>,
    volumes: Vec<(String, PathBuf)>,
}

fn places(settings: &Settings, engine: &dyn Engine, uid: &str, reading: &PodReading) -> Places {
    let pod = Pod(&reading.object);
    let containers = reading.containers.iter().map(|container| {
        let mut folders = vec![settings.log_dir(pod).join(&container.name)];
        if let Some(attempt) = container.attempt {
            let id = ContainerId { pod: uid.to_owned(), name: container.name.clone(), attempt };
            folders.extend(engine.written(&id));
        }
        (container.name.clone(), folders)
    });
    let own = |volume: &&Value| is_given(volume, "emptyDir") && !in_memory(volume);
    let volumes = pod.spec_list("volumes").iter().filter(own);
    let volumes = volumes.map(|volume| (volume.str_at(&["name"]).to_owned(), settings.volume_path(uid, volume)));
    Places { containers: containers.collect(), volumes: volumes.collect() }
}

fn is_given(volume: &Value, field: &str) -> bool {
    volume.get(field).is_some_and(|source| !source.is_null())
}

/// Walks over everything that a pod has written. What cannot be read is told and left out.
pub(super) async fn on_disk(settings: &Settings, engine: &dyn Engine, uid: &str, reading: &PodReading) -> OnDisk {
    let places = places(settings, engine, uid, reading);
    let name = Pod(&reading.object).long_name();
    let walked = blocking(move || {
        let all = |folders: &[PathBuf]| {
            let mut written = Written::default();
            folders.iter().try_for_each(|folder| below(folder).map(|more| written.add(more)))?;
            Ok::<_, io::Error>(written)
        };
        let mut seen = OnDisk::default();
        for (name, folders) in places.containers {
            seen.containers.push((name, all(&folders)?));
        }
        for (name, folder) in places.volumes {
            seen.volumes.push((name, all(&[folder])?));
        }
        Ok(seen)
    });
    walked.await.unwrap_or_else(|error| {
        tracing::warn!(pod = name, %error, "what a pod has written cannot be counted");
        OnDisk::default()
    })
}

/// What a pod uses of everything; of the disk only where that is asked for.
pub(super) async fn candidate(
    settings: &Settings,
    engine: &dyn Engine,
    uid: &Str,
    reading: &PodReading,
    with_disk: bool,
) -> Candidate {
    let disk = if with_disk { on_disk(settings, engine, uid, reading).await } else { OnDisk::default() };
    let of = async |name: &str, runs: bool, written: Written| {
        let usage = if runs { usage(engine, uid, name).await } else { Usage::default() };
        Used {
            memory_bytes: usage.working_set_bytes,
            pids: usage.pids,
            disk_bytes: written.bytes,
            inodes: written.inodes,
        }
    };
    let mut containers = Vec::new();
    for container in &reading.containers {
        let written = disk.containers.iter().find(|(name, _)| *name == container.name);
        let written = written.map(|(_, written)| *written).unwrap_or_default();
        let used = of(&container.name, container.running, written).await;
        containers.push((container.name.clone(), used));
    }
    let runs = reading.containers.iter().any(|container| container.running);
    let used = of("", runs, disk.whole()).await;
    Candidate { uid: uid.clone(), object: Arc::clone(&reading.object), used, containers }
}

async fn usage(engine: &dyn Engine, pod: &str, name: &str) -> Usage {
    match engine.usage(pod, name).await {
        Ok(usage) => usage,
        Err(error) => {
            // One that has just ended uses nothing any more.
            tracing::debug!(pod, name, %error, "what is used is not known");
            Usage::default()
        }
    }
}

/// Everything below a folder on its own file system, by the blocks that it takes. Links lead nowhere, and what has several names
/// counts once.
pub(super) fn below(folder: &Path) -> io::Result<Written> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = match openat(CWD, folder, flags, Mode::empty()) {
        Ok(root) => root,
        Err(Errno::NOENT) => return Ok(Written::default()),
        Err(error) => return Err(error.into()),
    };
    let device = rustix::fs::fstat(&root)?.st_dev;
    let (mut written, mut several) = (Written::default(), BTreeSet::new());
    let mut open = vec![Dir::new(root)?];
    while let Some(dir) = open.last_mut() {
        let Some(entry) = dir.read().transpose()? else {
            open.pop();
            continue;
        };
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Some(stat) = gone(statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW))? else { continue };
        if stat.st_dev != device || stat.st_nlink > 1 && !is_folder(stat.st_mode) && !several.insert(stat.st_ino) {
            continue;
        }
        // `st_blocks` counts in 512 bytes, whatever the file system's own are.
        written.add(Written { bytes: u64::try_from(stat.st_blocks).unwrap_or_default() * 512, inodes: 1 });
        if is_folder(stat.st_mode) && open.len() < DEPTH_MAX {
            open.extend(enter(open.last(), &name.to_owned(), flags)?);
        }
    }
    Ok(written)
}

fn is_folder(mode: rustix::fs::RawMode) -> bool {
    FileType::from_raw_mode(mode) == FileType::Directory
}

fn enter(of: Option<&Dir>, name: &CString, flags: OFlags) -> io::Result<Option<Dir>> {
    let Some(of) = of else { return Ok(None) };
    let folder: Option<OwnedFd> = gone(openat(of.fd()?, name.as_c_str(), flags, Mode::empty()))?;
    Ok(folder.map(Dir::new).transpose()?)
}

/// Pods write while one counts: what has gone, or become something else, is not there.
fn gone<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_counted_once_and_through_no_link() {
        let dir = tempfile::tempdir().expect("a directory");
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        std::fs::create_dir_all(here.join("a/b")).expect("a folder");
        std::fs::create_dir(&there).expect("a folder");
        assert_eq!(below(&dir.path().join("none")).expect("nothing"), Written::default());
        let empty = below(&here).expect("read");
        assert_eq!(empty.inodes, 2);
        for (folder, name) in [(&here, "a/b/one"), (&there, "much")] {
            std::fs::write(folder.join(name), vec![1; 1 << 20]).expect("a file");
        }
        std::fs::hard_link(here.join("a/b/one"), here.join("two")).expect("a link");
        std::os::unix::fs::symlink(&there, here.join("way")).expect("a link");
        std::fs::File::create(here.join("hole")).expect("a file").set_len(1 << 30).expect("a length");
        let seen = below(&here).expect("read");
        assert_eq!(seen.inodes, 5, "a, b, one of the two names, the link, the hole");
        let grown = seen.bytes - empty.bytes;
        assert!((1 << 20..2 << 20).contains(&grown), "{grown}");
    }
}
