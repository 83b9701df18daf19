//! The data directory: who owns it, which layout it has, and which instance it is.
//! Layout: `VERSION lock instance pki keys store content admin.kubeconfig`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use corten_stdx::random::Random;
use rustix::fs::FlockOperation;

use crate::files::{FileError, read_if_there, write_private};

/// The layout that this program writes. A directory with a higher number is refused.
const LAYOUT: u32 = 1;

/// Below this the store would stop with its first snapshot.
const FREE_BYTES_MIN: u64 = 32 * 1024 * 1024;

/// The folder of sockets of every instance on this server, one below it for each.
pub const RUN: &str = "/run/corten";

/// An opened data directory; the lock lasts as long as this value.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    instance: String,
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} is in use by another corten{}; stop that one, or choose another place with --data-dir", path.display(), holder)]
    Locked { path: PathBuf, holder: String },
    #[error("{} was written by a newer corten (layout {found}, this one knows {LAYOUT}); start that version, or choose another place with --data-dir", path.display())]
    Newer { path: PathBuf, found: u32 },
    #[error("{} holds {found:?}, which corten has not written; restore it, or choose another place with --data-dir", path.display())]
    Unreadable { path: PathBuf, found: String },
    #[error("{} is no data directory of corten: it has no file `instance`; name the right one with --data-dir", path.display())]
    Absent { path: PathBuf },
    #[error("{} has {free_mib} MiB free, less than the {} MiB that a start needs; free space, or choose another place with --data-dir", path.display(), FREE_BYTES_MIN >> 20)]
    Full { path: PathBuf, free_mib: u64 },
}

impl DataDir {
    /// Makes the directory where it is missing, and takes it for this process.
    pub fn open(path: &Path, random: &Random) -> Result<Self, DataDirError> {
        make_dir(path)?;
        let lock = take_lock(path)?;
        check_layout(path)?;
        check_space(path)?;
        let instance = instance(path, random)?;
        for part in ["pki", "store"] {
            make_dir(&path.join(part))?;
        }
        Ok(Self { path: path.to_owned(), instance, _lock: lock })
    }

    /// Takes a directory that a corten has made; nothing is added to it but the lock.
    pub fn existing(path: &Path) -> Result<Self, DataDirError> {
        let Some(found) = read_if_there(&path.join("instance"))? else {
            return Err(DataDirError::Absent { path: path.to_owned() });
        };
        let lock = take_lock(path)?;
        check_layout(path)?;
        let instance = checked(&path.join("instance"), found)?;
        Ok(Self { path: path.to_owned(), instance, _lock: lock })
    }

    pub fn join(&self, part: &str) -> PathBuf {
        self.path.join(part)
    }

    /// Six hexadecimal digits that tell instances on one server apart.
    pub fn instance(&self) -> &str {
        &self.instance
    }
}

/// The folder of images. It has a lock of its own, so that commands use it while a node runs.
pub fn content(path: &Path) -> Result<PathBuf, DataDirError> {
    make_dir(path)?;
    check_layout(path)?;
    let content = path.join("content");
    make_dir(&content)?;
    Ok(content)
}

fn make_dir(path: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| FileError::new("make the directory", path, error))
}

fn take_lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("lock");
    let failed = |error| FileError::new("write", &path, error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid).map_err(failed)?;
        let holder = if pid.is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
        return Err(DataDirError::Locked { path: dir.to_owned(), holder });
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(file)
}

fn check_layout(dir: &Path) -> Result<(), DataDirError> {
    let path = dir.join("VERSION");
    let Some(text) = read_if_there(&path)? else {
        return Ok(write_private(&path, format!("{LAYOUT}\n").as_bytes())?);
    };
    match text.trim().parse() {
        Ok(found) if found > LAYOUT => Err(DataDirError::Newer { path: dir.to_owned(), found }),
        Ok(_) => Ok(()),
        Err(_) => Err(DataDirError::Unreadable { path, found: text }),
    }
}

fn check_space(dir: &Path) -> Result<(), DataDirError> {
    let disk = rustix::fs::statvfs(dir).map_err(|error| FileError::new("examine", dir, error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free < FREE_BYTES_MIN {
        return Err(DataDirError::Full { path: dir.to_owned(), free_mib: free >> 20 });
    }
    Ok(())
}

fn instance(dir: &Path, random: &Random) -> Result<String, DataDirError> {
    let path = dir.join("instance");
    if let Some(found) = read_if_there(&path)? {
        return checked(&path, found);
    }
    let mut bytes = [0; 3];
    random.fill(&mut bytes);
    let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    write_private(&path, format!("{id}\n").as_bytes())?;
    Ok(id)
}

/// An instance's id, if it is one.
fn checked(path: &Path, found: String) -> Result<String, DataDirError> {
    let id = found.trim();
    let readable = id.len() == 6 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if readable { Ok(id.to_owned()) } else { Err(DataDirError::Unreadable { path: path.to_owned(), found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<DataDir, DataDirError> {
        DataDir::open(path, &Random::seeded(7))
    }

    #[test]
    fn a_directory_is_made_once_and_keeps_its_identity() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/er");
        let first = open(&path).expect("opens").instance().to_owned();
        assert_eq!(first.len(), 6);
        let again = DataDir::open(&path, &Random::seeded(8)).expect("opens again once it is free");
        assert_eq!(again.instance(), first);
        assert!(path.join("store").is_dir() && path.join("pki").is_dir());
    }

    #[test]
    fn two_on_one_directory_are_refused_by_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let _held = open(dir.path()).expect("opens");
        let text = open(dir.path()).expect_err("held").to_string();
        assert!(text.contains(&format!("(process {})", std::process::id())) && text.contains("--data-dir"), "{text}");
    }

    #[test]
    fn a_newer_or_damaged_layout_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("VERSION"), "2\n").expect("written");
        let text = open(dir.path()).expect_err("newer").to_string();
        assert!(text.contains("layout 2, this one knows 1"), "{text}");
        std::fs::write(dir.path().join("VERSION"), "what\n").expect("written");
        assert!(matches!(open(dir.path()), Err(DataDirError::Unreadable { .. })));
        std::fs::write(dir.path().join("VERSION"), "1\n").expect("written");
        std::fs::write(dir.path().join("instance"), "").expect("written");
        assert!(matches!(open(dir.path()), Err(DataDirError::Unreadable { .. })));
    }

    #[test]
    fn a_place_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("file"), "").expect("written");
        let text = open(&dir.path().join("file/below")).expect_err("a file is in the way").to_string();
        assert!(text.contains("file/below") && text.contains("--data-dir"), "{text}");
    }
}
