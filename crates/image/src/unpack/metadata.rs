//! What a tar entry says about its file, headers and extensions together, and how the file gets it.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::BorrowedFd;

use rustix::fs::{self, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use tar::{Entry, EntryType};

use super::sparse::Records;
use super::tree::{Stop, refused};

/// Extended attributes stand in PAX records under this prefix.
const XATTR: &str = "SCHILY.xattr.";
/// Bytes of one extended attribute, as the kernel takes them.
const XATTR_BYTES_MAX: usize = 64 << 10;

pub(super) struct Metadata {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) mode: Mode,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) device: u64,
    pub(super) times: Timestamps,
    /// Those that are kept: file capabilities and users' own. Others are the host's business.
    xattrs: Vec<(String, Vec<u8>)>,
    sparse: Option<Records>,
    size: u64,
}

impl Metadata {
    pub(super) fn read(entry: &mut Entry<'_, impl Read>) -> Result<Self, Stop> {
        let path = entry.path_bytes().into_owned();
        let link = entry.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
        let size = entry.size();
        let header = entry.header();
        let number = |value: io::Result<u64>| value.map_err(|error| refused(&path, &error.to_string()));
        let id = |value: io::Result<u64>, what: &str| {
            u32::try_from(number(value)?).map_err(|_| refused(&path, &format!("has an impossible {what}")))
        };
        let mode = header.mode().map_err(|error| refused(&path, &error.to_string()))?;
        // An old header marks a folder by nothing but a slash.
        let kind = match header.entry_type() {
            EntryType::Regular if path.ends_with(b"/") => EntryType::Directory,
            kind => kind,
        };
        let is_device = matches!(kind, EntryType::Char | EntryType::Block);
        let part = |value: io::Result<Option<u32>>| {
            value.map(Option::unwrap_or_default).map_err(|error| refused(&path, &error.to_string()))
        };
        let device =
            if is_device { fs::makedev(part(header.device_major())?, part(header.device_minor())?) } else { 0 };
        let mut found = Self {
            kind,
            mode: Mode::from_raw_mode(mode & 0o7777),
            uid: id(header.uid(), "owner")?,
            gid: id(header.gid(), "group")?,
            device,
            times: times(i64::try_from(number(header.mtime())?).unwrap_or_default(), 0),
            xattrs: Vec::new(),
            sparse: None,
            size,
            link,
            path: Vec::new(),
        };
        found.path = path;
        found.extend(entry)?;
        Ok(found)
    }

    /// PAX records that the parser leaves to its callers.
    fn extend(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), Stop> {
        let Some(records) = entry.pax_extensions().map_err(Stop::Read)? else { return Ok(()) };
        for record in records {
            let record = record.map_err(Stop::Read)?;
            let Ok(key) = record.key() else { continue };
            if key == "mtime" {
                let text = String::from_utf8_lossy(record.value_bytes());
                let (seconds, nanos) = time(&text).ok_or_else(|| refused(&self.path, "has an impossible time"))?;
                self.times = times(seconds, nanos);
            } else if key.starts_with("GNU.sparse.") {
                if !self.sparse.get_or_insert_default().take(key, record.value_bytes()) {
                    return Err(refused(&self.path, "is a sparse file in a form that is not supported"));
                }
            } else if let Some(name) = key.strip_prefix(XATTR).filter(|name| is_kept(name)) {
                let value = record.value_bytes();
                if value.len() > XATTR_BYTES_MAX {
                    return Err(refused(&self.path, "has an extended attribute that is too long"));
                }
                self.xattrs.push((name.to_owned(), value.to_vec()));
            }
        }
        // Its header has a name that is made up.
        if let Some(name) = self.sparse.as_mut().and_then(|sparse| sparse.name.take()) {
            self.path = name;
        }
        Ok(())
    }

    /// Sets owner, mode and attributes, in the order in which none undoes another.
    pub(super) fn apply(&self, file: BorrowedFd<'_>) -> rustix::io::Result<()> {
        fs::fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        fs::fchmod(file, self.mode)?;
        let files_only = |name: &str| name.starts_with("security.") && self.kind == EntryType::Directory;
        for (name, value) in self.xattrs.iter().filter(|(name, _)| !files_only(name)) {
            fs::fsetxattr(file, name.as_str(), value, XattrFlags::empty())?;
        }
        Ok(())
    }

    /// Copies an entry's contents; how many bytes that were. Long runs of zeros in a sparse file become holes again.
    pub(super) fn write(
        &mut self,
        file: &mut File,
        entry: &mut impl Read,
        buffer: &mut [u8],
        path: &str,
    ) -> Result<u64, Stop> {
        if let Some(records) = self.sparse.take() {
            return write_pieces(records, file, entry, buffer, path);
        }
        let failed = |source| Stop::Write { path: path.to_owned(), source };
        let sparse = self.kind == EntryType::GNUSparse;
        let (mut total, mut written) = (0, 0);
        loop {
            let read = entry.read(buffer).map_err(Stop::Read)?;
            if read == 0 {
                break;
            }
            total += read as u64;
            if sparse && buffer[..read].iter().all(|byte| *byte == 0) {
                file.seek(SeekFrom::Current(i64::try_from(read).expect("a buffer's length"))).map_err(failed)?;
            } else {
                file.write_all(&buffer[..read]).map_err(failed)?;
                written += read as u64;
            }
        }
        if sparse {
            file.set_len(total).map_err(failed)?;
        }
        if total < self.size {
            return Err(refused(path.as_bytes(), "ends too early"));
        }
        Ok(written)
    }
}

/// Data of a sparse file in PAX form goes where its map says.
fn write_pieces(
    mut records: Records,
    file: &mut File,
    entry: &mut impl Read,
    buffer: &mut [u8],
    path: &str,
) -> Result<u64, Stop> {
    let failed = |source| Stop::Write { path: path.to_owned(), source };
    let map = records.map(entry).map_err(|error| refused(path.as_bytes(), &error.to_string()))?;
    let mut written = 0;
    for (offset, length) in map.pieces {
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut left = length;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = entry.read(&mut buffer[..most]).map_err(Stop::Read)?;
            if read == 0 {
                return Err(refused(path.as_bytes(), "ends too early"));
            }
            file.write_all(&buffer[..read]).map_err(failed)?;
            left -= read as u64;
            written += read as u64;
        }
    }
    file.set_len(map.size).map_err(failed)?;
    Ok(written)
}

fn is_kept(name: &str) -> bool {
    name == "security.capability" || name.starts_with("user.")
}

fn times(seconds: i64, nanos: u32) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// `123.456789`: seconds, perhaps negative, and a fraction, of which nine digits count.
fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    let before_1970 = whole.starts_with('-') && nanos > 0;
    Some(if before_1970 { (seconds.checked_sub(1)?, 1_000_000_000 - nanos) } else { (seconds, nanos) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_and_signs() {
        assert_eq!(time("12"), Some((12, 0)));
        assert_eq!(time("12.5"), Some((12, 500_000_000)));
        assert_eq!(time("12.1234567899"), Some((12, 123_456_789)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("-9223372036854775808.5"), None);
        assert_eq!((time(""), time("x"), time("1.x")), (None, None, None));
    }
}
