//! Watches: what changes, in the store's order, the same for all who watch, or word that something was missed.

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_store::Revision;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use tokio::time::{Instant, sleep_until};

use super::engine::Registry;
use super::options;
use super::select::Selection;
use super::{ListOptions, Object, Shown, WatchEvent};
use crate::cache::{After, Caches, Change, Cursor, Snapshot, Step, unreadable_object};

/// How often a watcher that allows bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

/// How long before its end a watch sends its last bookmark, so that the client can go on from there.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// A watch that names no time-out lasts once to twice as long.
const TIMEOUT_S_MIN: u64 = 1800;

impl Registry {
    /// Changes of a kind in a namespace, or in all of them where it is empty. Ends after the options' time-out.
    /// A start that is too old or too far in the future is refused at once; falling behind later is an
    /// [`WatchEvent::Error`].
    pub async fn watch(
        &self,
        kind: &Arc<KindInfo>,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<BoxStream<'static, WatchEvent>, Status> {
        options::check_watch(options)?;
        let home = self.home(kind);
        let selection = Selection::new(kind, &home, namespace, options)?;
        let caches = self.0.caches.clone();
        let asked = options::parse_revision(&options.resource_version)?;
        let cache = caches.of(&home).await?;
        let reached = match asked {
            None => caches.catch_up().await?,
            Some(0) => caches.reached(),
            Some(revision) => caches.wait(revision).await?,
        };
        let snapshot = cache.snapshot(reached)?;
        let initial = options.send_initial_events.unwrap_or(matches!(asked, None | Some(0)));
        let after = match asked {
            Some(revision) if revision > 0 && !initial => revision,
            _ => snapshot.revision,
        };
        let first = match initial {
            true => selection.initial(&home, &snapshot)?,
            false => Vec::new(),
        };
        let cursor = caches.cursor(&cache, after)?;
        let timeout_s = options.timeout_s.filter(|&seconds| seconds > 0);
        let timeout_s = timeout_s.unwrap_or_else(|| TIMEOUT_S_MIN + self.0.random.next_u64() % TIMEOUT_S_MIN);
        let watcher = Watcher {
            kind: kind.clone(),
            home,
            selection,
            caches,
            first: first.into_iter(),
            announce_end: initial && options.allow_bookmarks,
            cursor,
            seen: after,
            bookmarks: options.allow_bookmarks.then(|| Bookmarks::new(timeout_s)),
            end: Instant::now() + Duration::from_secs(timeout_s),
            over: false,
        };
        Ok(stream::unfold(watcher, Watcher::next).boxed())
    }
}

struct Watcher {
    kind: Arc<KindInfo>,
    home: Arc<KindInfo>,
    selection: Selection,
    caches: Caches,
    /// The state at the start, still to be sent.
    first: std::vec::IntoIter<Arc<Object>>,
    /// The bookmark that ends it is still to be sent.
    announce_end: bool,
    cursor: Cursor,
    /// Every change up to here was sent or not selected.
    seen: Revision,
    bookmarks: Option<Bookmarks>,
    end: Instant,
    over: bool,
}

/// When bookmarks are due.
struct Bookmarks {
    next: Instant,
    last: Instant,
}

impl Watcher {
    async fn next(mut self) -> Option<(WatchEvent, Self)> {
        if self.over {
            return None;
        }
        let event = self.event().await?;
        self.over = matches!(event, WatchEvent::Error(_));
        Some((event, self))
    }

    async fn event(&mut self) -> Option<WatchEvent> {
        if let Some(object) = self.first.next() {
            return Some(WatchEvent::Added(self.show(&object)));
        }
        if std::mem::take(&mut self.announce_end) {
            return Some(WatchEvent::Bookmark { revision: self.seen, initial_events_end: true });
        }
        while Instant::now() < self.end {
            if self.bookmarks.as_mut().is_some_and(Bookmarks::take_due) {
                return Some(WatchEvent::Bookmark { revision: self.seen, initial_events_end: false });
            }
            let reached = self.caches.reached();
            match self.cursor.step().await {
                Err(why) => return Some(WatchEvent::Error(why)),
                Ok(Step::Change(change)) => {
                    self.seen = change.revision;
                    if let Some(event) = self.translate(&change) {
                        return Some(event);
                    }
                    tokio::task::consume_budget().await;
                }
                Ok(Step::Idle) => {
                    self.seen = self.seen.max(reached);
                    self.wait().await;
                }
            }
        }
        None
    }

    /// Waits for a change, a bookmark's time or the end.
    async fn wait(&mut self) {
        let bookmark = self.bookmarks.as_ref().map_or(self.end, |bookmarks| bookmarks.next);
        tokio::select! {
            () = self.cursor.more() => {}
            () = sleep_until(self.end.min(bookmark)) => {}
        }
    }

    /// A change as this watcher has to see it: an object that comes to match is added, one that no longer matches is
    /// deleted, with its last matching state under the change's revision.
    fn translate(&self, change: &Change) -> Option<WatchEvent> {
        if !change.key.starts_with(self.selection.prefix.as_str()) {
            return None;
        }
        let matched = change.before.as_ref().is_some_and(|before| self.selection.matches(before));
        let gone = || change.last().map(|last| WatchEvent::Deleted(self.show(last)));
        match &change.after {
            After::Put(object) => match (matched, self.selection.matches(object)) {
                (false, false) => None,
                (false, true) => Some(WatchEvent::Added(self.show(object))),
                (true, true) => Some(WatchEvent::Modified(self.show(object))),
                (true, false) => gone(),
            },
            After::Gone => matched.then(gone).flatten(),
            After::Broken(error) => {
                let key = super::key::absolute_of(&self.home.storage_prefix, &change.key);
                Some(WatchEvent::Error(unreadable_object(&key, error)))
            }
        }
    }

    fn show(&self, object: &Arc<Object>) -> Shown {
        Shown { kind: self.kind.clone(), object: object.clone() }
    }
}

impl Bookmarks {
    fn new(timeout_s: u64) -> Self {
        let now = Instant::now();
        let timeout = Duration::from_secs(timeout_s);
        let last = now + timeout.saturating_sub(BOOKMARK_BEFORE_END);
        Self { next: last.min(now + BOOKMARK_EVERY), last }
    }

    /// Whether one is due now; sets the time of the one after it.
    fn take_due(&mut self) -> bool {
        let now = Instant::now();
        if now < self.next {
            return false;
        }
        let forever = now + Duration::from_secs(TIMEOUT_S_MIN * 2);
        self.next = if now < self.last { self.last.min(now + BOOKMARK_EVERY) } else { forever };
        true
    }
}

impl Selection {
    /// The selected objects of a state, in key order.
    fn initial(&self, home: &KindInfo, snapshot: &Snapshot) -> Result<Vec<Arc<Object>>, Status> {
        let keys = self.range();
        let range = snapshot.range(home, &keys, "")?;
        Ok(range.filter(|(_, object)| self.matches(object)).map(|(_, object)| object.clone()).collect())
    }
}
