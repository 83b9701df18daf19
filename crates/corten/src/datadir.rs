//! The data directory: who owns it, which layout it has, and which instance it is.
//! Layout: `VERSION lock instance pki keys store content admin.kubeconfig`.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_stdx::random::Random;
use rustix::fs::FlockOperation;

use crate::files::{FileError, read_if_there, write_private};

/// The layout that this program writes. A directory with a higher number is refused.
pub const LAYOUT: u32 = 1;

/// Below this the store would stop with its first snapshot.
const FREE_BYTES_MIN: u64 = 32 * 1024 * 1024;

/// How often and how far apart a lock is tried whose holder is gone.
const LOOKS_MAX: u32 = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The folder of sockets of every instance on this server, one below it for each.
pub const RUN: &str = "/run/corten";

/// An opened data directory; the lock lasts as long as this value.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    instance: String,
    /// This start has made it.
    fresh: bool,
    _lock: File,
}

/// What a start makes in an empty directory before anything is started, in an order in which it can be taken back.
const FIRST: [&str; 7] = ["network/dns-address", "network", "store", "pki", "instance", "VERSION", "lock"];

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
    /// Makes the directory where it is missing, and takes it for this process. What is refused is left as it was.
    pub fn open(path: &Path, random: &Random) -> Result<Self, DataDirError> {
        found_layout(path)?;
        let fresh = !path.join("instance").exists();
        make_dir(path)?;
        let lock = take_lock(path)?;
        let mut dir = Self { path: path.to_owned(), instance: String::new(), fresh, _lock: lock };
        match dir.fill(random) {
            Ok(()) => Ok(dir),
            Err(error) => {
                dir.take_back();
                Err(error)
            }
        }
    }

    fn fill(&mut self, random: &Random) -> Result<(), DataDirError> {
        check_layout(&self.path)?;
        check_space(&self.path)?;
        self.instance = instance(&self.path, random)?;
        ["pki", "store"].iter().try_for_each(|part| make_dir(&self.path.join(part)))?;
        Ok(())
    }

    /// Whether this start has made it.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Removes what this start has made, if it has found nothing: it was refused before anything was started.
    pub fn take_back(&self) {
        if !self.fresh {
            return;
        }
        let parts = FIRST.iter().map(|part| self.path.join(part)).chain([self.path.clone()]);
        for part in parts {
            let removed = if part.is_dir() { std::fs::remove_dir(&part) } else { std::fs::remove_file(&part) };
            match removed {
                Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                    tracing::warn!(path = %part.display(), %error, "it stays behind");
                }
                _ => {}
            }
        }
    }

    /// Takes a directory that a corten has made; nothing is added to it but the lock. `None` for one that is no instance yet: its
    /// first start was cut short, or it holds images alone.
    pub fn existing(path: &Path) -> Result<Option<Self>, DataDirError> {
        let Some(found) = read_if_there(&path.join("instance"))? else {
            let is_begun = is_begun(path).map_err(|error| FileError::new("read", path, error))?;
            return if is_begun { Ok(None) } else { Err(DataDirError::Absent { path: path.to_owned() }) };
        };
        let lock = take_lock(path)?;
        check_layout(path)?;
        let instance = checked(&path.join("instance"), found)?;
        Ok(Some(Self { path: path.to_owned(), instance, fresh: false, _lock: lock }))
    }

    /// The id of the instance in a directory that somebody may be using. Nothing is touched.
    pub fn look(path: &Path) -> Result<String, DataDirError> {
        found_layout(path)?;
        let file = path.join("instance");
        let found = read_if_there(&file)?.ok_or_else(|| DataDirError::Absent { path: path.to_owned() })?;
        checked(&file, found)
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

/// Whether a directory holds what corten begins with, and nothing else.
fn is_begun(path: &Path) -> std::io::Result<bool> {
    const BEGINNING: [&str; 5] = ["lock", "VERSION", "VERSION.new", "instance.new", "content"];
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if !BEGINNING.iter().any(|beginning| name == *beginning) {
            return Ok(false);
        }
    }
    Ok(true)
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
    let mut looks = 0;
    while rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut pid)).map_err(failed)?;
        // What a killed corten was about to start holds its lock until it is another program.
        looks += 1;
        if looks > LOOKS_MAX || Path::new("/proc").join(pid.trim()).exists() {
            let holder = if pid.is_empty() { String::new() } else { format!(" (process {})", pid.trim()) };
            return Err(DataDirError::Locked { path: dir.to_owned(), holder });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(file)
}

/// Notes the layout in a directory without one.
fn check_layout(dir: &Path) -> Result<(), DataDirError> {
    if !found_layout(dir)? {
        write_private(&dir.join("VERSION"), format!("{LAYOUT}\n").as_bytes())?;
    }
    Ok(())
}

/// Whether a directory has a layout already; an error if it is one that this program cannot use.
fn found_layout(dir: &Path) -> Result<bool, DataDirError> {
    match layout(dir)? {
        Some(found) if found > LAYOUT => Err(DataDirError::Newer { path: dir.to_owned(), found }),
        found => Ok(found.is_some()),
    }
}

/// The layout of a directory, if one is noted.
pub fn layout(dir: &Path) -> Result<Option<u32>, DataDirError> {
    let path = dir.join("VERSION");
    let Some(text) = read_if_there(&path)? else { return Ok(None) };
    match text.trim().parse() {
        Ok(found) => Ok(Some(found)),
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
    fn the_lock_of_a_process_that_is_gone_is_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(open(dir.path()).expect("opens"));
        let file = OpenOptions::new().write(true).open(dir.path().join("lock")).expect("there");
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).expect("free");
        // No process has this id: it is above the kernel's limit.
        std::fs::write(dir.path().join("lock"), "4194305\n").expect("written");
        let released = std::thread::spawn(move || {
            std::thread::sleep(LOOK_AGAIN * 5);
            drop(file);
        });
        open(dir.path()).expect("opens when it is free");
        released.join().expect("no panic");
    }

    #[test]
    fn what_was_found_is_never_taken_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        open(&path).expect("opens").take_back();
        assert!(!path.exists(), "it was made by this start");
        std::fs::create_dir(&path).expect("made");
        std::fs::write(path.join("notes.txt"), "mine").expect("written");
        open(&path).expect("opens").take_back();
        assert_eq!(std::fs::read_dir(&path).expect("listed").count(), 1, "somebody else's stays");
        drop(open(&path).expect("opens"));
        open(&path).expect("opens again").take_back();
        assert!(path.join("instance").exists() && path.join("store").is_dir(), "it was there before this start");
    }

    #[test]
    fn a_directory_that_was_only_begun_is_known_as_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("data");
        assert!(matches!(DataDir::existing(&path), Err(DataDirError::Absent { .. })));
        std::fs::create_dir(&path).expect("made");
        std::fs::write(path.join("VERSION"), "1\n").expect("written");
        std::fs::write(path.join("instance.new"), "ab").expect("written");
        assert!(DataDir::existing(&path).expect("begun").is_none());
        std::fs::write(path.join("notes.txt"), "mine").expect("written");
        assert!(matches!(DataDir::existing(&path), Err(DataDirError::Absent { .. })), "somebody else's");
        std::fs::remove_file(path.join("notes.txt")).expect("removed");
        drop(open(&path).expect("opens"));
        assert!(DataDir::existing(&path).expect("an instance").is_some());
    }

    #[test]
    fn a_newer_or_damaged_layout_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("VERSION"), "2\n").expect("written");
        let text = open(dir.path()).expect_err("newer").to_string();
        assert!(text.contains("layout 2, this one knows 1"), "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1, "no lock is left");
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
