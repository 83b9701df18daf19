//! The store's index: which images there are, under which names, of which layers. One file, replaced whole; whoever changes it
//! holds the lock beside it, whoever reads it needs none. So several processes use one store: a node that runs, and the
//! command line beside it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use corten_stdx::file::replace_durably;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::ImageError;
use crate::digest::Digest;

/// The layout that this program writes; a higher one is refused.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    version: u32,
    pub(super) images: Vec<Record>,
    /// By the digest of the tar.
    pub(super) layers: BTreeMap<Digest, Layer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The configuration's digest.
    pub(super) id: Digest,
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
    /// Digests of tars, the lowest first.
    pub(super) layers: Vec<Digest>,
    /// Files under `blobs` that belong to it: configuration, manifests, perhaps packed layers.
    pub(super) blobs: Vec<Digest>,
    /// When it came, Unix time.
    pub(super) since_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Layer {
    /// Its name under `layers`: short, because overlay's list of layers is.
    pub(super) folder: String,
    pub(super) bytes: u64,
}

/// Tells one state of a file from the next: every write makes a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    changed_ns: i128,
}

impl Default for Index {
    fn default() -> Self {
        Self { version: VERSION, images: Vec::new(), layers: BTreeMap::new() }
    }
}

impl Index {
    /// The stamp is taken of the very file that was read.
    pub(super) fn read(path: &Path) -> Result<(Self, Stamp), ImageError> {
        let failed = |error| ImageError::io(&format!("the image index {}", path.display()), error);
        let file = File::open(path).map_err(failed)?;
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        let bytes = io::read_to_string(file).map_err(failed)?;
        let damaged = |detail| ImageError::Corrupt { what: format!("the image index {}", path.display()), detail };
        let index: Self = serde_json::from_str(&bytes).map_err(|error| damaged(error.to_string()))?;
        if index.version > VERSION {
            return Err(damaged(format!(
                "a newer corten wrote it (version {}, this one knows {VERSION})",
                index.version
            )));
        }
        Ok((index, stamp))
    }

    /// Answers when it is on the disk.
    pub(super) fn write(&self, path: &Path) -> Result<(), ImageError> {
        let json = serde_json::to_vec_pretty(self).expect("names and numbers");
        replace_durably(path, &json)
            .map_err(|error| ImageError::io(&format!("the image index {}", path.display()), error))
    }

    pub(super) fn image(&self, id: &Digest) -> Option<&Record> {
        self.images.iter().find(|record| record.id == *id)
    }

    /// Whether no image is made of this layer.
    pub(super) fn is_unused(&self, layer: &Digest) -> bool {
        !self.images.iter().any(|record| record.layers.contains(layer))
    }
}

impl Stamp {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&std::fs::metadata(path)?))
    }

    fn of(metadata: &std::fs::Metadata) -> Self {
        let changed_ns = i128::from(metadata.ctime()) * 1_000_000_000 + i128::from(metadata.ctime_nsec());
        Self { inode: metadata.ino(), changed_ns }
    }
}

/// The right to change the store, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Turn {
    /// Waits for whoever has it; nobody holds it for long.
    pub(super) fn take(path: &Path) -> Result<Self, ImageError> {
        let failed = |error| ImageError::io(&format!("the image store's lock {}", path.display()), error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(failed)?;
        rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self(file))
    }
}
