//! Limits of what a group reads and writes: v1's `blkio.throttle.*`, v2's `io.max`. Both are per disk and know no word for all
//! disks, so that every one is named. v1 limits each group by itself, not those below it, and only what goes to the disk at once;
//! v2 counts what is written back later too (Documentation/admin-guide/cgroup-v1/blkio-controller.rst, cgroup-v2.rst).

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::{Error, Group, Hierarchies, UNLIMITED, Write, apply, or, read};

const BLOCK: &str = "/sys/block";
/// Disks that are memory, whose use is limited as memory.
const MEMORY: [&str; 2] = ["ram", "zram"];

/// Bytes a second, on each disk; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rates {
    pub read_bps: Option<u64>,
    pub write_bps: Option<u64>,
}

/// A whole disk, by its numbers: a limit holds for its partitions too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    pub major: u32,
    pub minor: u32,
}

impl Disk {
    /// Every disk that is there at this moment and holds something.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn all() -> Result<Vec<Self>, Error> {
        Self::below(Path::new(BLOCK))
    }

    /// The same in a tree of one's own.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn below(root: &Path) -> Result<Vec<Self>, Error> {
        let failed = |source| Error { path: root.to_owned(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if MEMORY.iter().any(|word| name.to_string_lossy().starts_with(word)) {
                continue;
            }
            found.extend(Self::of(&entry.path())?);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// `None`: it is empty, or was taken away meanwhile.
    fn of(folder: &Path) -> Result<Option<Self>, Error> {
        let text = |file: &str| match read(&folder.join(file)) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        let (Some(size), Some(numbers)) = (text("size")?, text("dev")?) else { return Ok(None) };
        let numbers = numbers.trim().split_once(':');
        let disk =
            numbers.and_then(|(major, minor)| Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? }));
        Ok(disk.filter(|_| size.trim() != "0"))
    }
}

impl Hierarchies {
    /// Whether reading and writing can be limited.
    pub fn has_io(&self) -> bool {
        self.v1.contains_key("blkio") || self.v2_controllers.contains("io")
    }
}

impl Group<'_> {
    /// The files and values that set these rates on these disks, where the machine has the controller.
    pub fn limit_io(&self, rates: Rates, disks: &[Disk]) -> Vec<Write> {
        let both = [("read", "rbps", rates.read_bps), ("write", "wbps", rates.write_bps)];
        let said = both.into_iter().filter_map(|(word, key, rate)| rate.map(|rate| (word, key, rate)));
        let numbers = |disk: &Disk| format!("{}:{}", disk.major, disk.minor);
        if let Some(root) = self.hierarchies.v1.get("blkio") {
            let folder = root.join(&self.name);
            // 0 lifts a limit there.
            let value =
                |disk: &Disk, rate: u64| format!("{} {}", numbers(disk), if rate == UNLIMITED { 0 } else { rate });
            let write = |(word, _, rate): (&str, &str, u64), disk: &Disk| Write {
                path: folder.join(format!("blkio.throttle.{word}_bps_device")),
                value: value(disk, rate),
            };
            return said
                .flat_map(|one| disks.iter().map(move |disk| (one, disk)))
                .map(|(one, disk)| write(one, disk))
                .collect();
        }
        let Some(folder) = self.v2_folder().filter(|_| self.hierarchies.v2_controllers.contains("io")) else {
            return Vec::new();
        };
        let words: Vec<String> = said.map(|(_, key, rate)| format!("{key}={}", or(rate, "max"))).collect();
        let write = |disk: &Disk| Write {
            path: folder.join("io.max"),
            value: format!("{} {}", numbers(disk), words.join(" ")),
        };
        disks.iter().filter(|_| !words.is_empty()).map(write).collect()
    }
}

/// Carries such a plan out. A disk that was taken away since it was listed needs no limit.
///
/// # Errors
/// The first file that refuses.
pub fn apply_io(plan: &[Write]) -> Result<(), Error> {
    let gone = [Errno::NODEV, Errno::NXIO].map(|errno| Some(errno.raw_os_error()));
    plan.iter().try_for_each(|write| match apply(std::slice::from_ref(write)) {
        Err(error) if gone.contains(&error.source.raw_os_error()) => Ok(()),
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKS: [Disk; 2] = [Disk { major: 8, minor: 0 }, Disk { major: 254, minor: 0 }];

    #[track_caller]
    fn check(hierarchies: &Hierarchies, rates: Rates, expect: &[&str]) {
        let plan = hierarchies.group("a/b").limit_io(rates, &DISKS);
        let seen: Vec<String> = plan.iter().map(|write| format!("{} {}", write.path.display(), write.value)).collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn both_versions_name_every_disk() {
        let v1 = Hierarchies::mounted("34 31 0:31 / /b rw - cgroup cgroup rw,blkio\n");
        let v2 = Hierarchies::default().with_v2("/u".into(), &["io"]);
        let both = Rates { read_bps: Some(5), write_bps: Some(7) };
        let (read, write) = ("/b/a/b/blkio.throttle.read_bps_device", "/b/a/b/blkio.throttle.write_bps_device");
        let lines = [(read, "8:0 5"), (read, "254:0 5"), (write, "8:0 7"), (write, "254:0 7")];
        let lines = lines.map(|(file, value)| format!("{file} {value}"));
        check(&v1, both, &lines.each_ref().map(String::as_str));
        check(&v2, both, &["/u/a/b/io.max 8:0 rbps=5 wbps=7", "/u/a/b/io.max 254:0 rbps=5 wbps=7"]);
        let lifted = Rates { read_bps: None, write_bps: Some(UNLIMITED) };
        check(&v1, lifted, &[&format!("{write} 8:0 0"), &format!("{write} 254:0 0")]);
        check(&v2, lifted, &["/u/a/b/io.max 8:0 wbps=max", "/u/a/b/io.max 254:0 wbps=max"]);
        check(&v1, Rates::default(), &[]);
        check(&v2, Rates::default(), &[]);
        let neither = Hierarchies::default().with_v2("/u".into(), &["memory"]);
        check(&neither, both, &[]);
        assert_eq!([&v1, &v2, &neither].map(Hierarchies::has_io), [true, true, false]);
    }

    #[test]
    fn disks_are_those_that_hold_something() {
        let tree = tempfile::tempdir().expect("a folder");
        for (name, size, dev) in [
            ("sda", "100\n", "8:0\n"),
            ("loop0", "0\n", "7:0\n"),
            ("loop1", "8\n", "7:1\n"),
            ("zram0", "9\n", "253:0\n"),
        ] {
            fs::create_dir(tree.path().join(name)).expect("a folder");
            fs::write(tree.path().join(name).join("size"), size).expect("a file");
            fs::write(tree.path().join(name).join("dev"), dev).expect("a file");
        }
        fs::create_dir(tree.path().join("going")).expect("a folder");
        let found = Disk::below(tree.path()).expect("read");
        assert_eq!(found, [Disk { major: 7, minor: 1 }, Disk { major: 8, minor: 0 }]);
        assert!(Disk::below(&tree.path().join("none")).is_err());
    }

    #[test]
    fn a_disk_that_is_gone_needs_no_limit() {
        // Opening a device without a driver is what such a disk answers.
        let refused = Write { path: "/nowhere/io.max".into(), value: "8:0 rbps=1".to_owned() };
        assert!(apply_io(&[refused]).is_err(), "a file that is not there is no disk that is gone");
    }
}
