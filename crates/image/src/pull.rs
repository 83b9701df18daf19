//! Images from registries. What several want at the same time is fetched once: an image by its reference, a layer by its digest.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared, try_join_all};
use tokio::sync::Semaphore;

use crate::digest::Digest;
use crate::manifest::{CONFIG_BYTES_MAX, Descriptor, Document, Manifest};
use crate::plan::{Plan, Staged, choose};
use crate::reference::Reference;
use crate::registry::{Connector, Session, download, fitting};
use crate::store::{Names, Store};
use crate::unpack::Expected;
use crate::{Credentials, Image, ImageError, Images as _};

/// Layers that come at the same time.
const DOWNLOADS_MAX: usize = 3;

pub(crate) type Work<T> = BoxFuture<'static, Result<T, ImageError>>;

/// What is being fetched in this process.
#[derive(Debug)]
pub(crate) struct Pulls {
    connector: Connector,
    images: Ongoing<(String, Vec<Credentials>), Arc<Image>>,
    layers: Ongoing<Digest, Arc<Staged>>,
    downloads: Semaphore,
}

impl Pulls {
    pub(crate) fn new(authorities_pem: &[u8]) -> Self {
        Self {
            connector: Connector::new(authorities_pem),
            images: Ongoing::default(),
            layers: Ongoing::default(),
            downloads: Semaphore::new(DOWNLOADS_MAX),
        }
    }
}

/// Work that whoever asks for the same joins. It ends when nobody waits for it any more.
struct Ongoing<K, T: Clone>(Mutex<HashMap<K, WeakShared<Work<T>>>>);

impl<K, T: Clone> Default for Ongoing<K, T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K, T: Clone> std::fmt::Debug for Ongoing<K, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ongoing")
    }
}

impl<K: Eq + std::hash::Hash, T: Clone> Ongoing<K, T> {
    fn join(&self, key: K, begin: impl FnOnce() -> Work<T>) -> Shared<Work<T>> {
        let mut ongoing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ongoing.retain(|_, work| work.upgrade().is_some_and(|work| work.peek().is_none()));
        if let Some(work) = ongoing.get(&key).and_then(WeakShared::upgrade) {
            return work;
        }
        let work = begin().shared();
        ongoing.extend(work.downgrade().map(|weak| (key, weak)));
        work
    }
}

impl Store {
    /// Joins a pull of this name, or begins it.
    pub(crate) async fn join_pull(
        &self,
        key: String,
        begin: impl FnOnce() -> Work<Arc<Image>>,
    ) -> Result<Arc<Image>, ImageError> {
        self.pulls().images.join((key, Vec::new()), begin).await
    }

    pub(crate) async fn pull_image(
        &self,
        reference: &str,
        credentials: &[Credentials],
    ) -> Result<Arc<Image>, ImageError> {
        let reference = Reference::parse(reference)?;
        let fitting = fitting(credentials, &reference);
        let key = (reference.to_string(), fitting.clone());
        let store = self.clone();
        self.pulls().images.join(key, || async move { store.pull_as_any(reference, fitting).await }.boxed()).await
    }

    /// With each of the credentials until one is let in; as nobody, where there are none.
    async fn pull_as_any(&self, reference: Reference, credentials: Vec<Credentials>) -> Result<Arc<Image>, ImageError> {
        let mut users: Vec<Option<Credentials>> = credentials.into_iter().map(Some).collect();
        if users.is_empty() {
            users.push(None);
        }
        let mut refused = None;
        for user in users {
            let session = Session::new(self.settings(), &self.pulls().connector, &reference, user);
            match self.pull_as(&reference, Arc::new(session)).await {
                Err(error @ ImageError::Unauthorized { .. }) => refused = Some(error),
                other => return other,
            }
        }
        Err(refused.expect("there was at least one user"))
    }

    pub(crate) async fn pull_as(&self, reference: &Reference, session: Arc<Session>) -> Result<Arc<Image>, ImageError> {
        let name = reference.to_string();
        let top = session.manifest(&reference.version()).await?;
        let names = Names {
            tags: reference.tagged().into_iter().collect(),
            digests: vec![reference.with_digest(Digest::of(&top))],
        };
        if let Some(image) = self.find(&names.digests[0])?.filter(|image| has_tags(image, &names)) {
            return Ok(image);
        }
        let (manifest, documents) = self.resolve(&name, &session, top).await?;
        let config = session.blob(&manifest.config, CONFIG_BYTES_MAX).await?;
        let mut plan = Plan::new(&name, &manifest, config, self.settings())?;
        documents.into_iter().for_each(|document| plan.keep(document));
        let layers = plan.layers.iter().zip(&manifest.layers);
        let staged = layers.map(|(expected, blob)| self.layer(&session, expected.clone(), blob.clone()));
        let staged: Vec<Arc<Staged>> = try_join_all(staged).await?.into_iter().flatten().collect();
        let store = self.clone();
        let packed = staged.iter().filter_map(|staged| staged.packed()).collect();
        blocking(name, move || store.commit(&plan, &staged, &packed, names)).await
    }

    /// From what the reference names to the manifest for this machine, and everything that was read on the way.
    async fn resolve(
        &self,
        name: &str,
        session: &Session,
        top: Vec<u8>,
    ) -> Result<(Manifest, Vec<Vec<u8>>), ImageError> {
        let mut documents = vec![top];
        loop {
            let newest = documents.last().expect("it begins with one");
            let damaged = |detail| ImageError::Corrupt { what: name.to_owned(), detail };
            let entries = match Document::parse(newest).map_err(damaged)? {
                Document::Manifest(manifest) => return Ok((manifest, documents)),
                Document::Index(entries) => entries,
            };
            let depth = u32::try_from(documents.len()).unwrap_or(u32::MAX);
            let chosen = choose(name, &self.settings().platform, &entries, depth)?;
            documents.push(session.manifest(&chosen.digest.to_string()).await?);
        }
    }

    /// Unpacked and ready, or nothing when it is in the store already.
    async fn layer(
        &self,
        session: &Arc<Session>,
        expected: Expected,
        blob: Descriptor,
    ) -> Result<Option<Arc<Staged>>, ImageError> {
        if self.has_layer(&expected.diff_id)? {
            return Ok(None);
        }
        let (store, session, diff_id) = (self.clone(), session.clone(), expected.diff_id);
        let begin = || async move { store.fetch(session, expected, blob).await }.boxed();
        self.pulls().layers.join(diff_id, begin).await.map(Some)
    }

    async fn fetch(
        &self,
        session: Arc<Session>,
        expected: Expected,
        blob: Descriptor,
    ) -> Result<Arc<Staged>, ImageError> {
        let _permit = self.pulls().downloads.acquire().await.expect("it is never closed");
        let is_kept = session.is_peer();
        let (pieces, feed) = download(session, blob);
        let store = self.clone();
        let unpacked = blocking(expected.what(), move || {
            let workspace = store.workspace()?;
            // What no registry has is passed on packed.
            let staged = match is_kept {
                true => Staged::unpack_and_keep(&workspace, &expected, pieces),
                false => Staged::unpack(&workspace, &expected, pieces),
            };
            staged.map(Arc::new)
        });
        tokio::join!(unpacked, feed).0
    }
}

fn has_tags(image: &Image, names: &Names) -> bool {
    names.tags.iter().all(|tag| image.tags.contains(tag))
}

async fn blocking<T: Send + 'static>(
    what: String,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(ImageError::Failed { what, detail: error.to_string() }),
    }
}
