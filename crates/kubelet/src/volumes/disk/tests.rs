//! Disks on the real kernel, as root.

use std::io::Write as _;

use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::CapabilitySet;

use super::*;
use crate::testing::settings;

const MIB: u64 = 1 << 20;

/// A mount that goes with the test.
struct At(PathBuf);

impl At {
    fn new(dir: &Path, name: &str) -> Self {
        let path = dir.join(name);
        fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    fn leave(&self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("it is mounted");
    }

    /// Writes so much, and says what comes of it.
    fn write(&self, name: &str, bytes: u64) -> io::Result<()> {
        let mut file = File::create(self.0.join(name))?;
        let block = vec![7; usize::try_from(MIB).expect("it fits")];
        for _ in 0..bytes / MIB {
            file.write_all(&block)?;
        }
        file.sync_all()
    }
}

impl Drop for At {
    fn drop(&mut self) {
        // What has left is not mounted any more.
        if let Err(error) = unmount(&self.0, UnmountFlags::DETACH) {
            assert_eq!(error, rustix::io::Errno::INVAL);
        }
    }
}

fn is_full(outcome: &io::Result<()>) -> bool {
    matches!(outcome, Err(error) if error.kind() == io::ErrorKind::StorageFull)
}

#[test]
fn a_disk_holds_its_size_and_keeps_what_is_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(&settings(dir.path()), "v");
    let first = At::new(dir.path(), "first");
    disk.mount(32 * MIB, &first.0, &[]).expect("mounted");
    assert_eq!(fs::read_dir(&first.0).expect("a folder").count(), 0, "it begins empty");
    assert!(is_full(&first.write("much", 64 * MIB)), "the size holds");
    fs::remove_file(first.0.join("much")).expect("removed");
    first.write("some", 8 * MIB).expect("there is room");

    // A second pod on the same node sees the same.
    let second = At::new(dir.path(), "second");
    disk.mount(32 * MIB, &second.0, &[]).expect("mounted");
    assert_eq!(fs::metadata(second.0.join("some")).expect("it is there").len(), 8 * MIB);
    fs::write(second.0.join("more"), "x").expect("written");
    assert_eq!(fs::read(first.0.join("more")).expect("read"), b"x");

    let image = disk.open().expect("it is there");
    first.leave();
    assert!(loop_device::attached(&image).expect("asked").is_some());
    second.leave();
    assert!(loop_device::attached(&image).expect("asked").is_none(), "the last mount takes the device along");

    let third = At::new(dir.path(), "third");
    disk.mount(32 * MIB, &third.0, &["noatime"]).expect("mounted");
    assert_eq!(fs::read(third.0.join("more")).expect("read"), b"x");
    third.leave();
    disk.remove().expect("removed");
    assert!(!disk.dir.exists());
    disk.remove().expect("once more");
}

/// Where the kernel lets us, at once; else with the next first mount.
#[test]
fn a_disk_grows() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(&settings(dir.path()), "v");
    assert!(!disk.grow(64 * MIB).expect("asked"), "there is none yet");
    let at = At::new(dir.path(), "at");
    disk.mount(32 * MIB, &at.0, &[]).expect("mounted");
    assert_eq!(shown_bytes(&at.0).expect("asked"), 32 * MIB);
    at.write("kept", 8 * MIB).expect("there is room");
    assert!(is_full(&at.write("much", 48 * MIB)));
    let may = rustix::thread::capabilities(None).expect("asked").effective.contains(CapabilitySet::SYS_RESOURCE);
    assert_eq!(disk.grow(96 * MIB).expect("grown"), may);
    if !may {
        assert_eq!(shown_bytes(&at.0).expect("asked"), 32 * MIB);
        at.leave();
        disk.mount(96 * MIB, &at.0, &[]).expect("mounted");
    }
    assert_eq!(shown_bytes(&at.0).expect("asked"), 96 * MIB);
    at.write("much", 64 * MIB).expect("there is room now");
    assert!(is_full(&at.write("more", 64 * MIB)));
    assert_eq!(fs::read(at.0.join("kept")).expect("read"), vec![7; 8 << 20]);
    at.leave();
    assert!(!disk.grow(128 * MIB).expect("asked"), "nothing is mounted");
    // A disk never shrinks.
    disk.mount(32 * MIB, &at.0, &[]).expect("mounted");
    assert_eq!(fs::metadata(disk.image()).expect("it is there").len(), 96 * MIB);
}

#[test]
fn pods_that_start_side_by_side_share_one_device() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = settings(dir.path());
    let places: Vec<At> = (0..4).map(|number| At::new(dir.path(), &format!("at{number}"))).collect();
    std::thread::scope(|scope| {
        for at in &places {
            scope.spawn(|| Disk::new(&settings, "v").mount(8 * MIB, &at.0, &[]).expect("mounted"));
        }
    });
    fs::write(places[0].0.join("a"), "x").expect("written");
    for at in &places {
        assert_eq!(fs::read(at.0.join("a")).expect("the same file system"), b"x");
    }
}

#[test]
fn a_half_made_disk_is_made_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Disk::new(&settings(dir.path()), "v");
    fs::create_dir_all(&disk.dir).expect("a folder");
    fs::write(disk.dir.join(NEW), "half").expect("written");
    let at = At::new(dir.path(), "at");
    disk.mount(MIB, &at.0, &[]).expect("mounted");
    assert!(!disk.dir.join(NEW).exists());
    assert_eq!(fs::metadata(disk.image()).expect("it is there").len(), BYTES_MIN);
}

#[test]
fn options_of_a_mount() {
    let check = |options: &[&str], expect: Option<&str>| {
        let seen = mount_options(options).ok().map(|(flags, data)| format!("{:x} {data}", flags.bits()));
        assert_eq!(seen.as_deref(), expect);
    };
    check(&[], Some("4 discard,noinit_itable,minixdf"));
    check(&["noatime", "commit=30"], Some("404 discard,noinit_itable,minixdf,commit=30"));
    check(&["a,b"], None);
    check(&["journal_path=/dev/vda"], None);
}
