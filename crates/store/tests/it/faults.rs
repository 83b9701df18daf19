//! Every single call to the disk fails once, in every way. Whatever the store answers then must be true afterwards.

use std::time::Duration;

use corten_store::embedded::{EmbeddedStore, verify};
use corten_store::{Alarm, At, Change, Expect, Revision, Store, StoreError};

use crate::sim_disk::{Dice, Fault, SimDisk, Survival};
use crate::workload::{Truth, open, options, steps, take};

const STEPS: u64 = 30;

/// What the workload was told.
struct Told {
    answered: Revision,
    /// Some write's outcome was left open.
    unknown: bool,
    refused: usize,
}

/// Runs the workload against a disk that may fail; the truth takes only what was answered, and last what was left open.
async fn run(disk: &SimDisk, truth: &mut Truth) -> Told {
    let mut told = Told { answered: 1, unknown: false, refused: 0 };
    let options = options();
    let clock = options.clock.clone();
    let Ok(store) = EmbeddedStore::open(disk.clone(), options) else { return told };
    for step in steps(STEPS, 11) {
        clock.advance(Duration::from_secs(1));
        match take(&store, &step).await {
            Ok(committed) => {
                told.answered = truth.take(&step).await;
                assert_eq!(committed.revision, told.answered);
            }
            Err(StoreError::Indeterminate(_)) => {
                assert!(!told.unknown, "the store writes nothing after a failure whose extent it does not know");
                truth.take(&step).await;
                told.unknown = true;
            }
            Err(StoreError::NoSpace) => told.refused += 1,
            Err(StoreError::ReadOnly) => {
                assert_eq!(store.status().alarm, Some(Alarm::ReadOnly));
                told.refused += 1;
            }
            Err(error) => panic!("unexpected: {error}"),
        }
        // Reads go on, whatever happens.
        store.get(&step.key, At::Latest).await.unwrap();
    }
    store.close().await.unwrap();
    told
}

async fn calls_of_a_run() -> usize {
    let disk = SimDisk::default();
    run(&disk, &mut Truth::new().await).await;
    disk.numbered()
}

#[tokio::test]
async fn a_failing_call_never_makes_an_answer_untrue() {
    let calls = calls_of_a_run().await;
    assert!(calls > 120, "{calls}");
    let mut dice = Dice::new(1);
    let (mut unknown, mut refused) = (0, 0);
    for at in 0..calls {
        for fault in [Fault::Io, Fault::NoSpace, Fault::Short] {
            let what = format!("{fault:?} at call {at} of {calls}");
            let (disk, mut truth) = (SimDisk::default(), Truth::new().await);
            disk.fail(at, fault);
            let told = run(&disk, &mut truth).await;
            unknown += usize::from(told.unknown);
            refused += told.refused;
            let most = told.answered + u64::from(told.unknown);
            let cut = disk.cut(disk.recorded(), Survival::Pieces, &mut dice);
            for (image, how) in [(disk.image(), "restart"), (cut, "power cut")] {
                let what = format!("{what}, {how}");
                let (_, store) = open(image).unwrap_or_else(|error| panic!("{what}: {error}"));
                let revision = truth.check(&store, &what).await;
                assert!(
                    told.answered <= revision && revision <= most,
                    "{revision} in {}..={most}, {what}",
                    told.answered
                );
            }
        }
    }
    assert!(unknown > 20 && refused > 20, "the faults hit something: {unknown} unknown, {refused} refused");
}

#[tokio::test]
async fn a_failing_call_while_opening_is_an_error_and_changes_nothing() {
    let (disk, mut truth) = (SimDisk::default(), Truth::new().await);
    run(&disk, &mut truth).await;
    let images = [disk.image(), disk.cut(disk.recorded() - 20, Survival::Everything, &mut Dice::new(2))];
    for image in images {
        let (probe, store) = open(image.clone()).unwrap();
        let calls = probe.numbered();
        let expected = store.hash().await.unwrap();
        drop(store);
        for at in 0..calls {
            let disk = SimDisk::of(image.clone());
            disk.fail(at, Fault::Io);
            let failed = EmbeddedStore::open(disk.clone(), options()).is_err();
            disk.forget_fault();
            if failed {
                let store = EmbeddedStore::open(disk, options()).unwrap();
                assert_eq!(store.hash().await.unwrap(), expected, "call {at}");
            }
        }
    }
}

