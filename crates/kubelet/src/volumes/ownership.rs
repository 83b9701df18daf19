//! Gives a volume to the pod's `fsGroup` (`pkg/volume/volume_linux.go`). Another pod may be changing the volume at the same
//! time, so nothing is done by name: each entry is opened without following a link, and what was opened is changed.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, chmod, chownat, fstat, openat};

const READ_WRITE: u32 = 0o660;
const READ: u32 = 0o440;
const ENTER: u32 = 0o110;
const SET_GROUP: u32 = 0o2000;

/// Folders within folders, each of which is held open meanwhile.
const DEPTH_MAX: u32 = 512;

/// Everything at and below the path belongs to the group, and the group may use it.
pub(super) fn give(path: &Path, group: u32, readonly: bool) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = openat(CWD, path, flags, Mode::empty())?;
    give_entry(&entry, Gid::from_raw(group), readonly, 0)
}

/// Whether the path itself is as [`give`] leaves it (`fsGroupChangePolicy: OnRootMismatch`).
pub(super) fn is_given(path: &Path, group: u32, readonly: bool) -> io::Result<bool> {
    let stat = rustix::fs::stat(path)?;
    let rights = if readonly { READ } else { READ_WRITE } | ENTER | SET_GROUP;
    Ok(stat.st_gid == group && stat.st_mode & rights == rights)
}

fn give_entry(entry: &OwnedFd, group: Gid, readonly: bool, depth: u32) -> io::Result<()> {
    let stat = fstat(entry)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    chownat(entry, "", None, Some(group), AtFlags::EMPTY_PATH)?;
    if kind == FileType::Symlink {
        return Ok(());
    }
    let rights = if readonly { READ } else { READ_WRITE };
    let more = if kind == FileType::Directory { rights | ENTER | SET_GROUP } else { rights };
    // What was opened, whatever has its name by now; a change of owner may have taken bits away, the old ones are set again.
    chmod(format!("/proc/self/fd/{}", entry.as_raw_fd()), Mode::from_raw_mode(stat.st_mode & 0o7777 | more))?;
    if kind == FileType::Directory { give_children(entry.as_fd(), group, readonly, depth) } else { Ok(()) }
}

fn give_children(folder: BorrowedFd<'_>, group: Gid, readonly: bool, depth: u32) -> io::Result<()> {
    if depth == DEPTH_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("folders lie deeper than {DEPTH_MAX}")));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for child in Dir::new(openat(folder, ".", flags, Mode::empty())?)? {
        let child = child?;
        if matches!(child.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(folder, child.file_name(), flags, Mode::empty()) {
            Ok(entry) => give_entry(&entry, group, readonly, depth + 1)?,
            // Somebody has taken it away meanwhile.
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
