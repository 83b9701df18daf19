//! Container output into log files, in CRI's format: `TIME STREAM TAG CONTENT`, where the tag `P` says that the line goes on.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use crate::sys;

/// Content bytes of one log line; a longer line of output becomes several.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes that one wake-up takes from one pipe, so that a flood does not starve the others.
const TURN_BYTES_MAX: usize = 64 * 1024;

/// Turns after a process has ended: a pipe's 1 MiB at most, even if somebody still writes.
const DRAIN_TURNS_MAX: usize = 16;

/// Pipes that get a copy of one stream.
const COPIES_MAX: usize = 64;

/// Bytes of a log file that nobody has set aside. Control does so much earlier (`kubelet::logs`), unless it is away or a
/// flood is faster than its looks; then this file takes the place of the one before, so that no container fills the disk.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What the name of a file set aside here ends with. It begins as those that control sets aside, and sorts before them.
const ASIDE: &str = ".0-flood";

/// The log file of one container, shared by its two streams.
pub(crate) struct Log {
    path: CString,
    file: OwnedFd,
    /// Of a regular file; a device has no size.
    bytes: Option<u64>,
    bytes_max: u64,
    /// Bytes of log lines that the disk did not take.
    pub(crate) dropped: u64,
    /// The last write ended inside a line.
    torn: bool,
}

impl Log {
    pub(crate) fn open(path: CString) -> io::Result<Self> {
        Self::limited(path, FILE_BYTES_MAX)
    }

    fn limited(path: CString, bytes_max: u64) -> io::Result<Self> {
        let (file, bytes) = open(&path)?;
        Ok(Self { path, file, bytes, bytes_max, dropped: 0, torn: false })
    }

    /// Opens the path anew; on failure the old file stays in use.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        (self.file, self.bytes) = open(&self.path)?;
        self.torn = false;
        Ok(())
    }

    /// Begins a new file where these bytes would make the old one too large. False where that cannot be.
    fn has_room(&mut self, more: usize) -> bool {
        let full = self.bytes.is_some_and(|bytes| bytes > 0 && bytes + more as u64 > self.bytes_max);
        !full || self.set_aside().is_ok()
    }

    fn set_aside(&mut self) -> io::Result<()> {
        let path = OsStr::from_bytes(self.path.as_bytes());
        let mut aside = path.to_owned();
        aside.push(ASIDE);
        std::fs::rename(path, aside)?;
        self.reopen()
    }

    /// Appends whole lines. What the disk refuses is dropped and counted: a full disk must not stop the container.
    fn append(&mut self, lines: &[u8]) {
        if self.torn && matches!(sys::write(&self.file, b"\n"), Ok(1)) {
            self.torn = false;
        }
        if lines.is_empty() {
            return;
        }
        let refused = !self.has_room(lines.len()) || self.torn;
        let written = if refused { 0 } else { sys::write(&self.file, lines).unwrap_or(0) };
        self.bytes = self.bytes.map(|bytes| bytes + written as u64);
        self.torn |= written > 0 && lines[written - 1] != b'\n';
        self.dropped += (lines.len() - written) as u64;
    }
}

/// The file and, if it is a regular one, its size.
fn open(path: &CString) -> io::Result<(OwnedFd, Option<u64>)> {
    let file = File::from(sys::open(path, libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOFOLLOW)?);
    let about = file.metadata()?;
    Ok((file.into(), about.is_file().then_some(about.len())))
}

/// What a stream still holds.
#[derive(Debug, PartialEq)]
pub(crate) enum Flow {
    Open,
    Ended,
}

/// One stream of a container: the reading end of its pipe, or its terminal; the line that is not complete; and those who
/// attached to it.
pub(crate) struct Pump {
    pub(crate) pipe: OwnedFd,
    lines: Lines,
    copies: Vec<OwnedFd>,
}

impl Pump {
    pub(crate) fn new(pipe: OwnedFd, stream: &'static str) -> Self {
        Self { pipe, lines: Lines { stream, partial: Vec::new() }, copies: Vec::new() }
    }

