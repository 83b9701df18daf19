//! Gives a volume to the pod's `fsGroup` (`pkg/volume/volume_linux.go`).

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

const READ_WRITE: u32 = 0o660;
const READ: u32 = 0o440;
const ENTER: u32 = 0o110;
const SET_GROUP: u32 = 0o2000;

/// Everything at and below the path belongs to the group, and the group may use it.
pub(super) fn give(path: &Path, group: u32, readonly: bool) -> io::Result<()> {
    let meta = fs::symlink_metadata(path)?;
    if meta.is_symlink() {
        return std::os::unix::fs::lchown(path, None, Some(group));
    }
    chown(path, None, Some(group))?;
    let rights = if readonly { READ } else { READ_WRITE };
    let more = if meta.is_dir() { rights | ENTER | SET_GROUP } else { rights };
    fs::set_permissions(path, fs::Permissions::from_mode(meta.permissions().mode() & 0o7777 | more))?;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), group, readonly)?;
        }
    }
    Ok(())
}
