//! Images on disk. In the store's folder are `index.json` with what there is, `blobs/sha256` with configurations and manifests,
//! `layers/<16 digits>/fs` with each layer unpacked once, `tmp` where new ones are made, `trash` with what is on its way out, and
//! `use.json` with what is in use.
//!
//! What is not in the index does not exist: layers are renamed into place complete and on the disk, then the index names them,
//! and whatever a crash left without a name goes when the store is opened.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;

use crate::digest::Digest;
use crate::manifest::ConfigFile;
use crate::plan::{Plan, Staged};
use crate::pull::Pulls;
use crate::reference::Reference;
use crate::{Credentials, Image, ImageError, Images, Platform};

mod collect;
mod index;
mod usage;
mod workspace;

pub use collect::{Collected, Space};
use index::{Index, Layer, Record, Stamp, Turn};
pub(crate) use workspace::Workspace;

/// Bytes that one layer may unpack to.
const LAYER_BYTES_MAX: u64 = 64 << 30;
const STALL_MAX: Duration = Duration::from_secs(30);

/// What a store is told about its surroundings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
    /// What images must be made for.
    pub platform: Platform,
    /// Bytes that one layer may unpack to: the end of decompression bombs.
    pub layer_bytes_max: u64,
    /// Registries that are asked without encryption; those on this machine always are.
    pub plain_http: Vec<String>,
    /// Certificates of authorities that registries may show, beside those that the machine trusts.
    pub authorities_pem: Vec<u8>,
    /// How long a registry may be silent in the midst of something.
    pub stall_max: Duration,
}

impl Settings {
    /// For this machine.
    pub fn new(clock: Clock, random: Random, tasks: Tasks) -> Self {
        Self {
            clock,
            random,
            tasks,
            platform: Platform::host(),
            layer_bytes_max: LAYER_BYTES_MAX,
            plain_http: Vec::new(),
            authorities_pem: Vec::new(),
            stall_max: STALL_MAX,
        }
    }
}

/// The images of this node. Cheap to clone; every process that uses the folder opens its own.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    settings: Settings,
    loaded: Mutex<Loaded>,
    /// When images were asked for, by id: whoever asks is about to use them.
    asked_ms: Mutex<BTreeMap<String, i64>>,
    pulls: Pulls,
}

/// The index as it was last read.
#[derive(Debug, Default)]
struct Loaded {
    stamp: Option<Stamp>,
    index: Index,
    images: Vec<Arc<Image>>,
    /// Places in `images` by id and by every full reference.
    names: HashMap<String, usize>,
}

/// What gets a name in the store with an image.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
}

