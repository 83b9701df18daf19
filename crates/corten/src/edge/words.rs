//! What the edge says of itself goes to standard error: a file, `edge.log`, that control has opened for it in a folder where the
//! edge itself makes and renames nothing. So a full file begins anew, and what was said last stays.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, fstat, ftruncate};

/// What the file may hold.
const BYTES_MAX: u64 = 8 << 20;

/// Standard error, of the edge or of any other verb: those of others belong to whoever has started them.
pub struct Words {
    pub is_edge: bool,
}

impl Write for Words {
    fn write(&mut self, words: &[u8]) -> io::Result<usize> {
        let mut out = io::stderr();
        if self.is_edge {
            bound(out.as_fd(), BYTES_MAX)?;
        }
        out.write(words)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Empties a file that is full. It was opened for appending, so the next words are its first.
fn bound(file: BorrowedFd<'_>, bytes_max: u64) -> io::Result<()> {
    let seen = fstat(file)?;
    let is_file = FileType::from_raw_mode(seen.st_mode) == FileType::RegularFile;
    if is_file && u64::try_from(seen.st_size).is_ok_and(|bytes| bytes >= bytes_max) {
        ftruncate(file, 0)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_full_file_begins_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("edge.log");
        let mut file = File::options().append(true).create(true).open(&path).expect("opened");
        for number in 0..7 {
            bound(file.as_fd(), 20).expect("bounded");
            writeln!(file, "line {number}").expect("written");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("text"), "line 6\n");
    }
}
