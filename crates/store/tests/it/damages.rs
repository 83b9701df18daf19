//! Files are damaged byte by byte. A store shows what was written or says what is wrong; it never shows something else.

use std::time::Duration;

use corten_store::embedded::{EmbeddedStore, FileKind, OpenError, verify};
use corten_store::{Change, Expect, Store};

use crate::sim_disk::{Image, SimDisk};
use crate::workload::{Truth, open, options, steps, take};

/// A small store with two snapshots and several segments, closed or not.
async fn small_store(close: bool) -> (Image, Truth) {
    let (disk, mut truth) = (SimDisk::default(), Truth::new().await);
    let mut options = options();
    options.limits.snapshot_log_bytes_min = 500;
    options.limits.history_events_min = 6;
    options.limits.idle_before_end_marker = Duration::from_millis(5);
    let clock = options.clock.clone();
    let store = EmbeddedStore::open(disk.clone(), options).unwrap();
    for step in steps(24, 21) {
        clock.advance(Duration::from_secs(1));
        truth.take(&step).await;
        take(&store, &step).await.unwrap();
    }
    if close {
        store.close().await.unwrap();
        return (disk.image(), truth);
    }
    // The writer marks the end when it has nothing to do.
    let (mut calls, mut still) = (0, 0);
    while still < 5 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        still = if disk.recorded() == calls { still + 1 } else { 0 };
        calls = disk.recorded();
    }
    (disk.image(), truth)
}

/// Opens a damaged store; returns whether it was refused.
async fn refused(image: Image, truth: &Truth, what: &str) -> bool {
    match open(image) {
        Err(OpenError::Damaged(_) | OpenError::Format(_)) => true,
        Err(error) => panic!("{what}: {error}"),
        Ok((_, store)) => {
            let newest = truth.model.status().revision;
            assert_eq!(truth.check(&store, what).await, newest, "{what}: something is missing and nobody says so");
            false
        }
    }
}

fn matters(name: &String) -> bool {
    name != "reserve"
}

#[tokio::test]
async fn a_flipped_bit_is_never_shown() {
    for close in [true, false] {
        let (image, truth) = small_store(close).await;
        let names: Vec<_> = image.names().into_iter().filter(matters).collect();
        let snapshots = names.iter().filter(|name| name.starts_with("snap")).count();
        assert!(snapshots == 2 && names.len() < 15, "{names:?}");
        let (mut refusals, mut flips) = (0, 0);
        for name in names {
            for at in 0..image.bytes(&name).len() {
                let mut damaged = image.clone();
                let mut bytes = image.bytes(&name).to_vec();
                bytes[at] ^= 1 << (at % 8);
                damaged.set(&name, bytes);
                let what = format!("byte {at} of {name}, closed {close}");
                let report = verify(&SimDisk::of(damaged.clone()));
                let found = report.is_err() || report.is_ok_and(|r| !r.damages.is_empty() || r.torn_bytes > 0);
                let refused = refused(damaged, &truth, &what).await;
                // An old segment that no snapshot needs may be bad without a word from opening, not from verifying.
                assert!(found, "{what}");
                refusals += usize::from(refused);
                flips += 1;
            }
        }
        assert!(refusals > 100, "{refusals} of {flips}");
    }
}

#[tokio::test]
async fn a_closed_store_that_is_cut_short_is_never_shown() {
    let (image, truth) = small_store(true).await;
    for name in image.names().into_iter().filter(matters) {
        for length in 0..image.bytes(&name).len() {
            let mut damaged = image.clone();
            damaged.set(&name, image.bytes(&name)[..length].to_vec());
            refused(damaged, &truth, &format!("{name} cut to {length}")).await;
        }
        let mut damaged = image.clone();
        damaged.remove(&name);
        refused(damaged, &truth, &format!("{name} removed")).await;
        let mut damaged = image.clone();
        damaged.set(&name, [image.bytes(&name), image.bytes(&name)].concat());
        refused(damaged, &truth, &format!("{name} doubled")).await;
        for start in (0..image.bytes(&name).len()).step_by(64) {
            let mut bytes = image.bytes(&name).to_vec();
            let end = bytes.len().min(start + 512);
            bytes[start..end].fill(0);
            let mut damaged = image.clone();
            damaged.set(&name, bytes);
            refused(damaged, &truth, &format!("{name} zeroed at {start}")).await;
        }
    }
}

