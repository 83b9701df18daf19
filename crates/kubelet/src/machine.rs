//! What the whole machine uses at this moment, from the kernel's files of it, which are the same with control groups of either
//! version: the root group of v2 counts no memory.

use std::fs;
use std::io;
use std::path::Path;

/// The kernel's unit in `/proc/stat`, which user space has always seen as 100 a second.
const TICK_NS: u64 = 10_000_000;

/// What every program of the machine uses together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processor time since it started.
    pub cpu_ns: u64,
    /// Unix seconds of its start.
    pub started_s: i64,
    pub memory_total_bytes: u64,
    /// Memory that cannot be taken back by dropping caches.
    pub working_set_bytes: u64,
    pub disk: Disk,
}

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub total_bytes: u64,
    /// What unprivileged programs may still take.
    pub free_bytes: u64,
    pub used_bytes: u64,
    /// 0 where it makes them as they are needed.
    pub inodes: u64,
    pub inodes_free: u64,
}

/// Processes and threads of the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    pub count: u64,
    pub max: u64,
}

impl Machine {
    /// Of this machine, and of the file system that a folder is on.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut machine = Self::of(&fs::read_to_string("/proc/stat")?, &fs::read_to_string("/proc/meminfo")?);
        machine.disk = Disk::of(dir)?;
        Ok(machine)
    }

    fn of(stat: &str, meminfo: &str) -> Self {
        let (memory_total_bytes, free) = (kibibytes(meminfo, "MemTotal:"), kibibytes(meminfo, "MemFree:"));
        let idle = kibibytes(meminfo, "Inactive(file):");
        Self {
            cpu_ns: busy_ticks(stat) * TICK_NS,
            started_s: row(stat, "btime").and_then(|rest| rest.trim().parse().ok()).unwrap_or_default(),
            memory_total_bytes,
            working_set_bytes: memory_total_bytes.saturating_sub(free).saturating_sub(idle),
            disk: Disk::default(),
        }
    }
}

impl Disk {
    pub fn of(dir: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Self {
            total_bytes: bytes(disk.f_blocks),
            free_bytes: bytes(disk.f_bavail),
            used_bytes: bytes(disk.f_blocks.saturating_sub(disk.f_bfree)),
            inodes: disk.f_files,
            inodes_free: disk.f_favail,
        })
    }
}

impl Tasks {
    pub fn read() -> io::Result<Self> {
        let text = |file| fs::read_to_string(file);
        let limits = [text("/proc/sys/kernel/pid_max")?, text("/proc/sys/kernel/threads-max")?];
        Self::of(&text("/proc/loadavg")?, &limits)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel's files have no number of processes"))
    }

    /// Of `0.10 0.20 0.30 1/234 5678` and the limits of which the lower one holds.
    fn of(loadavg: &str, limits: &[String]) -> Option<Self> {
        let (_, count) = loadavg.split_whitespace().nth(3)?.split_once('/')?;
        let max = limits.iter().map(|limit| limit.trim().parse::<u64>().ok()).min()??;
        Some(Self { count: count.parse().ok()?, max })
    }
}

fn row<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

fn kibibytes(meminfo: &str, name: &str) -> u64 {
    let number = row(meminfo, name).and_then(|rest| rest.split_whitespace().next());
    number.and_then(|number| number.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Everything but idling and waiting for disks (fields 4 and 5); what guests use (9 and 10) is in the first two already.
fn busy_ticks(stat: &str) -> u64 {
    let fields = row(stat, "cpu ").unwrap_or_default().split_whitespace();
    let busy = fields.take(8).enumerate().filter(|(field, _)| !matches!(field, 3 | 4));
    busy.filter_map(|(_, ticks)| ticks.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str =
        "MemTotal:       1000 kB\nMemFree:         300 kB\nInactive:        200 kB\nInactive(file):  150 kB\n";

    #[test]
    fn the_kernels_files_are_read() {
        let machine = Machine::of("cpu  10 1 5 1000 50 2 3 4 90 90\ncpu0 1 1 1 1\nbtime 1700000000\n", MEMINFO);
        assert_eq!((machine.cpu_ns, machine.started_s), (25 * TICK_NS, 1_700_000_000));
        assert_eq!((machine.memory_total_bytes, machine.working_set_bytes), (1000 * 1024, 550 * 1024));
    }

    #[test]
    fn processes_are_counted_against_the_lower_limit() {
        let limits = ["4194304\n", "63231\n"].map(str::to_owned);
        assert_eq!(Tasks::of("1.36 3.49 4.53 2/3518 3715089\n", &limits), Some(Tasks { count: 3518, max: 63_231 }));
        assert_eq!(Tasks::of("1.36\n", &limits), None);
    }

    #[test]
    fn this_machine_says_something_of_itself() {
        let machine = Machine::read(Path::new("/")).expect("every Linux has these files");
        assert!(machine.cpu_ns > 0 && machine.working_set_bytes < machine.memory_total_bytes, "{machine:?}");
        assert!(machine.disk.free_bytes <= machine.disk.total_bytes && machine.disk.total_bytes > 0, "{machine:?}");
    }
}
