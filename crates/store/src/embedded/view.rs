//! The whole store at one revision, and the history behind it.
//!
//! Objects and history are persistent structures: a clone costs nothing and shares everything, so readers hold a view
//! as long as they like and never meet the writer. Older states are not kept; a read at an older revision undoes the
//! events in between.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::{OrdSet, Vector};

use super::record::Record;
use crate::{Change, Entry, Event, Expect, Page, REVISION_FIRST, Revision, StoreError};

#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) revision: Revision,
    /// The events after it are in `history`, without a gap.
    pub(crate) floor: Revision,
    objects: OrdSet<ByKey>,
    history: Vector<Arc<Event>>,
    /// Keys and values of the objects.
    pub(crate) object_bytes: u64,
    /// What the events hold, roughly.
    pub(crate) history_bytes: u64,
}

/// An entry that is ordered and found by its key.
#[derive(Clone, Debug)]
struct ByKey(Arc<Entry>);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        &self.0.key
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByKey {}

/// What the states between an older revision and the view changed: per key what it was at the older one.
type Undone<'a> = BTreeMap<&'a [u8], Option<&'a Arc<Entry>>>;

impl View {
    pub(crate) fn new() -> Self {
        Self::of(REVISION_FIRST)
    }

    /// An empty store at a revision, to be filled by [`View::load`].
    pub(crate) fn of(revision: Revision) -> Self {
        Self {
            revision,
            floor: revision,
            objects: OrdSet::new(),
            history: Vector::new(),
            object_bytes: 0,
            history_bytes: 0,
        }
    }

    /// Takes in an object that was there before the history.
    pub(crate) fn load(&mut self, entry: Arc<Entry>) {
        self.object_bytes += entry_bytes(&entry);
        self.objects.insert(ByKey(entry));
    }

    pub(crate) fn object_count(&self) -> usize {
        self.objects.len()
    }

    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.objects.iter().map(|entry| &entry.0)
    }

    pub(crate) fn entry(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.objects.get(key).map(|entry| &entry.0)
    }

    /// What a write would record at the next revision, if its expectation holds.
    pub(crate) fn decide(&self, key: Bytes, expect: Expect, change: Change, now_ms: u64) -> Result<Record, StoreError> {
        let previous = self.entry(&key);
        let holds = match (expect, &change, previous) {
            (Expect::Absent, Change::Put { .. }, None) => true,
            (Expect::Revision(revision), _, Some(entry)) => entry.mod_revision == revision,
            (Expect::Absent | Expect::Revision(_), _, _) => false,
        };
        if !holds {
            return Err(StoreError::Conflict { current: previous.cloned() });
        }
        let mod_revision = self.revision + 1;
        let entry = match change {
            Change::Delete => None,
            Change::Put { value, ttl } => Some(Entry {
                key: key.clone(),
                value,
                create_revision: previous.map_or(mod_revision, |e| e.create_revision),
                mod_revision,
                version: previous.map_or(0, |e| e.version) + 1,
                expires_at_ms: ttl.map(|t| now_ms.saturating_add(u64::try_from(t.as_millis()).unwrap_or(u64::MAX))),
            }),
        };
        Ok(Record { key, entry })
    }

    /// Takes the next revision with a change.
    pub(crate) fn apply(&mut self, record: Record) -> Arc<Event> {
        let Record { key, entry } = record;
        let entry = entry.map(Arc::new);
        let previous = match &entry {
            Some(entry) => self.objects.insert(ByKey(entry.clone())),
            None => self.objects.remove(&*key),
        };
        let previous = previous.map(|previous| previous.0);
        self.object_bytes += entry.as_deref().map_or(0, entry_bytes);
        self.object_bytes -= previous.as_deref().map_or(0, entry_bytes);
        self.revision += 1;
        let event = Arc::new(Event { revision: self.revision, key, entry, previous });
        self.history_bytes += event_bytes(&event);
        self.history.push_back(event.clone());
        event
    }

    /// Forgets events up to a revision.
    pub(crate) fn raise_floor(&mut self, floor: Revision) {
        while self.floor < floor && self.forget_oldest() {}
    }

    /// Forgets the oldest event; returns whether there was one.
    pub(crate) fn forget_oldest(&mut self) -> bool {
        let Some(event) = self.history.pop_front() else { return false };
        self.floor = event.revision;
        self.history_bytes -= event_bytes(&event);
        true
    }

    /// Up to `limit` events after a revision that is not below the floor.
    pub(crate) fn events_after(&self, revision: Revision, limit: usize) -> impl Iterator<Item = &Arc<Event>> {
        let start = usize::try_from(revision - self.floor).unwrap_or(usize::MAX).min(self.history.len());
        let end = start.saturating_add(limit).min(self.history.len());
        self.history.focus().narrow(start..end).into_iter()
    }

    /// Whether the state at a revision can be shown.
    pub(crate) fn check(&self, revision: Revision) -> Result<(), StoreError> {
        if revision < self.floor {
            return Err(StoreError::Compacted { floor: self.floor });
        }
        if revision > self.revision {
            return Err(StoreError::Future { current: self.revision });
        }
        Ok(())
    }

    /// A key at a revision that [`View::check`] allows.
    pub(crate) fn get(&self, key: &[u8], revision: Revision) -> Option<Arc<Entry>> {
        match self.events_after(revision, usize::MAX).find(|event| event.key == key) {
            Some(event) => event.previous.clone(),
            None => self.entry(key).cloned(),
        }
    }

    /// A page at a revision that [`View::check`] allows.
    pub(crate) fn list(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize, revision: Revision) -> Page {
        let behind = |key: &[u8]| after.is_none_or(|after| key > after);
        let mut page = Page { entries: Vec::new(), revision, remaining: 0 };
        let mut add = |entry: &Arc<Entry>| match limit == 0 || page.entries.len() < limit {
            true => page.entries.push(entry.clone()),
            false => page.remaining += 1,
        };
        let undone = self.undone(prefix, revision);
        let mut old = undone.values().copied().flatten().filter(|entry| behind(&entry.key)).peekable();
        let start = after.filter(|after| *after > prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        let current = self.objects.range::<_, [u8]>((start, Bound::Unbounded)).map(|entry| &entry.0);
        for entry in current.take_while(|entry| entry.key.starts_with(prefix)) {
            while let Some(older) = old.next_if(|older| older.key < entry.key) {
                add(older);
            }
            if !undone.contains_key(&entry.key[..]) {
                add(entry);
            }
        }
        old.for_each(add);
        page
    }

    fn undone(&self, prefix: &[u8], revision: Revision) -> Undone<'_> {
        let mut undone = Undone::new();
        for event in self.events_after(revision, usize::MAX).filter(|event| event.key.starts_with(prefix)) {
            // The first change after the revision knows what was there at the revision.
            undone.entry(&event.key).or_insert(event.previous.as_ref());
        }
        undone
    }
}

fn entry_bytes(entry: &Entry) -> u64 {
    (entry.key.len() + entry.value.len()) as u64
}

fn event_bytes(event: &Event) -> u64 {
    // Two small allocations and their counts; the previous value is the earlier event's.
    const OVERHEAD: u64 = 200;
    OVERHEAD + event.key.len() as u64 + event.entry.as_ref().map_or(0, |e| e.value.len() as u64)
}
