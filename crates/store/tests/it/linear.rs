//! Concurrent clients, some of which give up waiting. The store's revisions are one order of all writes: it must agree
//! with real time, and replaying it must give every answer that was given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use corten_store::embedded::EmbeddedStore;
use corten_store::{At, Change, Entry, Expect, Revision, Store, StoreError};
use futures_util::future::join_all;

use crate::reader::{events_until, history};
use crate::sim_disk::{Dice, SimDisk};
use crate::workload::options;

const CLIENTS: u64 = 12;
const OPS: u64 = 250;

/// One finished operation, with its place in real time.
struct Done {
    start: u64,
    end: u64,
    what: What,
}

enum What {
    Wrote { revision: Revision, key: Bytes, value: Bytes, previous: Option<Arc<Entry>> },
    Refused { key: Bytes, expected: Expect, current: Option<Arc<Entry>> },
    Read { revision: Revision, key: Bytes, entry: Option<Arc<Entry>> },
}

async fn client(store: Arc<EmbeddedStore>, time: Arc<AtomicU64>, number: u64) -> Vec<Done> {
    let mut dice = Dice::new(number);
    let mut done = Vec::new();
    for op in 0..OPS {
        let key = Bytes::from(format!("/{}", dice.roll(4)));
        let start = time.fetch_add(1, Ordering::SeqCst);
        let (entry, revision) = store.get(&key, At::Latest).await.unwrap();
        let end = time.fetch_add(1, Ordering::SeqCst);
        done.push(Done { start, end, what: What::Read { revision, key: key.clone(), entry: entry.clone() } });
        if dice.roll(3) == 0 {
            // Let others write in between.
            tokio::task::yield_now().await;
        }
        let expected = entry.map_or(Expect::Absent, |entry| Expect::Revision(entry.mod_revision));
        let value = Bytes::from(format!("{number}.{op}"));
        let start = time.fetch_add(1, Ordering::SeqCst);
        let put = Change::Put { value: value.clone(), ttl: None };
        let write = store.write(key.clone(), expected, put);
        let result = if dice.roll(10) == 0 {
            match tokio::time::timeout(Duration::from_micros(dice.roll(50)), write).await {
                Ok(result) => result,
                // Given up: it may take place or not, and nobody was told.
                Err(_) => continue,
            }
        } else {
            write.await
        };
        let end = time.fetch_add(1, Ordering::SeqCst);
        let what = match result {
            Ok(committed) => What::Wrote { revision: committed.revision, key, value, previous: committed.previous },
            Err(StoreError::Conflict { current }) => What::Refused { key, expected, current },
            Err(error) => panic!("unexpected: {error}"),
        };
        done.push(Done { start, end, what });
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_clients_see_one_order() {
    let mut options = options();
    options.limits.history_events_min = 1_000_000;
    options.limits.snapshot_log_bytes_min = 20_000;
    options.snapshots_inline = false;
    let store = Arc::new(EmbeddedStore::open(SimDisk::default(), options).unwrap());
    let mut watches: Vec<_> = (0..4).map(|_| store.watch(b"", 1).unwrap()).collect();
    let time = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (store, time) = (store.clone(), time.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(client(store, time, number))
            })
        })
        .collect();
    let mut done: Vec<Done> = clients.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    // What was given up may still be under way; a write behind it ends the queue.
    let put = Change::Put { value: Bytes::new(), ttl: None };
    let last = store.write("/last".into(), Expect::Absent, put).await.unwrap().revision;
    let events = history(&*store, "", 1, last).await.unwrap();
    for told in join_all(watches.iter_mut().map(|watch| events_until(watch, last))).await {
        assert_eq!(told.unwrap(), events, "every watch tells the same");
    }
    assert!(events.iter().map(|event| event.revision).eq(2..=last));
    check_answers(&done, &events);
    check_real_time(&mut done);
    let wrote = done.iter().filter(|done| matches!(done.what, What::Wrote { .. })).count();
    assert!(wrote > 200 && done.len() > wrote * 2, "{wrote} of {}", done.len());
}

/// Replays the history and compares every answer with the state that it claims to be of.
fn check_answers(done: &[Done], events: &[Arc<corten_store::Event>]) {
    // Per key its states by revision.
    let mut states: BTreeMap<&[u8], BTreeMap<Revision, Option<Arc<Entry>>>> = BTreeMap::new();
    for event in events {
        let of_key = states.entry(&event.key).or_default();
        let before = of_key.last_key_value().and_then(|(_, entry)| entry.clone());
        assert_eq!(event.previous, before, "an event knows what was before it");
        of_key.insert(event.revision, event.entry.clone());
    }
    let at = |key: &[u8], revision| states.get(key)?.range(..=revision).next_back()?.1.clone();
    for done in done {
        match &done.what {
            What::Read { revision, key, entry } => assert_eq!(&at(key, *revision), entry),
            What::Wrote { revision, key, value, previous } => {
                assert_eq!(&at(key, *revision).unwrap().value, value);
                assert_eq!(&at(key, *revision - 1), previous);
            }
            What::Refused { key, expected, current } => {
                let revision = current.as_ref().map_or(1, |entry| entry.mod_revision);
                assert_eq!(&at(key, revision), current);
                assert_ne!(current.as_ref().map_or(Expect::Absent, |e| Expect::Revision(e.mod_revision)), *expected);
            }
        }
    }
}

/// What ended before something else began comes before it in the order of revisions.
fn check_real_time(done: &mut [Done]) {
    let place = |done: &Done| match &done.what {
        // A read comes after the write of its revision and before the next one.
        What::Read { revision, .. } => (*revision, 1),
        What::Wrote { revision, .. } => (*revision, 0),
        What::Refused { current, .. } => (current.as_ref().map_or(1, |entry| entry.mod_revision), 2),
    };
    // Of a refusal only a lower bound is known, so it proves nothing here. What shares a place has no order but time's.
    done.sort_by_key(|done| (place(done), done.start));
    let mut earliest_end = u64::MAX;
    for done in done.iter().rev() {
        let refused = matches!(done.what, What::Refused { .. });
        assert!(refused || done.start < earliest_end, "an operation ended before one began that precedes it");
        earliest_end = earliest_end.min(if refused { u64::MAX } else { done.end });
    }
}
