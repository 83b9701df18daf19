//! A part of a volume, mounted. A container may change its volume at any time, so the part is found by openat2(2) below
//! the volume, and what was found is mounted by its descriptor: no name is looked up twice.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};

/// Mounts `volume`/`sub` at `at`, which is made. A part that is missing becomes a folder.
pub(super) fn bind(volume: &Path, sub: &str, at: &Path) -> io::Result<()> {
    let part = open(volume, Path::new(sub))?;
    show(&part, at)
}

/// Mounts what was opened, a folder or a file, at a path, which is made.
pub(super) fn show(part: &OwnedFd, at: &Path) -> io::Result<()> {
    let is_dir = FileType::from_raw_mode(fstat(part)?.st_mode) == FileType::Directory;
    clear(at)?;
    let parent = at.parent().unwrap_or(at);
    fs::create_dir_all(parent)?;
    if is_dir {
        fs::create_dir(at)?;
    } else {
        fs::File::create(at)?;
    }
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(part, "", flags)?;
    move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// What an earlier attempt of the container had there.
fn clear(at: &Path) -> io::Result<()> {
    if fs::symlink_metadata(at).is_err() {
        return Ok(());
    }
    match unmount(at, UnmountFlags::DETACH) {
        // Nothing was mounted there.
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    if at.is_dir() { fs::remove_dir(at) } else { fs::remove_file(at) }
}

fn open(volume: &Path, sub: &Path) -> io::Result<OwnedFd> {
    let stays = sub.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !stays {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} leaves the volume", sub.display())));
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let root = openat2(CWD, volume, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS)?;
    match openat2(&root, sub, flags, Mode::empty(), inside) {
        Ok(part) => return Ok(part),
        Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let mode = Mode::from_raw_mode(fstat(&root)?.st_mode & 0o777);
    let mut folder = root;
    for part in sub.components().filter(|part| matches!(part, Component::Normal(_))) {
        match mkdirat(&folder, part.as_os_str(), mode) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        folder = openat2(&folder, part.as_os_str(), flags, Mode::empty(), inside)?;
    }
    Ok(folder)
}
