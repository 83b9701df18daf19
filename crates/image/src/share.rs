//! Images between the nodes of a cluster. What no registry has, since it came from a file or a folder, lies packed in the store
//! ([`Shared`]); another node gets it by the same requests that a registry is asked, over connections that prove both sides
//! ([`Dial`]). Everything but the name is checked by digests, as with a registry.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_core::future::BoxFuture;
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::digest::{Digest, Hashing};
use crate::manifest::{Document, MANIFEST_BYTES_MAX};
use crate::plan::choose;
use crate::reference::Reference;
use crate::registry::Session;
use crate::store::Store;
use crate::{Image, ImageError};

/// A connection that carries bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Connections to other nodes, on which both sides have proved who they are.
pub trait Dial: Send + Sync {
    fn dial<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Box<dyn Duplex>>>;
}

/// Another node that may have an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// For messages.
    pub name: String,
    pub host: String,
    pub port: u16,
}

/// What other nodes may have of this node's images: those that are here packed, with all their layers.
pub trait Shared: Send + Sync {
    /// A manifest or index of a repository, by tag or digest. `None`: not here, or not whole. May take a moment.
    fn manifest(&self, repository: &str, version: &str) -> Result<Option<Vec<u8>>, ImageError>;

    /// A file by its digest.
    fn blob(&self, digest: &str) -> Result<Option<File>, ImageError>;
}

impl Store {
    /// Gets an image from another node. Whoever asks for the same at the same time joins.
    ///
    /// # Errors
    /// `NotFound` where that node does not have it whole; what came and is not what was promised is `Corrupt`.
    pub async fn pull_from(&self, peer: &Peer, dial: Arc<dyn Dial>, reference: &str) -> Result<Arc<Image>, ImageError> {
        let reference = Reference::parse(reference)?;
        let (store, peer) = (self.clone(), peer.clone());
        let key = format!("{reference} from {}:{}", peer.host, peer.port);
        let begin = || {
            async move {
                let session = Session::of_peer(store.settings(), &peer, dial, &reference);
                store.pull_as(&reference, Arc::new(session)).await
            }
            .boxed()
        };
        self.join_pull(key, begin).await
    }

    /// Whether everything that a manifest or index of ours leads to is here.
    fn is_whole(&self, name: &str, digest: &Digest, depth: u32) -> Result<bool, ImageError> {
        let Some(bytes) = self.kept(digest)? else { return Ok(false) };
        let damaged = |detail| ImageError::Corrupt { what: name.to_owned(), detail };
        match Document::parse(&bytes).map_err(damaged)? {
            Document::Manifest(manifest) => {
                let parts = manifest.layers.iter().chain([&manifest.config]);
                Ok(parts.map(|part| self.blob_file(&part.digest)).all(|path| path.exists()))
            }
            Document::Index(entries) => {
                let chosen = choose(name, &self.settings().platform, &entries, depth)?;
                self.is_whole(name, &chosen.digest, depth + 1)
            }
        }
    }

    /// A small file of ours, whole.
    fn kept(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(file) = self.open_blob(digest)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| ImageError::io(&digest.to_string(), error))?;
        Ok(Some(bytes))
    }

    fn open_blob(&self, digest: &Digest) -> Result<Option<File>, ImageError> {
        match File::open(self.blob_file(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some).map_err(|error| ImageError::io(&digest.to_string(), error)),
        }
    }
}

impl Shared for Store {
    fn manifest(&self, repository: &str, version: &str) -> Result<Option<Vec<u8>>, ImageError> {
        let by_digest = version.parse::<Digest>().is_ok();
        let name = format!("{repository}{}{version}", if by_digest { '@' } else { ':' });
        let Some(image) = self.known(&name)? else { return Ok(None) };
        let of_repository = format!("{repository}@");
        let digests = image.digests.iter().rev().filter_map(|full| full.strip_prefix(&of_repository));
        for digest in digests.filter_map(|digest| digest.parse::<Digest>().ok()) {
            let is_asked = !by_digest || digest.to_string() == version;
            if is_asked && self.is_whole(&name, &digest, 0)? {
                return self.kept(&digest);
            }
        }
        // An index of ours leads to manifests without a name.
        match version.parse::<Digest>() {
            Ok(digest) if self.is_whole(&name, &digest, 0)? => self.kept(&digest),
            _ => Ok(None),
        }
    }

    fn blob(&self, digest: &str) -> Result<Option<File>, ImageError> {
        digest.parse::<Digest>().map_or(Ok(None), |digest| self.open_blob(&digest))
    }
}

/// Hands on what is read, and keeps it in a file.
pub(crate) struct Keeping<R> {
    inner: R,
    file: File,
}

impl<R> Keeping<R> {
    pub(crate) fn new(inner: R, path: &Path) -> io::Result<Self> {
        Ok(Self { inner, file: File::create_new(path)? })
    }
}

impl<R: Read> Read for Keeping<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.file.write_all(&into[..read])?;
        Ok(read)
    }
}

/// Keeps a file whose contents are unpacked already, if they are what was promised.
pub(crate) fn keep(what: &str, source: impl Read, digest: &Digest, folder: &Path) -> Result<PathBuf, ImageError> {
    let path = folder.join(format!("{}.packed", digest.hex()));
    let failed = |error| ImageError::io(what, error);
    let mut source = Hashing::new(source);
    io::copy(&mut source, &mut File::create(&path).map_err(failed)?).map_err(failed)?;
    let (found, _) = source.finish();
    if found != *digest {
        let detail = format!("its digest is {found}, not {digest}");
        return Err(ImageError::Corrupt { what: what.to_owned(), detail });
    }
    Ok(path)
}
