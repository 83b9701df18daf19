//! Lists: always one consistent state, however many pages it takes.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Str;
use corten_store::{At, Revision, StoreError};

use super::engine::Registry;
use super::options::{self, Position};
use super::select::Selection;
use super::{List, ListOptions, RevisionMatch};
use crate::cache::Snapshot;

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You \
    can start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Where a page begins, and when its list did.
struct Begin {
    start: Str,
    began_s: i64,
}

impl Registry {
    /// The objects of a kind in a namespace, or in all of them where it is empty.
    pub async fn list(&self, kind: &Arc<KindInfo>, namespace: &str, options: &ListOptions) -> Result<List, Status> {
        options::check_list(options)?;
        let home = self.home(kind)?;
        let selection = Selection::new(kind, &home, namespace, options)?;
        let (snapshot, Begin { start, began_s }) = self.state_for(&home, options).await?;
        let from = format!("{}{start}", selection.prefix);
        let range = selection.range();
        let mut rest = snapshot.range(&home, &range, &from)?;
        let mut items = Vec::new();
        let mut last = "";
        let full = |count| options.limit > 0 && count == options.limit;
        while !full(items.len()) {
            match rest.find(|(_, object)| selection.matches(object)) {
                Some((key, object)) => {
                    items.push(object.clone());
                    last = key;
                }
                None => return Ok(page(kind, items, &snapshot)),
            }
        }
        if !rest.clone().any(|(_, object)| selection.matches(object)) {
            return Ok(page(kind, items, &snapshot));
        }
        self.0.caches.of(&home).await?.pages().keep(&snapshot, self.0.clock.now_ms());
        let start = format!("{}\0", &last[selection.prefix.len()..]).into();
        let continue_token = Position { revision: Some(snapshot.revision), start, began_s }.encode();
        let remaining = selection.is_everything().then(|| rest.count() as u64);
        Ok(List { continue_token, remaining, ..page(kind, items, &snapshot) })
    }

