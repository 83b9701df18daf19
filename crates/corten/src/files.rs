//! Files that are never half written: a new file beside the old one, flushed, then renamed over it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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
    let beside = path.with_added_extension("new");
    let failed = |source| FileError::new("write", path, source);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
    file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)?;
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)
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
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        assert_eq!(read_if_there(&path).expect("absent is no error"), None);
        write_private(&path, b"one").expect("written");
        write_private(&path, b"two").expect("written");
        assert_eq!(read_if_there(&path).expect("readable").as_deref(), Some("two"));
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let error = FileError::new("write", Path::new("/d/VERSION"), ErrorKind::StorageFull.into());
        assert_eq!(error.to_string(), "cannot write /d/VERSION; free space on its disk, then start again");
    }
}
