//! Opens a store: loads a snapshot, replays the log behind it, and leaves the log ready to be written.
//!
//! The replay starts as early as the files allow, from the older of the two snapshots or from nothing, so that it brings
//! back the whole history and watches resume. What was not flushed when the store crashed ends the log as a torn frame and is cut off; everything else that does not
//! fit is damage, and the store is not opened.

use std::io;

use super::damage::Damage;
use super::disk::{Disk, FileInfo, TEMPORARY_SUFFIX, read_all, write_all_at};
use super::frame::{Chain, HEADER_BYTES, Kind};
use super::layout::{self, FormatError};
use super::limits::Options;
use super::log::{Log, Open};
use super::record;
use super::segment::{self, Commit, Position, Segment, Unreadable};
use super::snapshot::{self, ReadError};
use super::view::View;
use super::window::Window;
use crate::{REVISION_FIRST, Revision};

/// Why a store is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process has the store open")]
    Locked,
    #[error("the store's files cannot be read or written")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The files hold something else than was written. Restore a backup, or repair the store and accept the loss.
    #[error("the store is damaged: {0}")]
    Damaged(Damage),
}

/// A store that was opened.
pub(crate) struct Recovered {
    /// The start of the chain in every new file.
    pub(crate) chain: Chain,
    pub(crate) view: View,
    pub(crate) window: Window,
    pub(crate) log: Log,
    /// Its revision, or that of the empty store.
    pub(crate) newest_snapshot: Revision,
    /// Bytes of the log that the newest snapshot does not cover, rounded up to whole segments.
    pub(crate) log_bytes: u64,
}

pub(crate) fn open(disk: &dyn Disk, options: &Options) -> Result<Recovered, OpenError> {
    let files = disk.list()?;
    for left in files.iter().filter(|file| file.name.ends_with(TEMPORARY_SUFFIX)) {
        disk.remove(&left.name)?;
    }
    match layout::read_format(disk, &files)? {
        None => create(disk, &files, options),
        Some(store_id) => Recovery::new(disk, options, &files, Chain::new(store_id?)).run(),
    }
}

/// What opening would show, from the files as they are. Nothing is changed, and the store may be open elsewhere: what happens to
/// its files meanwhile is then found as damage, or as a file that is not there.
pub(crate) fn look(disk: &dyn Disk, options: &Options) -> Result<View, OpenError> {
    let files = disk.list()?;
    let Some(store_id) = layout::read_format(disk, &files)? else {
        return Err(OpenError::Damaged(Damage::new(layout::FORMAT, 0, "the file is missing")));
    };
    let recovery = Recovery::new(disk, options, &files, Chain::new(store_id?));
    let (view, ..) = recovery.replay_any(|damage| tracing::debug!(%damage, "looked at a store"))?;
    Ok(view)
}

/// Makes a new store. The format file comes last, so without it nothing was ever answered.
fn create(disk: &dyn Disk, files: &[FileInfo], options: &Options) -> Result<Recovered, OpenError> {
    const START_BYTES: u64 = HEADER_BYTES as u64 + 16;
    let segments = layout::numbered(files, layout::segment);
    let written = segments.iter().any(|(_, file)| file.bytes > START_BYTES);
    if written || !layout::numbered(files, layout::snapshot).is_empty() {
        return Err(OpenError::Damaged(Damage::new(layout::FORMAT, 0, "the file is missing")));
    }
    for (_, left) in segments {
        disk.remove(&left.name)?;
    }
    let chain = Chain::new(options.new_store_id);
    let view = View::new();
    let log = Log::create(disk, chain, view.revision + 1, options.clock.now_ms().unsigned_abs())?;
    layout::write_format(disk, options.new_store_id)?;
    Ok(Recovered { chain, view, window: Window::default(), log, newest_snapshot: REVISION_FIRST, log_bytes: 0 })
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    options: &'a Options,
    chain: Chain,
    segments: Vec<(Revision, FileInfo)>,
    snapshots: Vec<(Revision, FileInfo)>,
    closed: Option<&'a FileInfo>,
}

/// The newest segment, as read.
struct Newest {
    segment: Segment,
    bytes: Vec<u8>,
    name: String,
    /// One behind it whose making was interrupted.
    interrupted: Option<String>,
}

