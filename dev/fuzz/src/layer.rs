//! A layer of an image: whatever the archive says, nothing is written outside its folder, and what is refused leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};

use corten_image::{Digest, ImageError, Settings, Store};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use serde_json::{Value, json};

const BYTES_MAX: u64 = 1 << 20;

pub(crate) fn tar(bytes: &[u8]) {
    let outer = tempfile::tempdir_in(memory()).expect("a folder in memory");
    let (layout, content) = (outer.path().join("layout"), outer.path().join("content"));
    lay_out(&layout, bytes);
    let settings = Settings::new(Clock::manual(1_000_000), Random::seeded(1), Tasks::new());
    let store = Store::open(&content, Settings { layer_bytes_max: BYTES_MAX, ..settings }).expect("opens");
    let imported = store.import(&layout, None);
    let mut there: Vec<_> = fs::read_dir(outer.path()).expect("listed").map(|e| e.expect("read").file_name()).collect();
    there.sort();
    assert_eq!(there, ["content", "layout"], "nothing is beside the store");
    match imported {
        Ok(images) => assert_eq!(images.len(), 1),
        Err(ImageError::Corrupt { .. }) => {
            for folder in ["blobs/sha256", "layers", "tmp", "trash"] {
                assert_eq!(fs::read_dir(content.join(folder)).expect("listed").count(), 0, "{folder} is not empty");
            }
        }
        Err(error) => panic!("the layer is to blame, and not {error:?}"),
    }
}

/// Where a million folders cost no disk.
fn memory() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// An image of one layer.
fn lay_out(layout: &Path, layer: &[u8]) {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("made");
    let blob = |kind: &str, bytes: &[u8]| -> Value {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).expect("written");
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let platform = corten_image::Platform::host();
    let rootfs = json!({"type": "layers", "diff_ids": [Digest::of(layer)]});
    let config = json!({"architecture": platform.architecture, "os": platform.os, "rootfs": rootfs}).to_string();
    let config = blob("application/vnd.oci.image.config.v1+json", config.as_bytes());
    let layers = [blob("application/vnd.oci.image.layer.v1.tar", layer)];
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers}).to_string();
    let mut manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": "test:1"});
    fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [manifest]}).to_string())
        .expect("written");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("written");
}
