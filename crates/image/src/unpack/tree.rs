//! Puts a layer's entries into a folder. Every path is resolved by the kernel below that folder and through no symbolic
//! link, openat2(2), so that no layer reaches a file outside it; whiteouts take the form that overlayfs reads.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::metadata::Metadata;

/// Entries of a layer.
const ENTRIES_MAX: u64 = 4_000_000;
/// Bytes of a path, as the kernel takes them.
const PATH_BYTES_MAX: usize = 4095;
/// Bytes of the paths of all folders together: they are remembered to the end.
const FOLDERS_BYTES_MAX: usize = 256 << 20;
const WHITEOUT: &[u8] = b".wh.";
/// Of AUFS, which invented whiteouts: everything else with this prefix is its bookkeeping.
const WHITEOUT_META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Why an entry cannot be had.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The layer is to blame.
    Refused(String),
    /// The layer could not be read.
    Read(io::Error),
    /// The disk is to blame.
    Write { path: String, source: io::Error },
}

/// A folder that becomes a layer.
pub(crate) struct Tree {
    root: OwnedFd,
    /// The folder of the entry before, which is most often that of the next.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Folders whose time is set at the end, when nothing is put into them any more.
    folders: Vec<(Vec<u8>, Timestamps)>,
    folders_bytes: usize,
    entries: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

/// Where an entry goes: its folder, open, and its name there.
struct Place<'a> {
    path: &'a [u8],
    folder: BorrowedFd<'a>,
    name: &'a [u8],
}

