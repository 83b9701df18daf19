//! Snapshots, and removal of the files that they make unnecessary. Runs beside the writer.
//!
//! Two snapshots are kept: the newest one that is not newer than the history's floor, from which a restart replays the
//! whole history, and the newest one, which stands in should the first be damaged. Log segments that end before the
//! older of the two are removed.

use std::io;
use std::sync::Arc;

use super::disk::Disk;
use super::frame::Chain;
use super::published::Published;
use super::view::View;
use super::{layout, snapshot};
use crate::{REVISION_FIRST, Revision};

/// One run.
pub(crate) struct Upkeep {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) chain: Chain,
    pub(crate) view: Arc<View>,
    pub(crate) time_ms: u64,
    pub(crate) published: Arc<Published>,
}

impl Upkeep {
    /// Writes the snapshot and removes what nobody needs. Returns the snapshot's revision.
    pub(crate) fn run(&self) -> io::Result<Revision> {
        snapshot::write(&*self.disk, self.chain, &self.view, self.time_ms)?;
        if let Err(error) = self.remove_unneeded() {
            // The next run finds what is left.
            tracing::error!(%error, "files that are not needed any more stay");
        }
        Ok(self.view.revision)
    }

    fn remove_unneeded(&self) -> io::Result<()> {
        let files = self.disk.list()?;
        let snapshots = layout::numbered(&files, layout::snapshot);
        let segments = layout::numbered(&files, layout::segment);
        let base = snapshots.iter().rposition(|(revision, _)| *revision <= self.view.floor);
        let from_nothing = segments.first().is_some_and(|(first, _)| *first == REVISION_FIRST + 1);
        if base.is_some() || from_nothing {
            let newest = snapshots.len() - 1;
            let unneeded = snapshots.iter().enumerate().filter(|(at, _)| Some(*at) != base && *at != newest);
            self.remove(unneeded.map(|(_, (_, file))| file.name.as_str()))?;
        }
        if let Some(base) = base {
            // After the older snapshots: one without the log behind it would be found damaged.
            let needed = segments.iter().rposition(|(first, _)| *first <= snapshots[base].0 + 1).unwrap_or(0);
            self.remove(segments[..needed].iter().map(|(_, file)| file.name.as_str()))?;
        }
        let left = self.disk.list()?;
        self.published.set_disk_bytes(left.iter().map(|file| file.bytes).sum());
        Ok(())
    }

    /// Removes files one after the other, so that a crash leaves no hole between those that are left.
    fn remove<'a>(&self, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
        for name in names {
            self.disk.remove(name)?;
            self.disk.sync_dir()?;
        }
        Ok(())
    }
}
