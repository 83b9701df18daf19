//! Layers that mean harm, or are damaged. Each is refused with its reason, and nothing of it is left.

use std::process::Command;

use corten_image::{Digest, ImageError, Images as _, Settings, Store};
use tar::EntryType;

use crate::layout::{GZIP, Layer, PLAIN, Packed, ZSTD, import, leftovers, settings, store};

/// The reason, and that nothing is left.
#[track_caller]
fn refuse_by(settings: Settings, layers: &[Packed], expected: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    let content = dir.path().join("content");
    let store = Store::open(&content, settings).expect("opens");
    let error = import(&store, dir.path(), layers).expect_err("refused");
    assert!(error.to_string().contains(expected), "{error}");
    assert!(matches!(error, ImageError::Corrupt { .. }), "{error:?}");
    assert_eq!(leftovers(&content), [""; 0]);
    assert!(store.list().is_empty() && !dir.path().join("evil").exists());
}

#[track_caller]
fn refuse(layer: Layer, expected: &str) {
    refuse_by(settings(), &[Packed::new(&layer.tar(), PLAIN)], expected);
}

#[test]
fn a_path_that_climbs_out() {
    refuse(Layer::new().file("../../../evil", b"x"), "\"../../../evil\" leads out of the layer");
    refuse(Layer::new().file("a/../../evil", b"x"), "leads out of the layer");
    refuse(Layer::new().folder("..").file("../evil", b"x"), "leads out of the layer");
}

#[test]
fn an_absolute_path_stays_inside() {
    let (dir, store) = store();
    let evil = dir.path().join("evil");
    let path = evil.to_str().expect("UTF-8");
    let layer = Packed::new(&Layer::new().file(path, b"x").tar(), PLAIN);
    let image = import(&store, dir.path(), &[layer]).expect("absolute paths are taken from the layer's root");
    assert!(!evil.exists());
    assert!(image.layers[0].join(path.trim_start_matches('/')).is_file());
}

#[test]
fn a_symbolic_link_then_a_file_through_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let outside = dir.path().to_str().expect("UTF-8");
    refuse(Layer::new().symlink("a", outside).file("a/evil", b"x"), "\"a\" goes through a symbolic link");
    refuse(Layer::new().symlink("a", outside).file("a/b/evil", b"x"), "through a symbolic link");
    refuse(Layer::new().symlink("a", outside).folder("a/b"), "through a symbolic link");
    refuse(Layer::new().symlink("a", outside).symlink("a/b", "c"), "through a symbolic link");
    refuse(Layer::new().symlink("a", outside).file("a/.wh.evil", b""), "through a symbolic link");
    assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 0);
}

#[test]
fn a_file_over_a_symbolic_link_replaces_the_link() {
    let (dir, store) = store();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "untouched").expect("written");
    let target = outside.to_str().expect("UTF-8");
    let tar = Layer::new().symlink("a", target).file("a", b"new").symlink("b", target).folder("b").tar();
    let image = import(&store, dir.path(), &[Packed::new(&tar, PLAIN)]).expect("a later entry wins");
    let root = &image.layers[0];
    assert_eq!(std::fs::read_to_string(root.join("a")).expect("there"), "new");
    assert!(root.join("a").symlink_metadata().expect("there").is_file());
    assert!(root.join("b").symlink_metadata().expect("there").is_dir());
    assert_eq!(std::fs::read_to_string(&outside).expect("there"), "untouched");
}

#[test]
fn a_hard_link_to_the_outside() {
    let dir = tempfile::tempdir().expect("a directory");
    let outside = dir.path().join("secret");
    std::fs::write(&outside, "x").expect("written");
    let path = outside.to_str().expect("UTF-8");
    refuse(Layer::new().hard_link("a", path), "no file of this layer");
    refuse(Layer::new().hard_link("a", "../../../../etc/passwd"), "leads out of the layer");
    let through = Layer::new().symlink("a", dir.path().to_str().expect("UTF-8"));
    refuse(through.hard_link("b", "a/secret"), "no file of this layer");
}

#[test]
fn a_whiteout_of_a_name_that_is_none() {
    refuse(Layer::new().file("a/.wh...", b""), "hides no name");
    refuse(Layer::new().file("a/.wh..", b""), "hides no name");
    refuse(Layer::new().file("a/.wh.", b""), "hides no name");
}

#[test]
fn an_entry_through_a_file() {
    refuse(Layer::new().file("a", b"x").file("a/b", b"y"), "\"a\" goes through a file");
}

#[test]
fn a_root_that_is_no_folder() {
    refuse(Layer::new().symlink("./", "elsewhere"), "it replaces its own root");
}

#[test]
fn an_entry_of_an_unknown_kind() {
    let header = Layer::header(EntryType::new(b'Z'), 0o644, 0);
    refuse(Layer::new().raw(header, "a", "", b""), "is of the unknown kind 'Z'");
}