impl Store {
    /// Opens the store in a folder, makes it where it is missing, and cleans up after processes that ended in the midst of
    /// something. Needs root: layers have owners and devices.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, ImageError> {
        for part in ["", "blobs/sha256", "layers", "tmp", "trash"] {
            let part = path.join(part);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&part);
            made.map_err(|error| ImageError::io(&format!("the image store {}", part.display()), error))?;
        }
        let inner = Inner {
            root: path.to_owned(),
            loaded: Mutex::default(),
            asked_ms: Mutex::default(),
            pulls: Pulls::new(&settings.authorities_pem),
            settings,
        };
        let store = Self(Arc::new(inner));
        store.clean()?;
        drop(store.load()?);
        Ok(store)
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    pub(crate) fn pulls(&self) -> &Pulls {
        &self.0.pulls
    }

    /// Removes an image's name; the image goes with its last tag, or at once when it is named by id or digest. What is in
    /// use stays. Returns what is gone: the name, and the ids of images.
    pub fn remove(&self, reference: &str) -> Result<Vec<String>, ImageError> {
        let gone = {
            let turn = self.turn()?;
            let found = self.lookup(reference)?;
            let image = found.ok_or_else(|| not_here(reference))?;
            let name = key(reference)?;
            if image.tags.contains(&name) && image.tags.len() > 1 {
                let mut index = self.read()?;
                index.images.iter_mut().for_each(|record| record.tags.retain(|known| *known != name));
                index.write(&self.index_path())?;
                return Ok(vec![name]);
            }
            if self.usage()?.in_use.contains(&image.id) {
                let detail = format!("containers use {}; delete their pods first", image.id);
                return Err(ImageError::Failed { what: reference.to_owned(), detail });
            }
            self.drop_images(&turn, std::slice::from_ref(&image.id))?;
            let names = image.tags.iter().chain(&image.digests).cloned();
            names.chain([image.id.clone()]).collect()
        };
        self.empty_trash()?;
        Ok(gone)
    }

    /// Frees what was removed. May take seconds.
    pub fn empty_trash(&self) -> Result<(), ImageError> {
        workspace::empty(&self.path("trash"))
    }

    /// Whether a layer is here already.
    pub(crate) fn has_layer(&self, diff_id: &Digest) -> Result<bool, ImageError> {
        Ok(self.load()?.index.layers.contains_key(diff_id))
    }

    /// A folder to put an image together in.
    pub(crate) fn workspace(&self) -> Result<Arc<Workspace>, ImageError> {
        let turn = self.turn()?;
        Ok(Arc::new(Workspace::make(&self.path("tmp"), &self.0.settings.random, &turn)?))
    }

    /// Gives a complete image its place and its names. Blocks until it is on the disk. Packed layers in `files` are kept.
    pub(crate) fn commit(
        &self,
        plan: &Plan,
        staged: &[Arc<Staged>],
        files: &BTreeMap<Digest, PathBuf>,
        names: Names,
    ) -> Result<Arc<Image>, ImageError> {
        let what = names.tags.first().or(names.digests.first()).cloned().unwrap_or_else(|| plan.id.to_string());
        let failed = |error| ImageError::io(&what, error);
        let workspace = self.workspace()?;
        let mut files = files.clone();
        for (digest, bytes) in &plan.blobs {
            let path = workspace.path().join(digest.hex());
            std::fs::write(&path, bytes).map_err(failed)?;
            files.insert(*digest, path);
        }
        let root = File::open(&self.0.root).map_err(failed)?;
        rustix::fs::syncfs(&root).map_err(|errno| failed(errno.into()))?;

        let turn = self.turn()?;
        let mut index = self.read()?;
        for (digest, path) in &files {
            let place = self.blob_path(digest);
            match std::fs::rename(path, &place) {
                // A layer that two images have got at the same time: the other one was first.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && place.exists() => {}
                other => other.map_err(failed)?,
            }
        }
        for (expected, staged) in plan.layers.iter().filter_map(|layer| Some((layer, find(staged, &layer.diff_id)?))) {
            self.place_layer(&mut index, expected.diff_id, staged).map_err(failed)?;
        }
        let missing = plan.layers.iter().find(|layer| !index.layers.contains_key(&layer.diff_id));
        if let Some(layer) = missing {
            let detail = format!("{} was removed while the image was put together; try again", layer.what());
            return Err(ImageError::Failed { what, detail });
        }
        for folder in ["layers", "blobs/sha256"] {
            File::open(self.path(folder)).and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        self.name(&mut index, plan, files.into_keys(), names);
        index.write(&self.index_path())?;
        drop(turn);
        self.lookup(&plan.id.to_string())?.ok_or_else(|| not_here(&what))
    }

    /// A layer that was unpacked twice at the same time is placed once.
    fn place_layer(&self, index: &mut Index, diff_id: Digest, staged: &Staged) -> std::io::Result<()> {
        if index.layers.contains_key(&diff_id) {
            return Ok(());
        }
        let hex = diff_id.hex();
        let is_free = |folder: &&str| !index.layers.values().any(|layer| layer.folder == **folder);
        let mut names = (0..4).map(|part| &hex[part * 16..part * 16 + 16]);
        let folder = names.find(is_free).ok_or(std::io::ErrorKind::AlreadyExists)?.to_owned();
        let into = self.path("layers").join(&folder);
        if into.exists() {
            workspace::discard(&into, &self.path("trash"), &self.0.settings.random).map_err(std::io::Error::other)?;
        }
        std::fs::rename(&staged.path, into)?;
        index.layers.insert(diff_id, Layer { folder, bytes: staged.bytes });
        Ok(())
    }

    /// A tag moves from whichever image had it.
    fn name(&self, index: &mut Index, plan: &Plan, blobs: impl Iterator<Item = Digest>, names: Names) {
        for record in &mut index.images {
            record.tags.retain(|tag| !names.tags.contains(tag));
        }
        let found = index.images.iter().position(|record| record.id == plan.id);
        let at = found.unwrap_or_else(|| {
            index.images.push(Record {
                id: plan.id,
                tags: Vec::new(),
                digests: Vec::new(),
                layers: plan.layers.iter().map(|layer| layer.diff_id).collect(),
                blobs: Vec::new(),
                since_ms: self.0.settings.clock.now_ms(),
            });
            index.images.len() - 1
        });
        let record = &mut index.images[at];
        merge(&mut record.tags, names.tags);
        merge(&mut record.digests, names.digests);
        merge(&mut record.blobs, blobs);
    }

    /// Forgets images, and discards what belonged to them alone.
    fn drop_images(&self, _turn: &Turn, ids: &[String]) -> Result<(), ImageError> {
        let mut index = self.read()?;
        let (gone, kept): (Vec<_>, Vec<_>) =
            index.images.drain(..).partition(|record| ids.contains(&record.id.to_string()));
        index.images = kept;
        let unused: Vec<Digest> = index.layers.keys().filter(|layer| index.is_unused(layer)).copied().collect();
        let layers: Vec<Layer> = unused.iter().filter_map(|layer| index.layers.remove(layer)).collect();
        index.write(&self.index_path())?;
        let (trash, random) = (self.path("trash"), &self.0.settings.random);
        for layer in layers {
            workspace::discard(&self.path("layers").join(layer.folder), &trash, random)?;
        }
        let is_kept = |blob: &Digest| index.images.iter().any(|record| record.blobs.contains(blob));
        for blob in gone.iter().flat_map(|record| &record.blobs).filter(|blob| !is_kept(blob)) {
            workspace::discard(&self.blob_path(blob), &trash, random)?;
        }
        Ok(())
    }

    fn lookup(&self, reference: &str) -> Result<Option<Arc<Image>>, ImageError> {
        let name = key(reference)?;
        let loaded = self.load()?;
        Ok(loaded.names.get(&name).map(|at| loaded.images[*at].clone()))
    }

    /// When images were asked for; those that are gone are forgotten.
    fn asked(&self) -> BTreeMap<String, i64> {
        let known = self.list();
        let mut asked_ms = self.0.asked_ms.lock().unwrap_or_else(PoisonError::into_inner);
        asked_ms.retain(|id, _| known.iter().any(|image| image.id == *id));
        asked_ms.clone()
    }

    /// What has no name in the index is of an interrupted change.
    fn clean(&self) -> Result<(), ImageError> {
        let turn = self.turn()?;
        let (trash, random) = (self.path("trash"), &self.0.settings.random);
        workspace::abandon(&self.path("tmp"), &trash, random, &turn)?;
        let index = if self.index_path().exists() { self.read()? } else { self.first_index()? };
        let layers = |name: &str| index.layers.values().any(|layer| layer.folder == name);
        let blobs = |name: &str| index.images.iter().flat_map(|record| &record.blobs).any(|blob| blob.hex() == name);
        for (folder, is_named) in [("layers", &layers as &dyn Fn(&str) -> bool), ("blobs/sha256", &blobs)] {
            let folder = self.path(folder);
            let failed = |error| ImageError::io(&folder.display().to_string(), error);
            for entry in std::fs::read_dir(&folder).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if !entry.file_name().to_str().is_some_and(is_named) {
                    workspace::discard(&entry.path(), &trash, random)?;
                }
            }
        }
        Ok(())
    }

    /// Written before anything else: a store with layers but without index is not ours to clean.
    fn first_index(&self) -> Result<Index, ImageError> {
        let layers = self.path("layers");
        let mut entries = std::fs::read_dir(&layers).map_err(|error| ImageError::io("the image store", error))?;
        if entries.next().is_some() {
            let what = format!("the image store {}", self.0.root.display());
            let detail = "it has layers but no index.json; end all pods and remove the folder".to_owned();
            return Err(ImageError::Corrupt { what, detail });
        }
        let index = Index::default();
        index.write(&self.index_path())?;
        Ok(index)
    }

    fn turn(&self) -> Result<Turn, ImageError> {
        Turn::take(&self.path("lock"))
    }

    fn read(&self) -> Result<Index, ImageError> {
        Ok(Index::read(&self.index_path())?.0)
    }

    /// The newest index; read anew only when another was written.
    fn load(&self) -> Result<MutexGuard<'_, Loaded>, ImageError> {
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.index_path();
        let stamp = Stamp::read(&path).map_err(|error| ImageError::io("the image index", error))?;
        if loaded.stamp == Some(stamp) {
            return Ok(loaded);
        }
        let (index, stamp) = Index::read(&path)?;
        let images = index.images.iter().map(|record| match loaded.image_of(record, &index) {
            Some(known) => Ok(known),
            None => self.image(record, &index).map(Arc::new),
        });
        let images = images.collect::<Result<Vec<_>, _>>()?;
        let mut names = HashMap::new();
        for (at, image) in images.iter().enumerate() {
            let all = image.tags.iter().chain(&image.digests).chain([&image.id]);
            names.extend(all.map(|name| (name.clone(), at)));
        }
        *loaded = Loaded { stamp: Some(stamp), index, images, names };
        Ok(loaded)
    }

    fn image(&self, record: &Record, index: &Index) -> Result<Image, ImageError> {
        let damaged = |detail| ImageError::Corrupt { what: format!("the image {} in the store", record.id), detail };
        let config = std::fs::read(self.blob_path(&record.id)).map_err(|error| damaged(error.to_string()))?;
        let config = ConfigFile::parse(&config).map_err(damaged)?;
        let layers = record.layers.iter().rev().map(|layer| index.layers.get(layer));
        let layers: Option<Vec<&Layer>> = layers.collect();
        let layers = layers.ok_or_else(|| damaged("the index lacks one of its layers".to_owned()))?;
        Ok(Image {
            id: record.id.to_string(),
            tags: record.tags.clone(),
            digests: record.digests.clone(),
            layers: layers.iter().map(|layer| self.path("layers").join(&layer.folder).join("fs")).collect(),
            config: config.execution(),
            size_bytes: layers.iter().map(|layer| layer.bytes).sum(),
        })
    }

    fn path(&self, part: &str) -> PathBuf {
        self.0.root.join(part)
    }

    fn index_path(&self) -> PathBuf {
        self.path("index.json")
    }

    pub(crate) fn blob_file(&self, digest: &Digest) -> PathBuf {
        self.blob_path(digest)
    }

    /// An image by a full reference, without being about to use it.
    pub(crate) fn known(&self, reference: &str) -> Result<Option<Arc<Image>>, ImageError> {
        self.lookup(reference)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }
}

