//! The names of the store's files, and the file that says what they are.
//!
//! | name | what |
//! |---|---|
//! | `format` | one line of text: format version, identity of the store, checksum; made last when a store is made |
//! | `wal-<revision>` | log segment; the revision is its first one |
//! | `snap-<revision>` | snapshot of that revision |
//! | `closed` | how the log ended, between a close and the next open |
//! | `reserve` | space that is given up when the disk is full |
//! | `lock` | held while the store is open |

use std::io;

use super::disk::{Disk, FileInfo, read_all, write_all_at, write_whole};
use crate::Revision;

pub(crate) const FORMAT: &str = "format";
pub(crate) const CLOSED: &str = "closed";
pub(crate) const RESERVE: &str = "reserve";
pub(crate) const FORMAT_VERSION: u64 = 1;

pub(crate) fn segment(first: Revision) -> String {
    format!("wal-{first:020}")
}

pub(crate) fn snapshot(revision: Revision) -> String {
    format!("snap-{revision:020}")
}

/// The files of a kind with their revisions, oldest first.
pub(crate) fn numbered(files: &[FileInfo], name: fn(Revision) -> String) -> Vec<(Revision, FileInfo)> {
    let of = |file: &FileInfo| {
        let revision = file.name.split_once('-')?.1.parse().ok()?;
        (name(revision) == file.name).then(|| (revision, file.clone()))
    };
    let mut found: Vec<_> = files.iter().filter_map(of).collect();
    found.sort_by_key(|(revision, _)| *revision);
    found
}

/// What is wrong with the format file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    #[error("the file \"format\" is damaged")]
    Damaged,
    #[error("the store has format version {found}, this program knows {FORMAT_VERSION}; use a newer program")]
    Newer { found: u64 },
}

/// The identity of the store, if there is a format file.
pub(crate) fn read_format(disk: &dyn Disk, files: &[FileInfo]) -> io::Result<Option<Result<u64, FormatError>>> {
    let Some(file) = files.iter().find(|file| file.name == FORMAT) else { return Ok(None) };
    Ok(Some(parse_format(&read_all(disk, file)?)))
}

pub(crate) fn write_format(disk: &dyn Disk, store_id: u64) -> io::Result<()> {
    write_whole(disk, FORMAT, |file| write_all_at(file, 0, format_line(FORMAT_VERSION, store_id).as_bytes()))
}

fn format_line(version: u64, store_id: u64) -> String {
    let text = format!("corten-store {version} {store_id:016x}");
    format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

fn parse_format(bytes: &[u8]) -> Result<u64, FormatError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FormatError::Damaged)?;
    let mut words = text.split_ascii_whitespace().skip(1);
    let version = words.next().and_then(|w| w.parse().ok()).ok_or(FormatError::Damaged)?;
    let store_id = words.next().and_then(|w| u64::from_str_radix(w, 16).ok()).ok_or(FormatError::Damaged)?;
    if text != format_line(version, store_id) {
        return Err(FormatError::Damaged);
    }
    if version > FORMAT_VERSION { Err(FormatError::Newer { found: version }) } else { Ok(store_id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_line_comes_back_or_is_refused() {
        let line = format_line(1, 0xabc);
        assert_eq!(parse_format(line.as_bytes()), Ok(0xabc));
        assert_eq!(parse_format(format_line(2, 1).as_bytes()), Err(FormatError::Newer { found: 2 }));
        for at in 0..line.len() {
            let mut damaged = line.clone().into_bytes();
            damaged[at] ^= 1;
            assert_eq!(parse_format(&damaged), Err(FormatError::Damaged), "byte {at}");
            assert_eq!(parse_format(&line.as_bytes()[..at]), Err(FormatError::Damaged), "cut at {at}");
        }
    }

    #[test]
    fn only_exact_names_are_files_of_the_store() {
        let file = |name: &str| FileInfo { name: name.to_owned(), bytes: 0 };
        let files = [segment(20), segment(3), "wal-3".into(), "wal-x".into(), snapshot(9)].map(|name| file(&name));
        let found: Vec<_> = numbered(&files, segment).into_iter().map(|(revision, _)| revision).collect();
        assert_eq!(found, [3, 20]);
    }
}
