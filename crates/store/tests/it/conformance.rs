//! What every engine does. Each check runs on each engine.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_store::embedded::disk::Directory;
use corten_store::embedded::{EmbeddedStore, Options};
use corten_store::model::ModelStore;
use corten_store::{
    At, Change, Committed, Entry, Event, Expect, KEY_BYTES_MAX, Revision, Store, StoreError, VALUE_BYTES_MAX, Watched,
};

use crate::reader::{events_until, history, next};

/// An engine under test, with its clock.
struct Engine {
    store: Arc<dyn Store>,
    clock: Clock,
    /// Makes the engine look at its clock.
    expire: Box<dyn Fn()>,
    _directory: Option<tempfile::TempDir>,
}

fn model() -> Engine {
    let clock = Clock::manual(1_000_000);
    let store = Arc::new(ModelStore::new(clock.clone()));
    let expire = store.clone();
    Engine { store, clock, expire: Box::new(move || expire.expire()), _directory: None }
}

fn embedded() -> Engine {
    let clock = Clock::manual(1_000_000);
    let directory = tempfile::tempdir().unwrap();
    let mut options = Options::new(clock.clone(), &Random::seeded(1));
    options.limits.reserve_bytes = 1 << 20;
    let disk = Directory::open(directory.path()).unwrap();
    let store = Arc::new(EmbeddedStore::open(disk, options).unwrap());
    let expire = store.clone();
    let expire = move || {
        let expire = expire.clone();
        let thread = std::thread::spawn(move || block_on(expire.expire()).unwrap());
        thread.join().unwrap();
    };
    Engine { store, clock, expire: Box::new(expire), _directory: Some(directory) }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

macro_rules! on_every_engine {
    ($($check:ident),* $(,)?) => {
        mod on_the_model {
            $(#[tokio::test]
            async fn $check() {
                super::$check(super::model()).await;
            })*
        }

        mod on_the_embedded_store {
            $(#[tokio::test]
            async fn $check() {
                super::$check(super::embedded()).await;
            })*
        }
    };
}

on_every_engine!(
    a_new_store_is_empty_at_revision_one,
    every_write_takes_the_next_revision,
    a_write_needs_its_expectation,
    pages_are_in_order_and_count_the_rest,
    old_revisions_stay_readable,
    compaction_refuses_what_is_below_it,
    the_future_is_refused,
    a_read_waits_for_a_revision,
    a_watch_tells_everything_once_and_in_order,
    a_watch_resumes_from_any_revision,
    a_watch_behind_a_compaction_is_told,
    expired_keys_are_deleted_like_others,
    oversize_is_refused,
    equal_content_hashes_equal,
    close_ends_writes_and_watches_but_not_reads,
);

async fn put(store: &dyn Store, key: &str, expect: Expect, value: &str) -> Result<Committed, StoreError> {
    let change = Change::Put { value: Bytes::copy_from_slice(value.as_bytes()), ttl: None };
    store.write(Bytes::copy_from_slice(key.as_bytes()), expect, change).await
}

async fn create(store: &dyn Store, key: &str, value: &str) -> Revision {
    put(store, key, Expect::Absent, value).await.unwrap().revision
}

async fn update(store: &dyn Store, key: &str, from: Revision, value: &str) -> Revision {
    put(store, key, Expect::Revision(from), value).await.unwrap().revision
}

async fn delete(store: &dyn Store, key: &str, from: Revision) -> Revision {
    let key = Bytes::copy_from_slice(key.as_bytes());
    store.write(key, Expect::Revision(from), Change::Delete).await.unwrap().revision
}

async fn get(store: &dyn Store, key: &str, at: At) -> Option<Arc<Entry>> {
    store.get(key.as_bytes(), at).await.unwrap().0
}

async fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize, at: At) -> (Vec<String>, u64) {
    let page = store.list(prefix.as_bytes(), after.map(str::as_bytes), limit, at).await.unwrap();
    let keys = page.entries.iter().map(|e| String::from_utf8(e.key.to_vec()).unwrap()).collect();
    (keys, page.remaining)
}

fn told(events: &[Arc<Event>]) -> Vec<(Revision, String, Option<Bytes>, Option<Bytes>)> {
    let value = |entry: &Option<Arc<Entry>>| entry.as_ref().map(|e| e.value.clone());
    let line =
        |e: &Arc<Event>| (e.revision, String::from_utf8(e.key.to_vec()).unwrap(), value(&e.previous), value(&e.entry));
    events.iter().map(line).collect()
}

