//! Pulling from a registry that fails in every way that registries do.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_image::{Credentials, Digest, Image, ImageError, Images as _, Settings, Store};
use corten_stdx::clock::Clock;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tempfile::TempDir;

use crate::hostile::Small;
use crate::layout::{GZIP, Layer, Packed, ZSTD, leftovers, settings};
use crate::registry::{Access, Registry, Wrong};

struct Node {
    dir: TempDir,
    store: Store,
    registry: Registry,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let quick = Settings { clock: Clock::system(), stall_max: Duration::from_millis(400), ..settings() };
        let store = Store::open(&dir.path().join("content"), quick).expect("opens");
        Self { dir, store, registry: Registry::start() }
    }

    async fn pull(&self, name: &str) -> Result<Arc<Image>, ImageError> {
        self.store.pull(&self.registry.reference(name), &[]).await
    }

    #[track_caller]
    fn is_empty(&self) {
        assert_eq!(leftovers(&self.dir.path().join("content")), [""; 0]);
    }
}

/// A layer that no packing makes small.
fn layer(name: &str, bytes: usize) -> Packed {
    let mut content = vec![0; bytes];
    corten_stdx::random::Random::seeded(bytes as u64).fill(&mut content);
    Packed::new(&Layer::new().file(name, &content).tar(), GZIP)
}

fn account(node: &Node, path: &str, password: &str) -> Credentials {
    Credentials { registry: node.registry.reference(path), username: "user".into(), password: password.into() }
}

