//! Garbage collection: when the disk fills, images that nothing uses go, the longest unused first. Thresholds and the age that
//! protects what was just pulled are the kubelet's defaults.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corten_stdx::task::Stopped;

use super::index::Index;
use super::usage::Usage;
use super::{ImageError, Store};
use crate::digest::Digest;

/// Percent of the disk in use from which images are collected, and down to which.
const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
/// What was pulled or asked for within this time is about to be used.
const AGE_MIN_MS: i64 = 2 * 60 * 1000;

const PERIOD: Duration = Duration::from_secs(5 * 60);

/// The disk under the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub capacity_bytes: u64,
    pub available_bytes: u64,
}

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What had to be freed; 0 as long as the disk is not full enough.
    pub wanted_bytes: u64,
    /// Of the layers that went.
    pub freed_bytes: u64,
    /// Ids of the images that went.
    pub images: Vec<String>,
}

impl Space {
    /// How much has to go to come down to the low threshold.
    fn wanted_bytes(&self) -> u64 {
        let used = self.capacity_bytes.saturating_sub(self.available_bytes);
        let percent = |percent: u64| self.capacity_bytes / 100 * percent;
        if self.capacity_bytes == 0 || used < percent(HIGH_PERCENT) {
            return 0;
        }
        used - percent(LOW_PERCENT)
    }
}

impl Store {
    /// How full the disk is.
    pub fn space(&self) -> Result<Space, ImageError> {
        let disk =
            rustix::fs::statvfs(&self.0.root).map_err(|errno| ImageError::io("the image store", errno.into()))?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        // What is kept for root counts neither as there nor as free.
        let used = disk.f_blocks.saturating_sub(disk.f_bfree);
        let capacity_bytes = bytes(used.saturating_add(disk.f_bavail));
        Ok(Space { capacity_bytes, available_bytes: bytes(disk.f_bavail) })
    }

    /// Removes what a crash has left, then looks every five minutes, as the kubelet does, until it is told to stop.
    pub async fn keep_collecting(self, mut stopped: Stopped) {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || store.empty_trash()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "what a crash has left could not be removed"),
            Err(error) => tracing::error!(%error, "the removal of what a crash has left ended"),
        }
        loop {
            tokio::select! {
                () = stopped.wait() => return,
                () = self.settings().clock.sleep(PERIOD) => {}
            }
            let store = self.clone();
            let outcome = tokio::task::spawn_blocking(move || store.collect(&store.space()?)).await;
            match outcome {
                Ok(Ok(collected)) if collected.freed_bytes < collected.wanted_bytes => {
                    tracing::warn!(?collected, "the disk fills, and too few images are unused");
                }
                Ok(Ok(collected)) if collected.wanted_bytes > 0 => tracing::info!(?collected, "images were collected"),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::error!(%error, "images could not be collected"),
                Err(error) => tracing::error!(%error, "the collection of images ended"),
            }
        }
    }

    /// Frees what the disk needs. May take seconds.
    pub fn collect(&self, space: &Space) -> Result<Collected, ImageError> {
        match space.wanted_bytes() {
            0 => self.empty_trash().map(|()| Collected::default()),
            wanted_bytes => self.free(wanted_bytes),
        }
    }

    /// Frees so much, as far as there is something that nothing uses.
    pub(super) fn free(&self, wanted_bytes: u64) -> Result<Collected, ImageError> {
        let collected = {
            let turn = self.turn()?;
            let (index, usage) = (self.read()?, self.usage()?);
            let collected = plan(&index, &usage, &self.asked(), self.settings().clock.now_ms(), wanted_bytes);
            self.drop_images(&turn, &collected.images)?;
            collected
        };
        self.empty_trash()?;
        Ok(collected)
    }
}

