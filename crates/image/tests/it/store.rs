//! The store: names, archives, several processes, and what a crash leaves.

use std::path::Path;
use std::time::Duration;

use corten_image::{Collected, Image, ImageError, Images as _, Recipe, Reference, Settings, Space, Store};
use corten_stdx::clock::Clock;
use corten_stdx::task::Tasks;
use serde_json::{Value, json};

use crate::layout::{
    GZIP, Layer, Layout, PLAIN, Packed, ZSTD, config, gzip, here, import, leftovers, named, settings, store,
};

fn layer(name: &str) -> Packed {
    Packed::new(&Layer::new().file(name, name.as_bytes()).tar(), GZIP)
}

#[track_caller]
fn find(store: &Store, reference: &str) -> Option<String> {
    store.find(reference).expect("readable").map(|image| image.id.clone())
}

#[test]
fn an_image_is_found_by_every_name() {
    let (dir, store) = store();
    let kinds = [GZIP, ZSTD, PLAIN].map(|kind| Packed::new(&Layer::new().file(kind, b"x").tar(), kind));
    let image = import(&store, dir.path(), &kinds).expect("imported");
    let id = Some(image.id.clone());
    for name in ["test:1", "docker.io/test:1", "docker.io/library/test:1", &image.id, &image.id[7..], &image.digests[0]]
    {
        assert_eq!(find(&store, name), id, "{name}");
    }
    assert_eq!((find(&store, "test"), find(&store, "other.example/test:1")), (None, None));
    assert!(matches!(store.find("Test"), Err(ImageError::Reference { .. })));
    let contents = image.layers.iter().zip(kinds.iter().rev());
    assert!(
        contents.clone().count() == 3 && contents.clone().all(|(folder, kind)| folder.join(&kind.media_type).exists())
    );
    assert_eq!((image.config.cmd.as_slice(), image.size_bytes), (&["/bin/true".to_owned()][..], 3));
    assert_eq!(store.list(), [image]);
}

#[test]
fn a_tag_moves_to_the_newest() {
    let (dir, store) = store();
    let first = import(&store, dir.path(), &[layer("a")]).expect("imported");
    let second = import(&store, dir.path(), &[layer("a"), layer("b")]).expect("imported");
    assert_eq!(find(&store, "test:1"), Some(second.id.clone()));
    let old = store.find(&first.id).expect("readable").expect("stays until it is collected");
    assert!(old.tags.is_empty() && old.digests == first.digests);
    assert_eq!(old.layers[0], second.layers[1], "a shared layer is there once");
}

#[test]
fn what_docker_saves_is_imported() {
    let (dir, store) = store();
    let layers = [layer("a"), layer("b")];
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["app:1", "app:2"], "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    let tar = |first: &[u8]| {
        Layer::new()
            .file("c.json", config(&layers, &here()).to_string().as_bytes())
            .file("a/layer.tar", first)
            .file("shared.tar", &layers[1].bytes)
            .symlink("b/layer.tar", "../shared.tar")
            .file("manifest.json", manifest.to_string().as_bytes())
            .tar()
    };
    let path = dir.path().join("saved.tar.gz");
    std::fs::write(&path, gzip(&tar(&layers[0].bytes))).expect("written");
    let images = store.import(&path, None).expect("imported");
    assert_eq!(images[0].tags, ["docker.io/library/app:1", "docker.io/library/app:2"]);
    assert!(images[0].digests.is_empty() && images[0].layers[0].join("b").is_file());
    let tag = Reference::parse("renamed").expect("well formed");
    assert_eq!(store.import(&path, Some(&tag)).expect("again")[0].id, images[0].id);
    assert_eq!(find(&store, "renamed"), Some(images[0].id.clone()));

    store.remove(&images[0].id).expect("removed");
    std::fs::write(&path, tar(b"damaged")).expect("written");
    let error = store.import(&path, None).expect_err("damaged").to_string();
    assert!(error.contains("is damaged"), "{error}");
    assert_eq!(leftovers(&dir.path().join("content")), [""; 0]);
}

