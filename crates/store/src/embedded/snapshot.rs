//! A snapshot: all objects at one revision, in key order, in frames of up to 256 with a last frame that counts them.
//! It is written from a view while writes go on, under a temporary name until it is whole.

use std::io;
use std::sync::Arc;

use super::damage::Damage;
use super::disk::{Disk, DiskFile, read_full_at, write_all_at, write_whole};
use super::frame::{Chain, HEADER_BYTES, Kind};
use super::layout::FORMAT_VERSION;
use super::view::View;
use super::{layout, record};
use crate::{Entry, Revision};

const FRAME_OBJECTS_MAX: usize = 256;
/// A frame ends with the object that passes it.
const FRAME_BYTES: usize = 1 << 20;

/// Writes the snapshot of a view.
pub(crate) fn write(disk: &dyn Disk, chain: Chain, view: &View, time_ms: u64) -> io::Result<()> {
    write_whole(disk, &layout::snapshot(view.revision), |file| {
        let mut sink = Sink { file, chain, time_ms, objects: Vec::new(), object_bytes: 0, written: 0 };
        for entry in view.objects() {
            sink.add(entry)?;
        }
        sink.flush()?;
        let end = [FORMAT_VERSION, view.revision, view.object_count() as u64];
        sink.frame(Kind::SnapshotEnd, |out| record::write_words(out, end))
    })
}

struct Sink<'a> {
    file: &'a dyn DiskFile,
    chain: Chain,
    time_ms: u64,
    objects: Vec<Arc<Entry>>,
    object_bytes: usize,
    written: u64,
}

impl Sink<'_> {
    fn add(&mut self, entry: &Arc<Entry>) -> io::Result<()> {
        self.objects.push(entry.clone());
        self.object_bytes += entry.key.len() + entry.value.len();
        match self.objects.len() == FRAME_OBJECTS_MAX || self.object_bytes >= FRAME_BYTES {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let objects = std::mem::take(&mut self.objects);
        self.object_bytes = 0;
        if objects.is_empty() {
            return Ok(());
        }
        self.frame(Kind::SnapshotObjects, |out| record::write_objects(out, &objects))
    }

    fn frame(&mut self, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut frame = Vec::new();
        self.chain.write(&mut frame, kind, self.time_ms, payload);
        write_all_at(self.file, self.written, &frame)?;
        self.written += frame.len() as u64;
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(Damage),
}

/// Reads a snapshot back. A snapshot is whole or damaged; there is no torn one.
pub(crate) fn read(disk: &dyn Disk, chain: Chain, revision: Revision) -> Result<View, ReadError> {
    let name = layout::snapshot(revision);
    let file = disk.open(&name)?;
    let mut source = Source { file: &*file, name: &name, chain, at: 0, buffer: Vec::new() };
    let mut view = View::of(revision);
    loop {
        let (kind, payload) = source.next()?;
        match kind {
            Kind::SnapshotObjects => {
                let entries = record::read_objects(payload).map_err(|e| source.damage(&e.to_string()))?;
                entries.into_iter().for_each(|entry| view.load(Arc::new(entry)));
            }
            Kind::SnapshotEnd => {
                let end: [u64; 3] = record::read_words(payload).map_err(|e| source.damage(&e.to_string()))?;
                if end != [FORMAT_VERSION, revision, view.object_count() as u64] {
                    return Err(source.damage("the last frame does not describe what is before it"));
                }
                return source.end().map(|()| view);
            }
            _ => return Err(source.damage("a frame is of a kind that has no place in a snapshot")),
        }
    }
}

struct Source<'a> {
    file: &'a dyn DiskFile,
    name: &'a str,
    chain: Chain,
    at: u64,
    buffer: Vec<u8>,
}

impl Source<'_> {
    fn next(&mut self) -> Result<(Kind, &[u8]), ReadError> {
        let mut header = [0; HEADER_BYTES];
        let read = read_full_at(self.file, self.at, &mut header)?;
        let payload_bytes = match read {
            HEADER_BYTES => Chain::payload_bytes(&header).map_err(|e| self.damage(&e.to_string()))?,
            _ => return Err(self.damage("the file ends before its last frame")),
        };
        self.buffer.resize(HEADER_BYTES + payload_bytes, 0);
        let read = read_full_at(self.file, self.at, &mut self.buffer)?;
        let mut chain = self.chain;
        let frame = match chain.next(&self.buffer[..read]) {
            Ok(frame) => (frame.kind, frame.bytes()),
            Err(error) => return Err(self.damage(&error.to_string())),
        };
        self.chain = chain;
        self.at += frame.1 as u64;
        Ok((frame.0, &self.buffer[HEADER_BYTES..]))
    }

    fn end(&self) -> Result<(), ReadError> {
        match read_full_at(self.file, self.at, &mut [0])? {
            0 => Ok(()),
            _ => Err(self.damage("something follows the last frame")),
        }
    }

    fn damage(&self, what: &str) -> ReadError {
        ReadError::Damaged(Damage::new(self.name, self.at, what))
    }
}