/// Nobody closed the store, so only the snapshots know how far its log went at least. `snapshots` are the newest ones
/// that are left.
async fn a_log_cut_before_the_newest_snapshot(snapshots: usize) {
    let (mut image, truth) = small_store(false).await;
    let (kept, segments) = snapshots_and_segments(&image);
    for (name, _) in &kept[..kept.len() - snapshots] {
        image.remove(name);
    }
    let newest = kept.last().unwrap().1;
    let (mut refusals, mut opened) = (0, 0);
    for (at, (name, _)) in segments.iter().enumerate() {
        let mut image = image.clone();
        segments[at + 1..].iter().for_each(|(later, _)| image.remove(later));
        for length in (0..image.bytes(name).len()).step_by(8) {
            let mut damaged = image.clone();
            damaged.set(name, image.bytes(name)[..length].to_vec());
            let what = format!("{name} cut to {length}, {snapshots} snapshots");
            let report = verify(&SimDisk::of(damaged.clone())).unwrap();
            match open(damaged) {
                Err(OpenError::Damaged(_)) => {
                    assert!(!report.damages.is_empty(), "{what}");
                    refusals += 1;
                }
                Err(error) => panic!("{what}: {error}"),
                Ok((disk, store)) => {
                    assert!(truth.check(&store, &what).await >= newest, "{what}");
                    let put = Change::Put { value: "after".into(), ttl: None };
                    store.write("/after".into(), Expect::Absent, put).await.unwrap();
                    drop(store);
                    assert!(open(disk.image()).is_ok(), "{what}: what was written since cannot be read");
                    opened += 1;
                }
            }
        }
    }
    assert!(refusals > 100 && opened > 100, "{refusals} refused, {opened} opened");
}

/// The names of both, each with its (last) revision, oldest first.
fn snapshots_and_segments(image: &Image) -> (Vec<(String, u64)>, Vec<(String, u64)>) {
    let (mut snapshots, mut segments) = (Vec::new(), Vec::new());
    for file in verify(&SimDisk::of(image.clone())).unwrap().files {
        match file.kind {
            FileKind::Snapshot { revision, .. } => snapshots.push((file.name, revision)),
            FileKind::Segment { last, .. } => segments.push((file.name, last)),
            FileKind::Unreadable => panic!("{} cannot be read", file.name),
        }
    }
    (snapshots, segments)
}

#[tokio::test]
async fn a_log_that_does_not_reach_the_newest_snapshot_is_damage() {
    a_log_cut_before_the_newest_snapshot(2).await;
    a_log_cut_before_the_newest_snapshot(1).await;
}

#[tokio::test]
async fn one_file_in_the_place_of_another_is_never_shown() {
    let (image, truth) = small_store(true).await;
    let names = image.names();
    for from in &names {
        for to in names.iter().filter(|to| *to != from && matters(to)) {
            let mut damaged = image.clone();
            damaged.set(to, image.bytes(from).to_vec());
            refused(damaged, &truth, &format!("{from} as {to}")).await;
        }
    }
}

#[tokio::test]
async fn damage_is_named_with_file_offset_and_loss() {
    let disk = SimDisk::default();
    let mut options = options();
    options.limits.segment_bytes = 1 << 20;
    options.limits.snapshot_log_bytes_min = 1 << 20;
    let store = EmbeddedStore::open(disk.clone(), options).unwrap();
    for key in ["a", "b", "c"] {
        let put = Change::Put { value: "v".into(), ttl: None };
        store.write(key.into(), Expect::Absent, put).await.unwrap();
    }
    drop(store);
    let mut image = disk.image();
    let report = verify(&SimDisk::of(image.clone())).unwrap();
    assert_eq!((report.revision, report.closed, report.damages.len(), report.torn_bytes), (4, true, 0, 0));
    let name = report.files[0].name.clone();
    assert_eq!(report.files[0].kind, FileKind::Segment { first: 2, last: 4, commits: 3 });
    let mut bytes = image.bytes(&name).to_vec();
    // The start frame has 56 bytes; behind it is the first commit.
    bytes[56 + 50] ^= 1;
    image.set(&name, bytes);
    let damage = match open(image.clone()) {
        Err(OpenError::Damaged(damage)) => damage,
        other => panic!("{:?}", other.map(|_| ())),
    };
    assert_eq!((&damage.file, damage.offset, damage.lost), (&name, 56, Some((2, 2))));
    assert_eq!(
        damage.to_string(),
        format!(
            "file {name:?} at offset 56: a frame's checksum does not hold, and good frames follow it; \
             revisions 2 to 2 are lost"
        ),
    );
    assert_eq!(verify(&SimDisk::of(image)).unwrap().damages, [damage]);
}

#[tokio::test]
async fn a_store_is_open_once() {
    let disk = SimDisk::default();
    let store = EmbeddedStore::open(disk.clone(), options()).unwrap();
    assert!(matches!(EmbeddedStore::open(disk.clone(), options()), Err(OpenError::Locked)));
    store.close().await.unwrap();
    assert!(EmbeddedStore::open(disk, options()).is_ok());
}
