//! Snapshots, and removal of the files that they make unnecessary. Runs beside the writer.
//!
//! Two snapshots are kept: the newest one that is not newer than the history's floor, from which a restart replays the
//! whole history, and the newest one, which stands in should the first be damaged. Log segments that end before the
//! older of the two are removed.

use std::io;
use std::sync::Arc;

use super::disk::Disk;
use super::frame::Chain;
use super::shared::Shared;
use super::view::View;
use super::{layout, snapshot};

/// One run.
pub(crate) struct Upkeep {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) chain: Chain,
    pub(crate) view: Arc<View>,
    pub(crate) time_ms: u64,
    pub(crate) shared: Arc<Shared>,
}

impl Upkeep {
    /// Writes the snapshot and removes what nobody needs.
    pub(crate) fn run(&self) -> io::Result<()> {
        snapshot::write(&*self.disk, self.chain, &self.view, self.time_ms)?;
        self.remove_unneeded()
    }

    fn remove_unneeded(&self) -> io::Result<()> {
        let files = self.disk.list()?;
        let snapshots = layout::numbered(&files, layout::snapshot);
        let segments = layout::numbered(&files, layout::segment);
        let base = snapshots.iter().rposition(|(revision, _)| *revision <= self.view.floor);
        if let Some(base) = base {
            // Names of snapshots go first, and durably: one without the log behind it would be found damaged.
            let newest = snapshots.len() - 1;
            let unneeded = snapshots.iter().enumerate().filter(|(at, _)| *at != base && *at != newest);
            self.remove(unneeded.map(|(_, (_, file))| file.name.as_str()))?;
            let needed = segments.iter().rposition(|(first, _)| *first <= snapshots[base].0 + 1).unwrap_or(0);
            self.remove(segments[..needed].iter().map(|(_, file)| file.name.as_str()))?;
        }
        let left = self.disk.list()?;
        self.shared.set_disk_bytes(left.iter().map(|file| file.bytes).sum());
        Ok(())
    }

    fn remove<'a>(&self, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut removed = false;
        for name in names {
            self.disk.remove(name)?;
            removed = true;
        }
        if removed { self.disk.sync_dir() } else { Ok(()) }
    }
}
