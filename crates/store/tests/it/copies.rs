//! Copies of stores that are open, and the stores that are made of them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use corten_stdx::clock::Clock;
use corten_store::embedded::copy::{Copy, GAP};
use corten_store::embedded::disk::{Directory, Disk as _, FileInfo};
use corten_store::embedded::{EmbeddedStore, OpenError, Options, verify};
use corten_store::model::ModelStore;
use corten_store::{At, Change, Expect, Store, StoreError};
use futures_util::StreamExt as _;

use crate::sim_disk::SimDisk;
use crate::workload::{options, steps, take};

const COPIES: usize = 25;

/// Segments and snapshots come and go often, but not with every look.
fn busy() -> Options {
    let mut options = options();
    options.limits.segment_bytes = 16 << 10;
    options.limits.snapshot_log_bytes_min = 32 << 10;
    options.snapshots_inline = false;
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_an_open_store_has_all_that_was_answered_before_it_began() {
    let disk = SimDisk::default();
    let options = busy();
    let store = EmbeddedStore::open(disk.clone(), options.clone()).unwrap();
    let model = ModelStore::new(Clock::manual(1_000_000));
    let (answered, ended) = (AtomicU64::new(1), AtomicBool::new(false));
    let writes = async {
        for step in steps(200, 5).iter().cycle() {
            options.clock.advance(Duration::from_secs(1));
            take(&model, step).await.unwrap();
            answered.store(take(&store, step).await.unwrap().revision, Ordering::SeqCst);
            if ended.load(Ordering::SeqCst) {
                break;
            }
        }
    };
    let copies = async {
        // Until files have gone meanwhile.
        let is_first = |file: &FileInfo| file.name == "wal-00000000000000000002";
        let (mut copies, mut newest) = (0, 0);
        while copies < COPIES || disk.list().unwrap().iter().any(is_first) {
            let before = answered.load(Ordering::SeqCst);
            let from = disk.clone();
            let copy = tokio::task::spawn_blocking(move || Copy::read(&from, &busy())).await.unwrap().unwrap();
            assert!(copy.revision >= before, "{before} was answered, the copy is of {}", copy.revision);
            let page = model.list(b"", None, 0, At::Exact(copy.revision)).await.unwrap();
            assert_eq!(copy.objects, page.entries, "at {}", copy.revision);
            model.compact(copy.revision).await.unwrap();
            (copies, newest) = (copies + 1, before);
        }
        ended.store(true, Ordering::SeqCst);
        assert!(newest > 1, "writes went on meanwhile");
    };
    tokio::join!(writes, copies);
}

#[tokio::test]
async fn a_store_made_of_a_copy_has_its_objects_and_none_of_its_history() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let disk = Directory::open(directory.path()).unwrap();
    let store = EmbeddedStore::open(disk.clone(), options()).unwrap();
    for step in steps(200, 9) {
        take(&store, &step).await.unwrap();
    }
    let copy = Copy::read(&disk, &options()).unwrap();
    let mut kept = Copy { revision: copy.revision, objects: Vec::new() };
    copy.blocks().for_each(|block| kept.add(&block).unwrap());
    assert_eq!(kept, copy);
    let new = Directory::open(other.path()).unwrap();
    let revision = kept.write(&new, &options()).unwrap();
    assert_eq!(revision, copy.revision + GAP);
    let report = verify(&new).unwrap();
    assert_eq!((report.damages, report.revision), (Vec::new(), revision));

    // Revisions that were given out after the copy.
    for step in steps(20, 10) {
        take(&store, &step).await.unwrap();
    }
    for _ in 0..2 {
        let made = EmbeddedStore::open(new.clone(), options()).unwrap();
        let page = made.list(b"", None, 0, At::Latest).await.unwrap();
        assert_eq!(page.entries[..copy.objects.len()], copy.objects, "with their revisions");
        for seen in [2, copy.revision, store.status().revision] {
            let refused = made.watch(b"", seen).err();
            assert!(matches!(refused, Some(StoreError::Compacted { .. })), "a watch from {seen}: {refused:?}");
        }
        let mut watch = made.watch(b"", page.revision).unwrap();
        let put = Change::Put { value: Bytes::from_static(b"v"), ttl: None };
        let key = Bytes::from(format!("/z/{}", page.revision));
        let written = made.write(key, Expect::Absent, put).await.unwrap();
        assert_eq!(written.revision, page.revision + 1);
        assert!(watch.next().await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn many_objects_make_several_blocks() {
    let objects = (0..50).map(|at| {
        let entry = corten_store::Entry {
            key: format!("/k/{at:02}").into(),
            value: vec![b'x'; 100_000].into(),
            create_revision: at + 2,
            mod_revision: at + 2,
            version: 1,
            expires_at_ms: (at % 2 == 0).then_some(7),
        };
        std::sync::Arc::new(entry)
    });
    let copy = Copy { revision: 60, objects: objects.collect() };
    let blocks: Vec<_> = copy.blocks().collect();
    assert!((5..10).contains(&blocks.len()), "{}", blocks.len());
    let mut again = Copy { revision: 60, objects: Vec::new() };
    blocks.iter().for_each(|block| again.add(block).unwrap());
    assert_eq!(again, copy);
    assert!(again.add(&blocks[0][1..]).is_err());
}

#[tokio::test]
async fn a_damaged_store_is_not_copied() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Directory::open(directory.path()).unwrap();
    assert!(matches!(Copy::read(&disk, &options()), Err(OpenError::Damaged(_))), "there is none");
    let store = EmbeddedStore::open(disk.clone(), busy()).unwrap();
    for step in steps(40, 3) {
        take(&store, &step).await.unwrap();
    }
    store.close().await.unwrap();
    let log = directory.path().join("wal-00000000000000000002");
    let mut bytes = std::fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    assert!(matches!(Copy::read(&disk, &busy()), Err(OpenError::Damaged(_))));
}
