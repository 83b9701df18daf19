//! Checks every byte of a store that is not running, and changes nothing.

use super::damage::Damage;
use super::disk::{Disk, FileInfo, read_all};
use super::frame::Chain;
use super::layout;
use super::recover::{OpenError, read_closed};
use super::segment::{self, Commit, Position, Segment, Unreadable};
use super::snapshot::{self, ReadError};
use super::view::View;
use crate::digest::Digest;
use crate::{REVISION_FIRST, Revision};

/// What a store's files hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Snapshots, then log segments, oldest first.
    pub files: Vec<FileReport>,
    /// Everything that is wrong. A store without damage opens; one with damage may still, by its other snapshot.
    pub damages: Vec<Damage>,
    /// The newest revision that opening would show.
    pub revision: Revision,
    /// Bytes at the log's end that were not flushed before a crash. They were never answered, and opening cuts them.
    pub torn_bytes: u64,
    /// Whether the store was closed.
    pub closed: bool,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    pub name: String,
    pub bytes: u64,
    pub kind: FileKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Snapshot {
        revision: Revision,
        objects: u64,
    },
    Segment {
        first: Revision,
        last: Revision,
        commits: u64,
    },
    /// What it holds cannot be told; the damages say why.
    Unreadable,
}

/// Reads all files of a store. An error is one of reading the directory; what is wrong inside is in the report.
pub fn verify(disk: &dyn Disk) -> Result<Report, OpenError> {
    let files = disk.list()?;
    let store_id = match layout::read_format(disk, &files)? {
        Some(store_id) => store_id?,
        None => return Err(OpenError::Damaged(Damage::new(layout::FORMAT, 0, "the file is missing"))),
    };
    let mut check = Check { disk, chain: Chain::new(store_id), report: Report::default(), views: Vec::new() };
    check.snapshots(&layout::numbered(&files, layout::snapshot))?;
    let newest = check.segments(&layout::numbered(&files, layout::segment))?;
    check.end(newest, files.iter().find(|file| file.name == layout::CLOSED))?;
    Ok(check.report)
}

struct Check<'a> {
    disk: &'a dyn Disk,
    chain: Chain,
    report: Report,
    /// The good snapshots, oldest first.
    views: Vec<View>,
}