impl Loaded {
    fn image_of(&self, record: &Record, index: &Index) -> Option<Arc<Image>> {
        let at = self.index.images.iter().position(|known| known == record)?;
        let same_layers = record.layers.iter().all(|layer| self.index.layers.get(layer) == index.layers.get(layer));
        same_layers.then(|| self.images[at].clone())
    }
}

impl Images for Store {
    fn find(&self, reference: &str) -> Result<Option<Arc<Image>>, ImageError> {
        let found = self.lookup(reference)?;
        if let Some(image) = &found {
            let mut asked_ms = self.0.asked_ms.lock().unwrap_or_else(PoisonError::into_inner);
            asked_ms.insert(image.id.clone(), self.0.settings.clock.now_ms());
        }
        Ok(found)
    }

    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credentials: &'a [Credentials],
    ) -> BoxFuture<'a, Result<Arc<Image>, ImageError>> {
        Box::pin(self.pull_image(reference, credentials))
    }

    fn list(&self) -> Vec<Arc<Image>> {
        match self.load() {
            Ok(loaded) => loaded.images.clone(),
            Err(error) => {
                tracing::error!(%error, "the image store cannot be read");
                Vec::new()
            }
        }
    }

    fn remove_unused(&self) -> Result<u64, ImageError> {
        self.free(u64::MAX).map(|collected| collected.freed_bytes)
    }

    fn set_in_use(&self, ids: Vec<String>) {
        if let Err(error) = self.note_use(ids) {
            tracing::error!(%error, "which images are in use could not be written");
        }
    }
}

/// Under which name an image is kept: an id, a full reference by digest, or a full reference by tag.
fn key(text: &str) -> Result<String, ImageError> {
    let id = text.parse::<Digest>().or_else(|_| format!("sha256:{text}").parse());
    if let Ok(id) = id {
        return Ok(id.to_string());
    }
    let reference = Reference::parse(text)?;
    Ok(match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference.to_string(),
    })
}

fn not_here(reference: &str) -> ImageError {
    ImageError::NotFound { reference: reference.to_owned(), detail: "it is not in this node's store".to_owned() }
}

fn find<'a>(staged: &'a [Arc<Staged>], diff_id: &Digest) -> Option<&'a Staged> {
    staged.iter().find(|staged| staged.is_of(diff_id)).map(AsRef::as_ref)
}

fn merge<T: PartialEq>(known: &mut Vec<T>, new: impl IntoIterator<Item = T>) {
    for value in new {
        if !known.contains(&value) {
            known.push(value);
        }
    }
}
