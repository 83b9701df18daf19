//! The file system as the engine sees it: one flat directory, and only the calls whose failure it has an answer for.
//!
//! It is a trait so that tests can fail any call, and cut the power after any. What a [`Disk`] promises is what POSIX
//! file systems promise and no more: bytes are durable after [`DiskFile::sync`], names after [`Disk::sync_dir`], and
//! before that any subset of them may survive.

use std::io;

mod directory;

pub use directory::Directory;

/// One directory.
pub trait Disk: Send + Sync + 'static {
    /// Holds the directory for this process until the guard is dropped; an error of kind `WouldBlock` where another
    /// process holds it.
    fn lock(&self) -> io::Result<Box<dyn Send>>;
    fn list(&self) -> io::Result<Vec<FileInfo>>;
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Makes an empty file, which replaces one of the same name.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes names that were created, renamed and removed durable.
    fn sync_dir(&self) -> io::Result<()>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    pub name: String,
    pub bytes: u64,
}

/// An open file.
pub trait DiskFile: Send {
    /// May read less than asked for; 0 at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// May write less than asked for.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Makes the contents durable.
    fn sync(&self) -> io::Result<()>;
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// Takes space for this many bytes from the start, so that the file system has no way to refuse it later.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
}

/// Whether an error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

pub(crate) fn write_all_at(file: &dyn DiskFile, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills the buffer from the file; returns how much of it there was.
pub(crate) fn read_full_at(file: &dyn DiskFile, offset: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(offset + filled as u64, &mut into[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

pub(crate) fn read_all(disk: &dyn Disk, info: &FileInfo) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(info.bytes).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let read = read_full_at(&*disk.open(&info.name)?, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes a whole file so that its name shows either nothing or all of it, durably.
pub(crate) fn write_whole(
    disk: &dyn Disk,
    name: &str,
    write: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = format!("{name}{TEMPORARY_SUFFIX}");
    let written = (|| {
        let file = disk.create(&temporary)?;
        write(&*file)?;
        file.sync()?;
        disk.rename(&temporary, name)?;
        disk.sync_dir()
    })();
    if written.is_err()
        && let Err(error) = disk.remove(&temporary)
    {
        // Opening the store removes what is left; until then it only takes space.
        tracing::debug!(name = temporary, %error, "temporary file stays");
    }
    written
}

/// How names of files end that are being written; they mean nothing and are removed when the store is opened.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";