impl<'a> Recovery<'a> {
    fn new(disk: &'a dyn Disk, options: &'a Options, files: &'a [FileInfo], chain: Chain) -> Self {
        let segments = layout::numbered(files, layout::segment);
        let snapshots = layout::numbered(files, layout::snapshot);
        let closed = files.iter().find(|file| file.name == layout::CLOSED);
        Self { disk, options, chain, segments, snapshots, closed }
    }

    fn run(self) -> Result<Recovered, OpenError> {
        let tell = |damage: &Damage| tracing::error!(%damage, "the store is damaged");
        let (view, window, newest) = self.replay_any(tell)?;
        self.settle(view, window, newest)
    }

    /// Tries the places to start from, the one with the longest history first. A later one stands in for one that is
    /// damaged: the content is the same, only history is shorter.
    fn replay_any(&self, tell: impl Fn(&Damage)) -> Result<(View, Window, Newest), OpenError> {
        let mut first_damage = None;
        for start in self.starts() {
            match self.replay_from(start) {
                Ok(replayed) => return Ok(replayed),
                Err(OpenError::Damaged(damage)) => {
                    tell(&damage);
                    first_damage.get_or_insert(damage);
                }
                Err(error) => return Err(error),
            }
        }
        let nothing = || Damage::new("wal", 0, "there is no log");
        Err(OpenError::Damaged(first_damage.unwrap_or_else(nothing)))
    }

    /// Snapshots, oldest first; before them `None`, the empty store, if the log still begins with it.
    fn starts(&self) -> Vec<Option<Revision>> {
        let from_nothing = self.segments.first().filter(|(first, _)| *first == REVISION_FIRST + 1).map(|_| None);
        from_nothing.into_iter().chain(self.snapshots.iter().map(|(revision, _)| Some(*revision))).collect()
    }

    fn replay_from(&self, start: Option<Revision>) -> Result<(View, Window, Newest), OpenError> {
        let mut view = match start {
            None => View::new(),
            Some(revision) => match snapshot::read(self.disk, self.chain, revision) {
                Ok(view) => view,
                Err(ReadError::Io(error)) => return Err(error.into()),
                Err(ReadError::Damaged(damage)) => return Err(OpenError::Damaged(damage)),
            },
        };
        let mut window = Window::default();
        let Some(first) = self.segments.iter().rposition(|(first, _)| *first <= view.revision + 1) else {
            let missing = Damage::new("wal", 0, "the log does not reach back to the snapshot");
            return Err(OpenError::Damaged(missing));
        };
        let newest = self.replay(&self.segments[first..], &mut view, &mut window)?;
        self.check_end(&newest)?;
        Ok((view, window, newest))
    }

    /// Applies what the segments hold and the view does not.
    fn replay(
        &self,
        segments: &[(Revision, FileInfo)],
        view: &mut View,
        window: &mut Window,
    ) -> Result<Newest, OpenError> {
        let mut position = Position { chain: self.chain, last: None };
        let mut newest: Option<Newest> = None;
        for (at, (_, file)) in segments.iter().enumerate() {
            let bytes = read_all(self.disk, file)?;
            let mut visit = |commit: Commit| self.apply(view, window, commit);
            let segment = match segment::read(&file.name, &bytes, position, &mut visit) {
                Ok(segment) => segment,
                Err(Unreadable::NoStart(damage)) => {
                    // The newest segment may be one whose making was interrupted; the one before it was ended then.
                    let interrupted = newest.is_some() && at + 1 == segments.len();
                    if !interrupted {
                        return Err(OpenError::Damaged(damage));
                    }
                    newest.iter_mut().for_each(|newest| newest.interrupted = Some(file.name.clone()));
                    break;
                }
                Err(Unreadable::Damaged(damage)) => return Err(OpenError::Damaged(damage)),
            };
            if at + 1 < segments.len() {
                segment.check_ended(&file.name).map_err(OpenError::Damaged)?;
            }
            position = Position { chain: segment.chain, last: Some(segment.last) };
            newest = Some(Newest { segment, bytes, name: file.name.clone(), interrupted: None });
        }
        Ok(newest.expect("there is a segment to start with"))
    }