impl Check<'_> {
    fn file(&mut self, file: &FileInfo, kind: FileKind) {
        self.report.files.push(FileReport { name: file.name.clone(), bytes: file.bytes, kind });
    }

    fn snapshots(&mut self, snapshots: &[(Revision, FileInfo)]) -> Result<(), OpenError> {
        for (revision, file) in snapshots {
            let kind = match snapshot::read(self.disk, self.chain, *revision) {
                Err(ReadError::Io(error)) => return Err(error.into()),
                Err(ReadError::Damaged(damage)) => {
                    self.report.damages.push(damage);
                    FileKind::Unreadable
                }
                Ok(view) => {
                    let objects = view.object_count() as u64;
                    self.views.push(view);
                    FileKind::Snapshot { revision: *revision, objects }
                }
            };
            self.file(file, kind);
        }
        Ok(())
    }

    /// Reads the log, and on the way compares the later snapshots with what the first one becomes by it.
    fn segments(&mut self, segments: &[(Revision, FileInfo)]) -> Result<Option<(Segment, String)>, OpenError> {
        let from_nothing = segments.first().is_some_and(|(first, _)| *first == REVISION_FIRST + 1);
        let newest_snapshot = self.views.last().map(|view| view.revision);
        let mut replay = Replay::new(std::mem::take(&mut self.views), from_nothing);
        let missing = |what| Damage::new("wal", 0, what);
        match segments.first() {
            None => self.report.damages.push(missing("there is no log")),
            Some((first, _)) if *first > replay.view.revision + 1 => {
                self.report.damages.push(missing("the log does not reach back to the oldest good snapshot"));
            }
            Some(_) => {}
        }
        let mut newest: Option<(Segment, String)> = None;
        let mut position = Position { chain: self.chain, last: None };
        for (at, (_, file)) in segments.iter().enumerate() {
            let last = at + 1 == segments.len();
            let bytes = read_all(self.disk, file)?;
            match segment::read(&file.name, &bytes, position, &mut |commit| replay.apply(commit)) {
                Ok(segment) => {
                    self.file(file, describe(&segment));
                    self.report.damages.extend(if last { None } else { segment.check_ended(&file.name).err() });
                    self.report.torn_bytes = (bytes.len() - segment.bytes) as u64;
                    position = Position { chain: segment.chain, last: Some(segment.last) };
                    newest = Some((segment, file.name.clone()));
                }
                // An interrupted rotation, which opening removes.
                Err(Unreadable::NoStart(_)) if last && newest.is_some() => self.report.torn_bytes = bytes.len() as u64,
                Err(Unreadable::NoStart(damage) | Unreadable::Damaged(damage)) => {
                    self.report.damages.push(damage);
                    self.file(file, FileKind::Unreadable);
                    // What follows is judged by itself.
                    position = Position { chain: self.chain, last: None };
                }
            }
        }
        self.report.revision = replay.view.revision;
        self.report.damages.append(&mut replay.damages);
        if let (Some(revision), Some((segment, name))) = (newest_snapshot, &newest)
            && revision > segment.last
        {
            let damage = Damage::new(name, segment.bytes as u64, "the log ends before the newest snapshot");
            self.report.damages.push(damage.losing(segment.last, revision + 1));
        }
        Ok(newest)
    }

    fn end(&mut self, newest: Option<(Segment, String)>, closed: Option<&FileInfo>) -> Result<(), OpenError> {
        let Some(closed) = closed else { return Ok(()) };
        self.report.closed = true;
        let (revision, chain) = match read_closed(self.disk, self.chain, closed) {
            Ok(closed) => closed,
            Err(OpenError::Damaged(damage)) => {
                self.report.damages.push(damage);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let Some((segment, name)) = newest else { return Ok(()) };
        if chain != segment.chain || self.report.torn_bytes > 0 {
            let damage =
                Damage::new(&name, segment.bytes as u64, "the log does not end as it did when the store was closed");
            self.report.damages.push(damage.losing(segment.last, revision + 1));
        }
        Ok(())
    }
}

fn describe(segment: &Segment) -> FileKind {
    FileKind::Segment { first: segment.first, last: segment.last, commits: segment.commits }
}

/// The oldest state that can be told, on its way through the log.
struct Replay {
    view: View,
    /// Snapshots that it has not reached yet.
    later: Vec<View>,
    damages: Vec<Damage>,
}

impl Replay {
    fn new(mut views: Vec<View>, from_nothing: bool) -> Self {
        let view = if from_nothing || views.is_empty() { View::new() } else { views.remove(0) };
        Self { view, later: views, damages: Vec::new() }
    }

    fn apply(&mut self, commit: Commit) {
        for (revision, record) in (commit.first..).zip(commit.records) {
            // Behind damage the revisions do not follow; nothing more can be compared then.
            if revision == self.view.revision + 1 {
                self.view.apply(record);
                self.compare();
            }
        }
        self.view.raise_floor(self.view.revision);
    }

    fn compare(&mut self) {
        if let Some(at) = self.later.iter().position(|view| view.revision == self.view.revision) {
            let snapshot = self.later.remove(at);
            if digest(&snapshot) != digest(&self.view) {
                let name = layout::snapshot(snapshot.revision);
                self.damages.push(Damage::new(&name, 0, "the snapshot is not what the log makes of the one before it"));
            }
        }
    }
}

fn digest(view: &View) -> u64 {
    let mut digest = Digest::new();
    view.objects().for_each(|entry| digest.entry(entry));
    digest.finish()
}
