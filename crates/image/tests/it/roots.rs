//! Images made of folders, and everything that a layer can hold, there and back.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use corten_image::{Config, Recipe, Reference};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, lgetxattr, makedev, mknodat, setxattr};
use tar::EntryType;

use crate::layout::{GZIP, Layer, PLAIN, Packed, import, leftovers, store};

fn reference(text: &str) -> Reference {
    Reference::parse(text).expect("well formed")
}

fn tree(root: &Path) {
    std::fs::create_dir_all(root.join("bin")).expect("made");
    std::fs::create_dir(root.join("empty")).expect("made");
    std::fs::write(root.join("bin/tool"), "#!/bin/sh\n").expect("written");
    std::fs::set_permissions(root.join("bin/tool"), std::fs::Permissions::from_mode(0o4755)).expect("set");
    std::fs::hard_link(root.join("bin/tool"), root.join("bin/same")).expect("linked");
    symlink("tool", root.join("bin/link")).expect("linked");
    std::fs::write(root.join("n".repeat(200)), "long").expect("written");
    std::os::unix::fs::chown(root.join("empty"), Some(1234), Some(5678)).expect("owned");
    let node = root.join("null");
    mknodat(CWD, &node, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(1, 3)).expect("made");
    std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o666)).expect("set");
    setxattr(root.join("bin"), "user.note", b"kept", XattrFlags::empty()).expect("set");
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000);
    std::fs::File::open(root.join("empty")).and_then(|file| file.set_modified(time)).expect("set");
}

#[test]
fn a_folder_becomes_an_image_and_the_same_folder_the_same() {
    let (dir, store) = store();
    let root = dir.path().join("root");
    tree(&root);
    let config = Config {
        cmd: vec!["/bin/tool".into(), "-v".into()],
        env: vec!["A=b".into()],
        user: "1234".into(),
        exposed_ports: vec!["8080/tcp".into()],
        ..Config::default()
    };
    let recipe = Recipe { config: config.clone(), newest_s: Some(1_700_000_000) };
    let image = store.from_root(&root, &reference("tool:1"), &recipe).expect("made");
    assert_eq!((image.config.clone(), image.tags.clone()), (config, vec!["docker.io/library/tool:1".to_owned()]));
    assert!(image.digests[0].starts_with("docker.io/library/tool@sha256:"), "{:?}", image.digests);

    let layer = &image.layers[0];
    let at = |name: &str| layer.join(name).symlink_metadata().expect(name);
    assert_eq!(at("bin/tool").mode() & 0o7777, 0o4755);
    assert_eq!(at("bin/tool").ino(), at("bin/same").ino());
    assert_eq!(std::fs::read_link(layer.join("bin/link")).expect("a link"), Path::new("tool"));
    assert_eq!(std::fs::read_to_string(layer.join("n".repeat(200))).expect("there"), "long");
    assert_eq!((at("empty").uid(), at("empty").gid(), at("empty").mtime()), (1234, 5678, 1_600_000_000));
    assert_eq!((at("null").rdev(), at("null").mode() & 0o777), (makedev(1, 3), 0o666));
    let mut note = [0; 8];
    let length = lgetxattr(layer.join("bin"), "user.note", &mut note).expect("kept");
    assert_eq!(&note[..length], b"kept");

    let again = store.from_root(&root, &reference("tool:2"), &recipe).expect("made again");
    assert_eq!((&again.id, &again.layers), (&image.id, &image.layers));
    assert_eq!(again.tags, ["docker.io/library/tool:1", "docker.io/library/tool:2"]);
    store.remove(&image.id).expect("removed");
    assert_eq!(leftovers(&dir.path().join("content")), [""; 0]);
}

#[test]
fn a_folder_with_names_of_deletions_is_refused() {
    let (dir, store) = store();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("made");
    std::fs::write(root.join(".wh.x"), "").expect("written");
    let error = store.from_root(&root, &reference("a"), &Recipe::default()).expect_err("refused").to_string();
    assert!(error.contains("mean deletions"), "{error}");
    let error = store.from_root(&root.join("none"), &reference("a"), &Recipe::default()).expect_err("none there");
    assert!(error.to_string().contains("No such file"), "{error}");
    assert_eq!(leftovers(&dir.path().join("content")), [""; 0]);
}

