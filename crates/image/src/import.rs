//! Images from files: OCI image layouts (a folder or a tar of one) and what `docker save` writes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::archive::Archive;
use crate::digest::Digest;
use crate::manifest::{CONFIG_BYTES_MAX, Descriptor, Document, MANIFEST_BYTES_MAX, Manifest, Packing};
use crate::plan::{Plan, Staged, check_blob, choose};
use crate::reference::Reference;
use crate::share::keep;
use crate::store::{Names, Store};
use crate::{Image, ImageError};

/// Images of one archive.
const IMAGES_MAX: usize = 100;

/// The full name that containerd and newer Dockers write; the other annotation may hold a tag alone.
const NAME: &str = "io.containerd.image.name";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// An archive that is being imported.
struct Import<'a> {
    store: &'a Store,
    archive: Archive,
    /// For messages.
    what: String,
}

impl Store {
    /// Puts the images of an archive into the store, under their own names or, if it is one image, under `tag`. Blocks.
    pub fn import(&self, path: &Path, tag: Option<&Reference>) -> Result<Vec<Arc<Image>>, ImageError> {
        let archive = Archive::open(path, self)?;
        let import = Import { store: self, archive, what: path.display().to_string() };
        if import.bytes("oci-layout", MANIFEST_BYTES_MAX)?.is_some() {
            return import.layout(tag);
        }
        match import.bytes("manifest.json", MANIFEST_BYTES_MAX)? {
            Some(manifest) => import.saved(&manifest, tag),
            None => Err(import.damaged("it has neither oci-layout nor manifest.json".to_owned())),
        }
    }
}

