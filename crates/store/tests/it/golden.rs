//! Stores that earlier programs wrote are opened for ever. `golden/format-1` is one of format version 1; the test also
//! notices when today's program writes another format under the same version.
//!
//! To add a version, run the test with `CORTEN_WRITE_GOLDEN` set, and keep the directories of the versions before.

use std::path::Path;
use std::time::Duration;

use corten_store::Store;
use corten_store::embedded::{EmbeddedStore, verify};

use crate::sim_disk::{Image, SimDisk};
use crate::workload::{Truth, open, options, steps, take};

const SEED: u64 = 51;

/// The same bytes whenever it runs: manual clock, fixed identity, snapshots in line.
async fn written_now() -> (Image, Truth) {
    let (disk, mut truth) = (SimDisk::default(), Truth::new().await);
    let mut options = options();
    options.limits.reserve_bytes = 0;
    let clock = options.clock.clone();
    let store = EmbeddedStore::open(disk.clone(), options).unwrap();
    for step in steps(30, SEED) {
        clock.advance(Duration::from_secs(1));
        truth.take(&step).await;
        take(&store, &step).await.unwrap();
        // Answered behind what the writer does after the write, so that the clock stands still for that too.
        store.expire().await.unwrap();
    }
    store.close().await.unwrap();
    (disk.image(), truth)
}

fn stored(directory: &Path) -> Image {
    let mut image = Image::default();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        image.set(&entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap());
    }
    image
}

#[tokio::test]
async fn a_store_of_format_1_opens() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/format-1");
    let (now, truth) = written_now().await;
    if std::env::var_os("CORTEN_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(&directory).unwrap();
        for name in now.names() {
            std::fs::write(directory.join(&name), now.bytes(&name)).unwrap();
        }
    }
    let golden = stored(&directory);
    let report = verify(&SimDisk::of(golden.clone())).unwrap();
    assert_eq!((report.damages.len(), report.closed, report.revision), (0, true, 31));
    let (_, store) = open(golden.clone()).unwrap();
    assert_eq!(truth.check(&store, "golden").await, 31);
    assert_eq!(store.hash().await.unwrap().1, GOLDEN_HASH);
    assert_eq!(golden.names(), now.names(), "other files than format version 1 has: raise FORMAT_VERSION");
    for name in golden.names() {
        assert!(golden.bytes(&name) == now.bytes(&name), "{name} is not written as format version 1 says");
    }
}

/// Of the content at revision 31.
const GOLDEN_HASH: u64 = 1_300_245_195_192_344_931;
