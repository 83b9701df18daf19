//! The watch cache: for each stored resource an ordered copy-on-write map of its objects and a ring of the last
//! changes, fed by one watch of the store.
//!
//! One watch for all resources, not one each: its last revision is then a lower bound for *every* cache, so a
//! consistent read waits for the store's revision and needs no progress notice of a quiet resource. A cache is filled
//! by its first reader; what nobody reads costs nothing.
//!
//! Lock order: a cache's state alone. No lock is held across an `await`.

mod cursor;
mod feed;
mod pages;
mod ring;

pub(crate) use cursor::{Cursor, Step};
pub(crate) use feed::Caches;
pub(crate) use pages::PAGE_AGE_MS_MAX;
pub(crate) use ring::{After, Change};

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Str;
use corten_store::{Event, Page, Revision};
use imbl::OrdMap;
use tokio::sync::watch;

use crate::registry::object::ObjectError;
use crate::registry::storage::Opener;
use crate::registry::{Object, key};
use pages::Pages;
use ring::Ring;

/// Objects by `namespace/name` or `name`, which is the store's order. A clone is a snapshot and costs nothing.
pub(crate) type Objects = OrdMap<Str, Arc<Object>>;

/// Changes that may arrive while a cache is being filled; beyond it filling starts again.
const PENDING_CHANGES_MAX: usize = 100_000;

/// The objects of one storage prefix.
pub(crate) struct Cache {
    /// The record of the stored version.
    pub(crate) home: Arc<KindInfo>,
    state: RwLock<State>,
    /// Sequence number of the next change; every watcher waits on it.
    end: watch::Sender<u64>,
    filled: tokio::sync::OnceCell<()>,
    pages: Pages,
}

enum State {
    /// The list is on its way; these changes came meanwhile.
    Filling(Vec<Arc<Event>>),
    Live(Live),
    /// Readers have to ask for a new cache; watchers end with this.
    Closed(Status),
}

struct Live {
    objects: Objects,
    /// Keys whose bytes cannot be read, and why. A list that should hold one fails rather than leave it out.
    broken: Arc<BTreeMap<Str, ObjectError>>,
    ring: Ring,
    /// The last revision that changed this cache, or that it was filled at.
    revision: Revision,
}

/// All objects at one moment.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) objects: Objects,
    pub(crate) broken: Arc<BTreeMap<Str, ObjectError>>,
    /// The last change that is in, or when the cache was filled.
    pub(crate) changed: Revision,
    /// Nothing at or below it is missing, nothing above it is in.
    pub(crate) revision: Revision,
}