/// A file system that shows the lost bytes of a failed flush as long as it runs, as Linux does: opening the store again
/// must not take what it reads for durable.
#[tokio::test]
async fn what_a_failed_flush_leaves_in_the_cache_is_written_again() {
    let calls = calls_of_a_run().await;
    let mut hit = 0;
    for at in 0..calls {
        let (disk, mut truth) = (SimDisk::default(), Truth::new().await);
        disk.fail(at, Fault::Short);
        let told = run(&disk, &mut truth).await;
        disk.forget_fault();
        let store = EmbeddedStore::open(disk.clone(), options()).unwrap();
        let shown = truth.check(&store, "restart").await;
        hit += usize::from(told.unknown && shown > told.answered);
        let image = disk.cut(disk.recorded(), Survival::Nothing, &mut Dice::new(3));
        drop(store);
        let (_, store) = open(image).unwrap();
        assert_eq!(truth.check(&store, "power cut").await, shown, "call {at}");
    }
    assert!(hit > 10, "some flush failed and left its bytes: {hit}");
}

async fn put(store: &dyn Store, key: &str, bytes: usize) -> Result<Revision, StoreError> {
    let change = Change::Put { value: vec![b'x'; bytes].into(), ttl: None };
    store.write(key.to_owned().into(), Expect::Absent, change).await.map(|committed| committed.revision)
}

/// Fills the store until it says so; returns the keys that it took.
async fn fill(store: &dyn Store) -> Vec<(String, Revision)> {
    let mut taken = Vec::new();
    loop {
        let key = format!("/k/{}", taken.len());
        match put(store, &key, 300).await {
            Ok(revision) => taken.push((key, revision)),
            Err(StoreError::NoSpace) => return taken,
            Err(error) => panic!("unexpected: {error}"),
        }
    }
}

#[tokio::test]
async fn a_full_disk_of_any_size_refuses_puts_and_nothing_else() {
    for capacity in (5000..14_000).step_by(97) {
        let disk = SimDisk::with_capacity(capacity);
        let store = EmbeddedStore::open(disk.clone(), options()).unwrap();
        let taken = fill(&store).await;
        assert_eq!(store.status().alarm, Some(Alarm::NoSpace), "capacity {capacity}");
        for (key, revision) in &taken {
            let entry = store.get(key.as_bytes(), At::Latest).await.unwrap().0.unwrap();
            assert_eq!(entry.mod_revision, *revision);
        }
        // Deletions pass by the reserve.
        let (gone, rest) = taken.split_at(taken.len().min(3));
        for (key, revision) in gone {
            let deleted = store.write(key.clone().into(), Expect::Revision(*revision), Change::Delete).await;
            assert!(deleted.is_ok(), "capacity {capacity}: {deleted:?}");
        }
        assert_eq!(put(&store, "/one-more", 300).await, Err(StoreError::NoSpace), "capacity {capacity}");
        // A restart finds no half frame where the disk was full.
        let half = verify(&SimDisk::of(disk.image())).unwrap();
        assert_eq!((half.damages.len(), half.torn_bytes), (0, 0), "capacity {capacity}");
        // With room it goes on without a restart.
        disk.set_capacity(Some(capacity * 2 + 8000));
        put(&store, "/again", 300).await.unwrap();
        assert_eq!(store.status().alarm, None);
        let expected = store.hash().await.unwrap();
        drop(store);
        let (_, store) = open(disk.image()).unwrap();
        assert_eq!(store.hash().await.unwrap(), expected);
        assert_eq!(store.status().objects as usize, rest.len() + 1, "capacity {capacity}");
    }
}
