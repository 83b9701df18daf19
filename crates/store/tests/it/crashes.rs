//! The power is cut after every single call to the disk, with every kind of loss of what was not flushed, and again
//! while the store recovers from that. Nothing that was answered may be missing, nothing else may appear.

use std::time::Duration;

use corten_store::embedded::EmbeddedStore;
use corten_store::{Revision, Store};

use crate::sim_disk::{Dice, Image, SimDisk, Survival};
use crate::workload::{Truth, open, options, steps, take};

/// What callers knew when a number of calls had been made.
struct Known {
    calls: usize,
    /// The last revision that was answered.
    answered: Revision,
}

#[tokio::test]
async fn a_power_cut_at_any_call_loses_nothing_that_was_answered() {
    let disk = SimDisk::default();
    let mut truth = Truth::new().await;
    let mut known = vec![Known { calls: 0, answered: 1 }];
    let options = options();
    let clock = options.clock.clone();
    let store = EmbeddedStore::open(disk.clone(), options).unwrap();
    for step in steps(60, 1) {
        // So that history gets old.
        clock.advance(Duration::from_secs(1));
        truth.take(&step).await;
        let answered = take(&store, &step).await.unwrap().revision;
        known.push(Known { calls: disk.recorded(), answered });
    }
    assert!(store.status().floor > 20, "history was trimmed, so old files were removed");
    store.close().await.unwrap();
    for step in steps(4, 2) {
        truth.take(&step).await;
    }
    let mut dice = Dice::new(3);
    for calls in 0..=disk.recorded() {
        // A call of the keeping-up after an answer may come before or after the note that it was answered.
        let answered = known.iter().rev().find(|known| known.calls <= calls).unwrap().answered;
        for survival in [Survival::Nothing, Survival::Everything, Survival::Pieces, Survival::Pieces] {
            let image = disk.cut(calls, survival, &mut dice);
            let what = format!("cut after call {calls}, {survival:?}");
            reopen(&truth, image, answered, answered + 1, &what, 3, &mut dice).await;
        }
    }
}

/// Opens what a cut left, and cuts again, down to a depth.
async fn reopen(truth: &Truth, image: Image, least: Revision, most: Revision, what: &str, depth: u32, dice: &mut Dice) {
    let (disk, store) = open(image).unwrap_or_else(|error| panic!("{what}: {error}"));
    let revision = truth.check(&store, what).await;
    assert!(least <= revision && revision <= most, "{least} <= {revision} <= {most}, {what}");
    let recovered = disk.recorded();
    drop(store);
    if depth > 1 {
        for survival in [Survival::Nothing, Survival::Pieces] {
            let calls = dice.roll(disk.recorded() as u64 + 1) as usize;
            let image = disk.cut(calls, survival, dice);
            let what = format!("{what}; then after call {calls} of {recovered}, {survival:?}");
            // What was shown must stay; before that, one that was not answered may still go either way.
            let least = if calls >= recovered { revision } else { least };
            Box::pin(reopen(truth, image, least, most, &what, depth - 1, dice)).await;
        }
    }
}

/// After a recovery the store is written on, and the power is cut once more: the cut-off tail of the first crash must
/// not come back under what was written over it.
#[tokio::test]
async fn writes_after_a_recovery_survive_the_next_cut() {
    let disk = SimDisk::default();
    let store = EmbeddedStore::open(disk.clone(), options()).unwrap();
    for step in steps(12, 4) {
        take(&store, &step).await.unwrap();
    }
    drop(store);
    let mut dice = Dice::new(5);
    for calls in (0..=disk.recorded()).step_by(2) {
        let image = disk.cut(calls, Survival::Pieces, &mut dice);
        let (second, store) = open(image).unwrap();
        let (revision, hash) = store.hash().await.unwrap();
        for step in steps(5, 6) {
            take(&store, &step).await.unwrap();
        }
        let expected = store.hash().await.unwrap();
        assert_eq!(expected.0, revision + 5);
        let image = second.cut(second.recorded(), Survival::Pieces, &mut dice);
        let (_, again) = open(image).unwrap_or_else(|error| panic!("after call {calls}: {error}"));
        assert_eq!(again.hash().await.unwrap(), expected, "after call {calls} at revision {revision} {hash:x}");
        drop(store);
    }
}

/// A closed store leaves word how its log ends. The word must be gone for good before the log goes on.
#[tokio::test]
async fn the_word_of_a_close_does_not_come_back() {
    let disk = SimDisk::default();
    // Large limits: a new segment would make the removal durable by chance.
    let mut options = options();
    options.limits.segment_bytes = 1 << 20;
    options.limits.snapshot_log_bytes_min = 1 << 20;
    for (turn, step) in steps(4, 7).iter().enumerate() {
        let store = EmbeddedStore::open(disk.clone(), options.clone()).unwrap();
        take(&store, step).await.unwrap();
        let expected = store.hash().await.unwrap();
        let image = disk.cut(disk.recorded(), Survival::Nothing, &mut Dice::new(8));
        store.close().await.unwrap();
        let (_, store) = open(image).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
        assert_eq!(store.hash().await.unwrap(), expected, "turn {turn}");
    }
}