async fn a_new_store_is_empty_at_revision_one(engine: Engine) {
    let store = &*engine.store;
    let status = store.status();
    assert_eq!((status.revision, status.floor, status.objects, status.alarm), (1, 1, 0, None));
    let page = store.list(b"", None, 0, At::Latest).await.unwrap();
    assert_eq!((page.entries.len(), page.revision, page.remaining), (0, 1, 0));
    assert_eq!(store.get(b"a", At::Exact(1)).await.unwrap(), (None, 1));
}

async fn every_write_takes_the_next_revision(engine: Engine) {
    let store = &*engine.store;
    assert_eq!(create(store, "a", "1").await, 2);
    assert_eq!(create(store, "b", "1").await, 3);
    let committed = put(store, "a", Expect::Revision(2), "2").await.unwrap();
    assert_eq!(committed.revision, 4);
    assert_eq!(committed.previous.unwrap().value, "1");
    let a = get(store, "a", At::Latest).await.unwrap();
    assert_eq!((a.create_revision, a.mod_revision, a.version, &a.value[..]), (2, 4, 2, &b"2"[..]));
    assert_eq!(delete(store, "a", 4).await, 5);
    assert_eq!(create(store, "a", "3").await, 6);
    let a = get(store, "a", At::Latest).await.unwrap();
    assert_eq!((a.create_revision, a.mod_revision, a.version), (6, 6, 1), "a key that is made again starts anew");
    assert_eq!(store.status().objects, 2);
}

async fn a_write_needs_its_expectation(engine: Engine) {
    let store = &*engine.store;
    create(store, "a", "1").await;
    let a = get(store, "a", At::Latest).await;
    let absent = Err(StoreError::Conflict { current: None });
    let stale = Err(StoreError::Conflict { current: a });
    assert_eq!(put(store, "a", Expect::Absent, "2").await, stale);
    assert_eq!(put(store, "a", Expect::Revision(1), "2").await, stale);
    assert_eq!(put(store, "b", Expect::Revision(2), "2").await, absent);
    assert_eq!(store.write("b".into(), Expect::Revision(2), Change::Delete).await, absent);
    assert_eq!(store.write("b".into(), Expect::Absent, Change::Delete).await, absent);
    assert_eq!(store.write("a".into(), Expect::Absent, Change::Delete).await, stale);
    assert_eq!(store.status().revision, 2, "a refused write takes no revision");
}

async fn pages_are_in_order_and_count_the_rest(engine: Engine) {
    let store = &*engine.store;
    for key in ["/b/2", "/a/1", "/b/1", "/b/3", "/c/1", "/b"] {
        create(store, key, "").await;
    }
    let owned = |keys: &[&str]| keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>();
    assert_eq!(keys(store, "/b/", None, 0, At::Latest).await, (owned(&["/b/1", "/b/2", "/b/3"]), 0));
    assert_eq!(keys(store, "/b/", None, 2, At::Latest).await, (owned(&["/b/1", "/b/2"]), 1));
    assert_eq!(keys(store, "/b/", Some("/b/2"), 2, At::Latest).await, (owned(&["/b/3"]), 0));
    assert_eq!(keys(store, "/b/", Some("/b/25"), 2, At::Latest).await, (owned(&["/b/3"]), 0));
    assert_eq!(keys(store, "/b/", Some("/b/3"), 2, At::Latest).await, (owned(&[]), 0));
    assert_eq!(keys(store, "/b/", Some("/a/9"), 1, At::Latest).await, (owned(&["/b/1"]), 2));
    assert_eq!(keys(store, "/b/", Some("/z"), 1, At::Latest).await, (owned(&[]), 0));
    assert_eq!(keys(store, "", None, 1, At::Latest).await, (owned(&["/a/1"]), 5));
}

