//! How much of everything the node has left, from the kernel's files, which are the same with control groups of either version.

use std::io;
use std::path::PathBuf;

use super::threshold::{Level, Levels, Signal};
use crate::machine::{Disk, Machine, Tasks};

/// Says what the node has left.
pub trait Gauges: Send + Sync {
    /// What cannot be read is told in the log and left out: a node that cannot see does not guess.
    fn levels(&self) -> Levels;

    /// Whether images are on a file system of their own, where pods take no room.
    fn images_apart(&self) -> bool;
}

/// Those of this machine.
pub struct OfMachine {
    /// With pods and their volumes.
    pub dir: PathBuf,
    /// With images.
    pub images: PathBuf,
}

impl Gauges for OfMachine {
    fn levels(&self) -> Levels {
        let mut levels = Levels::new();
        match Machine::read(&self.dir) {
            Ok(machine) => {
                let capacity = machine.memory_total_bytes;
                let available = capacity.saturating_sub(machine.working_set_bytes);
                levels.insert(Signal::MemoryAvailable, Level { available, capacity });
                add(&mut levels, machine.disk, Signal::NodefsAvailable, Signal::NodefsInodesFree);
            }
            Err(error) => blind("the machine", &error),
        }
        match Disk::of(&self.images) {
            Ok(disk) => add(&mut levels, disk, Signal::ImagefsAvailable, Signal::ImagefsInodesFree),
            Err(error) => blind("the disk of images", &error),
        }
        match Tasks::read() {
            Ok(Tasks { count, max }) => {
                let level = Level { available: max.saturating_sub(count), capacity: max };
                levels.insert(Signal::PidAvailable, level);
            }
            Err(error) => blind("the processes", &error),
        }
        levels
    }

    fn images_apart(&self) -> bool {
        let device = |path: &PathBuf| rustix::fs::stat(path).map(|stat| stat.st_dev);
        match (device(&self.dir), device(&self.images)) {
            (Ok(dir), Ok(images)) => dir != images,
            // Told with the levels.
            _ => false,
        }
    }
}

fn blind(what: &str, error: &io::Error) {
    tracing::warn!(%error, "how much there is left of {what} cannot be read");
}

/// Shares are of what programs can use at all: what is kept for root counts neither as there nor as free. A file system without
/// a size, or without a number of inodes, has no end.
fn add(levels: &mut Levels, disk: Disk, bytes: Signal, inodes: Signal) {
    if disk.total_bytes > 0 {
        let level = Level { available: disk.free_bytes, capacity: disk.used_bytes.saturating_add(disk.free_bytes) };
        levels.insert(bytes, level);
    }
    if disk.inodes > 0 {
        levels.insert(inodes, Level { available: disk.inodes_free, capacity: disk.inodes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_of_everything() {
        let dir = tempfile::tempdir().expect("a directory");
        let gauges = OfMachine { dir: dir.path().to_owned(), images: "/proc".into() };
        let levels = gauges.levels();
        for signal in [Signal::MemoryAvailable, Signal::NodefsAvailable, Signal::PidAvailable] {
            let Level { available, capacity } = levels[&signal];
            assert!(0 < available && available <= capacity, "{}: {available} of {capacity}", signal.name());
        }
        assert!(!levels.contains_key(&Signal::ImagefsAvailable), "a file system without a size is never full");
        assert!(gauges.images_apart());
        assert!(!OfMachine { dir: dir.path().to_owned(), images: dir.path().to_owned() }.images_apart());
    }
}
