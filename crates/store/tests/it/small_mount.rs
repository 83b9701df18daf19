//! A real file system that is full. Mounting one needs root: without it the test fails, unless the variable
//! `CORTEN_TESTS_WITHOUT_ROOT` says that this is known.

use std::path::Path;
use std::process::Command;

use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_store::embedded::disk::Directory;
use corten_store::embedded::{EmbeddedStore, Options, verify};
use corten_store::{Alarm, At, Change, Expect, Store, StoreError};

/// A file system in memory with a limit, unmounted at the end.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new(kib: u64) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let options = format!("size={kib}k");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "corten-store-test"])
            .arg(directory.path())
            .output()
            .unwrap();
        if mounted.status.success() {
            return Some(Self(directory));
        }
        let known = std::env::var_os("CORTEN_TESTS_WITHOUT_ROOT").is_some();
        assert!(known, "mounting needs root: {}", String::from_utf8_lossy(&mounted.stderr));
        eprintln!("SKIPPED: mounting needs root");
        None
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path().display());
        }
    }
}

async fn put(store: &EmbeddedStore, key: String) -> Result<u64, StoreError> {
    let change = Change::Put { value: vec![b'x'; 3000].into(), ttl: None };
    store.write(key.into(), Expect::Absent, change).await.map(|committed| committed.revision)
}

#[tokio::test]
async fn a_full_file_system_loses_nothing_and_the_store_goes_on_when_there_is_room() {
    for kib in [600, 1000, 1500] {
        let Some(mount) = Mount::new(kib) else { return };
        let mut options = Options::new(Clock::system(), &Random::system());
        options.limits.reserve_bytes = 100 << 10;
        options.limits.segment_bytes = 64 << 10;
        options.limits.snapshot_log_bytes_min = 256 << 10;
        // A snapshot that is still being written could take the room that the ballast leaves.
        options.snapshots_inline = true;
        let ballast = mount.path().join("ballast");
        std::fs::write(&ballast, vec![0; 200 << 10]).unwrap();
        let store = EmbeddedStore::open(Directory::open(mount.path()).unwrap(), options.clone()).unwrap();
        let mut taken = Vec::new();
        let full = loop {
            let key = format!("/k/{}", taken.len());
            match put(&store, key.clone()).await {
                Ok(revision) => taken.push((key, revision)),
                Err(error) => break error,
            }
        };
        assert_eq!((full, store.status().alarm), (StoreError::NoSpace, Some(Alarm::NoSpace)));
        assert!(taken.len() > 20, "{kib}: {}", taken.len());
        for (key, revision) in taken.drain(..10) {
            store.write(key.into(), Expect::Revision(revision), Change::Delete).await.unwrap();
        }
        std::fs::remove_file(&ballast).unwrap();
        taken.push(("/again".to_owned(), put(&store, "/again".to_owned()).await.unwrap()));
        drop(store);
        let disk = Directory::open(mount.path()).unwrap();
        assert_eq!(verify(&disk).unwrap().damages, []);
        let store = EmbeddedStore::open(disk, options).unwrap();
        assert_eq!(store.status().objects as usize, taken.len());
        for (key, revision) in taken {
            assert_eq!(store.get(key.as_bytes(), At::Latest).await.unwrap().0.unwrap().mod_revision, revision);
        }
    }
}
