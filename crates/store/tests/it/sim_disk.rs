//! A disk in memory that fails on demand and can lose what was not flushed.
//!
//! It keeps to what POSIX promises and no more: after a power cut a file has what its last good sync covered, and of
//! the writes behind it any subset of 512-byte sectors; the directory has what its last sync covered, and of the
//! changes behind it any subset. A sync that failed makes no later sync cover the bytes that it was for.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use corten_store::embedded::disk::{Disk, DiskFile, FileInfo};

const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<String, usize>,
    files: Vec<File>,
    /// What was there when the record began.
    before: Image,
    calls: Vec<Call>,
    /// Calls that can fail, also those that are not recorded.
    numbered: usize,
    fault: Option<(usize, Fault)>,
    /// Bytes that all files may have together.
    capacity: Option<u64>,
    locked: bool,
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    allocated: u64,
}

/// Durable contents.
#[derive(Clone, Default)]
pub(crate) struct Image {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Io,
    NoSpace,
    /// A write takes half of its bytes; a sync fails.
    Short,
}

#[derive(Clone, Debug)]
enum Call {
    Create { name: String, file: usize },
    Rename { from: String, to: String },
    Remove { name: String },
    SyncDir,
    Write { file: usize, offset: usize, bytes: Vec<u8> },
    Truncate { file: usize, bytes: usize },
    Sync { file: usize },
    SyncFailed { file: usize },
}

/// Numbers that look random and are the same for the same seed.
#[derive(Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// Which part of what was not flushed survives: none, all, or each piece by a throw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survival {
    Nothing,
    Everything,
    Pieces,
}

impl SimDisk {
    pub(crate) fn of(image: Image) -> Self {
        let files = image.files.iter().map(|bytes| File { bytes: bytes.clone(), allocated: 0 }).collect();
        let names = image.names.clone();
        Self(Arc::new(Mutex::new(State { names, files, before: image, ..State::default() })))
    }

    pub(crate) fn with_capacity(bytes: u64) -> Self {
        let disk = Self::default();
        disk.set_capacity(Some(bytes));
        disk
    }

    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Fails the call with this number, counted from now.
    pub(crate) fn fail(&self, at: usize, fault: Fault) {
        let mut state = self.state();
        state.numbered = 0;
        state.fault = Some((at, fault));
    }

    pub(crate) fn forget_fault(&self) {
        self.state().fault = None;
    }

    /// How many calls could have failed.
    pub(crate) fn numbered(&self) -> usize {
        self.state().numbered
    }

    /// How many calls are recorded.
    pub(crate) fn recorded(&self) -> usize {
        self.state().calls.len()
    }

    /// What is left when the power is cut after so many recorded calls.
    pub(crate) fn cut(&self, after: usize, survival: Survival, dice: &mut Dice) -> Image {
        let state = self.state();
        let mut cut = Cut { image: state.before.clone(), files: BTreeMap::new(), names: Vec::new(), survival, dice };
        state.calls[..after].iter().for_each(|call| cut.see(call));
        cut.finish()
    }

    /// What is there now, as a process that starts again sees it.
    pub(crate) fn image(&self) -> Image {
        let state = self.state();
        Image { names: state.names.clone(), files: state.files.iter().map(|file| file.bytes.clone()).collect() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Image {
    pub(crate) fn names(&self) -> Vec<String> {
        self.names.keys().cloned().collect()
    }

    pub(crate) fn bytes(&self, name: &str) -> &[u8] {
        &self.files[self.names[name]]
    }

    pub(crate) fn set(&mut self, name: &str, bytes: Vec<u8>) {
        self.names.insert(name.to_owned(), self.files.len());
        self.files.push(bytes);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.names.remove(name);
    }
}

struct Cut<'a> {
    image: Image,
    /// Per file the calls that no sync covers.
    files: BTreeMap<usize, Vec<Call>>,
    names: Vec<Call>,
    survival: Survival,
    dice: &'a mut Dice,
}

impl Cut<'_> {
    fn see(&mut self, call: &Call) {
        match call {
            Call::Create { file, .. } => {
                self.image.files.resize(self.image.files.len().max(file + 1), Vec::new());
                self.names.push(call.clone());
            }
            Call::Rename { .. } | Call::Remove { .. } => self.names.push(call.clone()),
            Call::SyncDir => std::mem::take(&mut self.names).iter().for_each(|call| self.name(call)),
            Call::Write { file, .. } | Call::Truncate { file, .. } => {
                self.files.entry(*file).or_default().push(call.clone());
            }
            Call::Sync { file } => {
                let calls = self.files.remove(file).unwrap_or_default();
                calls.iter().for_each(|call| self.piece(call, false));
            }
            // Whatever of it reaches the disk does so now or never.
            Call::SyncFailed { file } => {
                let calls = self.files.remove(file).unwrap_or_default();
                calls.iter().for_each(|call| self.piece(call, true));
            }
        }
    }

    fn finish(mut self) -> Image {
        for calls in std::mem::take(&mut self.files).into_values() {
            calls.iter().for_each(|call| self.piece(call, true));
        }
        for call in std::mem::take(&mut self.names) {
            if self.survives() {
                self.name(&call);
            }
        }
        self.image
    }

    fn survives(&mut self) -> bool {
        match self.survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Pieces => self.dice.roll(2) == 0,
        }
    }

