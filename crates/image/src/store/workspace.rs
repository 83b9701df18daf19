//! Folders in which images are put together. Each is locked by whoever works in it, so that what a crash left behind can be told
//! from what is being made; nothing in them is part of the store.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use corten_stdx::random::Random;
use rustix::fs::FlockOperation;

use super::index::Turn;
use crate::ImageError;

/// Goes with all that is in it when it is dropped.
#[derive(Debug)]
pub(crate) struct Workspace {
    path: PathBuf,
    _lock: File,
}

impl Workspace {
    /// The turn keeps cleaners away between the folder's making and its locking.
    pub(super) fn make(parent: &Path, random: &Random, _turn: &Turn) -> Result<Self, ImageError> {
        let path = parent.join(format!("{:016x}", random.next_u64()));
        let failed = |error| ImageError::io(&format!("the work folder {}", path.display()), error);
        std::fs::create_dir(&path).map_err(failed)?;
        let lock = File::open(&path).map_err(failed)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "a work folder stays until the next start");
        }
    }
}

/// Moves folders whose maker is gone to the trash.
pub(super) fn abandon(parent: &Path, trash: &Path, random: &Random, _turn: &Turn) -> Result<(), ImageError> {
    let failed = |error| ImageError::io(&format!("the work folders {}", parent.display()), error);
    for entry in std::fs::read_dir(parent).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let lock = match File::open(&path) {
            // Its maker is done with it.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(failed)?,
        };
        if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            discard(&path, trash, random)?;
        }
    }
    Ok(())
}

/// Takes something out of the store at once; its removal may take longer.
pub(super) fn discard(path: &Path, trash: &Path, random: &Random) -> Result<(), ImageError> {
    let into = trash.join(format!("{:016x}", random.next_u64()));
    match std::fs::rename(path, into) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.map_err(|error| ImageError::io(&path.display().to_string(), error)),
    }
}

/// Removes what was discarded. Another process may do the same at the same time.
pub(super) fn empty(trash: &Path) -> Result<(), ImageError> {
    let failed = |error| ImageError::io(&format!("the discarded files in {}", trash.display()), error);
    for entry in std::fs::read_dir(trash).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.map_err(failed)?,
        }
    }
    Ok(())
}