    /// Copies what comes from now on into a pipe, too.
    pub(crate) fn copy_to(&mut self, copy: OwnedFd) -> io::Result<()> {
        self.copies.retain(|copy| matches!(sys::reader_is_gone(copy), Ok(false)));
        if self.copies.len() >= COPIES_MAX {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        sys::set_nonblocking(&copy)?;
        self.copies.push(copy);
        Ok(())
    }

    /// Whoever does not take all of it is let go: a copy with a hole would lie, and the container does not wait.
    fn copy(&mut self, bytes: &[u8]) {
        self.copies.retain(|copy| matches!(sys::write(copy, bytes), Ok(length) if length == bytes.len()));
    }

    /// Moves what is there, up to one turn.
    pub(crate) fn turn(&mut self, log: &mut Log) -> Flow {
        let mut buffer = [0; 16 * 1024];
        let mut taken = 0;
        while taken < TURN_BYTES_MAX {
            match sys::read(&self.pipe, &mut buffer) {
                Ok(0) => {
                    log.append(&self.lines.end(now()));
                    return Flow::Ended;
                }
                Ok(length) => {
                    self.copy(&buffer[..length]);
                    log.append(&self.lines.take(&buffer[..length], now()));
                    taken += length;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flow::Open,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A terminal that nobody holds open any more says EIO.
                Err(_) => {
                    log.append(&self.lines.end(now()));
                    return Flow::Ended;
                }
            }
        }
        Flow::Open
    }

    /// Moves all that a process left behind.
    pub(crate) fn drain(&mut self, log: &mut Log) {
        for _ in 0..DRAIN_TURNS_MAX {
            if !sys::is_readable(&self.pipe) || self.turn(log) == Flow::Ended {
                return;
            }
        }
    }
}

fn now() -> u64 {
    sys::nanoseconds(libc::CLOCK_REALTIME)
}

/// Cuts a stream into log lines.
struct Lines {
    stream: &'static str,
    /// Never longer than [`LINE_BYTES_MAX`].
    partial: Vec<u8>,
}

impl Lines {
    fn take(&mut self, mut bytes: &[u8], now: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - self.partial.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.partial.extend_from_slice(&bytes[..end]);
                self.emit(b"F", now, &mut out);
                bytes = &bytes[end + 1..];
            } else if bytes.len() > room {
                self.partial.extend_from_slice(&bytes[..room]);
                self.emit(b"P", now, &mut out);
                bytes = &bytes[room..];
            } else {
                self.partial.extend_from_slice(bytes);
                bytes = &[];
            }
        }
        out
    }

    /// The stream has ended: what stands without a line end is a line.
    fn end(&mut self, now: u64) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.partial.is_empty() {
            self.emit(b"F", now, &mut out);
        }
        out
    }

    fn emit(&mut self, tag: &[u8], now: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(timestamp(now).as_bytes());
        for part in [b" ", self.stream.as_bytes(), b" ", tag, b" ", &self.partial, b"\n"] {
            out.extend_from_slice(part);
        }
        self.partial.clear();
    }
}

/// RFC 3339 with nanoseconds, UTC.
fn timestamp(nanoseconds: u64) -> String {
    let (seconds, fraction) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Days since 1970 to year, month, day: years are counted from March, so that the leap day is the last.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Lines {
        Lines { stream: "stdout", partial: Vec::new() }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(951_782_400_000_000_007), "2000-02-29T00:00:00.000000007Z");
        assert_eq!(timestamp(1_735_689_599_999_999_999), "2024-12-31T23:59:59.999999999Z");
    }

    #[test]
    fn lines_are_whole_across_reads() {
        let mut lines = lines();
        assert!(lines.take(b"ab", 0).is_empty());
        let out = String::from_utf8(lines.take(b"c\n\nd", 0)).unwrap();
        assert_eq!(out, "1970-01-01T00:00:00.000000000Z stdout F abc\n1970-01-01T00:00:00.000000000Z stdout F \n");
        assert!(lines.end(0).ends_with(b" F d\n"));
        assert!(lines.end(0).is_empty());
    }

    /// Content of every log line, by tag.
    fn tags(bytes: &[u8]) -> Vec<(char, usize)> {
        let text = str::from_utf8(bytes).unwrap();
        text.lines().map(|line| (line.as_bytes()[38] as char, line.len() - 40)).collect()
    }

    #[test]
    fn a_flood_is_kept_within_two_files() {
        let path = std::env::temp_dir().join(format!("corten-pod-log-{}", std::process::id()));
        let aside = path.with_extension(&ASIDE[1..]);
        let mut log = Log::limited(CString::new(path.as_os_str().as_bytes()).unwrap(), 1000).unwrap();
        let mut lines = lines();
        for number in 0..500 {
            log.append(&lines.take(format!("{number}\n").as_bytes(), 0));
            for file in [&path, &aside] {
                assert!(std::fs::metadata(file).is_ok_and(|file| file.len() <= 1000) || !file.exists());
            }
        }
        let text = [&aside, &path].map(|file| std::fs::read_to_string(file).unwrap()).concat();
        for file in [&path, &aside] {
            std::fs::remove_file(file).unwrap();
        }
        let kept: Vec<u32> = text.lines().map(|line| line[40..].parse().unwrap()).collect();
        let newest: Vec<u32> = (500 - u32::try_from(kept.len()).unwrap()..500).collect();
        assert_eq!((kept.len() > 25, kept, log.dropped), (true, newest, 0));
    }

    #[test]
    fn long_lines_are_split() {
        let max = LINE_BYTES_MAX;
        let mut whole = vec![b'x'; max];
        whole.push(b'\n');
        assert_eq!(tags(&lines().take(&whole, 0)), [('F', max)]);
        whole.insert(0, b'y');
        assert_eq!(tags(&lines().take(&whole, 0)), [('P', max), ('F', 1)]);
        let mut pieces = lines();
        let all: Vec<u8> = whole.chunks(7).flat_map(|piece| pieces.take(piece, 0)).collect();
        assert_eq!(tags(&all), [('P', max), ('F', 1)]);
    }
}
