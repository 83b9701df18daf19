//! Watches go on over a restart, and what the store keeps stays bounded.

use std::time::Duration;

use bytes::Bytes;
use corten_store::embedded::EmbeddedStore;
use corten_store::{At, Change, Expect, Revision, Store};

use crate::reader::{events_until, history};
use crate::sim_disk::{Dice, SimDisk, Survival};
use crate::workload::{options, steps, take};

const WATCHERS: u64 = 500;

#[tokio::test]
async fn watches_resume_over_a_restart_without_gap_or_double() {
    let disk = SimDisk::default();
    let mut options = options();
    options.limits.history_events_min = 1500;
    options.limits.segment_bytes = 20_000;
    options.limits.snapshot_log_bytes_min = 50_000;
    let clock = options.clock.clone();
    let store = EmbeddedStore::open(disk.clone(), options.clone()).unwrap();
    for step in steps(3000, 31) {
        clock.advance(Duration::from_secs(1));
        take(&store, &step).await.unwrap();
    }
    let (floor, last) = (store.status().floor, store.status().revision);
    assert_eq!((last, last - floor), (3001, 1500), "the window is full");
    let all = history(&store, "", floor, last).await.unwrap();
    // The power goes while the store is open.
    let image = disk.cut(disk.recorded(), Survival::Nothing, &mut Dice::new(1));
    drop(store);
    let store = EmbeddedStore::open(SimDisk::of(image), options).unwrap();
    assert!(store.status().floor <= floor);
    let mut watches = Vec::new();
    for watcher in 0..WATCHERS {
        let seen: Revision = floor + watcher * (last - floor) / WATCHERS;
        let prefix = format!("/k/{}", watcher % 6);
        watches.push((seen, prefix.clone(), store.watch(prefix.as_bytes(), seen).unwrap()));
    }
    let mut later = Vec::new();
    for step in steps(20, 32) {
        clock.advance(Duration::from_secs(1));
        take(&store, &step).await.unwrap();
        later.push(step);
    }
    let newest = store.status().revision;
    let new = history(&store, "", last, newest).await.unwrap();
    assert_eq!(new.len(), later.len());
    for (seen, prefix, watch) in &mut watches {
        // The first twenty revisions may have left the window by now.
        if *seen < store.status().floor {
            continue;
        }
        let told = events_until(watch, newest).await.unwrap();
        let due = all.iter().chain(&new).filter(|e| e.revision > *seen && e.key.starts_with(prefix.as_bytes()));
        assert!(told.iter().eq(due), "from {seen} of {prefix}");
    }
}

#[tokio::test]
async fn what_is_kept_is_bounded_whatever_is_written() {
    let disk = SimDisk::default();
    let mut options = options();
    options.limits.segment_bytes = 4000;
    options.limits.snapshot_log_bytes_min = 16_000;
    options.limits.history_bytes_max = 20_000;
    options.limits.history_events_min = 1_000_000;
    let store = EmbeddedStore::open(disk.clone(), options.clone()).unwrap();
    // A reader that never reads pins nothing.
    let stuck = store.watch(b"", 1).unwrap();
    let mut most = 0;
    for step in steps(6000, 41) {
        take(&store, &step).await.unwrap();
        most = most.max(store.status().disk_bytes);
    }
    // Two snapshots, the log behind the older one (history, the time until the next snapshot), segments, the reserve.
    assert!(most < 100_000, "{most} bytes on disk");
    let status = store.status();
    assert!(status.revision - status.floor < 100, "{status:?}");
    drop(stuck);
    drop(store);
    let (revision, files) = (status.revision, disk.image().names());
    assert!(files.len() < 30, "{files:?}");
    let store = EmbeddedStore::open(disk, options).unwrap();
    assert_eq!(store.status().revision, revision);
}

/// Keys that expire are deleted by the timer of a running store, on the system's clock.
#[tokio::test]
async fn the_timer_deletes_what_expires_and_a_restart_remembers_it() {
    let disk = SimDisk::default();
    let mut options = options();
    options.clock = corten_stdx::clock::Clock::system();
    let store = EmbeddedStore::open(disk.clone(), options.clone()).unwrap();
    let put = |ms| Change::Put { value: Bytes::from_static(b"v"), ttl: Some(Duration::from_millis(ms)) };
    store.write("a".into(), Expect::Absent, put(20)).await.unwrap();
    store.write("b".into(), Expect::Absent, put(150)).await.unwrap();
    store.wait_for(4, Duration::from_secs(10)).await.unwrap();
    assert_eq!(store.get(b"a", At::Latest).await.unwrap().0, None);
    drop(store);
    let store = EmbeddedStore::open(disk, options).unwrap();
    store.wait_for(5, Duration::from_secs(10)).await.unwrap();
    assert_eq!(store.status().objects, 0);
}
