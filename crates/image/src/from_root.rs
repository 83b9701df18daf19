//! An image made of a folder that holds a root file system: one layer. The same tree gives the same image: entries are sorted,
//! and nothing of the machine gets in beside what the files themselves have.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{major, minor};
use tar::{Builder, EntryType, Header};

use crate::digest::{Digest, Hashing};
use crate::manifest::{
    ConfigFile, Descriptor, Execution, History, Manifest, OCI_CONFIG, OCI_LAYER_ZSTD, OCI_MANIFEST, RootFs,
};
use crate::plan::{Plan, Staged};
use crate::reference::Reference;
use crate::store::{Names, Store};
use crate::{Config, Image, ImageError};

/// zstd's own default; higher ones take longer than they save.
const LEVEL: i32 = 3;
const WHITEOUT: &[u8] = b".wh.";

/// What is not in the folder.
#[derive(Clone, Debug, Default)]
pub struct Recipe {
    pub config: Config,
    /// No file of the layer is newer; Unix time in seconds. `SOURCE_DATE_EPOCH` of reproducible-builds.org.
    pub newest_s: Option<i64>,
}

impl Store {
    /// Makes an image of a folder, under a tag. Blocks.
    pub fn from_root(&self, root: &Path, tag: &Reference, recipe: &Recipe) -> Result<Arc<Image>, ImageError> {
        let name = tag.to_string();
        let workspace = self.workspace()?;
        let blob = workspace.path().join("layer");
        let (layer, diff_id) =
            pack(root, &blob, recipe).map_err(|error| ImageError::io(&root.display().to_string(), error))?;
        let config = configuration(&self.settings().platform, recipe, diff_id);
        let config = serde_json::to_vec(&config).expect("texts and lists");
        let manifest = Manifest {
            schema_version: 2,
            media_type: OCI_MANIFEST.to_owned(),
            config: descriptor(OCI_CONFIG, Digest::of(&config), config.len() as u64),
            layers: vec![layer],
        };
        let mut plan = Plan::new(&name, &manifest, config, self.settings())?;
        let manifest = serde_json::to_vec(&manifest).expect("texts and lists");
        let digest = Digest::of(&manifest);
        plan.keep(manifest);
        let mut staged = Vec::new();
        if !self.has_layer(&diff_id)? {
            let source = File::open(&blob).map_err(|error| ImageError::io(&name, error))?;
            staged.push(Arc::new(Staged::unpack(&workspace, &plan.layers[0], source)?));
        }
        let names = Names { tags: tag.tagged().into_iter().collect(), digests: vec![tag.with_digest(digest)] };
        // No registry has this layer, so that the packed one is kept.
        let files = BTreeMap::from([(plan.layers[0].digest.expect("just made"), blob)]);
        self.commit(&plan, &staged, &files, names)
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.to_owned(), digest, size, platform: None, annotations: BTreeMap::new() }
}

fn configuration(platform: &crate::Platform, recipe: &Recipe, diff_id: Digest) -> ConfigFile {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let list = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let config = &recipe.config;
    let ports = config.exposed_ports.iter().map(|port| (port.clone(), BTreeMap::new())).collect();
    let execution = Execution {
        user: text(&config.user),
        env: list(&config.env),
        entrypoint: list(&config.entrypoint),
        cmd: list(&config.cmd),
        working_dir: text(&config.working_dir),
        stop_signal: text(&config.stop_signal),
        exposed_ports: (!config.exposed_ports.is_empty()).then_some(ports),
        labels: (!config.labels.is_empty()).then(|| config.labels.iter().cloned().collect()),
    };
    ConfigFile {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        created: None,
        config: Some(execution),
        rootfs: RootFs { kind: "layers".to_owned(), diff_ids: vec![diff_id] },
        history: Some(vec![History { created_by: Some("corten image from-root".to_owned()), ..History::default() }]),
    }
}

/// Writes the packed layer; its descriptor and the digest of its tar.
fn pack(root: &Path, blob: &Path, recipe: &Recipe) -> io::Result<(Descriptor, Digest)> {
    let mut encoder = zstd::stream::write::Encoder::new(Hashing::new(File::create_new(blob)?), LEVEL)?;
    encoder.include_checksum(true)?;
    let mut builder = Builder::new(Hashing::new(encoder));
    builder.sparse(false);
    let mut packer = Packer { builder, newest_s: recipe.newest_s, links: HashMap::new() };
    packer.folder(root, Path::new("."))?;
    let tar = packer.builder.into_inner()?;
    let (encoder, diff_id, _) = tar.into_parts();
    let (_, digest, size) = encoder.finish()?.into_parts();
    Ok((descriptor(OCI_LAYER_ZSTD, digest, size), diff_id))
}