    fn name(&mut self, call: &Call) {
        match call {
            Call::Create { name, file } => drop(self.image.names.insert(name.clone(), *file)),
            Call::Remove { name } => drop(self.image.names.remove(name)),
            Call::Rename { from, to } => {
                if let Some(file) = self.image.names.remove(from) {
                    self.image.names.insert(to.clone(), file);
                }
            }
            other => unreachable!("{other:?} changes no name"),
        }
    }

    fn piece(&mut self, call: &Call, may_be_lost: bool) {
        match call {
            Call::Truncate { file, bytes } if !may_be_lost || self.survives() => {
                self.image.files[*file].resize(*bytes, 0);
            }
            Call::Truncate { .. } => {}
            Call::Write { file, offset, bytes } => {
                let mut at = 0;
                while at < bytes.len() {
                    let end = bytes.len().min(at + SECTOR - (offset + at) % SECTOR);
                    if !may_be_lost || self.survives() {
                        put(&mut self.image.files[*file], offset + at, &bytes[at..end]);
                    }
                    at = end;
                }
            }
            other => unreachable!("{other:?} changes no content"),
        }
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}

fn no_space() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl State {
    /// Counts a call; fails it if it is its turn. `Ok(true)`: it is to be short.
    fn number(&mut self) -> io::Result<bool> {
        let at = self.numbered;
        self.numbered += 1;
        match self.fault {
            Some((fault_at, Fault::Io)) if fault_at == at => Err(io::Error::other("injected")),
            Some((fault_at, Fault::NoSpace)) if fault_at == at => Err(no_space()),
            Some((fault_at, Fault::Short)) if fault_at == at => Ok(true),
            _ => Ok(false),
        }
    }

    fn file(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn room(&self, growth_of: usize, to: u64) -> u64 {
        let Some(capacity) = self.capacity else { return to };
        let size = |file: &File| file.allocated.max(file.bytes.len() as u64);
        let used: u64 = self.names.values().map(|at| size(&self.files[*at])).sum();
        let has = size(&self.files[growth_of]);
        if to <= has { to } else { has.max((has + capacity.saturating_sub(used)).min(to)) }
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<Box<dyn Send>> {
        if std::mem::replace(&mut self.state().locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<FileInfo>> {
        let mut state = self.state();
        state.number()?;
        let info = |(name, file): (&String, &usize)| {
            let File { bytes, allocated } = &state.files[*file];
            FileInfo { name: name.clone(), bytes: (*allocated).max(bytes.len() as u64) }
        };
        Ok(state.names.iter().map(info).collect())
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.number()?;
        Ok(Box::new(SimFile { disk: self.clone(), file: state.file(name)? }))
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.number()?;
        let file = state.names.get(name).copied().unwrap_or(state.files.len());
        if file == state.files.len() {
            state.files.push(File::default());
            state.names.insert(name.to_owned(), file);
            state.calls.push(Call::Create { name: name.to_owned(), file });
        } else {
            state.files[file] = File::default();
            state.calls.push(Call::Truncate { file, bytes: 0 });
        }
        Ok(Box::new(SimFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.number()?;
        let file = state.file(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        state.calls.push(Call::Rename { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.number()?;
        state.file(name)?;
        state.names.remove(name);
        state.calls.push(Call::Remove { name: name.to_owned() });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.number()? {
            return Err(io::Error::other("injected"));
        }
        state.calls.push(Call::SyncDir);
        Ok(())
    }
}

struct SimFile {
    disk: SimDisk,
    file: usize,
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let short = state.number()?;
        let bytes = &state.files[self.file].bytes;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(if short { into.len().div_ceil(2) } else { into.len() });
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        let short = state.number()?;
        let wanted = if short { bytes.len().div_ceil(2) } else { bytes.len() };
        let end = state.room(self.file, offset + wanted as u64);
        let count = usize::try_from(end.saturating_sub(offset)).unwrap();
        if count == 0 {
            return Err(no_space());
        }
        let (offset, bytes) = (offset as usize, &bytes[..count]);
        put(&mut state.files[self.file].bytes, offset, bytes);
        state.calls.push(Call::Write { file: self.file, offset, bytes: bytes.to_vec() });
        Ok(count)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = match state.number() {
            Ok(false) => Ok(()),
            Ok(true) => Err(io::Error::other("injected")),
            Err(error) => Err(error),
        };
        let file = self.file;
        state.calls.push(if result.is_ok() { Call::Sync { file } } else { Call::SyncFailed { file } });
        result
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.number()?;
        let length = bytes as usize;
        state.files[self.file].bytes.resize(length, 0);
        state.files[self.file].allocated = 0;
        state.calls.push(Call::Truncate { file: self.file, bytes: length });
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.number()?;
        if state.room(self.file, bytes) < bytes {
            return Err(no_space());
        }
        state.files[self.file].allocated = bytes;
        Ok(())
    }
}

struct Lock(SimDisk);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}