/// Which images go. A layer counts when its last image goes.
fn plan(index: &Index, usage: &Usage, asked_ms: &BTreeMap<String, i64>, now_ms: i64, wanted_bytes: u64) -> Collected {
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    let distinct = |layers: &[Digest]| layers.iter().copied().collect::<BTreeSet<Digest>>();
    for layer in index.images.iter().flat_map(|record| distinct(&record.layers)) {
        *users.entry(layer).or_default() += 1;
    }
    let mut candidates: Vec<_> = index
        .images
        .iter()
        .map(|record| {
            let id = record.id.to_string();
            let used_ms = [&usage.last_used_ms, asked_ms].into_iter().filter_map(|times| times.get(&id)).max();
            (used_ms.copied().unwrap_or(record.since_ms).max(record.since_ms), id, record)
        })
        .filter(|(used_ms, id, _)| !usage.in_use.contains(id) && now_ms - used_ms >= AGE_MIN_MS)
        .collect();
    candidates.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut collected = Collected { wanted_bytes, ..Collected::default() };
    for (_, id, record) in candidates {
        if collected.freed_bytes >= wanted_bytes {
            break;
        }
        for layer in distinct(&record.layers) {
            let left = users.get_mut(&layer).expect("it was counted");
            *left -= 1;
            if *left == 0 {
                collected.freed_bytes += index.layers.get(&layer).map_or(0, |layer| layer.bytes);
            }
        }
        collected.images.push(id);
    }
    collected
}

#[cfg(test)]
mod tests {
    use super::super::index::{Layer, Record};
    use super::*;

    const NOW: i64 = 10 * AGE_MIN_MS;

    fn digest(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    /// Images by name with their layers; every layer has 100 bytes.
    fn index(images: &[(&str, &[&str])]) -> Index {
        let mut index = Index::default();
        for (name, layers) in images {
            let layers: Vec<Digest> = layers.iter().map(|layer| digest(layer)).collect();
            index.layers.extend(layers.iter().map(|layer| (*layer, Layer { folder: layer.hex(), bytes: 100 })));
            let (tags, digests, blobs) = (Vec::new(), Vec::new(), Vec::new());
            index.images.push(Record { id: digest(name), tags, digests, layers, blobs, since_ms: 0 });
        }
        index
    }

    fn usage(in_use: &[&str], last_used_ms: &[(&str, i64)]) -> Usage {
        Usage {
            in_use: in_use.iter().map(|name| digest(name).to_string()).collect(),
            last_used_ms: last_used_ms.iter().map(|(name, ms)| (digest(name).to_string(), *ms)).collect(),
        }
    }

    #[track_caller]
    fn check(index: &Index, usage: &Usage, wanted_bytes: u64, expected: &[&str], freed_bytes: u64) {
        let images = expected.iter().map(|name| digest(name).to_string()).collect();
        let collected = plan(index, usage, &BTreeMap::new(), NOW, wanted_bytes);
        assert_eq!(collected, Collected { wanted_bytes, freed_bytes, images });
    }

    #[test]
    fn the_longest_unused_go_first_and_no_more_than_needed() {
        let index = index(&[("a", &["1"]), ("b", &["2"]), ("c", &["3"])]);
        let usage = usage(&[], &[("a", 300), ("b", 100), ("c", 200)]);
        check(&index, &usage, 1, &["b"], 100);
        check(&index, &usage, 150, &["b", "c"], 200);
        check(&index, &usage, 1000, &["b", "c", "a"], 300);
    }

    #[test]
    fn what_is_used_or_new_stays() {
        let index = index(&[("a", &["1"]), ("b", &["2"]), ("c", &["3"])]);
        let fresh = usage(&["a"], &[("b", NOW - AGE_MIN_MS + 1), ("c", NOW - AGE_MIN_MS)]);
        check(&index, &fresh, 1000, &["c"], 100);
        let asked = BTreeMap::from([(digest("c").to_string(), NOW)]);
        assert!(plan(&index, &fresh, &asked, NOW, 1000).images.is_empty());
    }

    #[test]
    fn a_shared_layer_counts_with_its_last_image() {
        let index = index(&[("a", &["1", "2"]), ("b", &["1", "3", "3"])]);
        let usage = usage(&[], &[("a", 1), ("b", 2)]);
        check(&index, &usage, 100, &["a"], 100);
        check(&index, &usage, 101, &["a", "b"], 300);
    }

    #[test]
    fn thresholds_are_of_the_whole_disk() {
        let wanted = |available_bytes| Space { capacity_bytes: 1000, available_bytes }.wanted_bytes();
        assert_eq!((wanted(1000), wanted(151), wanted(150), wanted(0)), (0, 0, 50, 200));
        assert_eq!(Space { capacity_bytes: 0, available_bytes: 0 }.wanted_bytes(), 0);
    }
}
