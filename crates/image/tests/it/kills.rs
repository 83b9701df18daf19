//! A process that works on a store is killed at many moments. Whatever it had said to be made is there, whole; whatever is not
//! named is gone after the next start.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corten_image::{Images as _, Store};
use corten_stdx::random::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use crate::layout::{leftovers, settings};

/// At moments of their lives, and behind changes in the store's own folders: most of the time goes into what nobody looks at yet.
const KILLS: u64 = 30;
/// In an image's only layer.
const FILES: usize = 20;
const KILLS_AT_CHANGES: u64 = 60;
/// Moments lie within this time of the process's start.
const LIFE_MAX_MS: u64 = 250;
/// So many changes are more than one image's.
const CHANGES_MAX: u64 = 24;
const IMAGES_KEPT: usize = 3;
const CHANGE_WITHIN: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

#[test]
fn a_kill_at_any_moment_leaves_a_whole_store() {
    // In memory: a kill loses nothing that was written, and on a disk most moments would be waits for it.
    let dir = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
    let (content, root) = (dir.path().join("content"), dir.path().join("root"));
    std::fs::create_dir(&root).expect("made");
    for n in 1..FILES {
        std::fs::write(root.join(format!("{n}")), format!("{n}")).expect("written");
    }
    let random = Random::seeded(11);
    let mut made = 0;
    for kill in 0..KILLS + KILLS_AT_CHANGES {
        let watched = (kill >= KILLS).then(|| watch(&content));
        let mut child = start(&content, &root);
        match watched {
            Some(watched) => await_changes(&watched, 1 + random.next_u64() % CHANGES_MAX),
            None => std::thread::sleep(Duration::from_millis(random.next_u64() % LIFE_MAX_MS)),
        }
        child.kill().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let said: Vec<String> = lines.map(|line| line.expect("text")).collect();
        child.wait().expect("it ended");
        made += said.len();
        check(&content, said.last().and_then(|line| line.strip_prefix("made ")));
    }
    assert!(made > 0, "no process lived long enough to make anything");
}

/// Hears of what comes, goes and changes in the store's folders.
fn watch(content: &Path) -> OwnedFd {
    let watched = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("made");
    for folder in ["", "blobs/sha256", "layers", "tmp", "trash"] {
        let folder = content.join(folder);
        let changes = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE | WatchFlags::MODIFY;
        inotify::add_watch(&watched, folder, changes | WatchFlags::CLOSE_WRITE).expect("the folder is there");
    }
    watched
}

fn await_changes(watched: &OwnedFd, count: u64) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut changes = Reader::new(watched, &mut buffer);
    for _ in 0..count {
        while let Err(error) = changes.next() {
            assert_eq!(error, rustix::io::Errno::AGAIN, "changes cannot be read");
            let heard = poll(&mut [PollFd::new(watched, PollFlags::IN)], Some(&CHANGE_WITHIN));
            assert_eq!(heard, Ok(1), "the process changes nothing");
        }
    }
}

fn start(content: &Path, root: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_image-load"));
    command.arg(content).arg(root).stdout(Stdio::piped()).spawn().expect("it runs")
}

fn check(content: &Path, last: Option<&str>) {
    let store = Store::open(content, settings()).expect("opens after every kill");
    store.empty_trash().expect("emptied");
    if let Some(last) = last {
        // It may have been replaced by the next one, which then is there.
        let (name, number) = last.rsplit_once(':').expect("a tag");
        let next = format!("{name}:{}", number.parse::<u64>().expect("a number") + 1);
        let found = |name: &str| store.find(name).expect("readable").is_some();
        assert!(found(last) || found(&next), "{last} was made and is lost");
    }
    let images = store.list();
    let mut expected = BTreeSet::new();
    for image in &images {
        for layer in &image.layers {
            assert_eq!(std::fs::read_dir(layer).expect("there").count(), FILES, "a layer is whole");
            let folder = layer.parent().and_then(Path::file_name).expect("a name").to_string_lossy();
            expected.insert(format!("layers/{folder}"));
        }
    }
    let left: BTreeSet<String> = leftovers(content).into_iter().collect();
    let layers: BTreeSet<String> = left.iter().filter(|path| !path.starts_with("blobs/")).cloned().collect();
    assert_eq!(layers, expected);
    assert_eq!(left.len() - layers.len(), images.len() * 3, "configuration, manifest and packed layer of each");
    // The last image of each life stays; many would only take time.
    for image in images.iter().skip(IMAGES_KEPT) {
        store.remove(&image.id).expect("nobody uses it");
    }
}
