//! Images between nodes: what was imported is passed on, what comes is checked like a registry's. The registry of these tests stands
//! for another node; it is reached through the connections that the store is given.

use std::io;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use corten_image::{Dial, Duplex, Image, ImageError, Images as _, Peer, Settings, Shared as _, Store};
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::layout::{GZIP, Layer, Packed, import, leftovers, settings};
use crate::registry::{Registry, Wrong};

const NAME: &str = "localhost/shop/www:1";
const REPOSITORY: &str = "localhost/shop/www";

struct Node {
    dir: TempDir,
    store: Store,
    other: Registry,
}

/// Leads to the registry, wherever it is asked to go.
struct To(String);

impl Dial for To {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>> {
        assert_eq!((host, port), ("192.0.2.7", 10250));
        Box::pin(async move { Ok(Box::new(TcpStream::connect(&self.0).await?) as Box<dyn Duplex>) })
    }
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let quick = Settings { clock: Clock::system(), stall_max: Duration::from_millis(400), ..settings() };
        let store = Store::open(&dir.path().join("content"), quick).expect("opens");
        Self { dir, store, other: Registry::start() }
    }

    async fn pull(&self) -> Result<Arc<Image>, ImageError> {
        let peer = Peer { name: "two".to_owned(), host: "192.0.2.7".to_owned(), port: 10250 };
        let dial = Arc::new(To(self.other.reference("").trim_end_matches('/').to_owned()));
        self.store.pull_from(&peer, dial, NAME).await
    }
}

fn layer(bytes: usize) -> Packed {
    let mut content = vec![0; bytes];
    corten_stdx::random::Random::seeded(bytes as u64).fill(&mut content);
    Packed::new(&Layer::new().file("a", &content).tar(), GZIP)
}

fn blob(store: &Store, digest: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    store.blob(digest).expect("looked").map(|mut file| {
        file.read_to_end(&mut bytes).expect("read");
        bytes
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_another_node_is_whole_and_is_passed_on() {
    let node = Node::new();
    let layers = [layer(300_000), layer(10)];
    let descriptor = node.other.push("shop/www", "1", &layers);
    let digest = descriptor["digest"].as_str().expect("a text");
    let image = node.pull().await.expect("pulled");
    assert_eq!(image.tags, [NAME]);
    assert_eq!(image.digests, [format!("{REPOSITORY}@{digest}")]);
    assert!(image.layers[1].join("a").is_file());
    for version in ["1", digest] {
        let manifest = node.store.manifest(REPOSITORY, version).expect("looked").expect("it is here whole");
        assert_eq!(corten_image::Digest::of(&manifest).to_string(), digest, "{version}");
    }
    for layer in &layers {
        let kept = blob(&node.store, &layer.digest.to_string()).expect("it is kept packed");
        assert_eq!(corten_image::Digest::of(&kept).to_string(), layer.digest.to_string());
    }
    assert_eq!(node.store.manifest("localhost/shop/blog", "1"), Ok(None));
    assert_eq!(node.store.manifest(REPOSITORY, "2"), Ok(None));
    assert!(blob(&node.store, "sha256:../../etc/passwd").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_imported_is_for_others_and_what_a_registry_has_is_not() {
    let node = Node::new();
    let layers = [layer(50_000)];
    let imported = import(&node.store, node.dir.path(), &layers).expect("imported");
    let (name, digest) = imported.digests[0].split_once('@').expect("a digest");
    assert!(node.store.manifest(name, digest).expect("looked").is_some());
    assert!(blob(&node.store, &layers[0].digest.to_string()).is_some());

    let other = layer(60_000);
    node.other.push("team/app", "1", std::slice::from_ref(&other));
    let pulled = node.store.pull(&node.other.reference("team/app:1"), &[]).await.expect("pulled");
    let (name, digest) = pulled.digests[0].split_once('@').expect("a digest");
    assert_eq!(node.store.manifest(name, digest), Ok(None), "its registry has it");
    assert!(blob(&node.store, &other.digest.to_string()).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn corrupt_bytes_of_another_node_are_refused() {
    for (path, wrong) in [
        ("/blobs/", Wrong::Body(b"something else".to_vec())),
        ("/manifests/", Wrong::Digest(format!("sha256:{}", "0".repeat(64)))),
    ] {
        let node = Node::new();
        node.other.push("shop/www", "1", &[layer(1000)]);
        node.other.fail(path, 100, wrong);
        let error = node.pull().await.expect_err(path);
        assert!(matches!(error, ImageError::Corrupt { .. }), "{error}");
        assert_eq!(leftovers(&node.dir.path().join("content")), [""; 0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_away_in_mid_pull_ends_it_or_it_goes_on() {
    let node = Node::new();
    let layer = layer(2_000_000);
    node.other.push("shop/www", "1", std::slice::from_ref(&layer));
    // Once is no harm: it goes on where it was.
    node.other.fail(&layer.digest.to_string(), 1, Wrong::Cut(700_000));
    node.pull().await.expect("it comes nevertheless");

    let node = Node::new();
    node.other.push("shop/www", "1", std::slice::from_ref(&layer));
    node.other.fail(&layer.digest.to_string(), 1000, Wrong::Cut(0));
    let error = node.pull().await.expect_err("nothing comes any more");
    assert!(error.to_string().contains("breaks off after 0 of"), "{error}");
    assert_eq!(leftovers(&node.dir.path().join("content")), [""; 0]);
    assert_eq!(node.store.find(NAME), Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_the_image_says_so_at_once() {
    let node = Node::new();
    let error = node.pull().await.expect_err("it is not there");
    let expected =
        ImageError::NotFound { reference: NAME.to_owned(), detail: "the server two does not have it".to_owned() };
    assert_eq!(error, expected);
}
