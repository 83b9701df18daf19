//! A copy of a store: its objects at one revision, and a new store made of them.
//!
//! A copy is read from the files alone, so the store may be open: its files only ever grow, and each is complete before the next
//! one follows it. What is caught in between (a segment that has just been removed, a list of files that is older than one of
//! them) does not fit together and is read again. All that was answered before the reading began is in the copy.
//!
//! The new store goes on at a revision far behind the copy's, without history. Clients have seen revisions that came after the copy
//! and are lost; were those used again for other changes, a watch that resumes there would miss them. So it is told that
//! its revision is compacted, and lists.

use std::io;
use std::sync::Arc;

use super::disk::Disk;
use super::frame::Chain;
use super::limits::Options;
use super::log::Log;
use super::record::{self, Malformed};
use super::recover::{self, OpenError};
use super::view::View;
use super::{layout, snapshot};
use crate::{Entry, Revision};

/// How far behind the copy the new store goes on: more writes than can have come after it.
pub const GAP: Revision = 1_000_000_000;

/// How often files that do not fit together are read again.
const LOOKS_MAX: usize = 10;

/// About as many bytes are in a block of [`Copy::blocks`], or one object.
const BLOCK_BYTES: usize = 1 << 20;

/// The objects of a store at one revision, in key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    pub revision: Revision,
    pub objects: Vec<Arc<Entry>>,
}

/// A block that is none, though nothing has changed it: another program has written it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a block of objects is malformed")]
pub struct BlockError;

impl Copy {
    /// Reads the objects from a store's files, which somebody may have open. Nothing is changed.
    pub fn read(disk: &impl Disk, options: &Options) -> Result<Self, OpenError> {
        let mut looks = 1;
        loop {
            match recover::look(disk, options) {
                Ok(view) => return Ok(Self { revision: view.revision, objects: view.objects().cloned().collect() }),
                Err(error) if looks < LOOKS_MAX && may_pass(&error) => looks += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The objects in pieces for keeping.
    pub fn blocks(&self) -> impl Iterator<Item = Vec<u8>> {
        let mut bytes = 0;
        let together = move |object: &Arc<Entry>, _: &Arc<Entry>| {
            bytes += object.key.len() + object.value.len();
            let together = bytes < BLOCK_BYTES;
            bytes = if together { bytes } else { 0 };
            together
        };
        self.objects.chunk_by(together).map(|objects| {
            let mut block = Vec::new();
            record::write_objects(&mut block, objects);
            block
        })
    }

    /// Adds what [`Copy::blocks`] made.
    pub fn add(&mut self, block: &[u8]) -> Result<(), BlockError> {
        let objects = record::read_objects(block).map_err(|Malformed| BlockError)?;
        self.objects.extend(objects.into_iter().map(Arc::new));
        Ok(())
    }

    /// Makes a store of the objects in an empty directory, which has none before everything is durable. Gives its revision.
    pub fn write(&self, disk: &impl Disk, options: &Options) -> io::Result<Revision> {
        let _lock = disk.lock()?;
        let chain = Chain::new(options.new_store_id);
        let revision = self.revision.saturating_add(GAP);
        let mut view = View::of(revision);
        self.objects.iter().for_each(|entry| view.load(entry.clone()));
        let now_ms = options.clock.now_ms().unsigned_abs();
        snapshot::write(disk, chain, &view, now_ms)?;
        Log::create(disk, chain, revision + 1, now_ms)?;
        layout::write_format(disk, options.new_store_id)?;
        Ok(revision)
    }
}

/// Whether it may come of a store that goes on meanwhile.
fn may_pass(error: &OpenError) -> bool {
    match error {
        OpenError::Damaged(_) => true,
        OpenError::Io(error) => error.kind() == io::ErrorKind::NotFound,
        OpenError::Locked | OpenError::Format(_) => false,
    }
}
