//! Makes archives of images: what a registry or `docker save` would give, and what neither should.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_image::{Digest, Image, ImageError, Settings, Store};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) fn settings() -> Settings {
    Settings::new(Clock::manual(1_000_000), Random::system(), Tasks::new())
}

pub(crate) fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Store::open(&dir.path().join("content"), settings()).expect("opens");
    (dir, store)
}

/// What is in a store's folder besides what belongs to an empty one.
pub(crate) fn leftovers(content: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["blobs/sha256", "layers", "tmp", "trash"] {
        for entry in std::fs::read_dir(content.join(folder)).expect("listed") {
            found.push(format!("{folder}/{}", entry.expect("read").file_name().to_string_lossy()));
        }
    }
    found
}

/// A tar, entry by entry.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn header(kind: EntryType, mode: u32, bytes: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(bytes);
        header
    }

    /// The name as it is, whatever it is: the builder would refuse some.
    pub(crate) fn raw(mut self, mut header: Header, name: &str, link: &str, content: &[u8]) -> Self {
        let fields = header.as_gnu_mut().expect("made so");
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, content).expect("memory");
        self
    }

    pub(crate) fn file(self, name: &str, content: &[u8]) -> Self {
        self.raw(Self::header(EntryType::Regular, 0o644, content.len() as u64), name, "", content)
    }

    pub(crate) fn folder(self, name: &str) -> Self {
        self.raw(Self::header(EntryType::Directory, 0o755, 0), name, "", b"")
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Self {
        self.raw(Self::header(EntryType::Symlink, 0o777, 0), name, target, b"")
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Self {
        self.raw(Self::header(EntryType::Link, 0o644, 0), name, target, b"")
    }

    pub(crate) fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).expect("memory");
        self
    }

    pub(crate) fn long_name(mut self, name: &str, content: &[u8]) -> Self {
        let mut header = Self::header(EntryType::Regular, 0o644, content.len() as u64);
        self.0.append_data(&mut header, name, content).expect("memory");
        self
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().expect("memory")
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("memory")
}

/// A layer in a layout: its packed bytes and what is said about them.
#[derive(Clone)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
}

impl Packed {
    pub(crate) fn new(tar: &[u8], media_type: &str) -> Self {
        let bytes = match media_type {
            GZIP => gzip(tar),
            ZSTD => zstd(tar),
            _ => tar.to_vec(),
        };
        Self {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            diff_id: Digest::of(tar),
            media_type: media_type.to_owned(),
            bytes,
        }
    }
}

pub(crate) fn config(layers: &[Packed], architecture: &str) -> Value {
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
    json!({
        "architecture": architecture, "os": "linux",
        "config": {"Cmd": ["/bin/true"], "Env": ["A=b"], "Entrypoint": null},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// An OCI layout in a folder.
pub(crate) struct Layout(PathBuf);

impl Layout {
    pub(crate) fn new(path: PathBuf) -> Self {
        std::fs::create_dir_all(path.join("blobs/sha256")).expect("made");
        std::fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a blob; its descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        std::fs::write(self.0.join("blobs/sha256").join(digest.hex()), bytes).expect("written");
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    /// Writes configuration, layers and manifest; the manifest's descriptor.
    pub(crate) fn image(&self, layers: &[Packed], config: &Value) -> Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let described = layers.iter().map(|layer| {
            let path = self.0.join("blobs/sha256").join(layer.digest.hex());
            std::fs::write(path, &layer.bytes).expect("written");
            json!({"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size})
        });
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": described.collect::<Vec<_>>()});
        self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())
    }

    pub(crate) fn index(&self, manifests: &[Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        std::fs::write(self.0.join("index.json"), index.to_string()).expect("written");
    }
}

pub(crate) fn named(mut descriptor: Value, name: &str) -> Value {
    descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    descriptor
}

/// This machine's architecture in the words of images.
pub(crate) fn here() -> String {
    corten_image::Platform::host().architecture
}

/// Imports an image of these layers under `test:1`.
pub(crate) fn import(store: &Store, dir: &Path, layers: &[Packed]) -> Result<Arc<Image>, ImageError> {
    let layout = Layout::new(dir.join("layout"));
    let manifest = layout.image(layers, &config(layers, &here()));
    layout.index(&[named(manifest, "test:1")]);
    let images = store.import(layout.path(), None)?;
    Ok(images.into_iter().next().expect("one image"))
}
