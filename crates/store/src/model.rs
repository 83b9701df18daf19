//! The model of a store: ordered maps under a lock, every version of every key kept until it is compacted.
//!
//! It is what "correct" means: the other engines are compared with it, operation by operation. Tests of the layers
//! above use it as their store, since it needs no disk. Nothing is durable, and expired keys go when somebody next
//! calls, not by a timer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;
use futures_util::stream;
use tokio::sync::watch;

use crate::digest::Digest;
use crate::{
    At, Change, Committed, Entry, Event, Expect, FUTURE_WAIT, Page, REVISION_FIRST, Revision, Store, StoreError,
    StoreStatus, WatchStream, Watched, check_size,
};

/// A store in memory.
#[derive(Debug)]
pub struct ModelStore {
    contents: Arc<Mutex<Contents>>,
    newest: watch::Sender<Newest>,
    clock: Clock,
}

/// What waiting readers are woken by.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Newest {
    revision: Revision,
    closed: bool,
}

#[derive(Debug)]
struct Contents {
    /// Per key its states, oldest first; `None`: deleted at that revision.
    versions: BTreeMap<Bytes, Vec<(Revision, Option<Arc<Entry>>)>>,
    events: Vec<Arc<Event>>,
    revision: Revision,
    floor: Revision,
}

impl ModelStore {
    pub fn new(clock: Clock) -> Self {
        let contents =
            Contents { versions: BTreeMap::new(), events: Vec::new(), revision: REVISION_FIRST, floor: REVISION_FIRST };
        let newest = watch::Sender::new(Newest { revision: REVISION_FIRST, closed: false });
        Self { contents: Arc::new(Mutex::new(contents)), newest, clock }
    }

    /// Deletes the keys whose time is over. Every other call does it too.
    pub fn expire(&self) {
        drop(self.current());
    }

    /// The contents without what is expired.
    fn current(&self) -> MutexGuard<'_, Contents> {
        let mut contents = lock(&self.contents);
        let now_ms = self.clock.now_ms().unsigned_abs();
        let mut due: Vec<_> = contents.live().filter_map(|e| Some((e.expires_at_ms?, e.key.clone()))).collect();
        due.retain(|(expires_at_ms, _)| *expires_at_ms <= now_ms);
        due.sort();
        for (_, key) in due {
            contents.set(key, None);
        }
        self.announce(&contents);
        contents
    }

    fn announce(&self, contents: &Contents) {
        self.newest.send_if_modified(|newest| {
            let moved = newest.revision != contents.revision;
            newest.revision = contents.revision;
            moved
        });
    }

    fn commit(&self, key: Bytes, expect: Expect, change: Change) -> Result<Committed, StoreError> {
        check_size(&key, &change)?;
        let mut contents = self.current();
        if self.newest.borrow().closed {
            return Err(StoreError::Closed);
        }
        let previous = contents.at(&key, contents.revision);
        let holds = match (&expect, &change, &previous) {
            (Expect::Absent, Change::Put { .. }, None) => true,
            (Expect::Revision(revision), _, Some(entry)) => entry.mod_revision == *revision,
            _ => false,
        };
        if !holds {
            return Err(StoreError::Conflict { current: previous });
        }
        let revision = contents.revision + 1;
        let entry = match change {
            Change::Delete => None,
            Change::Put { value, ttl } => Some(Arc::new(Entry {
                key: key.clone(),
                value,
                create_revision: previous.as_ref().map_or(revision, |e| e.create_revision),
                mod_revision: revision,
                version: previous.as_ref().map_or(0, |e| e.version) + 1,
                expires_at_ms: ttl.map(|ttl| self.clock.now_ms().unsigned_abs() + ttl.as_millis() as u64),
            })),
        };
        contents.set(key, entry);
        self.announce(&contents);
        Ok(Committed { revision, previous })
    }

    /// The revision to read at, once it is there.
    async fn revision_of(&self, at: At) -> Result<Revision, StoreError> {
        if let At::AtLeast(revision) = at {
            self.wait_for(revision, FUTURE_WAIT).await?;
        }
        let contents = self.current();
        match at {
            At::Exact(revision) if revision < contents.floor => Err(StoreError::Compacted { floor: contents.floor }),
            At::Exact(revision) if revision > contents.revision => {
                Err(StoreError::Future { current: contents.revision })
            }
            At::Exact(revision) => Ok(revision),
            At::Latest | At::AtLeast(_) => Ok(contents.revision),
        }
    }
}

impl Contents {
    fn live(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.versions.values().filter_map(|states| states.last()?.1.as_ref())
    }

    fn at(&self, key: &[u8], revision: Revision) -> Option<Arc<Entry>> {
        state_at(self.versions.get(key)?, revision)
    }

    fn set(&mut self, key: Bytes, entry: Option<Arc<Entry>>) {
        let previous = self.at(&key, self.revision);
        self.revision += 1;
        self.versions.entry(key.clone()).or_default().push((self.revision, entry.clone()));
        self.events.push(Arc::new(Event { revision: self.revision, key, entry, previous }));
    }

    fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize, revision: Revision) -> Page {
        let behind = |key: &[u8]| after.is_none_or(|after| key > after);
        let mut entries: Vec<_> = self
            .versions
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && behind(key))
            .filter_map(|(_, states)| state_at(states, revision))
            .collect();
        let kept = if limit == 0 { entries.len() } else { limit.min(entries.len()) };
        let remaining = (entries.len() - kept) as u64;
        entries.truncate(kept);
        Page { entries, revision, remaining }
    }

    fn compact(&mut self, floor: Revision) {
        self.floor = self.floor.max(floor);
        self.events.retain(|event| event.revision > self.floor);
        for states in self.versions.values_mut() {
            let needed = states.partition_point(|(revision, _)| *revision <= self.floor).saturating_sub(1);
            states.drain(..needed);
        }
        self.versions.retain(|_, states| states.len() > 1 || states[0].1.is_some());
    }

    /// The first event after `seen` with the prefix.
    fn next_event(&self, prefix: &[u8], seen: Revision) -> Option<Arc<Event>> {
        self.events.iter().find(|event| event.revision > seen && event.key.starts_with(prefix)).cloned()
    }
}

fn state_at(states: &[(Revision, Option<Arc<Entry>>)], revision: Revision) -> Option<Arc<Entry>> {
    states.iter().rev().find(|(changed, _)| *changed <= revision)?.1.clone()
}

fn lock(contents: &Mutex<Contents>) -> MutexGuard<'_, Contents> {
    // No code panics between two related changes, so what a panicking holder leaves is whole.
    contents.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A watch: how far it has looked, and how far it has told its reader.
struct Watch {
    contents: Arc<Mutex<Contents>>,
    newest: watch::Receiver<Newest>,
    prefix: Bytes,
    seen: Revision,
    told: Revision,
    ended: bool,
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Watched, StoreError>> {
        while !self.ended {
            let newest = *self.newest.borrow_and_update();
            let item = self.look();
            self.ended = item.is_err();
            match item {
                Ok(None) if newest.closed => {
                    self.ended = true;
                    return Some(Err(StoreError::Closed));
                }
                // An error means that the store was dropped; the stream ends with it.
                Ok(None) => self.ended = self.newest.changed().await.is_err(),
                item => return item.transpose(),
            }
        }
        None
    }

    fn look(&mut self) -> Result<Option<Watched>, StoreError> {
        let contents = lock(&self.contents);
        if self.seen < contents.floor {
            return Err(StoreError::Compacted { floor: contents.floor });
        }
        if let Some(event) = contents.next_event(&self.prefix, self.seen) {
            (self.seen, self.told) = (event.revision, event.revision);
            return Ok(Some(Watched::Event(event)));
        }
        self.seen = contents.revision;
        let progressed = std::mem::replace(&mut self.told, self.seen) < self.seen;
        Ok(progressed.then_some(Watched::Progress(self.seen)))
    }
}

impl Store for ModelStore {
    fn status(&self) -> StoreStatus {
        let contents = self.current();
        let objects = contents.live().count() as u64;
        StoreStatus { revision: contents.revision, floor: contents.floor, objects, disk_bytes: 0, alarm: None }
    }

    fn get(&self, key: &[u8], at: At) -> BoxFuture<'_, Result<(Option<Arc<Entry>>, Revision), StoreError>> {
        let key = Bytes::copy_from_slice(key);
        Box::pin(async move {
            let revision = self.revision_of(at).await?;
            Ok((lock(&self.contents).at(&key, revision), revision))
        })
    }

    fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: At,
    ) -> BoxFuture<'_, Result<Page, StoreError>> {
        let (prefix, after) = (Bytes::copy_from_slice(prefix), after.map(Bytes::copy_from_slice));
        Box::pin(async move {
            let revision = self.revision_of(at).await?;
            Ok(lock(&self.contents).list(&prefix, after.as_deref(), limit, revision))
        })
    }

    fn write(&self, key: Bytes, expect: Expect, change: Change) -> BoxFuture<'_, Result<Committed, StoreError>> {
        Box::pin(async move { self.commit(key, expect, change) })
    }

    fn watch(&self, prefix: &[u8], from: Revision) -> Result<WatchStream, StoreError> {
        let from = from.max(REVISION_FIRST);
        let newest = self.newest.subscribe();
        let contents = self.current();
        if from < contents.floor {
            return Err(StoreError::Compacted { floor: contents.floor });
        }
        if from > contents.revision {
            return Err(StoreError::Future { current: contents.revision });
        }
        let (prefix, contents) = (Bytes::copy_from_slice(prefix), self.contents.clone());
        let watch = Watch { contents, newest, prefix, seen: from, told: from - 1, ended: false };
        Ok(Box::pin(stream::unfold(watch, async |mut watch| Some((watch.next().await?, watch)))))
    }

    fn wait_for(&self, revision: Revision, limit: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut newest = self.newest.subscribe();
            let reached = newest.wait_for(|newest| newest.revision >= revision);
            match tokio::time::timeout(limit, reached).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(StoreError::Future { current: self.current().revision }),
            }
        })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut contents = self.current();
            if revision > contents.revision {
                return Err(StoreError::Future { current: contents.revision });
            }
            contents.compact(revision);
            Ok(())
        })
    }

    fn hash(&self) -> BoxFuture<'_, Result<(Revision, u64), StoreError>> {
        Box::pin(async move {
            let contents = self.current();
            let mut digest = Digest::new();
            contents.live().for_each(|entry| digest.entry(entry));
            Ok((contents.revision, digest.finish()))
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.newest.send_modify(|newest| newest.closed = true);
            Ok(())
        })
    }
}