#[test]
fn deletions_take_the_form_of_overlays() {
    let (dir, store) = store();
    let tar = Layer::new()
        .file("a/.wh.gone", b"")
        .folder("b")
        .file("b/.wh..wh..opq", b"")
        .file("b/new", b"x")
        .file("c", b"x")
        .file(".wh.c", b"")
        .folder("d")
        .file(".wh.d", b"")
        .file(".wh.e", b"")
        .file("e/inner", b"x")
        .file(".wh..wh.plnk", b"")
        .tar();
    let image = import(&store, dir.path(), &[Packed::new(&tar, GZIP)]).expect("imported");
    let layer = &image.layers[0];
    let gone = layer.join("a/gone").symlink_metadata().expect("there");
    assert_eq!((gone.mode() & libc_type(), gone.rdev()), (0o020_000, 0));
    let is_opaque = |name: &str| {
        let mut value = [0; 1];
        lgetxattr(layer.join(name), "trusted.overlay.opaque", &mut value) == Ok(1) && value == *b"y"
    };
    assert!(is_opaque("b") && is_opaque("d") && is_opaque("e") && !is_opaque("a"));
    assert!(layer.join("c").is_file() && layer.join("b/new").is_file() && layer.join("e/inner").is_file());
    let mut names: Vec<_> = std::fs::read_dir(layer).expect("listed").map(|e| e.expect("read").file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}

/// The bits of a mode that say what a file is.
fn libc_type() -> u32 {
    0o170_000
}

#[test]
fn later_entries_win() {
    let (dir, store) = store();
    let tar = Layer::new()
        .file("a", b"first")
        .file("a", b"second")
        .folder("b")
        .file("b/inner", b"x")
        .file("b", b"now a file")
        .file("c", b"x")
        .folder("c")
        .folder("d")
        .file("d/kept", b"x")
        .folder("d/")
        .tar();
    let image = import(&store, dir.path(), &[Packed::new(&tar, PLAIN)]).expect("imported");
    let read = |name: &str| std::fs::read_to_string(image.layers[0].join(name)).expect(name);
    assert_eq!((read("a"), read("b"), read("d/kept")), ("second".into(), "now a file".into(), "x".into()));
    assert!(image.layers[0].join("c").is_dir());
}

#[test]
fn extensions_of_tar_are_read() {
    let (dir, store) = store();
    let long = format!("{}/{}", "d".repeat(150), "f".repeat(150));
    // VFS_CAP_REVISION_2 with the effective bit, CAP_NET_BIND_SERVICE: capabilities(7), linux/capability.h.
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records: [(&str, &[u8]); 6] = [
        ("path", b"pax-name"),
        ("mtime", b"1600000000.25"),
        ("uid", b"3000000"),
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.user.note", b"kept"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ];
    let tar = Layer::new()
        .long_name(&long, b"long")
        .pax(&records)
        .file("short", b"pax")
        .raw(Layer::header(EntryType::Fifo, 0o600, 0), "pipe", "", b"")
        .tar();
    let image = import(&store, dir.path(), &[Packed::new(&tar, GZIP)]).expect("imported");
    let layer = &image.layers[0];
    assert_eq!(std::fs::read_to_string(layer.join(long)).expect("there"), "long");
    let file = layer.join("pax-name");
    let metadata = file.metadata().expect("there");
    assert_eq!((metadata.mtime(), metadata.mtime_nsec(), metadata.uid()), (1_600_000_000, 250_000_000, 3_000_000));
    let mut value = [0; 64];
    assert_eq!(lgetxattr(&file, "security.capability", &mut value), Ok(20));
    assert_eq!(value[..20], capability);
    assert_eq!(lgetxattr(&file, "user.note", &mut value), Ok(4));
    assert!(lgetxattr(&file, "trusted.overlay.opaque", &mut value).is_err());
}

#[test]
fn sparse_files_stay_sparse() {
    let (dir, store) = store();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).expect("made");
    let file = std::fs::File::create(source.join("sparse")).expect("made");
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 5 << 20).expect("written");
    file.set_len(10 << 20).expect("set");
    for format in ["gnu", "posix"] {
        let path = dir.path().join(format!("{format}.tar"));
        let mut command = Command::new("tar");
        command.arg("--sparse").arg(format!("--format={format}")).arg("-C").arg(&source).arg("-cf").arg(&path);
        assert!(command.arg("sparse").status().expect("GNU tar").success());
        let tar = std::fs::read(&path).expect("written");
        assert!(tar.len() < 1 << 20, "tar found the holes");
        let image = import(&store, dir.path(), &[Packed::new(&tar, GZIP)]).expect(format);
        let unpacked = image.layers[0].join("sparse");
        assert_eq!(std::fs::read(&unpacked).expect("there"), std::fs::read(source.join("sparse")).expect("there"));
        assert!(unpacked.metadata().expect("there").blocks() < 2048, "holes take no space");
    }
}