impl Tree {
    /// On an empty folder.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(CWD, root, flags, Mode::empty())?;
        fs::fchmod(&root, Mode::from_raw_mode(0o755))?;
        Ok(Self {
            root,
            parent: None,
            folders: Vec::new(),
            folders_bytes: 0,
            entries: 0,
            bytes: 0,
            buffer: vec![0; 128 << 10],
        })
    }

    pub(crate) fn add(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), Stop> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(Stop::Refused(format!("it has more than {ENTRIES_MAX} entries")));
        }
        if entry.header().entry_type().is_pax_global_extensions() {
            return Ok(());
        }
        let mut metadata = Metadata::read(entry)?;
        let path = clean(&metadata.path)?;
        let Some(at) = path.iter().rposition(|byte| *byte == b'/').or((!path.is_empty()).then_some(0)) else {
            return self.folder_itself(&metadata);
        };
        let (parent, name) = path.split_at(at);
        let name = name.strip_prefix(b"/").unwrap_or(name);
        let folder = self.open_parent(parent)?;
        let place = Place { path: &path, folder: folder.as_fd(), name };
        let done = self.put(&place, &mut metadata, entry);
        self.parent = Some((parent.to_vec(), folder));
        done
    }

    /// Sets what could not be set earlier; the unpacked bytes.
    pub(crate) fn finish(self) -> Result<u64, Stop> {
        for (path, times) in &self.folders {
            match self.open_below(path, OFlags::RDONLY) {
                Ok(folder) => fs::futimens(&folder, times).map_err(|errno| failed(path, errno))?,
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(failed(path, errno)),
            }
        }
        Ok(self.bytes)
    }

    /// The entry `./`.
    fn folder_itself(&mut self, metadata: &Metadata) -> Result<(), Stop> {
        if metadata.kind != EntryType::Directory {
            return Err(Stop::Refused("it replaces its own root".to_owned()));
        }
        metadata.apply(self.root.as_fd()).map_err(|errno| failed(b".", errno))?;
        self.folders.push((b".".to_vec(), metadata.times.clone()));
        Ok(())
    }

    fn put(
        &mut self,
        place: &Place<'_>,
        metadata: &mut Metadata,
        entry: &mut Entry<'_, impl Read>,
    ) -> Result<(), Stop> {
        if place.name == OPAQUE {
            return opaque(place.folder).map_err(|errno| failed(place.path, errno));
        }
        if place.name.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        if let Some(hidden) = place.name.strip_prefix(WHITEOUT) {
            return whiteout(place, hidden);
        }
        match metadata.kind {
            EntryType::Directory => self.folder(place, metadata),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => self.file(place, metadata, entry),
            EntryType::Link => self.hard_link(place, metadata),
            EntryType::Symlink => {
                self.node(place, metadata, |place| fs::symlinkat(metadata.link.as_slice(), place.folder, place.name))
            }
            EntryType::Char => {
                self.node(place, metadata, |place| make_node(place, FileType::CharacterDevice, metadata))
            }
            EntryType::Block => self.node(place, metadata, |place| make_node(place, FileType::BlockDevice, metadata)),
            EntryType::Fifo => self.node(place, metadata, |place| make_node(place, FileType::Fifo, metadata)),
            other => Err(refused(place.path, &format!("is of the unknown kind {:?}", char::from(other.as_byte())))),
        }
    }

    fn folder(&mut self, place: &Place<'_>, metadata: &Metadata) -> Result<(), Stop> {
        let failed = |errno| failed(place.path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || fs::openat(place.folder, place.name, flags, Mode::empty());
        let made = fs::mkdirat(place.folder, place.name, Mode::RWXU);
        let folder = match made {
            Ok(()) => open().map_err(failed)?,
            Err(Errno::EXIST) => match open() {
                Ok(folder) => folder,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let hidden = is_whiteout(place).map_err(failed)?;
                    self.clear(place)?;
                    fs::mkdirat(place.folder, place.name, Mode::RWXU).map_err(failed)?;
                    let folder = open().map_err(failed)?;
                    if hidden {
                        opaque(folder.as_fd()).map_err(failed)?;
                    }
                    folder
                }
                Err(errno) => return Err(failed(errno)),
            },
            Err(errno) => return Err(failed(errno)),
        };
        metadata.apply(folder.as_fd()).map_err(failed)?;
        self.folders_bytes += place.path.len();
        if self.folders_bytes > FOLDERS_BYTES_MAX {
            return Err(Stop::Refused("its folders' names are too many".to_owned()));
        }
        self.folders.push((place.path.to_vec(), metadata.times.clone()));
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place<'_>,
        metadata: &mut Metadata,
        entry: &mut Entry<'_, impl Read>,
    ) -> Result<(), Stop> {
        let failed = |errno| failed(place.path, errno);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let create = || fs::openat(place.folder, place.name, flags, Mode::RUSR | Mode::WUSR);
        let file = match create() {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                create().map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        let mut file = std::fs::File::from(file);
        let written = metadata.write(&mut file, entry, &mut self.buffer, &String::from_utf8_lossy(place.path))?;
        self.bytes += written;
        metadata.apply(file.as_fd()).map_err(failed)?;
        fs::futimens(&file, &metadata.times).map_err(failed)
    }

    /// Both names lie in this layer; a link into another would be a path out of it.
    fn hard_link(&mut self, place: &Place<'_>, metadata: &Metadata) -> Result<(), Stop> {
        let target = clean(&metadata.link)?;
        let at = target.iter().rposition(|byte| *byte == b'/');
        let (parent, name) = at.map_or((&b"."[..], &target[..]), |at| (&target[..at], &target[at + 1..]));
        let lost = |errno| match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::PERM | Errno::INVAL => {
                refused(place.path, &format!("links to {:?}, no file of this layer", lossy(&metadata.link)))
            }
            errno => failed(place.path, errno),
        };
        let folder = self.open_below(parent, OFlags::PATH).map_err(lost)?;
        let link = || fs::linkat(&folder, name, place.folder, place.name, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                link().map_err(lost)
            }
            other => other.map_err(lost),
        }
    }

    /// Symbolic links, devices and pipes: what is made in one call and has no contents.
    fn node(
        &mut self,
        place: &Place<'_>,
        metadata: &Metadata,
        make: impl Fn(&Place<'_>) -> rustix::io::Result<()>,
    ) -> Result<(), Stop> {
        let failed = |errno| failed(place.path, errno);
        match make(place) {
            Err(Errno::EXIST) => {
                self.clear(place)?;
                make(place).map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
        fs::chownat(place.folder, place.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if metadata.kind != EntryType::Symlink {
            fs::chmodat(place.folder, place.name, metadata.mode, AtFlags::empty()).map_err(failed)?;
        }
        fs::utimensat(place.folder, place.name, &metadata.times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// Makes way for a later entry of the same name.
    fn clear(&mut self, place: &Place<'_>) -> Result<(), Stop> {
        self.parent = None;
        remove(place.folder, place.name).map_err(|errno| failed(place.path, errno))
    }

    /// Opens the folder of an entry; what is missing of it is made, as layers may leave it out.
    fn open_parent(&mut self, path: &[u8]) -> Result<OwnedFd, Stop> {
        if let Some((_, folder)) = self.parent.take().filter(|(known, _)| known == path) {
            return Ok(folder);
        }
        if path.is_empty() {
            return self.open_below(b".", OFlags::RDONLY).map_err(|errno| failed(b".", errno));
        }
        match self.open_below(path, OFlags::RDONLY) {
            Ok(folder) => Ok(folder),
            Err(Errno::NOENT | Errno::NOTDIR) => self.make_parents(path),
            Err(errno) => Err(failed(path, errno)),
        }
    }

    fn make_parents(&self, path: &[u8]) -> Result<OwnedFd, Stop> {
        let failed = |errno| failed(path, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut folder = self.open_below(b".", OFlags::RDONLY).map_err(failed)?;
        for name in path.split(|byte| *byte == b'/') {
            let place = Place { path, folder: folder.as_fd(), name };
            let open = || fs::openat(&folder, name, flags, Mode::empty());
            let hidden = match open() {
                Ok(next) => {
                    folder = next;
                    continue;
                }
                Err(Errno::NOENT) => false,
                Err(Errno::NOTDIR) if is_whiteout(&place).map_err(failed)? => {
                    fs::unlinkat(&folder, name, AtFlags::empty()).map_err(failed)?;
                    true
                }
                Err(errno) => return Err(failed(errno)),
            };
            fs::mkdirat(&folder, name, Mode::RWXU).map_err(failed)?;
            let made = open().map_err(failed)?;
            fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(failed)?;
            if hidden {
                opaque(made.as_fd()).map_err(failed)?;
            }
            folder = made;
        }
        Ok(folder)
    }

    fn open_below(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(&self.root, path, flags, Mode::empty(), resolve)
    }
}

/// The path below the root, without empty parts and dots: `/a//b/./` is `a/b`. A `..` leads out and is refused.
fn clean(path: &[u8]) -> Result<Vec<u8>, Stop> {
    let mut cleaned = Vec::with_capacity(path.len());
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." || part.contains(&0) {
            return Err(refused(path, "leads out of the layer"));
        }
        if !cleaned.is_empty() {
            cleaned.push(b'/');
        }
        cleaned.extend_from_slice(part);
    }
    if cleaned.len() > PATH_BYTES_MAX {
        return Err(refused(&cleaned[..64], &format!("and so on is longer than {PATH_BYTES_MAX} bytes")));
    }
    Ok(cleaned)
}

/// Hides what lower layers have under this name. What this layer itself has stays, but hides the contents of a folder below.
fn whiteout(place: &Place<'_>, hidden: &[u8]) -> Result<(), Stop> {
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(refused(place.path, "hides no name"));
    }
    let failed = |errno| failed(place.path, errno);
    match fs::mknodat(place.folder, hidden, FileType::CharacterDevice, Mode::empty(), fs::makedev(0, 0)) {
        Err(Errno::EXIST) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match fs::openat(place.folder, hidden, flags, Mode::empty()) {
                Ok(folder) => opaque(folder.as_fd()).map_err(failed),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(failed(errno)),
            }
        }
        other => other.map_err(failed),
    }
}

/// Lower layers' contents of this folder do not show through.
fn opaque(folder: BorrowedFd<'_>) -> rustix::io::Result<()> {
    fs::fsetxattr(folder, "trusted.overlay.opaque", b"y", XattrFlags::empty())
}

fn is_whiteout(place: &Place<'_>) -> rustix::io::Result<bool> {
    let found = fs::statat(place.folder, place.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    Ok(device && found.st_rdev == fs::makedev(0, 0))
}

fn make_node(place: &Place<'_>, kind: FileType, metadata: &Metadata) -> rustix::io::Result<()> {
    fs::mknodat(place.folder, place.name, kind, Mode::RUSR | Mode::WUSR, metadata.device)
}

/// Removes a name and everything below it, through open folders alone.
fn remove(folder: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = fs::openat(folder, name, flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::read_from(&inner)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        remove(inner.as_fd(), &name)?;
    }
    fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

pub(super) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

pub(super) fn refused(path: &[u8], problem: &str) -> Stop {
    Stop::Refused(format!("its entry {:?} {problem}", lossy(path)))
}

/// Some errors are the layer's own doing.
fn failed(path: &[u8], errno: Errno) -> Stop {
    match errno {
        Errno::LOOP => refused(path, "goes through a symbolic link"),
        Errno::NOTDIR => refused(path, "goes through a file"),
        Errno::XDEV => refused(path, "leads out of the layer"),
        Errno::NAMETOOLONG => refused(path, "has a name that is too long"),
        errno => Stop::Write { path: lossy(path), source: errno.into() },
    }
}
