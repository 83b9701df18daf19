//! A position in one cache's changes, which goes from the store's history over to the shared ring.

use std::collections::VecDeque;
use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_store::{Entry, Event, Revision, StoreError, WatchStream, Watched};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::ring::{After, Change};
use super::{Cache, State, relative_key, too_old};
use crate::registry::storage::{self, Opener};

/// Changes taken from the ring under one lock.
const BATCH: usize = 64;

pub(crate) struct Cursor {
    cache: Arc<Cache>,
    opener: Opener,
    batch: VecDeque<Arc<Change>>,
    /// Position in the ring of what comes after the batch.
    next: u64,
    end: watch::Receiver<u64>,
    history: Option<History>,
}

/// What lies before the ring. The stream is of all resources: some write made the revision at which the ring takes
/// over, so the stream surely gets there, while one of a quiet resource might stay silent.
struct History {
    stream: WatchStream,
    prefix: String,
    /// The ring goes on after this revision.
    until: Revision,
    over: bool,
}

/// What a cursor finds.
pub(crate) enum Step {
    Change(Arc<Change>),
    /// Nothing more for now.
    Idle,
}

impl Cursor {
    /// A cursor at the first change after a revision. `history` opens the store's own log.
    pub(super) fn new(
        cache: Arc<Cache>,
        opener: Opener,
        after: Revision,
        history: impl FnOnce(Revision) -> Result<WatchStream, Status>,
    ) -> Result<Self, Status> {
        let end = cache.end.subscribe();
        let (floor, next) = match &*cache.read() {
            State::Live(live) => (live.ring.floor(), live.ring.after(after.max(live.ring.floor()))),
            State::Closed(why) => return Err(why.clone()),
            State::Filling(_) => return Err(Status::unavailable("the watch cache is being filled")),
        };
        let history = match after < floor {
            true => Some(History {
                stream: history(after)?,
                prefix: format!("{}/", cache.home.storage_prefix),
                until: floor,
                over: false,
            }),
            false => None,
        };
        Ok(Self { cache, opener, batch: VecDeque::new(), next, end, history })
    }

    /// The next change, or that there is none yet.
    pub(crate) async fn step(&mut self) -> Result<Step, Status> {
        if let Some(history) = &mut self.history {
            if let Some(event) = history.next().await? {
                return self.change(&event).map(Step::Change);
            }
            self.history = None;
        }
        if self.batch.is_empty() {
            self.refill()?;
        }
        Ok(self.batch.pop_front().map_or(Step::Idle, Step::Change))
    }

    /// Waits until there may be more. Dropping it loses nothing.
    pub(crate) async fn more(&mut self) {
        self.end.changed().await.expect("the cursor holds the cache, which holds the sender");
    }

    fn refill(&mut self) -> Result<(), Status> {
        self.end.mark_unchanged();
        match &*self.cache.read() {
            State::Live(live) => {
                let changes = live.ring.from(self.next, BATCH).ok_or_else(too_old)?;
                self.next += changes.len() as u64;
                self.batch.extend(changes);
                Ok(())
            }
            State::Closed(why) => Err(why.clone()),
            State::Filling(_) => unreachable!("a cursor is made on a live cache, which never goes back to filling"),
        }
    }

    /// A change out of the store's history.
    fn change(&self, event: &Event) -> Result<Arc<Change>, Status> {
        let home = &self.cache.home;
        let open = |entry: &Arc<Entry>| self.opener.open(home, entry).map(Arc::new);
        let after = match event.entry.as_ref().map(open) {
            None => After::Gone,
            Some(Ok(object)) => After::Put(object),
            Some(Err(error)) => After::Broken(error),
        };
        let before = event.previous.as_ref().map(open).transpose();
        let before = before.map_err(|error| super::unreadable_object(&event.key, &error))?;
        Ok(Change::new(event.revision, relative_key(home, &event.key), after, before))
    }
}

impl History {
    /// The next event, until the ring takes over.
    async fn next(&mut self) -> Result<Option<Arc<Event>>, Status> {
        while !self.over {
            match self.stream.next().await {
                Some(Ok(Watched::Event(event))) => {
                    self.over = event.revision >= self.until;
                    if event.revision <= self.until && event.key.starts_with(self.prefix.as_bytes()) {
                        return Ok(Some(event));
                    }
                }
                Some(Ok(Watched::Progress(revision))) => self.over = revision >= self.until,
                Some(Err(error)) => return Err(refusal(&error)),
                None => return Err(Status::unavailable("the store's watch ended")),
            }
        }
        Ok(None)
    }
}

/// A store's refusal to begin with the changes after a revision, in the words of upstream's watch cache.
pub(super) fn refusal_at(after: Revision, error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { floor } => Status::expired(format!("too old resource version: {after} ({floor})")),
        other => storage::refusal(other),
    }
}

/// A store's refusal to go on.
fn refusal(error: &StoreError) -> Status {
    match error {
        StoreError::Compacted { .. } => too_old(),
        other => storage::refusal(other),
    }
}
