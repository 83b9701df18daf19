//! The log: segments of frames, one frame a flush.
//!
//! A segment starts with a start frame (format version, first revision), goes on with commits, and gets an end marker
//! when it is followed by another, when nothing is written for a while, and when the store is closed. Every frame is
//! flushed before the next one is written, so a crash can tear the last frame only. A bad frame with a good one behind
//! it, or in a segment that another follows, is therefore damage and never a torn tail.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, is_full, write_all_at};
use super::frame::{Chain, Kind};
use super::{layout, record};
use crate::{Event, Revision};

/// The open end of the log.
pub(crate) struct Log {
    pub(crate) chain: Chain,
    pub(crate) open: Open,
    buffer: Vec<u8>,
}

/// The segment that is written.
pub(crate) struct Open {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) bytes: u64,
    /// Whether the last frame is an end marker.
    pub(crate) marked: bool,
}

#[derive(Debug)]
pub(crate) enum AppendError {
    /// There is no room, and nothing of the frame is left.
    NoSpace,
    /// How much of the frame is durable is unknown.
    Unknown(io::Error),
}

impl Log {
    pub(crate) fn new(chain: Chain, open: Open) -> Self {
        Self { chain, open, buffer: Vec::new() }
    }

    /// Makes the first segment of a new store.
    pub(crate) fn create(disk: &dyn Disk, mut chain: Chain, first: Revision, time_ms: u64) -> io::Result<Self> {
        let open = create_segment(disk, &mut chain, first, time_ms)?;
        Ok(Self::new(chain, open))
    }

    pub(crate) fn commit(&mut self, time_ms: u64, events: &[Arc<Event>]) -> Result<(), AppendError> {
        self.append(Kind::Commit, time_ms, |out| record::write_commit(out, events))?;
        self.open.marked = false;
        Ok(())
    }

    /// Writes an end marker, unless the log ends with one.
    pub(crate) fn mark_end(&mut self, time_ms: u64) -> Result<(), AppendError> {
        if !self.open.marked {
            self.append(Kind::End, time_ms, |_| ())?;
            self.open.marked = true;
        }
        Ok(())
    }

    fn append(&mut self, kind: Kind, time_ms: u64, payload: impl FnOnce(&mut Vec<u8>)) -> Result<(), AppendError> {
        let mut chain = self.chain;
        self.buffer.clear();
        chain.write(&mut self.buffer, kind, time_ms, payload);
        let open = &mut self.open;
        if let Err(error) = write_all_at(&*open.file, open.bytes, &self.buffer) {
            if !is_full(&error) {
                return Err(AppendError::Unknown(error));
            }
            open.file.truncate(open.bytes).map_err(AppendError::Unknown)?;
            return Err(AppendError::NoSpace);
        }
        // After a failed flush the kernel calls the pages clean whatever the disk holds: there is no second try.
        open.file.sync().map_err(AppendError::Unknown)?;
        open.bytes += self.buffer.len() as u64;
        self.chain = chain;
        // A rare large batch must not keep its buffer for ever.
        self.buffer.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Ends the open segment and makes the next one, whose first revision is `next`.
    pub(crate) fn rotate(&mut self, disk: &dyn Disk, next: Revision, time_ms: u64) -> Result<(), AppendError> {
        self.mark_end(time_ms)?;
        let mut chain = self.chain;
        match create_segment(disk, &mut chain, next, time_ms) {
            Ok(open) => {
                self.open = open;
                self.chain = chain;
                Ok(())
            }
            Err(error) if is_full(&error) => {
                // The old segment goes on. The unfinished one must be gone for good before that, or a crash could
                // bring it back beside frames that were written instead of it.
                forget(disk, &layout::segment(next)).map_err(AppendError::Unknown)?;
                Err(AppendError::NoSpace)
            }
            Err(error) => Err(AppendError::Unknown(error)),
        }
    }
}

fn forget(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => disk.sync_dir(),
    }
}

const BUFFER_BYTES_KEPT: usize = 1 << 20;

fn create_segment(disk: &dyn Disk, chain: &mut Chain, first: Revision, time_ms: u64) -> io::Result<Open> {
    let mut start = Vec::new();
    chain.write(&mut start, Kind::SegmentStart, time_ms, |out| {
        record::write_words(out, [layout::FORMAT_VERSION, first]);
    });
    let file = disk.create(&layout::segment(first))?;
    write_all_at(&*file, 0, &start)?;
    file.sync()?;
    disk.sync_dir()?;
    Ok(Open { file, bytes: start.len() as u64, marked: false })
}
