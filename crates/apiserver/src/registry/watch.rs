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
        let home = self.home(kind)?;
        let selection = Selection::new(kind, &home, namespace, options)?;
        let caches = self.0.caches.clone();
        let asked = options::parse_watch_revision(&options.resource_version)?;
        let (cache, snapshot) = caches.snapshot(&home, asked).await?;
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
            let reached = self.caches.reached();
            let idle = match self.cursor.step().await {
                Err(why) => return Some(WatchEvent::Error(why)),
                Ok(Step::Idle) => {
                    self.seen = self.seen.max(reached);
                    true
                }
                Ok(Step::Change(change)) => {
                    self.seen = change.revision;
                    if let Some(event) = self.translate(&change) {
                        return Some(event);
                    }
                    false
                }
            };
            if self.bookmarks.as_mut().is_some_and(Bookmarks::take_due) {
                return Some(WatchEvent::Bookmark { revision: self.seen, initial_events_end: false });
            }
            match idle {
                true => self.wait().await,
                false => tokio::task::consume_budget().await,
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

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;
    use corten_store::Store as _;
    use corten_store::model::ModelStore;

    use super::super::{DeleteOptions, RevisionMatch, WriteOptions};
    use super::*;
    use crate::testing::{Bench, START_MS, body, context, kinds, target};

    async fn put(bench: &Bench, name: &str, label: &str) -> Revision {
        let kind = bench.kind("widgets");
        let value = value!({"metadata": {"name": name, "labels": {"k": label}}, "spec": {"color": label}});
        let target = target(&kind, name);
        let options = WriteOptions::default();
        let written = match bench.registry.create(&context(), &target, body(value.clone()), options).await {
            Err(status) if status.code == 409 => bench.registry.update(&context(), &target, body(value), options).await,
            created => created,
        };
        written.unwrap().object.object.revision
    }

    async fn delete(bench: &Bench, name: &str) {
        let target = target(&bench.kind("widgets"), name);
        bench.registry.delete(&context(), &target, &DeleteOptions::default()).await.unwrap();
    }

    async fn watch(bench: &Bench, options: ListOptions) -> BoxStream<'static, WatchEvent> {
        bench.registry.watch(&bench.kind("widgets"), "", &options).await.unwrap()
    }

    fn after(revision: Revision) -> ListOptions {
        ListOptions { resource_version: revision.to_string(), ..ListOptions::default() }
    }

    /// `ADDED a 3 red`: what happened to which object at which revision, and its colour.
    fn line(event: &WatchEvent) -> String {
        let object = |what: &str, shown: &Shown| {
            let value: Value = shown.to_value().unwrap();
            let color = value.str_at(&["spec", "color"]).to_owned();
            format!("{what} {} {} {color}", shown.object.head.name, shown.object.revision)
        };
        match event {
            WatchEvent::Added(shown) => object("ADDED", shown),
            WatchEvent::Modified(shown) => object("MODIFIED", shown),
            WatchEvent::Deleted(shown) => object("DELETED", shown),
            WatchEvent::Bookmark { revision, initial_events_end } => {
                format!("BOOKMARK {revision} {initial_events_end}")
            }
            WatchEvent::Error(status) => format!("ERROR {} {}", status.code, status.message),
        }
    }

    async fn lines(watch: &mut BoxStream<'static, WatchEvent>, count: usize) -> Vec<String> {
        watch.take(count).map(|event| line(&event)).collect().await
    }

    #[tokio::test]
    async fn a_streaming_list_ends_with_a_marked_bookmark() {
        let bench = Bench::new([kinds::widget()]);
        put(&bench, "b", "red").await;
        let last = put(&bench, "a", "red").await;
        let options = ListOptions {
            send_initial_events: Some(true),
            revision_match: Some(RevisionMatch::NotOlderThan),
            allow_bookmarks: true,
            ..ListOptions::default()
        };
        let mut watch = watch(&bench, options).await;
        let bookmark = format!("BOOKMARK {last} true");
        assert_eq!(lines(&mut watch, 3).await, ["ADDED a 3 red", "ADDED b 2 red", bookmark.as_str()]);
        put(&bench, "c", "red").await;
        assert_eq!(lines(&mut watch, 1).await, ["ADDED c 4 red"]);
    }

    #[tokio::test]
    async fn selectors_turn_changes_into_arrivals_and_departures() {
        for selector in [
            ListOptions { label_selector: "k=red".to_owned(), ..ListOptions::default() },
            ListOptions { field_selector: "spec.color=red".to_owned(), ..ListOptions::default() },
        ] {
            let bench = Bench::new([kinds::widget()]);
            let mut watch = watch(&bench, selector).await;
            for label in ["blue", "red", "red2", "blue", "red"] {
                put(&bench, "a", label).await;
            }
            delete(&bench, "a").await;
            let expected = ["ADDED a 3 red", "DELETED a 4 red", "ADDED a 6 red", "DELETED a 7 red"];
            assert_eq!(lines(&mut watch, 4).await, expected);
        }
    }

    #[tokio::test]
    async fn the_store_tells_what_the_cache_has_not_seen() {
        let clock = corten_stdx::clock::Clock::manual(START_MS);
        let store = Arc::new(ModelStore::new(clock.clone()));
        let bench = Bench::over(store.clone(), clock.clone(), [kinds::widget()]);
        let first = put(&bench, "a", "red").await;
        put(&bench, "a", "blue").await;
        delete(&bench, "a").await;
        put(&bench, "b", "red").await;
        let again = Bench::over(store.clone(), clock, [kinds::widget()]);
        let mut watch_again = watch(&again, after(first)).await;
        put(&again, "c", "red").await;
        let expected = ["MODIFIED a 3 blue", "DELETED a 4 blue", "ADDED b 5 red", "ADDED c 6 red"];
        assert_eq!(lines(&mut watch_again, 4).await, expected);

        store.compact(4).await.unwrap();
        let refused = again.registry.watch(&again.kind("widgets"), "", &after(first)).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (410, "Expired"));
        assert_eq!(refused.message, "too old resource version: 2 (4)");
        let mut kept = watch(&again, after(4)).await;
        assert_eq!(lines(&mut kept, 2).await, ["ADDED b 5 red", "ADDED c 6 red"]);
    }

    #[tokio::test]
    async fn who_falls_behind_is_told_so() {
        let bench = Bench::new([kinds::widget()]);
        let mut slow = watch(&bench, ListOptions::default()).await;
        let mut revision = put(&bench, "a", "red").await;
        let key = bytes::Bytes::from_static(b"/registry/test.corten.dev/widgets/default/a");
        let value = bench.store.get(&key, corten_store::At::Latest).await.unwrap().0.unwrap().value.clone();
        for _ in 0..5000 {
            let change = corten_store::Change::Put { value: value.clone(), ttl: None };
            let expect = corten_store::Expect::Revision(revision);
            revision = bench.store.write(key.clone(), expect, change).await.unwrap().revision;
        }
        bench.registry.0.caches.wait(revision).await.unwrap();
        assert_eq!(lines(&mut slow, 2).await, ["ERROR 410 The resourceVersion for the provided watch is too old."]);
    }

    #[tokio::test(start_paused = true)]
    async fn bookmarks_come_by_the_minute_and_before_the_end() {
        let bench = Bench::new([kinds::widget(), kinds::gadget()]);
        let revision = put(&bench, "a", "red").await;
        let options = ListOptions { allow_bookmarks: true, timeout_s: Some(90), ..after(revision) };
        let mut watch = watch(&bench, options).await;
        let gadget = value!({"metadata": {"name": "g"}, "spec": {}});
        let other = target(&bench.kind("gadgets"), "");
        let other = bench.registry.create(&context(), &other, body(gadget), WriteOptions::default()).await.unwrap();
        let moved = other.object.object.revision;
        let started = Instant::now();
        assert_eq!(lines(&mut watch, 1).await, [format!("BOOKMARK {moved} false")]);
        assert_eq!(started.elapsed().as_secs(), 60);
        assert_eq!(lines(&mut watch, 1).await, [format!("BOOKMARK {moved} false")]);
        assert_eq!(started.elapsed().as_secs(), 88);
        assert_eq!(lines(&mut watch, 1).await, [""; 0]);
        assert_eq!(started.elapsed().as_secs(), 90);
    }

    #[tokio::test(start_paused = true)]
    async fn a_revision_that_does_not_come_is_refused() {
        let bench = Bench::new([kinds::widget()]);
        let refused = bench.registry.watch(&bench.kind("widgets"), "", &after(99)).await.err().unwrap();
        assert_eq!((refused.code, refused.message.as_str()), (504, "Too large resource version: 99, current: 1"));
    }

    #[tokio::test]
    async fn watches_end_when_their_kind_changes() {
        let bench = Bench::new([kinds::widget()]);
        let mut watch = watch(&bench, ListOptions::default()).await;
        put(&bench, "a", "red").await;
        assert_eq!(lines(&mut watch, 1).await, ["ADDED a 2 red"]);
        bench.registry.install([kinds::widget()]);
        assert!(lines(&mut watch, 2).await[0].starts_with("ERROR 410"));
    }
}