    /// The state that a list shows, and the key at which it begins.
    async fn state_for(&self, home: &Arc<KindInfo>, options: &ListOptions) -> Result<(Snapshot, Begin), Status> {
        let now_s = self.0.clock.now_s();
        let asked = options::parse_list_revision(&options.resource_version)?;
        if options.continue_token.is_empty() {
            let exact = match options.revision_match {
                Some(RevisionMatch::Exact) => true,
                Some(RevisionMatch::NotOlderThan) => false,
                None => options.limit > 0,
            };
            let snapshot = match asked {
                Some(revision) if exact && revision > 0 => self.exactly(home, revision).await?,
                asked => self.0.caches.snapshot(home, asked).await?.1,
            };
            return Ok((snapshot, Begin { start: Str::default(), began_s: now_s }));
        }
        if asked.is_some_and(|revision| revision > 0) {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        let position = Position::decode(&options.continue_token)?;
        let snapshot = match position.revision {
            None => self.0.caches.snapshot(home, None).await?.1,
            // Who pages for longer is told so every time, not only where something has changed since.
            Some(_) if position.is_old(now_s) => return Err(expired_page(&position)),
            Some(revision) => self.exactly(home, revision).await.map_err(|status| match status.code {
                410 => expired_page(&position),
                _ => status,
            })?,
        };
        // What goes on without consistency is a list of its own.
        let began_s = position.revision.map_or(now_s, |_| position.began_s);
        Ok((snapshot, Begin { start: position.start, began_s }))
    }

    /// The state at a revision: the present one if nothing has changed since, one that somebody is paging through, or
    /// the store's.
    async fn exactly(&self, home: &Arc<KindInfo>, revision: Revision) -> Result<Snapshot, Status> {
        let kept = self.0.caches.of(home).await?;
        if let Some(kept) = kept.pages().find(revision, self.0.clock.now_ms()) {
            return Ok(kept);
        }
        let (_, present) = self.0.caches.snapshot(home, Some(revision)).await?;
        if present.changed <= revision {
            return Ok(Snapshot { revision, ..present });
        }
        let prefix = format!("{}/", home.storage_prefix);
        match self.0.store.list(prefix.as_bytes(), None, 0, At::Exact(revision)).await {
            Ok(page) => Ok(Snapshot::of_page(&page, home, &self.0.opener)),
            Err(StoreError::Future { current }) => Err(Status::too_large_resource_version(revision, current)),
            Err(error) => Err(super::storage::refusal(&error)),
        }
    }
}

fn page(kind: &Arc<KindInfo>, items: Vec<Arc<super::Object>>, snapshot: &Snapshot) -> List {
    let (continue_token, remaining) = (String::new(), None);
    List { kind: kind.clone(), items, revision: snapshot.revision, continue_token, remaining }
}

/// A list whose state is gone: the client may start again, or take the rest as it is now.
fn expired_page(position: &Position) -> Status {
    let rest = Position { revision: None, ..position.clone() };
    Status::expired(CONTINUE_EXPIRED).with_continue(rest.encode())
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_store::Store as _;
    use corten_store::model::ModelStore;

    use super::super::WriteOptions;
    use super::*;
    use crate::testing::{Bench, START_MS, body, context, kinds, target};

    async fn make(bench: &Bench, name: &str) -> Revision {
        let value = value!({"metadata": {"name": name, "labels": {"first": (&name[..1])}}, "spec": {}});
        let target = target(&bench.kind("widgets"), "");
        let made = bench.registry.create(&context(), &target, body(value), WriteOptions::default()).await;
        made.unwrap().object.object.revision
    }

    async fn list(bench: &Bench, options: ListOptions) -> Result<(String, List), Status> {
        let list = bench.registry.list(&bench.kind("widgets"), "default", &options).await?;
        let names: Vec<&str> = list.items.iter().map(|object| object.head.name.as_str()).collect();
        Ok((names.join(" "), list))
    }

    fn at(revision: Revision, revision_match: Option<RevisionMatch>) -> ListOptions {
        ListOptions { resource_version: revision.to_string(), revision_match, ..ListOptions::default() }
    }

    #[tokio::test]
    async fn past_states_are_listed_exactly_while_they_are_kept() {
        let clock = corten_stdx::clock::Clock::manual(START_MS);
        let store = Arc::new(ModelStore::new(clock.clone()));
        let bench = Bench::over(store.clone(), clock, [kinds::widget()]);
        let first = make(&bench, "a").await;
        let second = make(&bench, "b").await;
        make(&bench, "c").await;
        let exact = Some(RevisionMatch::Exact);
        for (options, expected) in [
            (at(first, exact), "a"),
            (at(second, exact), "a b"),
            (at(second, None), "a b c"),
            (at(second, Some(RevisionMatch::NotOlderThan)), "a b c"),
            (ListOptions { limit: 9, ..at(second, None) }, "a b"),
            (at(0, None), "a b c"),
            (ListOptions::default(), "a b c"),
        ] {
            let (names, list) = list(&bench, options.clone()).await.unwrap();
            assert_eq!(names, expected, "{options:?}");
            let exactly = options.revision_match == exact;
            assert!(!exactly || list.revision.to_string() == options.resource_version, "{options:?}");
        }
        store.compact(second).await.unwrap();
        let refused = list(&bench, at(first, exact)).await.err().unwrap();
        assert_eq!((refused.code, refused.reason), (410, "Expired"));
    }

    #[tokio::test]
    async fn an_expired_page_offers_to_go_on_without_consistency() {
        let clock = corten_stdx::clock::Clock::manual(START_MS);
        let store = Arc::new(ModelStore::new(clock.clone()));
        let bench = Bench::over(store.clone(), clock.clone(), [kinds::widget()]);
        for name in ["a", "b", "c"] {
            make(&bench, name).await;
        }
        let (_, page) = list(&bench, ListOptions { limit: 1, ..ListOptions::default() }).await.unwrap();
        let late = make(&bench, "d").await;
        assert_eq!(list(&bench, ListOptions::default()).await.unwrap().0, "a b c d");
        store.compact(late).await.unwrap();
        let next = ListOptions { limit: 1, continue_token: page.continue_token, ..ListOptions::default() };
        assert_eq!(list(&bench, next.clone()).await.unwrap().0, "b", "the cache keeps what the store forgot");
        clock.advance(std::time::Duration::from_secs(301));
        let expired = list(&bench, next).await.err().unwrap();
        assert_eq!((expired.code, expired.message.as_str()), (410, CONTINUE_EXPIRED));
        let rest = ListOptions { continue_token: expired.continue_token.unwrap(), ..ListOptions::default() };
        assert_eq!(list(&bench, rest).await.unwrap().0, "b c d");
    }

    #[tokio::test]
    async fn an_old_page_expires_where_nothing_changes_too() {
        let clock = corten_stdx::clock::Clock::manual(START_MS);
        let bench = Bench::over(Arc::new(ModelStore::new(clock.clone())), clock.clone(), [kinds::widget()]);
        for name in ["a", "b", "c"] {
            make(&bench, name).await;
        }
        let next = async |token: String| {
            let options = ListOptions { limit: 1, continue_token: token, ..ListOptions::default() };
            list(&bench, options).await
        };
        let (_, first) = next(String::new()).await.unwrap();
        clock.advance(std::time::Duration::from_secs(200));
        let (names, second) = next(first.continue_token).await.unwrap();
        assert_eq!(names, "b");
        clock.advance(std::time::Duration::from_secs(200));
        let expired = next(second.continue_token).await.err().unwrap();
        assert_eq!((expired.code, expired.message.as_str()), (410, CONTINUE_EXPIRED));
        let (names, _) = next(expired.continue_token.unwrap()).await.unwrap();
        assert_eq!(names, "c");
    }

    #[tokio::test]
    async fn selectors_narrow_pages_and_say_nothing_of_what_remains() {
        let bench = Bench::new([kinds::widget()]);
        for name in ["a1", "b1", "a2", "b2", "a3"] {
            make(&bench, name).await;
        }
        let options = ListOptions { label_selector: "first in (a)".to_owned(), limit: 2, ..ListOptions::default() };
        let (names, page) = list(&bench, options.clone()).await.unwrap();
        assert_eq!((names.as_str(), page.remaining), ("a1 a2", None));
        let (names, page) = list(&bench, ListOptions { continue_token: page.continue_token, ..options }).await.unwrap();
        assert_eq!((names.as_str(), page.continue_token.as_str()), ("a3", ""));
        let by_name = ListOptions { field_selector: "metadata.name=b2".to_owned(), ..ListOptions::default() };
        assert_eq!(list(&bench, by_name).await.unwrap().0, "b2");
        let unknown = ListOptions { field_selector: "spec.size=1".to_owned(), ..ListOptions::default() };
        let refused = list(&bench, unknown).await.err().unwrap();
        assert_eq!((refused.code, refused.message.as_str()), (400, "field label not supported: spec.size"));
    }

    #[tokio::test]
    async fn bytes_that_cannot_be_read_fail_the_list_and_not_other_namespaces() {
        let bench = Bench::new([kinds::widget()]);
        make(&bench, "a").await;
        let key = bytes::Bytes::from_static(b"/registry/test.corten.dev/widgets/other/x");
        let change = corten_store::Change::Put { value: bytes::Bytes::from_static(b"garbage"), ttl: None };
        bench.store.write(key, corten_store::Expect::Absent, change).await.unwrap();
        assert_eq!(list(&bench, ListOptions::default()).await.unwrap().0, "a");
        let refused = bench.registry.list(&bench.kind("widgets"), "", &ListOptions::default()).await.err().unwrap();
        assert_eq!(refused.code, 500);
        assert!(refused.message.contains("/registry/test.corten.dev/widgets/other/x"), "{refused}");
    }
}