impl Cache {
    fn new(home: Arc<KindInfo>) -> Self {
        Self {
            home,
            state: RwLock::new(State::Filling(Vec::new())),
            end: watch::Sender::new(0),
            filled: tokio::sync::OnceCell::new(),
            pages: Pages::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the list that filling asked for, then what came since.
    fn fill(&self, page: &Page, opener: &Opener) {
        let mut live = Live::of(page, &self.home, opener);
        let mut state = self.write();
        if let State::Filling(pending) = &*state {
            for event in pending.iter().filter(|event| event.revision > page.revision) {
                live.apply(event, &self.home, opener);
            }
            let end = live.ring.end();
            *state = State::Live(live);
            drop(state);
            self.end.send_replace(end);
        }
    }

    /// Takes one change of the store, in revision order.
    fn apply(&self, event: &Arc<Event>, opener: &Opener) {
        let mut state = self.write();
        match &mut *state {
            State::Closed(_) => {}
            State::Filling(pending) if pending.len() < PENDING_CHANGES_MAX => pending.push(event.clone()),
            State::Filling(_) => *state = State::Closed(too_old()),
            State::Live(live) if event.revision <= live.revision => {}
            State::Live(live) => {
                live.apply(event, &self.home, opener);
                let end = live.ring.end();
                drop(state);
                self.end.send_replace(end);
            }
        }
    }

    /// Ends all watchers with a refusal and lets readers fill a new cache.
    fn close(&self, why: Status) {
        *self.write() = State::Closed(why);
        self.end.send_modify(|_| {});
    }

    fn is_closed(&self) -> bool {
        matches!(&*self.read(), State::Closed(_))
    }

    /// Everything as it is now; `reached` is the feed's revision, read before the call. `None` once it is closed.
    fn snapshot(&self, reached: Revision) -> Option<Snapshot> {
        match &*self.read() {
            State::Live(live) => Some(Snapshot {
                objects: live.objects.clone(),
                broken: live.broken.clone(),
                changed: live.revision,
                revision: live.revision.max(reached),
            }),
            State::Filling(_) | State::Closed(_) => None,
        }
    }

    /// One object as it is now, without waiting; `None` where there is none, or none that can be read.
    pub(crate) fn peek(&self, relative: &str) -> Option<Arc<Object>> {
        match &*self.read() {
            State::Live(live) => live.objects.get(relative).cloned(),
            State::Filling(_) | State::Closed(_) => None,
        }
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }
}

impl Live {
    fn of(page: &Page, home: &KindInfo, opener: &Opener) -> Self {
        let mut live = Self {
            objects: Objects::new(),
            broken: Arc::default(),
            ring: Ring::new(page.revision),
            revision: page.revision,
        };
        for entry in &page.entries {
            let relative = relative_key(home, &entry.key);
            match opener.open(home, entry) {
                Ok(object) => {
                    live.objects.insert(relative, Arc::new(object));
                }
                Err(error) => {
                    tracing::error!(key = %entry.key.escape_ascii(), %error, "stored object cannot be read");
                    Arc::make_mut(&mut live.broken).insert(relative, error);
                }
            }
        }
        live
    }

    fn apply(&mut self, event: &Event, home: &KindInfo, opener: &Opener) {
        let relative = relative_key(home, &event.key);
        if self.broken.contains_key(&relative) {
            Arc::make_mut(&mut self.broken).remove(&relative);
        }
        let (after, before) = match event.entry.as_ref().map(|entry| opener.open(home, entry)) {
            None => (After::Gone, self.objects.remove(&relative)),
            Some(Ok(object)) => {
                let object = Arc::new(object);
                (After::Put(object.clone()), self.objects.insert(relative.clone(), object))
            }
            Some(Err(error)) => {
                tracing::error!(key = %event.key.escape_ascii(), %error, "stored object cannot be read");
                Arc::make_mut(&mut self.broken).insert(relative.clone(), error.clone());
                (After::Broken(error), self.objects.remove(&relative))
            }
        };
        self.revision = event.revision;
        self.ring.push(Change::new(event.revision, relative, after, before));
    }
}

impl Snapshot {
    /// One object. Fails if it is there but cannot be read.
    pub(crate) fn object(&self, home: &KindInfo, relative: &str) -> Result<Option<Arc<Object>>, Status> {
        match self.broken.get(relative) {
            Some(error) => Err(unreadable_object(&key::absolute_of(&home.storage_prefix, relative), error)),
            None => Ok(self.objects.get(relative).cloned()),
        }
    }

    /// Objects whose key starts with `prefix` and comes after `after`, in order. Fails if one of them cannot be read.
    pub(crate) fn range<'a>(
        &'a self,
        home: &KindInfo,
        prefix: &'a str,
        from: &'a str,
    ) -> Result<impl Iterator<Item = (&'a Str, &'a Arc<Object>)> + Clone, Status> {
        let start = from.max(prefix);
        let unreadable = self.broken.iter().find(|(key, _)| key.as_str() >= start && key.starts_with(prefix));
        if let Some((key, error)) = unreadable {
            return Err(unreadable_object(&key::absolute_of(&home.storage_prefix, key), error));
        }
        let range = self.objects.range::<_, str>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        Ok(range.take_while(move |(key, _)| key.starts_with(prefix)))
    }

    /// A snapshot of a page that the store listed at an older revision.
    pub(crate) fn of_page(page: &Page, home: &KindInfo, opener: &Opener) -> Self {
        let live = Live::of(page, home, opener);
        Self { objects: live.objects, broken: live.broken, changed: page.revision, revision: page.revision }
    }
}

/// Upstream's refusal of an object that cannot be decrypted or decoded.
pub(crate) fn unreadable_object(key: &[u8], error: &ObjectError) -> Status {
    Status::internal(format_args!("unable to transform key {:?}: {error}", key.escape_ascii().to_string()))
}

/// Upstream's answer to a watch that starts before, or falls behind, what is kept.
pub(crate) fn too_old() -> Status {
    Status::expired("The resourceVersion for the provided watch is too old.")
}

/// `namespace/name` of a store key that is known to lie below the kind's prefix.
fn relative_key(home: &KindInfo, key: &[u8]) -> Str {
    let relative = key.get(home.storage_prefix.len() + 1..).unwrap_or_default();
    Str::from_utf8_lossy(relative)
}
