//! Files of the data directory, and what to do when one cannot be written or read.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use corten_stdx::file::replace_durably;

/// A file that could not be written or read, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}; {}", path.display(), advice(source))]
pub struct FileError {
    what: &'static str,
    path: PathBuf,
    source: std::io::Error,
}

impl FileError {
    pub fn new(what: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self { what, path: path.to_owned(), source }
    }
}

/// Replaces a file, readable by its owner alone, and answers when it is on the disk.
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), FileError> {
    replace_durably(path, contents).map_err(|source| FileError::new("write", path, source))
}

/// The text of a file; `None` where there is none.
pub fn read_if_there(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::new("read", path, error)),
    }
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "run as root, or choose another place with --data-dir"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space on its disk, then start again",
        _ => "see the cause, or choose another place with --data-dir",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_what_to_do() {
        let error = FileError::new("write", Path::new("/d/VERSION"), ErrorKind::StorageFull.into());
        assert_eq!(error.to_string(), "cannot write /d/VERSION; free space on its disk, then start again");
    }
}