#[test]
fn an_index_gives_this_machine_its_image() {
    let (dir, store) = store();
    let layout = Layout::new(dir.path().join("layout"));
    let (ours, theirs) = ([layer("ours")], [layer("theirs")]);
    let platform = |mut descriptor: Value, architecture: &str| {
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let entries = [
        platform(layout.image(&theirs, &config(&theirs, "s390x")), "s390x"),
        platform(layout.image(&ours, &config(&ours, &here())), &here()),
    ];
    let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let index = layout.blob("application/vnd.oci.image.index.v1+json", index.as_bytes());
    layout.index(&[named(index.clone(), "registry.example/app:1")]);
    let image = store.import(layout.path(), None).expect("imported")[0].clone();
    assert!(image.layers[0].join("ours").is_file());
    assert_eq!(image.digests, [format!("registry.example/app@{}", index["digest"].as_str().expect("a text"))]);

    layout.index(&[named(entries[0].clone(), "other:1")]);
    let error = store.import(layout.path(), None).expect_err("another architecture");
    let expected = format!("docker.io/library/other:1 is not made for linux/{}; it has linux/s390x", here());
    assert_eq!(error.to_string(), expected);
    // Nor is a manifest believed that does not say what its configuration says.
    layout.index(&[named(layout.image(&theirs, &config(&theirs, "s390x")), "other:1")]);
    assert_eq!(store.import(layout.path(), None).expect_err("another architecture").to_string(), expected);
}

#[test]
fn archives_that_are_none_are_refused() {
    let (dir, store) = store();
    let refuse = |path: &Path, expected: &str| {
        let error = store.import(path, None).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let path = dir.path().join("file");
    refuse(&path, "No such file");
    std::fs::write(&path, "no tar at all, but rather a text".repeat(100)).expect("written");
    refuse(&path, "it is no image archive");
    std::fs::write(&path, Layer::new().file("a", b"x").tar()).expect("written");
    refuse(&path, "it has neither oci-layout nor manifest.json");
    let layout = Layout::new(dir.path().join("layout"));
    layout.index(&[]);
    refuse(layout.path(), "it has no image");
    let layers = [layer("a")];
    let manifest = layout.image(&layers, &config(&layers, &here()));
    layout.index(std::slice::from_ref(&manifest));
    refuse(layout.path(), "give it one with --tag");
    std::fs::remove_file(layout.path().join("blobs/sha256").join(layers[0].digest.hex())).expect("removed");
    layout.index(&[named(manifest, "a:1")]);
    refuse(layout.path(), "it has no blobs/sha256/");
    assert_eq!(leftovers(&dir.path().join("content")), [""; 0]);
}

#[test]
fn another_process_sees_what_this_one_does() {
    let (dir, store) = store();
    let other = Store::open(&dir.path().join("content"), settings()).expect("opens beside the first");
    assert_eq!(find(&other, "test:1"), None);
    let image = import(&store, dir.path(), &[layer("a")]).expect("imported");
    assert_eq!(find(&other, "test:1"), Some(image.id.clone()));
    other.set_in_use(vec![image.id.clone()]);
    let error = store.remove("test:1").expect_err("in use").to_string();
    assert!(error.contains("containers use sha256:"), "{error}");
    assert_eq!(find(&store, "test:1"), Some(image.id.clone()));
    other.set_in_use(Vec::new());
    assert!(store.remove("test:1").expect("free").contains(&image.id));
    assert_eq!((find(&other, "test:1"), leftovers(&dir.path().join("content"))), (None, Vec::new()));
}

#[test]
fn a_name_goes_before_its_image() {
    let (dir, store) = store();
    let image = import(&store, dir.path(), &[layer("a"), layer("b")]).expect("imported");
    let smaller = Layout::new(dir.path().join("smaller"));
    let layers = [layer("a")];
    smaller.index(&[named(smaller.image(&layers, &config(&layers, &here())), "small:1")]);
    let small = store.import(smaller.path(), None).expect("imported")[0].clone();
    let tag = Reference::parse("test:2").expect("well formed");
    store.import(&dir.path().join("layout"), Some(&tag)).expect("a second name");
    assert_eq!(store.remove("test:2").expect("removed"), ["docker.io/library/test:2"]);
    assert_eq!(find(&store, "test:1"), Some(image.id.clone()));
    store.remove("test:1").expect("removed");
    assert_eq!(find(&store, &image.id), None);
    assert!(small.layers[0].join("a").is_file() && !image.layers[0].exists(), "a layer stays while an image has it");
    assert!(matches!(store.remove("test:1"), Err(ImageError::NotFound { .. })));
}

#[test]
fn what_a_crash_left_goes_at_the_next_start() {
    let (dir, first) = store();
    let content = dir.path().join("content");
    let image = import(&first, dir.path(), &[layer("a")]).expect("imported");
    // Unpacked but not placed; placed but not named; discarded but not removed; an index that was not renamed.
    std::fs::create_dir_all(content.join("tmp/dead/fs")).expect("made");
    std::fs::create_dir_all(content.join("layers/0123456789abcdef/fs")).expect("made");
    std::fs::create_dir_all(content.join("trash/gone/fs")).expect("made");
    std::fs::write(content.join("blobs/sha256/orphan"), "x").expect("written");
    std::fs::write(content.join("index.json.new"), "{half").expect("written");
    let second = Store::open(&content, settings()).expect("opens");
    keeps_collecting(&second, || leftovers(&content).iter().all(|path| !path.starts_with("trash/")));
    let left = leftovers(&content);
    assert!(left.iter().all(|path| path.starts_with("blobs/") || path.starts_with("layers/")), "{left:?}");
    // Configuration, manifest, the layer packed and unpacked.
    assert_eq!((left.len(), find(&second, "test:1")), (4, Some(image.id.clone())));
    assert!(image.layers[0].join("a").is_file());
}

/// A node's collection runs until something has become true.
fn keeps_collecting(store: &Store, holds: impl Fn() -> bool) {
    let tasks = Tasks::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        tasks.spawn("image-collection", store.clone().keep_collecting(tasks.stopped()));
        let looks = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), looks).await.expect("in time");
        assert_eq!(tasks.stop(Duration::from_secs(60)).await, 0);
    });
}

