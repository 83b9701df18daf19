//! Opening the store, copying it, making it of a copy, and what to do where it cannot be opened.

use std::path::{Path, PathBuf};

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_store::Revision;
use corten_store::embedded::copy::Copy;
use corten_store::embedded::disk::Directory;
use corten_store::embedded::{EmbeddedStore, OpenError, Options};

use crate::files::FileError;

#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the store in {} cannot be opened; {advice}", path.display())]
    Unusable { path: PathBuf, advice: &'static str, source: OpenError },
}

/// Opens the store in a directory. Reads all of it.
pub fn open(path: &Path, clock: Clock, random: &Random) -> Result<EmbeddedStore, StoreOpenError> {
    EmbeddedStore::open(directory(path)?, Options::new(clock, random)).map_err(unusable(path))
}

/// The objects of the store in a directory, whether it is open or not.
pub fn copy(path: &Path, clock: Clock, random: &Random) -> Result<Copy, StoreOpenError> {
    Copy::read(&directory(path)?, &Options::new(clock, random)).map_err(unusable(path))
}

/// Makes a store of objects in an empty directory.
pub fn make(path: &Path, copy: &Copy, clock: Clock, random: &Random) -> Result<Revision, StoreOpenError> {
    let made = copy.write(&directory(path)?, &Options::new(clock, random));
    Ok(made.map_err(|error| FileError::new("write", path, error))?)
}

fn directory(path: &Path) -> Result<Directory, FileError> {
    Directory::open(path).map_err(|error| FileError::new("make the directory", path, error))
}

fn unusable(path: &Path) -> impl FnOnce(OpenError) -> StoreOpenError {
    |source| {
        let advice = match &source {
            OpenError::Locked => "stop the other process",
            OpenError::Io(_) => "see the cause, then start again",
            OpenError::Format(_) => "start the version that wrote it, or choose another place with --data-dir",
            OpenError::Damaged(_) => "restore a backup, or choose another place with --data-dir",
        };
        StoreOpenError::Unusable { path: path.to_owned(), advice, source }
    }
}
