//! The one watch of the store that feeds all caches.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Str;
use corten_stdx::clock::Clock;
use corten_stdx::task::{Stopped, Tasks};
use corten_store::{At, Event, Revision, Store, StoreError, Watched};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{Cache, Cursor, Snapshot, cursor, too_old};
use crate::registry::storage::{Opener, refusal};

/// What every key of an object starts with.
const ROOT: &[u8] = b"/";

/// How long a read waits for a revision that is not there yet, as upstream.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Between two attempts to watch a store that fails.
const RETRY: Duration = Duration::from_millis(100);

/// All caches, by storage prefix.
#[derive(Clone)]
pub(crate) struct Caches(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    opener: Opener,
    clock: Clock,
    caches: RwLock<HashMap<Str, Arc<Cache>, ahash::RandomState>>,
    /// Every change up to this revision is in the caches.
    reached: watch::Sender<Revision>,
}

impl Caches {
    /// Starts feeding at the store's present revision.
    pub(crate) fn start(store: Arc<dyn Store>, opener: Opener, clock: Clock, tasks: &Tasks) -> Self {
        let reached = watch::Sender::new(store.status().revision);
        let caches = Self(Arc::new(Shared { store, opener, clock, caches: RwLock::default(), reached }));
        let feed = caches.clone();
        let stopped = tasks.stopped();
        tasks.spawn("watch cache feed", async move { feed.feed(stopped).await });
        caches
    }

    /// The cache of a kind's storage prefix, filled.
    pub(crate) async fn of(&self, home: &Arc<KindInfo>) -> Result<Arc<Cache>, Status> {
        loop {
            let cache = self.get_or_insert(home);
            cache.filled.get_or_try_init(|| self.fill(&cache)).await?;
            if !cache.is_closed() {
                return Ok(cache);
            }
            self.forget(&cache);
        }
    }

    /// A kind's objects in a state that includes a revision; `None`: everything acknowledged before the call.
    pub(crate) async fn snapshot(
        &self,
        home: &Arc<KindInfo>,
        revision: Option<Revision>,
    ) -> Result<(Arc<Cache>, Snapshot), Status> {
        loop {
            let cache = self.of(home).await?;
            let reached = match revision {
                None => self.catch_up().await?,
                Some(revision) => self.wait(revision).await?,
            };
            // Closed meanwhile: there is a new cache to ask.
            if let Some(snapshot) = cache.snapshot(reached) {
                return Ok((cache, snapshot));
            }
        }
    }

    /// The cache, if somebody has asked for it before; possibly not filled yet.
    pub(crate) fn existing(&self, storage_prefix: &str) -> Option<Arc<Cache>> {
        self.0.caches.read().unwrap_or_else(PoisonError::into_inner).get(storage_prefix).cloned()
    }

    fn get_or_insert(&self, home: &Arc<KindInfo>) -> Arc<Cache> {
        if let Some(cache) = self.existing(&home.storage_prefix) {
            return cache;
        }
        let mut caches = self.0.caches.write().unwrap_or_else(PoisonError::into_inner);
        caches.entry(home.storage_prefix.clone()).or_insert_with(|| Arc::new(Cache::new(home.clone()))).clone()
    }

    /// Lists what the store has. The cache is in the map already, so no change can slip between list and feed.
    async fn fill(&self, cache: &Cache) -> Result<(), Status> {
        let prefix = format!("{}/", cache.home.storage_prefix);
        let page = self.0.store.list(prefix.as_bytes(), None, 0, At::Latest).await.map_err(|error| refusal(&error))?;
        cache.fill(&page, &self.0.opener);
        Ok(())
    }

    fn forget(&self, cache: &Arc<Cache>) {
        let mut caches = self.0.caches.write().unwrap_or_else(PoisonError::into_inner);
        if caches.get(&cache.home.storage_prefix).is_some_and(|own| Arc::ptr_eq(own, cache)) {
            caches.remove(&cache.home.storage_prefix);
        }
    }