#[test]
fn a_store_that_lost_its_index_is_left_alone() {
    let (dir, store) = store();
    let image = import(&store, dir.path(), &[layer("a")]).expect("imported");
    let content = dir.path().join("content");
    let open = || Store::open(&content, settings()).expect_err("refused").to_string();
    std::fs::write(content.join("index.json"), r#"{"version":2,"images":[],"layers":{}}"#).expect("written");
    assert!(open().contains("a newer corten wrote it"), "{}", open());
    std::fs::write(content.join("index.json"), "{").expect("written");
    assert!(open().contains("is damaged"), "{}", open());
    std::fs::remove_file(content.join("index.json")).expect("removed");
    assert!(open().contains("layers but no index.json"), "{}", open());
    assert!(image.layers[0].join("a").is_file());
}

#[test]
fn many_at_once_lose_nothing() {
    let (dir, first) = store();
    let content = dir.path().join("content");
    let threads: Vec<_> = (0..6)
        .map(|n| {
            let (content, root) = (content.clone(), dir.path().join(format!("root{}", n / 2)));
            std::fs::create_dir_all(&root).expect("made");
            std::fs::write(root.join("file"), format!("{}", n / 2)).expect("written");
            std::thread::spawn(move || -> Result<std::sync::Arc<Image>, ImageError> {
                let tag = Reference::parse(&format!("many:{n}"))?;
                Store::open(&content, settings())?.from_root(&root, &tag, &Recipe::default())
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("no panic").expect("made");
    }
    let tags: Vec<_> = (0..6).map(|n| find(&first, &format!("many:{n}")).expect("there")).collect();
    assert_eq!((first.list().len(), &tags[0]), (3, &tags[1]));
}

#[test]
fn images_are_collected_when_the_disk_fills() {
    let dir = tempfile::tempdir().expect("a directory");
    let content = dir.path().join("content");
    let clock = Clock::manual(1_000_000);
    let store = Store::open(&content, Settings { clock: clock.clone(), ..settings() }).expect("opens");
    let image = import(&store, dir.path(), &[layer("a")]).expect("imported");
    let layers = [layer("b")];
    let other = Layout::new(dir.path().join("other"));
    other.index(&[named(other.image(&layers, &config(&layers, &here())), "other:1")]);
    store.import(other.path(), None).expect("imported");
    let full = Space { capacity_bytes: 1000, available_bytes: 10 };

    assert_eq!(store.collect(&full).expect("collected").images, [""; 0], "everything is new");
    clock.advance(Duration::from_secs(3600));
    let roomy = Space { capacity_bytes: 1000, available_bytes: 500 };
    assert_eq!(store.collect(&roomy).expect("collected"), Collected::default());
    store.set_in_use(vec![image.id.clone()]);
    assert_eq!(store.collect(&full).expect("collected").images.len(), 1);
    assert_eq!((find(&store, "other:1"), find(&store, "test:1")), (None, Some(image.id.clone())));
    assert!(image.layers[0].join("a").is_file());

    store.set_in_use(Vec::new());
    assert_eq!(store.collect(&full).expect("collected").images, [""; 0], "it was used until now");
    clock.advance(Duration::from_secs(3600));
    assert_eq!(store.collect(&full).expect("collected").images, std::slice::from_ref(&image.id));
    assert_eq!(leftovers(&content), [""; 0]);
    assert!(store.space().expect("known").capacity_bytes > 0);
}