async fn old_revisions_stay_readable(engine: Engine) {
    let store = &*engine.store;
    let a2 = create(store, "a", "1").await;
    let b3 = create(store, "b", "1").await;
    let a4 = update(store, "a", a2, "2").await;
    delete(store, "b", b3).await;
    create(store, "c", "1").await;
    assert_eq!(keys(store, "", None, 0, At::Exact(1)).await.0, [""; 0]);
    assert_eq!(keys(store, "", None, 0, At::Exact(3)).await.0, ["a", "b"]);
    assert_eq!(keys(store, "", None, 1, At::Exact(4)).await, (vec!["a".to_owned()], 1));
    assert_eq!(keys(store, "", Some("a"), 0, At::Exact(5)).await.0, [""; 0]);
    assert_eq!(keys(store, "", None, 0, At::Exact(6)).await.0, ["a", "c"]);
    assert_eq!(get(store, "a", At::Exact(3)).await.unwrap().value, "1");
    assert_eq!(get(store, "a", At::Exact(a4)).await.unwrap().value, "2");
    assert_eq!(get(store, "b", At::Exact(5)).await, None);
    assert_eq!(get(store, "b", At::Exact(4)).await.unwrap().mod_revision, 3);
}

async fn compaction_refuses_what_is_below_it(engine: Engine) {
    let store = &*engine.store;
    let a = create(store, "a", "1").await;
    let a = update(store, "a", a, "2").await;
    update(store, "a", a, "3").await;
    store.compact(3).await.unwrap();
    let compacted = StoreError::Compacted { floor: 3 };
    assert_eq!(store.status().floor, 3);
    assert_eq!(store.get(b"a", At::Exact(2)).await, Err(compacted.clone()));
    assert_eq!(store.list(b"", None, 0, At::Exact(2)).await, Err(compacted.clone()));
    assert_eq!(store.watch(b"", 2).err(), Some(compacted.clone()));
    assert_eq!(store.watch(b"", 0).err(), Some(compacted));
    assert_eq!(get(store, "a", At::Exact(3)).await.unwrap().value, "2");
    assert_eq!(told(&history(store, "", 3, 4).await.unwrap()).len(), 1);
    store.compact(2).await.unwrap();
    assert_eq!(store.status().floor, 3, "the floor never falls");
    assert_eq!(store.compact(5).await, Err(StoreError::Future { current: 4 }));
}

async fn the_future_is_refused(engine: Engine) {
    let store = &*engine.store;
    let future = StoreError::Future { current: 1 };
    assert_eq!(store.get(b"a", At::Exact(2)).await, Err(future.clone()));
    assert_eq!(store.list(b"a", None, 0, At::Exact(2)).await, Err(future.clone()));
    assert_eq!(store.watch(b"", 2).err(), Some(future.clone()));
    assert_eq!(store.wait_for(2, Duration::from_millis(5)).await, Err(future));
    assert_eq!(store.wait_for(1, Duration::ZERO).await, Ok(()));
}

async fn a_read_waits_for_a_revision(engine: Engine) {
    let store = &*engine.store;
    let read = store.get(b"a", At::AtLeast(2));
    let write = async {
        tokio::task::yield_now().await;
        create(store, "a", "1").await
    };
    let (read, _) = tokio::join!(read, write);
    let (entry, revision) = read.unwrap();
    assert_eq!((entry.unwrap().mod_revision, revision), (2, 2));
}

async fn a_watch_tells_everything_once_and_in_order(engine: Engine) {
    let store = &*engine.store;
    let mut watch = store.watch(b"/a/", 0).unwrap();
    assert_eq!(next(&mut watch).await, Some(Ok(Watched::Progress(1))), "a caught-up watch says so at once");
    let a = create(store, "/a/1", "1").await;
    create(store, "/b/1", "1").await;
    let a = update(store, "/a/1", a, "2").await;
    let last = delete(store, "/a/1", a).await;
    let one = |revision, previous: Option<&'static str>, value: Option<&'static str>| {
        (revision, "/a/1".to_owned(), previous.map(Bytes::from), value.map(Bytes::from))
    };
    let expected = [one(2, None, Some("1")), one(4, Some("1"), Some("2")), one(5, Some("2"), None)];
    assert_eq!(told(&events_until(&mut watch, last).await.unwrap()), expected);
    create(store, "/b/2", "").await;
    assert_eq!(next(&mut watch).await, Some(Ok(Watched::Progress(6))));
}

async fn a_watch_resumes_from_any_revision(engine: Engine) {
    let store = &*engine.store;
    let mut last = create(store, "a", "").await;
    for value in 0..20 {
        last = update(store, "a", last, &value.to_string()).await;
    }
    let all = history(store, "", 1, last).await.unwrap();
    assert_eq!(all.len(), 21);
    for from in 1..=last {
        let rest = history(store, "", from, last).await.unwrap();
        assert_eq!(told(&rest), told(&all[(from - 1) as usize..]), "from {from}");
    }
}