    /// Closes the cache of a prefix whose kinds have changed; its watchers end, the next reader fills a new one.
    pub(crate) fn close(&self, storage_prefix: &str) {
        if let Some(cache) = self.existing(storage_prefix) {
            cache.close(too_old());
            self.forget(&cache);
        }
    }

    /// Everything that the caches hold includes this revision.
    pub(crate) fn reached(&self) -> Revision {
        *self.0.reached.borrow()
    }

    /// Waits until the caches hold everything that was acknowledged before the call.
    async fn catch_up(&self) -> Result<Revision, Status> {
        let (_, current) = self.0.store.get(ROOT, At::Latest).await.map_err(|error| refusal(&error))?;
        self.wait(current).await
    }

    /// Waits for a revision, which may not have been written yet.
    pub(crate) async fn wait(&self, revision: Revision) -> Result<Revision, Status> {
        let mut reached = self.0.reached.subscribe();
        let waited = tokio::time::timeout(WAIT_MAX, reached.wait_for(|reached| *reached >= revision)).await;
        match waited {
            Ok(Ok(reached)) => Ok(*reached),
            Ok(Err(_)) | Err(_) => Err(Status::too_large_resource_version(revision, self.reached())),
        }
    }

    /// Changes of a cache after a revision: from the ring, or from the store's history where the ring is too short.
    pub(crate) fn cursor(&self, cache: &Arc<Cache>, after: Revision) -> Result<Cursor, Status> {
        let history = |from| self.0.store.watch(ROOT, from).map_err(|error| cursor::refusal_at(from, &error));
        Cursor::new(cache.clone(), self.0.opener.clone(), after, history)
    }

    async fn feed(self, mut stopped: Stopped) {
        loop {
            tokio::select! {
                () = stopped.wait() => return,
                error = self.follow() => match error {
                    StoreError::Closed => return,
                    StoreError::Compacted { .. } => self.start_again(),
                    error => {
                        tracing::warn!(error = %error, "the store's watch broke; resuming");
                        tokio::time::sleep(RETRY).await;
                    }
                },
            }
        }
    }

    /// Feeds the caches until the watch ends.
    async fn follow(&self) -> StoreError {
        let mut watch = match self.0.store.watch(ROOT, self.reached()) {
            Ok(watch) => watch,
            Err(error) => return error,
        };
        while let Some(watched) = watch.next().await {
            match watched {
                Ok(Watched::Event(event)) => {
                    self.apply(&event);
                    self.advance(event.revision);
                }
                Ok(Watched::Progress(revision)) => self.advance(revision),
                Err(error) => return error,
            }
        }
        StoreError::Indeterminate("the watch ended".to_owned())
    }

    fn advance(&self, revision: Revision) {
        self.0.reached.send_if_modified(|reached| std::mem::replace(reached, revision.max(*reached)) < revision);
    }

    fn apply(&self, event: &Arc<Event>) {
        let cache = {
            let caches = self.0.caches.read().unwrap_or_else(PoisonError::into_inner);
            owner_of(&event.key, &caches).cloned()
        };
        if let Some(cache) = cache {
            cache.apply(event, &self.0.opener);
            cache.pages.expire(self.0.clock.now_ms());
        }
    }

    /// The feed has fallen behind the store's history: what the caches miss is unknown, so all start again.
    fn start_again(&self) {
        tracing::warn!("the watch cache fell behind the store's history; filling it again");
        let closed = std::mem::take(&mut *self.0.caches.write().unwrap_or_else(PoisonError::into_inner));
        self.advance(self.0.store.status().revision);
        for cache in closed.values() {
            cache.close(too_old());
        }
    }
}

/// The cache below whose prefix a key lies: `prefix/name` or `prefix/namespace/name`.
fn owner_of<'a>(key: &[u8], caches: &'a HashMap<Str, Arc<Cache>, ahash::RandomState>) -> Option<&'a Arc<Cache>> {
    let key = std::str::from_utf8(key).ok()?;
    let (parent, _) = key.rsplit_once('/')?;
    let cluster = caches.get(parent).filter(|cache| !cache.home.namespaced());
    cluster.or_else(|| caches.get(parent.rsplit_once('/')?.0).filter(|cache| cache.home.namespaced()))
}