impl Import<'_> {
    fn layout(&self, tag: Option<&Reference>) -> Result<Vec<Arc<Image>>, ImageError> {
        let index = self.bytes("index.json", MANIFEST_BYTES_MAX)?;
        let index = index.ok_or_else(|| self.damaged("it has no index.json".to_owned()))?;
        let Document::Index(entries) = Document::parse(&index).map_err(|problem| self.damaged(problem))? else {
            return Err(self.damaged("its index.json is no index".to_owned()));
        };
        let mut by_name: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
        for entry in entries {
            by_name.entry(name_of(&entry)).or_default().push(entry);
        }
        self.check_count(by_name.len(), tag)?;
        let images = by_name.into_iter().map(|(name, entries)| {
            let reference = match (tag, name) {
                (Some(tag), _) => tag.clone(),
                (None, Some(name)) => Reference::parse(&name)?,
                (None, None) => return Err(self.nameless()),
            };
            self.described(&reference, &entries)
        });
        images.collect()
    }

    /// Through indexes to the manifest of this machine. The name goes to what the archive named, as in a registry.
    fn described(&self, reference: &Reference, entries: &[Descriptor]) -> Result<Arc<Image>, ImageError> {
        let platform = &self.store.settings().platform;
        let name = reference.to_string();
        let top = choose(&name, platform, entries, 0)?;
        let mut indexes = Vec::new();
        let mut descriptor = top.clone();
        let (manifest, bytes) = loop {
            let bytes = self.blob(&descriptor, MANIFEST_BYTES_MAX)?;
            match Document::parse(&bytes).map_err(|problem| self.damaged(problem))? {
                Document::Manifest(manifest) => break (manifest, bytes),
                Document::Index(entries) => {
                    indexes.push(bytes);
                    let depth = u32::try_from(indexes.len()).unwrap_or(u32::MAX);
                    descriptor = choose(&name, platform, &entries, depth)?;
                }
            }
        };
        let config = self.blob(&manifest.config, CONFIG_BYTES_MAX)?;
        let mut plan = Plan::new(&name, &manifest, config, self.store.settings())?;
        plan.keep(bytes);
        indexes.into_iter().for_each(|index| plan.keep(index));
        let files = manifest_files(&manifest);
        let digests = vec![reference.with_digest(top.digest)];
        self.install(&plan, &files, Names { tags: reference.tagged().into_iter().collect(), digests })
    }

    fn saved(&self, manifest: &[u8], tag: Option<&Reference>) -> Result<Vec<Arc<Image>>, ImageError> {
        let saved: Vec<Saved> = serde_json::from_slice(manifest)
            .map_err(|error| self.damaged(format!("its manifest.json is malformed: {error}")))?;
        self.check_count(saved.len(), tag)?;
        saved.into_iter().map(|image| self.saved_image(image, tag)).collect()
    }

    fn saved_image(&self, image: Saved, tag: Option<&Reference>) -> Result<Arc<Image>, ImageError> {
        let names = image.repo_tags.unwrap_or_default();
        let tags: Vec<String> = match tag {
            Some(tag) => tag.tagged().into_iter().collect(),
            None => {
                let full = names.iter().map(|name| Ok(Reference::parse(name)?.tagged()));
                full.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
            }
        };
        let name = tags.first().ok_or_else(|| self.nameless())?;
        let config = self.bytes(&image.config, CONFIG_BYTES_MAX)?;
        let config = config.ok_or_else(|| self.damaged(format!("it has no {}", image.config)))?;
        let packing = |layer: &String| self.sniff(layer).map(|packing| (packing, None, None));
        let layers = image.layers.iter().map(packing).collect::<Result<Vec<_>, _>>()?;
        let plan = Plan::of_layers(name, layers, config, self.store.settings())?;
        self.install(&plan, &image.layers, Names { tags, digests: Vec::new() })
    }

    /// Unpacks the layers that are not here, keeps all of them packed, since no registry may have them, then gives the image its place.
    fn install(&self, plan: &Plan, files: &[String], names: Names) -> Result<Arc<Image>, ImageError> {
        let workspace = self.store.workspace()?;
        let (mut staged, mut packed): (Vec<Arc<Staged>>, _) = (Vec::new(), BTreeMap::new());
        for (expected, file) in plan.layers.iter().zip(files) {
            let found = self.archive.file(file).map_err(|error| ImageError::io(&self.what, error))?;
            let (reader, _) = found.ok_or_else(|| self.damaged(format!("it has no {file}")))?;
            if self.store.has_layer(&expected.diff_id)? || staged.iter().any(|known| known.is_of(&expected.diff_id)) {
                // It is there unpacked; other nodes need it packed.
                if let Some(digest) = expected.digest.filter(|digest| !self.store.blob_file(digest).exists()) {
                    packed.insert(digest, keep(&expected.what(), reader, &digest, workspace.path())?);
                }
                continue;
            }
            let unpacked = Staged::unpack_and_keep(&workspace, expected, reader)?;
            packed.extend(unpacked.packed());
            staged.push(Arc::new(unpacked));
        }
        self.store.commit(plan, &staged, &packed, names)
    }

    fn blob(&self, descriptor: &Descriptor, bytes_max: u64) -> Result<Vec<u8>, ImageError> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.bytes(&name, bytes_max)?.ok_or_else(|| self.damaged(format!("it has no {name}")))?;
        check_blob(&self.what, descriptor, &bytes)?;
        Ok(bytes)
    }

    fn bytes(&self, name: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, ImageError> {
        self.archive.bytes(name, bytes_max).map_err(|error| ImageError::io(&self.what, error))
    }

    fn sniff(&self, name: &str) -> Result<Packing, ImageError> {
        let failed = |error| ImageError::io(&self.what, error);
        let found = self.archive.file(name).map_err(failed)?;
        let (mut reader, _) = found.ok_or_else(|| self.damaged(format!("it has no {name}")))?;
        let mut start = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(&mut reader, 4), &mut start).map_err(failed)?;
        Ok(Packing::sniff(&start))
    }

    fn check_count(&self, images: usize, tag: Option<&Reference>) -> Result<(), ImageError> {
        match images {
            0 => Err(self.damaged("it has no image".to_owned())),
            2.. if tag.is_some() => {
                let detail = format!("it has {images} images, and one tag cannot name them; leave the tag out");
                Err(ImageError::Failed { what: self.what.clone(), detail })
            }
            images if images > IMAGES_MAX => Err(self.damaged(format!("it has more than {IMAGES_MAX} images"))),
            _ => Ok(()),
        }
    }

    fn nameless(&self) -> ImageError {
        let detail = "it does not say its image's name; give it one with --tag".to_owned();
        ImageError::Failed { what: self.what.clone(), detail }
    }

    fn damaged(&self, detail: String) -> ImageError {
        ImageError::Corrupt { what: self.what.clone(), detail }
    }
}

fn name_of(entry: &Descriptor) -> Option<String> {
    let full = entry.annotations.get(REF_NAME).filter(|name| name.contains(['/', ':']));
    entry.annotations.get(NAME).or(full).cloned()
}

fn manifest_files(manifest: &Manifest) -> Vec<String> {
    manifest.layers.iter().map(|layer| blob_name(&layer.digest)).collect()
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
