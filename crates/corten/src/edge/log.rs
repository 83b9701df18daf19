//! The files of the access log, in a folder that is the edge's own: `access.log`, and the older `access.log.1` to `.3`. The edge turns
//! them over by itself, so the log stays bounded while control is away. While one edge takes over from another both write to
//! the same file, lines whole: what is written at once is appended at once, and whoever finds the file turned over goes on in
//! the new one. `docs/access-log.md` says what is in a line.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, openat, renameat, statat};
use rustix::io::Errno;

const NAME: &str = "access.log";

/// How large a file may grow, and how many older ones stay.
#[derive(Clone, Copy)]
struct Limits {
    bytes: u64,
    older: u32,
}

const LIMITS: Limits = Limits { bytes: 64 << 20, older: 3 };

/// The folder, once it is known. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Folder(Arc<Mutex<Option<Arc<OwnedFd>>>>);

impl Folder {
    pub(super) fn set(&self, folder: OwnedFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(folder));
    }

    fn get(&self) -> io::Result<Arc<OwnedFd>> {
        let folder = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        folder.ok_or_else(|| io::Error::other("the access log has no folder yet"))
    }
}

/// Takes whole lines, any number at once.
pub(super) struct AccessLog {
    folder: Folder,
    file: Option<File>,
    limits: Limits,
    /// The last lines were written in part.
    is_torn: bool,
}

impl AccessLog {
    pub(super) fn new(folder: Folder) -> Self {
        Self { folder, file: None, limits: LIMITS, is_torn: false }
    }

    /// The file that is to be written to.
    fn current(&mut self) -> io::Result<&mut File> {
        let folder = self.folder.get()?;
        let known = match self.file.take() {
            Some(file) if is_current(&file, folder.as_fd())? => file,
            _ => open(folder.as_fd())?,
        };
        let file =
            if known.metadata()?.len() < self.limits.bytes { known } else { turn(&known, &folder, self.limits)? };
        Ok(self.file.insert(file))
    }
}

impl Write for AccessLog {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let was_torn = self.is_torn;
        let file = self.current()?;
        let written = if was_torn { file.write_all(b"\n") } else { Ok(()) }.and_then(|()| file.write_all(lines));
        self.is_torn = written.is_err();
        written.map(|()| lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn open(folder: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, NAME, flags, Mode::from_raw_mode(0o640))?))
}

/// Whether it still has the name.
fn is_current(file: &File, folder: BorrowedFd<'_>) -> io::Result<bool> {
    let own = rustix::fs::fstat(file)?;
    match statat(folder, NAME, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(named) => Ok((named.st_dev, named.st_ino) == (own.st_dev, own.st_ino)),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the file an older one, unless another edge has done so meanwhile, and begins a new one.
fn turn(file: &File, folder: &OwnedFd, limits: Limits) -> io::Result<File> {
    // Opened anew: edges have the folder from one hand, and would share the lock.
    let alone = openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&alone, FlockOperation::LockExclusive)?;
    if is_current(file, folder.as_fd())? {
        let name = |number| if number == 0 { NAME.to_owned() } else { format!("{NAME}.{number}") };
        for number in (0..limits.older).rev() {
            match renameat(folder, name(number), folder, name(number + 1)) {
                Err(error) if error != Errno::NOENT => return Err(error.into()),
                _ => {}
            }
        }
    }
    open(folder.as_fd())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn log(dir: &Path, limits: Limits) -> AccessLog {
        let folder = Folder::default();
        folder.set(File::open(dir).expect("a folder").into());
        AccessLog { limits, ..AccessLog::new(folder) }
    }

    /// The lines of each file.
    fn files(dir: &Path) -> BTreeMap<String, Vec<String>> {
        let entries = std::fs::read_dir(dir).expect("listed").map(|entry| entry.expect("listed"));
        let lines = |path: &Path| std::fs::read_to_string(path).expect("text").lines().map(str::to_owned).collect();
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), lines(&entry.path()))).collect()
    }

    #[test]
    fn a_full_file_becomes_an_older_one_and_the_oldest_goes() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = log(dir.path(), Limits { bytes: 10, older: 2 });
        for number in 0..7 {
            log.write_all(format!("line {number}\n").as_bytes()).expect("written");
        }
        let expect = [
            ("access.log", vec!["line 6"]),
            ("access.log.1", vec!["line 4", "line 5"]),
            ("access.log.2", vec!["line 2", "line 3"]),
        ];
        let expect: BTreeMap<String, Vec<String>> = expect
            .into_iter()
            .map(|(name, lines)| (name.to_owned(), lines.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(files(dir.path()), expect);
    }

    #[test]
    fn several_edges_lose_and_tear_no_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let limits = Limits { bytes: 4096, older: 100 };
        let writers = ["old", "new"].map(|name| {
            let mut log = log(dir.path(), limits);
            std::thread::spawn(move || {
                for number in 0..500 {
                    let lines = format!("{name} {number} a\n{name} {number} b\n");
                    log.write_all(lines.as_bytes()).expect("written");
                }
            })
        });
        writers.into_iter().for_each(|writer| writer.join().expect("it ends"));
        let mut lines: Vec<String> = files(dir.path()).into_values().flatten().collect();
        lines.sort();
        let mut expect: Vec<String> = ["old", "new"]
            .into_iter()
            .flat_map(|name| (0..500).flat_map(move |number| ["a", "b"].map(|part| format!("{name} {number} {part}"))))
            .collect();
        expect.sort();
        assert_eq!(lines, expect);
        assert!(files(dir.path()).len() > 3, "it was turned over");
    }

    #[test]
    fn a_file_that_somebody_has_taken_away_is_made_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut log = log(dir.path(), LIMITS);
        log.write_all(b"one\n").expect("written");
        std::fs::rename(dir.path().join(NAME), dir.path().join("mine")).expect("renamed");
        log.write_all(b"two\n").expect("written");
        assert_eq!(files(dir.path())[NAME], ["two"]);
        assert!(AccessLog::new(Folder::default()).write_all(b"x\n").is_err());
    }
}
