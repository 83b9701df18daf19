//! What has to be done to have an image, decided from its manifest and configuration alone; and the doing.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use crate::digest::Digest;
use crate::manifest::{ConfigFile, Descriptor, Manifest, Packing, Platform};
use crate::share::Keeping;
use crate::store::Workspace;
use crate::unpack::{Expected, unpack};
use crate::{ImageError, Settings};

/// An image that may be put into the store.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) id: Digest,
    /// The lowest first.
    pub(crate) layers: Vec<Expected>,
    /// Small files that are kept with it: configuration and manifests.
    pub(crate) blobs: BTreeMap<Digest, Vec<u8>>,
}

/// A layer that is unpacked but not in the store yet. Its work folder goes with it, if it never gets there.
#[derive(Debug)]
pub(crate) struct Staged {
    _workspace: Arc<Workspace>,
    diff_id: Digest,
    /// The packed layer, where it is kept.
    packed: Option<(Digest, PathBuf)>,
    /// The folder with `fs` in it.
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Plan {
    /// Checks manifest and configuration against each other and against this machine.
    pub(crate) fn new(
        reference: &str,
        manifest: &Manifest,
        config: Vec<u8>,
        settings: &Settings,
    ) -> Result<Self, ImageError> {
        let damaged = |detail| ImageError::Corrupt { what: reference.to_owned(), detail };
        check_blob(reference, &manifest.config, &config)?;
        let packed = |layer: &Descriptor| match Packing::of(&layer.media_type) {
            Some(packing) => Ok((packing, Some(layer.digest), Some(layer.size))),
            None => Err(damaged(format!("the layer {} is of the unknown kind {:?}", layer.digest, layer.media_type))),
        };
        let layers = manifest.layers.iter().map(packed).collect::<Result<Vec<_>, _>>()?;
        Self::of_layers(reference, layers, config, settings)
    }

    /// Of layers by packing, digest and size, as far as those are promised.
    pub(crate) fn of_layers(
        reference: &str,
        layers: Vec<(Packing, Option<Digest>, Option<u64>)>,
        config: Vec<u8>,
        settings: &Settings,
    ) -> Result<Self, ImageError> {
        let damaged = |detail| ImageError::Corrupt { what: reference.to_owned(), detail };
        let file = ConfigFile::parse(&config).map_err(damaged)?;
        file.check_platform(reference, &settings.platform)?;
        let diff_ids = &file.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            return Err(damaged(format!("it has {} layers, its configuration {}", layers.len(), diff_ids.len())));
        }
        let expected = |((packing, digest, size), diff_id)| Expected {
            digest,
            size,
            packing,
            diff_id,
            bytes_max: settings.layer_bytes_max,
        };
        let layers = layers.into_iter().zip(diff_ids.iter().copied()).map(expected).collect();
        let id = Digest::of(&config);
        Ok(Self { id, layers, blobs: BTreeMap::from([(id, config)]) })
    }

    /// Keeps another small file with the image.
    pub(crate) fn keep(&mut self, bytes: Vec<u8>) {
        self.blobs.insert(Digest::of(&bytes), bytes);
    }
}

impl Staged {
    /// Unpacks a layer in a work folder. Blocks.
    pub(crate) fn unpack(
        workspace: &Arc<Workspace>,
        expected: &Expected,
        source: impl Read,
    ) -> Result<Self, ImageError> {
        let path = workspace.path().join(expected.diff_id.hex());
        let root = path.join("fs");
        std::fs::create_dir_all(&root).map_err(|error| ImageError::io(&expected.what(), error))?;
        let bytes = unpack(source, expected, &root)?;
        Ok(Self { _workspace: workspace.clone(), diff_id: expected.diff_id, packed: None, path, bytes })
    }

    /// The same, and the bytes that came are kept beside it if the manifest names them.
    pub(crate) fn unpack_and_keep(
        workspace: &Arc<Workspace>,
        expected: &Expected,
        source: impl Read,
    ) -> Result<Self, ImageError> {
        let Some(digest) = expected.digest else { return Self::unpack(workspace, expected, source) };
        let path = workspace.path().join(format!("{}.packed", digest.hex()));
        let source = Keeping::new(source, &path).map_err(|error| ImageError::io(&expected.what(), error))?;
        let staged = Self::unpack(workspace, expected, source)?;
        Ok(Self { packed: Some((digest, path)), ..staged })
    }

    pub(crate) fn packed(&self) -> Option<(Digest, PathBuf)> {
        self.packed.clone()
    }

    pub(crate) fn is_of(&self, diff_id: &Digest) -> bool {
        self.diff_id == *diff_id
    }
}

/// Bytes against the descriptor that named them.
pub(crate) fn check_blob(reference: &str, promised: &Descriptor, bytes: &[u8]) -> Result<(), ImageError> {
    let digest = Digest::of(bytes);
    if digest != promised.digest || bytes.len() as u64 != promised.size {
        let detail = format!("{} bytes with the digest {digest} came for {}", bytes.len(), promised.digest);
        return Err(ImageError::Corrupt { what: reference.to_owned(), detail });
    }
    Ok(())
}

/// Finds the manifest for this machine: through indexes, up to a depth that no real one has.
pub(crate) fn choose(
    reference: &str,
    platform: &Platform,
    entries: &[Descriptor],
    depth: u32,
) -> Result<Descriptor, ImageError> {
    const DEPTH_MAX: u32 = 4;
    if depth > DEPTH_MAX {
        let detail = format!("its indexes lie {DEPTH_MAX} deep in each other");
        return Err(ImageError::Corrupt { what: reference.to_owned(), detail });
    }
    platform.choose(reference, entries).cloned()
}
