//! A file of unused space. It is given up when the disk is full, so that deletions still reach the log.

use std::io;

use super::disk::Disk;
use super::layout::RESERVE;

/// Takes the space.
pub(crate) fn take(disk: &dyn Disk, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    let taken = disk.create(RESERVE).and_then(|file| file.allocate(bytes));
    if taken.is_err() {
        give_up(disk)?;
    }
    taken
}

/// Takes the space again, if there is clearly more than that: a store that hovers at the limit would otherwise give up
/// and take again with every write.
pub(crate) fn take_again(disk: &dyn Disk, bytes: u64) -> io::Result<()> {
    take(disk, bytes.saturating_mul(2))?;
    take(disk, bytes)
}

pub(crate) fn give_up(disk: &dyn Disk) -> io::Result<()> {
    match disk.remove(RESERVE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