fn basic(password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("user:{password}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_comes_whole_and_only_once() {
    let node = Node::new();
    let layers = [layer("a", 300_000), Packed::new(&Layer::new().file("b", b"x").tar(), ZSTD), layer("c", 10)];
    let manifest = node.registry.push("team/app", "1", &layers);
    let image = node.pull("team/app:1").await.expect("pulled");
    assert_eq!(image.tags, [node.registry.reference("team/app:1")]);
    let digest = manifest["digest"].as_str().expect("a text");
    assert_eq!(image.digests, [node.registry.reference(&format!("team/app@{digest}"))]);
    assert!(image.layers[2].join("a").is_file() && image.layers[1].join("b").is_file());
    assert_eq!(node.registry.count("/blobs/"), 4);

    assert_eq!(node.pull("team/app:1").await.expect("still there"), image);
    assert_eq!(node.pull(&format!("team/app@{digest}")).await.expect("by digest").id, image.id);
    assert_eq!((node.registry.count("/blobs/"), node.registry.count("/manifests/")), (4, 3));

    node.registry.push("team/app", "1", &[layers[0].clone(), layer("d", 20)]);
    let newer = node.pull("team/app:1").await.expect("moved");
    assert!(newer.id != image.id && newer.layers[1] == image.layers[2]);
    assert_eq!(node.registry.count("/blobs/"), 6, "the layer that is here does not come again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_followed_to_this_machine() {
    let node = Node::new();
    let (ours, theirs) = ([layer("ours", 10)], [layer("theirs", 20)]);
    let mut entries = vec![node.registry.push_for("app", "x", &theirs, "s390x"), node.registry.push("app", "y", &ours)];
    entries[0]["platform"] = json!({"os": "linux", "architecture": "s390x"});
    entries[1]["platform"] = json!({"os": "linux", "architecture": crate::layout::here()});
    let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries});
    node.registry.manifest("app", "both", kind, &index);
    let image = node.pull("app:both").await.expect("pulled");
    assert!(image.layers[0].join("ours").is_file());
    let error = node.pull("app:x").await.expect_err("another architecture");
    assert!(matches!(error, ImageError::Platform { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_architecture() {
    let node = Node::new();
    node.registry.push_for("app", "1", &[layer("a", 10)], "s390x");
    let error = node.pull("app:1").await.expect_err("refused");
    let (name, here) = (node.registry.reference("app:1"), crate::layout::here());
    assert_eq!(error.to_string(), format!("{name} is not made for linux/{here}; it has linux/s390x"));
    assert_eq!(node.registry.count("/blobs/"), 1, "the configuration alone was fetched");
    node.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_while_pulling() {
    let (disk, registry) = (Small::mount(), Registry::start());
    let content = disk.0.path().join("content");
    let store = Store::open(&content, Settings { clock: Clock::system(), ..settings() }).expect("opens");
    registry.push("app", "big", &[layer("a", 10), layer("b", 4 << 20)]);
    let error = store.pull(&registry.reference("app:big"), &[]).await.expect_err("no space");
    assert!(matches!(error, ImageError::NoSpace { .. }), "{error:?}");
    assert!(error.to_string().starts_with("no space left for the layer sha256:"), "{error}");
    assert_eq!(leftovers(&content), [""; 0]);
    registry.push("app", "small", &[layer("a", 10)]);
    store.pull(&registry.reference("app:small"), &[]).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_resumed_where_it_broke() {
    let node = Node::new();
    let big = layer("a", 900_000);
    node.registry.push("app", "1", std::slice::from_ref(&big));
    node.registry.fail(&big.digest.hex(), 4, Wrong::Cut(200_000));
    node.pull("app:1").await.expect("pulled");
    let requests = node.registry.requests();
    let ranges: Vec<_> = requests.iter().filter(|r| r.path.contains(&big.digest.hex())).map(|r| &r.range).collect();
    let expected = [None, Some(200_000), Some(400_000), Some(600_000), Some(800_000)];
    assert_eq!(ranges.len(), 5);
    let expected = expected.map(|at: Option<u32>| at.map(|at| format!("bytes={at}-")));
    assert!(ranges.iter().zip(&expected).all(|(a, b)| *a == b), "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_ranges_begins_again() {
    let node = Node::new();
    let big = layer("a", 500_000);
    node.registry.push("app", "1", std::slice::from_ref(&big));
    node.registry.fail(&big.digest.hex(), 1, Wrong::Cut(300_000));
    node.registry.fail(&big.digest.hex(), 1, Wrong::NoRange);
    node.pull("app:1").await.expect("pulled");
    assert_eq!(node.registry.count(&big.digest.hex()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_registry_is_asked_again() {
    let node = Node::new();
    let big = layer("a", 500_000);
    node.registry.push("app", "1", std::slice::from_ref(&big));
    node.registry.fail(&big.digest.hex(), 1, Wrong::Stall(100_000));
    node.pull("app:1").await.expect("pulled");
    assert_eq!(node.registry.count(&big.digest.hex()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_never_gets_on_ends() {
    let node = Node::new();
    let big = layer("a", 500_000);
    node.registry.push("app", "1", std::slice::from_ref(&big));
    node.registry.fail(&big.digest.hex(), 100, Wrong::Cut(0));
    let error = node.pull("app:1").await.expect_err("no progress").to_string();
    assert!(error.contains("breaks off after 0 of") && error.contains("bytes: "), "{error}");
    node.is_empty();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_registry_is_waited_for() {
    let node = Node::new();
    node.registry.push("app", "1", &[layer("a", 10)]);
    node.registry.fail("/manifests/", 2, Wrong::Status(429, "Retry-After", "0".into()));
    node.registry.fail("/blobs/", 2, Wrong::Status(503, "X", "y".into()));
    node.pull("app:1").await.expect("pulled in the end");
    assert_eq!(node.registry.count("/manifests/"), 3);
    node.registry.fail("/manifests/", 100, Wrong::Status(429, "Retry-After", "0".into()));
    let error = node.pull("app:1").await.expect_err("busy for ever");
    assert!(error.to_string().contains("the registry answers 429"), "{error}");
    assert!(matches!(error, ImageError::Failed { .. }) && node.registry.count("/manifests/") == 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_at_once() {
    let node = Node::new();
    let error = node.pull("app:1").await.expect_err("nothing there");
    assert!(matches!(error, ImageError::NotFound { .. }) && node.registry.requests().len() == 1, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_named() {
    let node = Node::new();
    let error = node.store.pull("127.0.0.1:1/app", &[]).await.expect_err("nobody listens");
    assert!(error.to_string().contains("no connection to 127.0.0.1:1: "), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_with_the_account() {
    let node = Node::new();
    node.registry.push("team/app", "1", &[layer("a", 10)]);
    node.registry.allow(Access::Token(Some(basic("right"))));
    let name = node.registry.reference("team/app:1");
    let wrong = node.store.pull(&name, &[account(&node, "", "wrong")]).await.expect_err("a wrong password");
    assert!(matches!(wrong, ImageError::Unauthorized { .. }), "{wrong}");
    assert!(matches!(node.pull("team/app:1").await, Err(ImageError::Unauthorized { .. })));
    // Two fit, the more specific is tried first.
    let accounts = [account(&node, "", "right"), account(&node, "team", "wrong")];
    node.store.pull(&name, &accounts).await.expect("let in");
    let token = node.registry.requests().into_iter().rfind(|r| r.path.starts_with("/token")).expect("asked");
    assert_eq!(token.path, "/token?scope=repository%3Ateam%2Fapp%3Apull&service=test");
    assert_eq!(token.authorization, Some(basic("right")));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_by_nobody_in_particular() {
    let node = Node::new();
    node.registry.push("app", "1", &[layer("a", 10)]);
    node.registry.allow(Access::Token(None));
    node.pull("app:1").await.expect("let in");
    assert_eq!(node.registry.count("/token"), 1, "one token serves the whole pull");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_shown_to_registries_that_ask() {
    let node = Node::new();
    node.registry.push("app", "1", &[layer("a", 10)]);
    node.registry.allow(Access::Basic(basic("right")));
    let name = node.registry.reference("app:1");
    let other = Credentials { registry: "other.example".into(), ..account(&node, "", "right") };
    let error = node.store.pull(&name, &[other]).await.expect_err("another registry's account");
    assert!(matches!(error, ImageError::Unauthorized { .. }), "{error}");
    assert!(node.registry.requests().iter().all(|request| request.authorization.is_none()));
    node.store.pull(&name, &[account(&node, "", "right")]).await.expect("let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_does_not_follow_a_redirect_elsewhere() {
    let node = Node::new();
    let elsewhere = Registry::start();
    let only = layer("a", 10);
    node.registry.push("app", "1", std::slice::from_ref(&only));
    elsewhere.push("app", "1", std::slice::from_ref(&only));
    node.registry.allow(Access::Basic(basic("right")));
    let path = format!("/v2/app/blobs/{}", only.digest);
    let to = format!("http://{}", elsewhere.reference(&path[1..]));
    node.registry.fail(&path, 1, Wrong::Status(307, "Location", to));
    let account = [account(&node, "", "right")];
    node.store.pull(&node.registry.reference("app:1"), &account).await.expect("pulled");
    let followed = elsewhere.requests();
    assert_eq!((followed.len(), &followed[0].authorization), (1, &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_was_promised() {
    let node = Node::new();
    let only = layer("a", 1000);
    let refuse = async |path: &str, what: Wrong, expected: &str| {
        node.registry.fail(path, 1, what);
        let error = node.pull("app:1").await.expect_err(expected);
        assert!(matches!(error, ImageError::Corrupt { .. }) && error.to_string().contains(expected), "{error}");
        node.is_empty();
    };
    let manifest = node.registry.push("app", "1", std::slice::from_ref(&only));
    let other = Digest::of(b"other").to_string();
    refuse("/manifests/1", Wrong::Digest(other), "not the one that was promised").await;
    refuse("/manifests/1", Wrong::Body(b"{}".to_vec()), "the manifest is malformed").await;
    let huge = vec![b' '; 5 << 20];
    refuse("/manifests/1", Wrong::Body(huge), "an answer has more than 4194304 bytes").await;
    let mut flipped = only.bytes.clone();
    flipped[30] ^= 1;
    refuse(&only.digest.hex(), Wrong::Body(flipped), "is damaged").await;
    refuse(&only.digest.hex(), Wrong::Body(vec![7; 9000]), "is damaged").await;
    let by_digest = format!("app@{}", manifest["digest"].as_str().expect("a text"));
    node.registry.fail("/manifests/", 1, Wrong::Body(b"{\"schemaVersion\":2}".to_vec()));
    let error = node.pull(&by_digest).await.expect_err("another manifest").to_string();
    assert!(error.contains("not the one that was promised"), "{error}");
    let config = crate::layout::config(std::slice::from_ref(&only), &crate::layout::here()).to_string();
    refuse(&Digest::of(config.as_bytes()).hex(), Wrong::Body(b"{}".to_vec()), "came for sha256:").await;
    node.pull("app:1").await.expect("and now without faults");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_thing_is_fetched_once() {
    let node = Node::new();
    let shared = layer("a", 400_000);
    node.registry.push("one", "1", &[shared.clone(), layer("b", 10)]);
    node.registry.push("two", "1", &[shared.clone(), layer("c", 10)]);
    let pulls = ["one:1", "one:1", "one:1", "two:1", "two:1"].map(|name| node.pull(name));
    let images = futures_util::future::join_all(pulls).await;
    let ids: Vec<_> = images.into_iter().map(|image| image.expect("pulled").id.clone()).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[3] == ids[4] && ids[0] != ids[3]);
    assert_eq!((node.registry.count("/manifests/"), node.registry.count(&shared.digest.hex())), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_given_up_leaves_nothing() {
    let node = Node::new();
    let big = layer("a", 500_000);
    node.registry.push("app", "1", std::slice::from_ref(&big));
    node.registry.fail(&big.digest.hex(), 100, Wrong::Stall(100_000));
    let given_up = tokio::time::timeout(Duration::from_millis(300), node.pull("app:1")).await;
    assert!(given_up.is_err());
    let content = node.dir.path().join("content");
    for _ in 0..200 {
        if leftovers(&content).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    node.is_empty();
}

/// An authority's certificate in PEM, and a server that it vouches for under this address.
fn encrypted(address: &str) -> (String, Arc<ServerConfig>) {
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).expect("signed");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(vec![address.to_owned()]).expect("an address");
    let leaf = leaf.signed_by(&key, &Issuer::new(authority, authority_key)).expect("signed");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = builder.expect("versions").with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key);
    (certificate.pem(), Arc::new(config.expect("they belong together")))
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_elsewhere_are_asked_by_tls_alone() {
    let (pem, config) = encrypted("0.0.0.0");
    let registry = Registry::start_encrypted(config);
    registry.push("app", "1", &[layer("a", 100_000)]);
    let dir = tempfile::tempdir().expect("a directory");
    let open = |name: &str, authorities_pem: &str| {
        let settings = Settings { clock: Clock::system(), authorities_pem: authorities_pem.into(), ..settings() };
        Store::open(&dir.path().join(name), settings).expect("opens")
    };
    let name = registry.reference("app:1");
    assert!(name.starts_with("0.0.0.0:"));
    let stranger = open("stranger", "").pull(&name, &[]).await.expect_err("its authority is unknown").to_string();
    assert!(stranger.contains("no TLS session with 0.0.0.0: ") && registry.requests().is_empty(), "{stranger}");
    let (other, _) = encrypted("0.0.0.0");
    open("other", &other).pull(&name, &[]).await.expect_err("another authority's");
    open("friend", &pem).pull(&name, &[]).await.expect("trusted");

    let (pem, config) = encrypted("127.9.9.9");
    let impostor = Registry::start_encrypted(config);
    impostor.push("app", "1", &[layer("a", 10)]);
    open("deceived", &pem).pull(&impostor.reference("app:1"), &[]).await.expect_err("another's certificate");
    assert!(impostor.requests().is_empty());
}
