//! Which processes a platform consists of, and what they cost: memory and processor time as the kernel counts them, and what
//! the kernel itself holds for their control groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The unit of times in /proc (`USER_HZ` in proc(5)).
const TICKS_PER_S: u64 = 100;

/// The processes of one instance, at one moment.
pub(super) struct Census {
    /// The platform's own.
    pub(super) own: Vec<Member>,
    /// Those of containers.
    pub(super) contained: Vec<u32>,
}

pub(super) struct Member {
    pub(super) pid: u32,
    pub(super) role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Control,
    Edge,
    Holder,
    Pod,
}

impl Role {
    pub(super) const ALL: [(Self, &str); 4] =
        [(Self::Control, "control"), (Self::Edge, "edge"), (Self::Holder, "holder"), (Self::Pod, "pod processes")];
}

impl Census {
    /// Everything that runs `program` or one of the programs within it, in this network namespace or in a control group of the
    /// instance; what else is in those groups are containers.
    pub(super) fn take(program: &Path, instance: &str) -> Result<Self> {
        let (mut own, mut contained) = (Vec::new(), Vec::new());
        let here = fs::read_link("/proc/self/ns/net")?;
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let folder = entry.path();
            // A process that ends while we look is none.
            let (Ok(groups), Ok(file)) = (fs::read_to_string(folder.join("cgroup")), fs::read_link(folder.join("exe")))
            else {
                continue;
            };
            let grouped = groups.contains(&format!("corten-{instance}"));
            let near = grouped || fs::read_link(folder.join("ns/net")).is_ok_and(|namespace| namespace == here);
            let inner = file.to_string_lossy().starts_with("/memfd:");
            match (near, grouped) {
                (true, _) if file == program || inner => {
                    let line = fs::read(folder.join("cmdline"))?;
                    own.push(Member { pid, role: role(inner, grouped, &line) });
                }
                (_, true) => contained.push(pid),
                _ => {}
            }
        }
        Ok(Self { own, contained })
    }

    pub(super) fn own_pids(&self) -> impl Iterator<Item = u32> {
        self.own.iter().map(|member| member.pid)
    }

    /// Proportional set size of the platform's processes in one role, and their number.
    pub(super) fn role_kib(&self, role: Role) -> Result<(u64, usize)> {
        let members: Vec<u32> = self.own.iter().filter(|member| member.role == role).map(|member| member.pid).collect();
        Ok((total_kib(members.iter().copied())?, members.len()))
    }
}

fn role(inner: bool, grouped: bool, line: &[u8]) -> Role {
    let verb = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
    match (inner, grouped) {
        (true, true) => Role::Pod,
        (true, false) => Role::Holder,
        _ if verb == b"edge" => Role::Edge,
        _ => Role::Control,
    }
}

/// The proportional set size of several processes together: shared pages are counted once.
pub(super) fn total_kib(pids: impl Iterator<Item = u32>) -> Result<u64> {
    pids.map(pss_kib).sum()
}

/// The proportional set size of a process (`smaps_rollup` in proc(5)).
pub(super) fn pss_kib(pid: u32) -> Result<u64> {
    field_kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

/// The most that a process has held at a time (`status` in proc(5)).
pub(super) fn peak_kib(pid: u32) -> Result<u64> {
    field_kib(&format!("/proc/{pid}/status"), "VmHWM:")
}

fn field_kib(path: &str, field: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no line {field}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Processor time of processes with all threads they ever had (`stat` in proc(5)).
pub(super) fn cpu(pids: impl Iterator<Item = u32>) -> Result<Duration> {
    pids.map(|pid| {
        let path = format!("/proc/{pid}/stat");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        Ok(Duration::from_millis(ticks(&text)? * 1000 / TICKS_PER_S))
    })
    .sum()
}

/// User and system time; the name before them may contain anything.
fn ticks(stat: &str) -> Result<u64> {
    let (_, fields) = stat.rsplit_once(')').context("stat has a name")?;
    let mut times = fields.split_whitespace().skip(11);
    let mut next = || Ok::<u64, anyhow::Error>(times.next().context("stat has times")?.parse()?);
    Ok(next()? + next()?)
}

/// A process and all that descend from it.
pub(super) fn family(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let (_, fields) = stat.rsplit_once(')').context("stat has a name")?;
        parents.push((pid, fields.split_whitespace().nth(1).context("stat has a parent")?.parse::<u32>()?));
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    Ok(found)
}

/// A control group for memory, of this run, for what has none of its own. Removed when dropped.
pub(super) struct Group(PathBuf);

impl Group {
    pub(super) fn make(name: &str) -> Result<Self> {
        let folder = hierarchy()?.join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// A group that somebody else has made.
    pub(super) fn kernel_kib_of(name: &str) -> Result<u64> {
        kernel_kib(&hierarchy()?.join(name))
    }

    pub(super) fn kernel_kib(&self) -> Result<u64> {
        kernel_kib(&self.0)
    }

    /// The file that takes the ids of processes.
    pub(super) fn processes(&self) -> PathBuf {
        self.0.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Where groups for memory are, in version 1 or 2.
fn hierarchy() -> Result<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    match [root.join("memory"), root.to_owned()].into_iter().find(|folder| folder.join("cgroup.procs").exists()) {
        Some(folder) => Ok(folder),
        None => bail!("no hierarchy of control groups for memory at {}", root.display()),
    }
}

/// Memory that the kernel holds for a group and those below it.
fn kernel_kib(folder: &Path) -> Result<u64> {
    let first = folder.join("memory.kmem.usage_in_bytes");
    let bytes: u64 = if first.exists() {
        fs::read_to_string(&first)?.trim().parse()?
    } else {
        let text = fs::read_to_string(folder.join("memory.stat"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("kernel ")).context("no line kernel")?;
        line.trim().parse()?
    };
    Ok(bytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 70 30 0 0";
        assert_eq!(ticks(&format!("12 (a) b) {fields}")).unwrap(), 100);
        assert!(ticks("12 (a) S 1").is_err());
    }

    #[test]
    fn roles_follow_from_program_group_and_verb() {
        assert_eq!(role(true, true, b"corten-pod\0"), Role::Pod);
        assert_eq!(role(true, false, b"corten-pod\0/run"), Role::Holder);
        assert_eq!(role(false, true, b"corten\0edge\0"), Role::Edge);
        assert_eq!(role(false, false, b"corten\0up\0"), Role::Control);
    }

    #[test]
    fn this_process_costs_something() {
        let own = std::process::id();
        assert!(pss_kib(own).unwrap() > 0);
        assert!(family(own).unwrap().contains(&own));
        assert!(cpu([own].into_iter()).is_ok());
    }
}
