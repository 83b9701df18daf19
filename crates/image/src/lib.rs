//! Images of a node: what they are ([`Image`]) and where they come from ([`Images`]); and the store that keeps them unpacked on
//! disk ([`Store`]), fed by archives, folders and registries.

use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

use corten_stdx::error::Chain;
use futures_core::future::BoxFuture;

mod archive;
mod digest;
mod from_root;
mod import;
mod manifest;
mod plan;
mod pull;
mod reference;
mod registry;
mod share;
mod store;
mod unpack;

pub use digest::{Digest, NoDigest};
pub use from_root::Recipe;
pub use manifest::Platform;
pub use reference::Reference;
pub use share::{Dial, Duplex, Peer, Shared};
pub use store::{Collected, Settings, Space, Store};

/// An image whose layers are unpacked on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:` and the digest of the configuration.
    pub id: String,
    /// Full references with tags: `docker.io/library/nginx:1.27`.
    pub tags: Vec<String>,
    /// Full references with digests of manifests: `docker.io/library/nginx@sha256:…`.
    pub digests: Vec<String>,
    /// Layer folders, topmost first.
    pub layers: Vec<PathBuf>,
    pub config: Config,
    /// Bytes of all layers, unpacked.
    pub size_bytes: u64,
}

/// What an image says about its containers (OCI image specification, config).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub working_dir: String,
    /// A signal's name or number; empty is SIGTERM.
    pub stop_signal: String,
    /// Ports as the image writes them: `8080/tcp`.
    pub exposed_ports: Vec<String>,
    pub labels: Vec<(String, String)>,
}

/// Why an image cannot be had. The texts are shown to users.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImageError {
    #[error("{reference:?} is no image reference: {problem}")]
    Reference { reference: String, problem: &'static str },
    /// Neither here nor in its registry.
    #[error("{reference} is not found: {detail}")]
    NotFound { reference: String, detail: String },
    #[error("{reference} is not made for {platform}; it has {offered}")]
    Platform { reference: String, platform: String, offered: String },
    #[error("the registry {registry} does not let us: {detail}")]
    Unauthorized { registry: String, detail: String },
    /// What came is not what was promised: digest, size, format, or a path that leaves the image.
    #[error("{what} is damaged: {detail}")]
    Corrupt { what: String, detail: String },
    #[error("no space left for {what}")]
    NoSpace { what: String },
    /// May work later.
    #[error("{what}: {detail}")]
    Failed { what: String, detail: String },
}

impl ImageError {
    /// What the system refused, about something.
    pub(crate) fn io(what: &str, error: io::Error) -> Self {
        let what = what.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace { what },
            _ => Self::Failed { what, detail: Chain(&error).to_string() },
        }
    }
}

/// Name and password of a registry, from an image pull secret.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// Host, with port and path prefix where the secret has one.
    pub registry: String,
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({} at {})", self.username, self.registry)
    }
}

/// The images of this node.
pub trait Images: Send + Sync {
    /// The image that a reference names, if it is here. Short names are completed as Docker does.
    fn find(&self, reference: &str) -> Result<Option<Arc<Image>>, ImageError>;

    /// Gets an image from its registry, or finds out that what is here is the newest. Pulls of the same thing are one pull.
    fn pull<'a>(
        &'a self,
        reference: &'a str,
        credentials: &'a [Credentials],
    ) -> BoxFuture<'a, Result<Arc<Image>, ImageError>>;

    fn list(&self) -> Vec<Arc<Image>>;

    /// Images in use are never collected; called with the ids of all that are, whenever that changes.
    fn set_in_use(&self, ids: Vec<String>);

    /// Frees the disk of all that nothing uses and nobody has asked for just now. Gives the bytes. May take seconds.
    fn remove_unused(&self) -> Result<u64, ImageError>;
}