    fn apply(&self, view: &mut View, window: &mut Window, commit: Commit) {
        for (revision, record) in (commit.first..).zip(commit.records) {
            if revision > view.revision {
                view.apply(record);
            }
        }
        window.note(commit.time_ms, view.revision);
        window.trim(view, commit.time_ms, &self.options.limits);
    }

    /// Damage, if the log ends earlier than something else knows.
    fn check_end(&self, newest: &Newest) -> Result<(), OpenError> {
        let Newest { segment, name, .. } = newest;
        let short = |what: &str| Damage::new(name, segment.bytes as u64, what);
        // The log, not the view: that one has the snapshot's revision if the replay started from it.
        if let Some((revision, _)) = self.snapshots.last().filter(|(revision, _)| *revision > segment.last) {
            let damage = short("the log ends before the newest snapshot").losing(segment.last, revision + 1);
            return Err(OpenError::Damaged(damage));
        }
        let Some(closed) = self.closed else { return Ok(()) };
        let (revision, chain) = read_closed(self.disk, self.chain, closed)?;
        if chain != segment.chain || segment.torn.is_some() {
            let damage = short("the log does not end as it did when the store was closed");
            return Err(OpenError::Damaged(damage.losing(segment.last, revision + 1)));
        }
        Ok(())
    }

    /// Makes what was read durable, and the log ready to be written.
    fn settle(self, view: View, window: Window, newest: Newest) -> Result<Recovered, OpenError> {
        let Newest { segment, bytes, name, interrupted } = newest;
        if let Some(interrupted) = interrupted {
            self.disk.remove(&interrupted)?;
        }
        let file = self.disk.open(&name)?;
        if self.closed.is_none() {
            if let Some(why) = segment.torn {
                let cut = bytes.len() - segment.bytes;
                tracing::info!(name, cut, %why, "cutting off what was not flushed before the crash");
                file.truncate(segment.bytes as u64)?;
            }
            // If the flush of the last commit failed, the page cache shows it as clean although it is not on the disk.
            // Writing the same bytes once more makes the flush below mean something.
            let tail = &bytes[segment.last_commit_at..segment.bytes];
            write_all_at(&*file, segment.last_commit_at as u64, tail)?;
            file.sync()?;
        }
        self.disk.sync_dir()?;
        if let Some(closed) = self.closed {
            self.disk.remove(&closed.name)?;
            self.disk.sync_dir()?;
        }
        let open = Open { file, bytes: segment.bytes as u64, marked: segment.marked };
        let newest_snapshot = self.snapshots.last().map_or(REVISION_FIRST, |(revision, _)| *revision);
        let uncovered = self.segments.iter().filter(|(first, _)| *first > newest_snapshot);
        let log_bytes = uncovered.map(|(_, file)| file.bytes).sum();
        let log = Log::new(segment.chain, open);
        Ok(Recovered { chain: self.chain, view, window, log, newest_snapshot, log_bytes })
    }
}

/// Leaves word how the log ends.
pub(crate) fn write_closed(
    disk: &dyn Disk,
    mut start: Chain,
    end: Chain,
    revision: Revision,
    time_ms: u64,
) -> io::Result<()> {
    let mut frame = Vec::new();
    let words = [revision, end.sequence, u64::from(end.previous)];
    start.write(&mut frame, Kind::Closed, time_ms, |out| record::write_words(out, words));
    super::disk::write_whole(disk, layout::CLOSED, |file| write_all_at(file, 0, &frame))
}

pub(crate) fn read_closed(disk: &dyn Disk, start: Chain, file: &FileInfo) -> Result<(Revision, Chain), OpenError> {
    let bytes = read_all(disk, file)?;
    let mut chain = start;
    let damaged = |what: &str| OpenError::Damaged(Damage::new(&file.name, 0, what));
    let frame = chain.next(&bytes).map_err(|error| damaged(&error.to_string()))?;
    match (frame.kind, record::read_words(frame.payload), frame.bytes() == bytes.len()) {
        (Kind::Closed, Ok([revision, sequence, previous]), true) => {
            let previous = u32::try_from(previous).map_err(|_| damaged("a number is out of range"))?;
            Ok((revision, start.at(sequence, previous)))
        }
        _ => Err(damaged("the file is not what a closed store leaves")),
    }
}