#[test]
fn a_giant_claimed_size() {
    let limited = Settings { layer_bytes_max: 1 << 20, ..settings() };
    let header = Layer::header(EntryType::Regular, 0o644, 1 << 40);
    let tar = Layer::new().raw(header, "a", "", b"short").tar();
    refuse_by(limited, &[Packed::new(&tar, PLAIN)], "claims 1099511627776 bytes, more than 1048576");
}

#[test]
fn a_decompression_bomb() {
    let limited = || Settings { layer_bytes_max: 1 << 20, ..settings() };
    let mut layer = Layer::new();
    for n in 0..8 {
        layer = layer.file(&format!("{n}"), &[0; 1 << 18]);
    }
    let tar = layer.tar();
    for kind in [GZIP, ZSTD] {
        refuse_by(limited(), &[Packed::new(&tar, kind)], "it unpacks to more than this node takes");
    }
}

#[test]
fn a_header_without_end() {
    let name = "n".repeat(2 << 20);
    let header = Layer::header(EntryType::GNULongName, 0, name.len() as u64);
    let tar = Layer::new().raw(header, "././@LongLink", "", name.as_bytes()).file("a", b"x").tar();
    refuse_by(settings(), &[Packed::new(&tar, GZIP)], "a header has more than 1048576 bytes");
}

#[test]
fn a_name_that_is_too_long() {
    refuse(Layer::new().long_name(&format!("a/{}", "n".repeat(300)), b"x"), "has a name that is too long");
    refuse(Layer::new().long_name(&"n/".repeat(3000), b"x"), "is longer than 4095 bytes");
}

#[test]
fn a_truncated_layer() {
    let whole = Layer::new().file("a", &[7; 100_000]).tar();
    for kind in [PLAIN, GZIP, ZSTD] {
        let mut cut = Packed::new(&whole, kind);
        cut.bytes.truncate(cut.bytes.len() / 2);
        // The archive says so itself, whether or not the manifest knows.
        refuse_by(settings(), &[cut.clone()], "is damaged");
        cut.size = cut.bytes.len() as u64;
        cut.digest = Digest::of(&cut.bytes);
        refuse_by(settings(), &[cut], "is damaged");
    }
}

#[test]
fn a_digest_that_does_not_match() {
    let mut layer = Packed::new(&Layer::new().file("a", b"x").tar(), GZIP);
    layer.digest = Digest::of(b"something else");
    refuse_by(settings(), &[layer], "its digest is sha256:");
}

#[test]
fn a_diff_id_that_does_not_match() {
    let mut layer = Packed::new(&Layer::new().file("a", b"x").tar(), GZIP);
    layer.diff_id = Digest::of(b"something else");
    refuse_by(settings(), &[layer], "its tar has the digest sha256:");
}

#[test]
fn a_size_that_does_not_match() {
    let layer = Packed::new(&Layer::new().file("a", b"x").tar(), GZIP);
    let longer = Packed { size: layer.size + 1, ..layer.clone() };
    refuse_by(settings(), &[longer], "bytes, not");
    let shorter = Packed { size: layer.size - 1, ..layer };
    refuse_by(settings(), &[shorter], "more comes than was promised");
}

#[test]
fn a_kind_of_layer_that_is_unknown() {
    let mut layer = Packed::new(&Layer::new().tar(), PLAIN);
    layer.media_type = "application/vnd.oci.image.layer.v1.tar+lzma".to_owned();
    refuse_by(settings(), &[layer], "is of the unknown kind \"application/vnd.oci.image.layer.v1.tar+lzma\"");
}

#[test]
fn a_second_layer_that_is_damaged_takes_the_first_along() {
    let good = Packed::new(&Layer::new().file("a", b"x").tar(), GZIP);
    let mut bad = Packed::new(&Layer::new().file("b", b"x").tar(), GZIP);
    bad.diff_id = Digest::of(b"something else");
    refuse_by(settings(), &[good, bad], "its tar has the digest");
}

/// A file system of a megabyte, gone with the value.
pub(crate) struct Small(pub(crate) tempfile::TempDir);

impl Small {
    pub(crate) fn mount() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(dir.path());
        assert!(command.status().expect("mount(8)").success(), "needs root");
        Self(dir)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
fn a_full_disk() {
    let disk = Small::mount();
    let content = disk.0.path().join("content");
    let store = Store::open(&content, settings()).expect("opens");
    let dir = tempfile::tempdir().expect("a directory");
    let big = Packed::new(&Layer::new().file("a", &vec![7; 4 << 20]).tar(), GZIP);
    let error = import(&store, dir.path(), &[big]).expect_err("no space");
    assert!(matches!(error, ImageError::NoSpace { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no space left for the layer sha256:"), "{error}");
    assert_eq!(leftovers(&content), [""; 0]);
    let small = Packed::new(&Layer::new().file("a", b"x").tar(), GZIP);
    import(&store, dir.path(), &[small]).expect("there is room again");
}