struct Packer<W: Write> {
    builder: Builder<W>,
    newest_s: Option<i64>,
    /// First names of files that have several, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Packer<W> {
    fn folder(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        let metadata = path.symlink_metadata()?;
        if !metadata.is_dir() {
            return Err(io::Error::other("it is no folder"));
        }
        self.entry(path, name, &metadata, EntryType::Directory)?;
        let mut names: Vec<OsString> =
            std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<_>>()?;
        names.sort_unstable();
        for child in names {
            let (path, name) = (path.join(&child), name.join(&child));
            self.add(&path, &name)
                .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, name: &Path) -> io::Result<()> {
        if name.file_name().is_some_and(|name| name.as_bytes().starts_with(WHITEOUT)) {
            return Err(io::Error::other("names that begin with .wh. mean deletions in an image; rename it"));
        }
        let metadata = path.symlink_metadata()?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            return self.folder(path, name);
        }
        if metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&(metadata.dev(), metadata.ino())).cloned() {
                return self.link(name, &metadata, EntryType::Link, first.as_os_str().as_bytes());
            }
            self.links.insert((metadata.dev(), metadata.ino()), name.to_owned());
        }
        if kind.is_symlink() {
            let target = std::fs::read_link(path)?;
            return self.link(name, &metadata, EntryType::Symlink, target.as_os_str().as_bytes());
        }
        let kind = match () {
            () if kind.is_file() => EntryType::Regular,
            () if kind.is_char_device() => EntryType::Char,
            () if kind.is_block_device() => EntryType::Block,
            () if kind.is_fifo() => EntryType::Fifo,
            // A socket means nothing without the process that listens.
            () => return Ok(()),
        };
        self.entry(path, name, &metadata, kind)
    }

    fn entry(&mut self, path: &Path, name: &Path, metadata: &Metadata, kind: EntryType) -> io::Result<()> {
        if matches!(kind, EntryType::Regular | EntryType::Directory) {
            self.extended_attributes(path)?;
        }
        let mut header = self.header(metadata, kind)?;
        match kind {
            EntryType::Regular => {
                header.set_size(metadata.len());
                self.builder.append_data(&mut header, name, File::open(path)?)
            }
            EntryType::Char | EntryType::Block => {
                header.set_device_major(major(metadata.rdev()))?;
                header.set_device_minor(minor(metadata.rdev()))?;
                self.builder.append_data(&mut header, name, io::empty())
            }
            _ => self.builder.append_data(&mut header, name, io::empty()),
        }
    }

    fn link(&mut self, name: &Path, metadata: &Metadata, kind: EntryType, target: &[u8]) -> io::Result<()> {
        let mut header = self.header(metadata, kind)?;
        let target = PathBuf::from(OsString::from_vec(target.to_vec()));
        self.builder.append_link(&mut header, name, target)
    }

    fn header(&self, metadata: &Metadata, kind: EntryType) -> io::Result<Header> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(metadata.uid().into());
        header.set_gid(metadata.gid().into());
        header.set_size(0);
        let changed_s = self.newest_s.map_or(metadata.mtime(), |newest_s| newest_s.min(metadata.mtime()));
        header.set_mtime(u64::try_from(changed_s).unwrap_or_default());
        Ok(header)
    }

    /// The same that unpacking keeps.
    fn extended_attributes(&mut self, path: &Path) -> io::Result<()> {
        let mut names = vec![0; 64 << 10];
        let length = match rustix::fs::llistxattr(path, &mut names) {
            Err(rustix::io::Errno::NOTSUP) => 0,
            other => other?,
        };
        let mut records = BTreeMap::new();
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let Ok(name) = std::str::from_utf8(name) else { continue };
            if name == "security.capability" || name.starts_with("user.") {
                let mut value = vec![0; 64 << 10];
                let length = rustix::fs::lgetxattr(path, name, &mut value)?;
                value.truncate(length);
                records.insert(format!("SCHILY.xattr.{name}"), value);
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let records = records.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.builder.append_pax_extensions(records)
    }
}
