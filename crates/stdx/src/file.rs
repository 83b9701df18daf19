//! Files that are never half written: a new one beside the old one, then renamed over it. Whoever reads, also after a kill at any
//! moment, finds the old content or the new one. Writers of one file take turns by a lock of theirs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces a file, readable by its owner alone. It is not flushed: after a loss of power it may be empty.
///
/// # Errors
/// When the folder is not there or its disk refuses; the old file is untouched then.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(content))
}

/// The same, and it is on the disk when this answers.
///
/// # Errors
/// As [`replace`]; where only the folder could not be flushed, the new file may be there already.
pub fn replace_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, |file| file.write_all(content).and_then(|()| file.sync_all()))?;
    File::open(path.parent().unwrap_or_else(|| Path::new(".")))?.sync_all()
}

/// Replaces a file by what is written into a new one.
///
/// # Errors
/// As [`replace`], and those of `fill`.
pub fn replace_with<E: From<io::Error>>(path: &Path, fill: impl FnOnce(&mut File) -> Result<(), E>) -> Result<(), E> {
    let beside = path.with_added_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    fill(&mut file)?;
    Ok(std::fs::rename(&beside, path)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, former) = (dir.path().join("file"), dir.path().join("former"));
        replace_durably(&path, b"the first one").expect("written");
        fs::hard_link(&path, &former).expect("linked");
        replace(&path, b"second").expect("replaced");
        assert_eq!(fs::read(&former).expect("there"), b"the first one", "it is not written over");
        fs::remove_file(&former).expect("removed");
        assert_eq!(fs::read(&path).expect("there"), b"second");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1, "nothing is left beside it");
    }

    #[test]
    fn the_old_one_stays_when_the_new_one_is_not_written() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("file");
        replace(&path, b"old").expect("written");
        let refused = replace_with(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert_eq!(refused.expect_err("refused").kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).expect("there"), b"old");
    }
}
