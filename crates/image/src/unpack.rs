//! From a layer's bytes to a folder, in one pass: digest of what comes, decompression, digest of the tar, its entries.
//! Nothing is believed before both digests are checked; the caller throws the folder away when they are wrong.

use std::cell::{Cell, RefCell};
use std::io::{self, BufReader, Read};
use std::path::Path;

use corten_stdx::error::Chain;
use flate2::bufread::MultiGzDecoder;
use tar::Archive;

use crate::ImageError;
use crate::digest::{Digest, Hashing};
use crate::manifest::Packing;

mod metadata;
mod sparse;
mod tree;

use tree::{Stop, Tree};

const BUFFER_BYTES: usize = 128 << 10;
/// Bytes between two entries' contents: headers, long names, extended records. The parser holds them in memory.
const HEADER_BYTES_MAX: u64 = 1 << 20;

/// A layer, as its manifest and the configuration promise it. `None` is not promised.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// Of the bytes that come.
    pub(crate) digest: Option<Digest>,
    pub(crate) size: Option<u64>,
    pub(crate) packing: Packing,
    /// Of the tar.
    pub(crate) diff_id: Digest,
    /// Bytes of the tar, at most.
    pub(crate) bytes_max: u64,
}

impl Expected {
    /// For messages.
    pub(crate) fn what(&self) -> String {
        format!("the layer {}", self.digest.unwrap_or(self.diff_id))
    }
}

/// Unpacks into an empty folder; the bytes of its files.
pub(crate) fn unpack(source: impl Read, expected: &Expected, into: &Path) -> Result<u64, ImageError> {
    let what = expected.what();
    let fault = RefCell::new(None);
    let limit = expected.size.unwrap_or(expected.bytes_max);
    let guarded = Guarded { inner: source, left: limit, role: Role::Source, what: &what, fault: &fault };
    let mut packed = Hashing::new(guarded);
    let outcome = walk(&mut packed, expected, into, &fault);
    let blamed = |stop| fault.borrow_mut().take().unwrap_or_else(|| explain(&what, stop));
    let (diff_id, bytes) = outcome.map_err(blamed)?;
    // What follows the last frame belongs to the digest too.
    io::copy(&mut packed, &mut io::sink()).map_err(|error| blamed(Stop::Read(error)))?;
    let (digest, size) = packed.finish();
    let damaged = |detail| ImageError::Corrupt { what: what.clone(), detail };
    if let Some(promised) = expected.size.filter(|promised| *promised != size) {
        return Err(damaged(format!("it has {size} bytes, not {promised}")));
    }
    if expected.digest.is_some_and(|promised| promised != digest) {
        return Err(damaged(format!("its digest is {digest}")));
    }
    if diff_id != expected.diff_id {
        return Err(damaged(format!("its tar has the digest {diff_id}, not {}", expected.diff_id)));
    }
    Ok(bytes)
}

type Fault = RefCell<Option<ImageError>>;

fn walk(packed: impl Read, expected: &Expected, into: &Path, fault: &Fault) -> Result<(Digest, u64), Stop> {
    let buffered = BufReader::with_capacity(BUFFER_BYTES, packed);
    let decoded: Box<dyn Read + '_> = match expected.packing {
        Packing::Plain => Box::new(buffered),
        Packing::Gzip => Box::new(MultiGzDecoder::new(buffered)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered).map_err(Stop::Read)?),
    };
    let what = expected.what();
    let guarded = Guarded { inner: decoded, left: expected.bytes_max, role: Role::Tar, what: &what, fault };
    let mut tar = Hashing::new(guarded);
    let mut tree = Tree::new(into).map_err(|source| Stop::Write { path: into.display().to_string(), source })?;
    let budget = Cell::new(HEADER_BYTES_MAX);
    let metered = Metered { inner: BufReader::with_capacity(BUFFER_BYTES, &mut tar), budget: &budget };
    let mut archive = Archive::new(metered);
    let mut entries = archive.entries().map_err(Stop::Read)?;
    while let Some(entry) = entries.next().transpose().map_err(Stop::Read)? {
        let mut entry = entry;
        budget.set(u64::MAX);
        if entry.size() > expected.bytes_max {
            let detail = format!("an entry claims {} bytes, more than {}", entry.size(), expected.bytes_max);
            return Err(Stop::Refused(detail));
        }
        tree.add(&mut entry)?;
        io::copy(&mut entry, &mut io::sink()).map_err(Stop::Read)?;
        budget.set(HEADER_BYTES_MAX);
    }
    let bytes = tree.finish()?;
    drop(archive);
    io::copy(&mut tar, &mut io::sink()).map_err(Stop::Read)?;
    Ok((tar.finish().0, bytes))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Source,
    Tar,
}

/// Ends a stream that is longer than it may be, and keeps the reason for a stream's failure from the layers of readers above,
/// which know only that they could not read.
struct Guarded<'a, R> {
    inner: R,
    left: u64,
    role: Role,
    what: &'a str,
    fault: &'a Fault,
}

impl<R: Read> Guarded<'_, R> {
    fn fail(&self, error: ImageError) -> io::Error {
        *self.fault.borrow_mut() = Some(error);
        io::Error::other("see the fault")
    }
}

impl<R: Read> Read for Guarded<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = match self.inner.read(into) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) if self.role == Role::Source => return Err(self.fail(from_source(self.what, error))),
            Err(error) => return Err(error),
        };
        let Some(left) = self.left.checked_sub(read as u64) else {
            let detail = match self.role {
                Role::Source => "more comes than was promised".to_owned(),
                Role::Tar => "it unpacks to more than this node takes".to_owned(),
            };
            return Err(self.fail(ImageError::Corrupt { what: self.what.to_owned(), detail }));
        };
        self.left = left;
        Ok(read)
    }
}

/// Ends a stream of headers that has no end.
struct Metered<'a, R> {
    inner: R,
    budget: &'a Cell<u64>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        let Some(left) = self.budget.get().checked_sub(read as u64) else {
            return Err(io::Error::other(format!("a header has more than {HEADER_BYTES_MAX} bytes")));
        };
        self.budget.set(left);
        Ok(read)
    }
}

/// A source's error is either one of ours already, or the system's.
fn from_source(what: &str, error: io::Error) -> ImageError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ImageError>()) {
        Some(ours) => ours.clone(),
        None => ImageError::io(what, error),
    }
}

fn explain(what: &str, stop: Stop) -> ImageError {
    match stop {
        Stop::Refused(detail) => ImageError::Corrupt { what: what.to_owned(), detail },
        Stop::Read(error) => ImageError::Corrupt { what: what.to_owned(), detail: Chain(&error).to_string() },
        Stop::Write { path, source } => ImageError::io(&format!("{what}, file {path:?}"), source),
    }
}
