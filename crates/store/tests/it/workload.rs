//! A fixed sequence of writes that touches everything the engine does, and what is known of it afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_store::embedded::{EmbeddedStore, OpenError, Options};
use corten_store::model::ModelStore;
use corten_store::{At, Change, Committed, Event, Expect, Revision, Store, StoreError};

use crate::reader::history;
use crate::sim_disk::{Dice, Image, SimDisk};

/// Small limits: a segment holds a few writes, and a snapshot comes every few segments.
pub(crate) fn options() -> Options {
    let mut options = Options::new(Clock::manual(1_000_000), &Random::seeded(7));
    options.limits.segment_bytes = 600;
    options.limits.snapshot_log_bytes_min = 1500;
    options.limits.reserve_bytes = 2000;
    options.limits.history_events_min = 12;
    options.limits.history_age_min = Duration::ZERO;
    // No marker but those that closing and rotation write: they would depend on the machine's speed.
    options.limits.idle_before_end_marker = Duration::from_secs(3600);
    options.snapshots_inline = true;
    options
}

/// One step: a key, whether it is deleted if it exists, and the value that it gets otherwise.
pub(crate) struct Step {
    pub(crate) key: Bytes,
    delete: bool,
    value: Bytes,
}

pub(crate) fn steps(count: u64, seed: u64) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let step = |at| {
        let length = [0, 10, 100, 700][dice.roll(4) as usize];
        let value = format!("{at}:{}", "x".repeat(length)).into();
        Step { key: format!("/k/{}", dice.roll(6)).into(), delete: dice.roll(4) == 0, value }
    };
    (0..count).map(step).collect()
}

/// Does a step from whatever the key is now.
pub(crate) async fn take(store: &dyn Store, step: &Step) -> Result<Committed, StoreError> {
    let (entry, _) = store.get(&step.key, At::Latest).await?;
    let put = Change::Put { value: step.value.clone(), ttl: None };
    let (expect, change) = match entry {
        Some(entry) if step.delete => (Expect::Revision(entry.mod_revision), Change::Delete),
        Some(entry) => (Expect::Revision(entry.mod_revision), put),
        None => (Expect::Absent, put),
    };
    store.write(step.key.clone(), expect, change).await
}

/// The truth about a workload: the content's hash at every revision, and every event.
pub(crate) struct Truth {
    pub(crate) model: ModelStore,
    hashes: BTreeMap<Revision, u64>,
}

impl Truth {
    pub(crate) async fn new() -> Self {
        let model = ModelStore::new(Clock::manual(1_000_000));
        let (revision, hash) = model.hash().await.unwrap();
        Self { model, hashes: BTreeMap::from([(revision, hash)]) }
    }

    pub(crate) async fn take(&mut self, step: &Step) -> Revision {
        let committed = take(&self.model, step).await.unwrap();
        let (revision, hash) = self.model.hash().await.unwrap();
        assert_eq!(revision, committed.revision);
        self.hashes.insert(revision, hash);
        revision
    }

    /// The store shows exactly one of the true states, and the true history behind it. Returns its revision.
    pub(crate) async fn check(&self, store: &dyn Store, what: &str) -> Revision {
        let (revision, hash) = store.hash().await.unwrap();
        assert_eq!(Some(&hash), self.hashes.get(&revision), "content at revision {revision}, {what}");
        let floor = store.status().floor;
        let events = history(store, "", floor, revision).await.unwrap();
        let truth = history(&self.model, "", 1, self.model.status().revision).await.unwrap();
        let truth: Vec<&Arc<Event>> = truth.iter().filter(|e| e.revision > floor && e.revision <= revision).collect();
        assert!(events.iter().eq(truth), "history from {floor} to {revision}, {what}");
        revision
    }
}

pub(crate) fn open(image: Image) -> Result<(SimDisk, EmbeddedStore), OpenError> {
    let disk = SimDisk::of(image);
    EmbeddedStore::open(disk.clone(), options()).map(|store| (disk, store))
}