async fn a_watch_behind_a_compaction_is_told(engine: Engine) {
    let store = &*engine.store;
    let mut slow = store.watch(b"", 1).unwrap();
    let mut caught_up = store.watch(b"", 1).unwrap();
    create(store, "a", "").await;
    create(store, "b", "").await;
    events_until(&mut caught_up, 3).await.unwrap();
    store.compact(3).await.unwrap();
    create(store, "c", "").await;
    assert_eq!(next(&mut slow).await, Some(Err(StoreError::Compacted { floor: 3 })));
    assert_eq!(next(&mut slow).await, None);
    assert_eq!(told(&events_until(&mut caught_up, 4).await.unwrap())[0].1, "c");
}

async fn expired_keys_are_deleted_like_others(engine: Engine) {
    let store = &*engine.store;
    let with_ttl = |seconds| Change::Put { value: "v".into(), ttl: Some(Duration::from_secs(seconds)) };
    store.write("late".into(), Expect::Absent, with_ttl(20)).await.unwrap();
    store.write("soon".into(), Expect::Absent, with_ttl(10)).await.unwrap();
    let renewed = store.write("renewed".into(), Expect::Absent, with_ttl(10)).await.unwrap().revision;
    store.write("renewed".into(), Expect::Revision(renewed), with_ttl(100)).await.unwrap();
    assert_eq!(get(store, "soon", At::Latest).await.unwrap().expires_at_ms, Some(1_010_000));
    engine.clock.advance(Duration::from_secs(10));
    (engine.expire)();
    store.wait_for(6, Duration::from_secs(10)).await.unwrap();
    assert_eq!(keys(store, "", None, 0, At::Latest).await.0, ["late", "renewed"]);
    engine.clock.advance(Duration::from_secs(10));
    (engine.expire)();
    store.wait_for(7, Duration::from_secs(10)).await.unwrap();
    let events = told(&history(store, "", 5, 7).await.unwrap());
    assert_eq!(events[0], (6, "soon".to_owned(), Some("v".into()), None));
    assert_eq!(events[1], (7, "late".to_owned(), Some("v".into()), None));
    assert_eq!(keys(store, "", None, 0, At::Latest).await.0, ["renewed"]);
}

async fn oversize_is_refused(engine: Engine) {
    let store = &*engine.store;
    let write = async |key_bytes: usize, value_bytes: usize| {
        let change = Change::Put { value: vec![0; value_bytes].into(), ttl: None };
        store.write(vec![b'k'; key_bytes].into(), Expect::Absent, change).await.map(|c| c.revision)
    };
    let too_large = |size, size_max| Err(StoreError::TooLarge { size, size_max });
    assert_eq!(write(1, VALUE_BYTES_MAX + 1).await, too_large(VALUE_BYTES_MAX + 1, VALUE_BYTES_MAX));
    assert_eq!(write(KEY_BYTES_MAX + 1, 0).await, too_large(KEY_BYTES_MAX + 1, KEY_BYTES_MAX));
    assert_eq!(write(KEY_BYTES_MAX, VALUE_BYTES_MAX).await, Ok(2));
}

async fn equal_content_hashes_equal(engine: Engine) {
    let (store, other) = (&*engine.store, ModelStore::new(Clock::manual(0)));
    let mut seen = Vec::new();
    for value in ["1", "2"] {
        assert_eq!(create(store, value, value).await, create(&other, value, value).await);
        assert_eq!(store.hash().await, other.hash().await);
        seen.push(store.hash().await.unwrap().1);
    }
    update(store, "1", 2, "x").await;
    update(&other, "1", 2, "y").await;
    assert_ne!(store.hash().await, other.hash().await);
    assert_ne!(seen[0], seen[1]);
}

async fn close_ends_writes_and_watches_but_not_reads(engine: Engine) {
    let store = &*engine.store;
    let mut watch = store.watch(b"", 1).unwrap();
    create(store, "a", "1").await;
    store.close().await.unwrap();
    store.close().await.unwrap();
    assert_eq!(put(store, "b", Expect::Absent, "").await, Err(StoreError::Closed));
    assert_eq!(told(&events_until(&mut watch, 2).await.unwrap()).len(), 1);
    assert_eq!(next(&mut watch).await, Some(Err(StoreError::Closed)));
    assert_eq!(next(&mut watch).await, None);
    assert_eq!(get(store, "a", At::Latest).await.unwrap().value, "1");
}
