//! Control groups of both versions. Which hierarchy has which controller is found per controller, never by a mode: on hybrid
//! machines most controllers sit in v1 and some in v2. A group is one name in every hierarchy that is used.

mod devices;
mod io;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub use devices::Device;
pub use io::{Disk, Rates, apply_io};
pub use usage::Usage;

/// The controllers that are used where they exist.
pub const CONTROLLERS: [&str; 10] =
    ["blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "io", "memory", "pids"];

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("control group file {}", path.display())]
pub struct Error {
    pub path: PathBuf,
    pub source: std::io::Error,
}

/// Where each controller is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Mount points of v1 by controller.
    v1: BTreeMap<String, PathBuf>,
    /// Mount point of v2.
    v2: Option<PathBuf>,
    /// Controllers that v2 has.
    v2_controllers: BTreeSet<String>,
}

impl Hierarchies {
    /// Looks at what is mounted.
    ///
    /// # Errors
    /// When the mount table or v2's list of controllers cannot be read.
    pub fn detect() -> Result<Self, Error> {
        let mut found = Self::mounted(&read(Path::new("/proc/self/mountinfo"))?);
        if let Some(root) = &found.v2 {
            let controllers = read(&root.join("cgroup.controllers"))?;
            found.v2_controllers = known(controllers.split_whitespace()).collect();
        }
        Ok(found)
    }

    /// Of a mount table, without v2's controllers, which stand in a file of their own.
    pub fn mounted(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((mount, file_system)) = line.split_once(" - ") else { continue };
            let Some(place) = mount.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut fields = file_system.split(' ');
            match (fields.next(), fields.nth(1)) {
                (Some("cgroup2"), _) => found.v2 = found.v2.or(Some(place)),
                (Some("cgroup"), Some(options)) => {
                    found.v1.extend(known(options.split(',')).map(|controller| (controller, place.clone())));
                }
                _ => {}
            }
        }
        found
    }

    /// The same with v2's controllers, for a tree that is not the machine's.
    #[must_use]
    pub fn with_v2(mut self, root: PathBuf, controllers: &[&str]) -> Self {
        self.v2_controllers = known(controllers.iter().copied()).collect();
        self.v2 = Some(root);
        self
    }

    /// Whether limits of a controller can be set.
    pub fn has(&self, controller: &str) -> bool {
        self.v1.contains_key(controller) || self.v2_controllers.contains(controller)
    }

    /// The group of this name, relative to each hierarchy's root.
    pub fn group(&self, name: impl Into<PathBuf>) -> Group<'_> {
        Group { hierarchies: self, name: name.into() }
    }
}

fn known<'a>(names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    names.filter(|name| CONTROLLERS.contains(name)).map(str::to_owned)
}

/// The value of a limit that is lifted.
pub const UNLIMITED: u64 = u64::MAX;

/// Limits of one group; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
    /// Microseconds of processor time in each period of 100 ms.
    pub cpu_quota_us: Option<u64>,
    /// v1's scale: 1024 is one processor's worth.
    pub cpu_shares: Option<u64>,
    /// By page size in bytes.
    pub hugepages_bytes: BTreeMap<u64, u64>,
}

/// Microseconds of a period.
const CPU_PERIOD_US: u64 = 100_000;

/// A value for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    pub path: PathBuf,
    pub value: String,
}

/// Carries a plan out, in its order.
///
/// # Errors
/// The first file that refuses.
pub fn apply(plan: &[Write]) -> Result<(), Error> {
    plan.iter().try_for_each(|write| {
        fs::write(&write.path, &write.value).map_err(|source| Error { path: write.path.clone(), source })
    })
}

/// One name in every hierarchy.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    hierarchies: &'a Hierarchies,
    name: PathBuf,
}

impl Group<'_> {
    /// The group's folder in v2, where processes can be born in it.
    pub fn v2_folder(&self) -> Option<PathBuf> {
        self.hierarchies.v2.as_ref().map(|root| root.join(&self.name))
    }

    /// The files of v1 by which a process joins.
    pub fn v1_joins(&self) -> Vec<PathBuf> {
        self.v1_folders().into_iter().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// Makes the group and those above it. v1's cpuset refuses members until it has processors and memory, so it inherits them.
    ///
    /// # Errors
    /// The first folder or file that the kernel refuses.
    pub fn create(&self) -> Result<(), Error> {
        for folder in self.v1_folders() {
            make(&folder)?;
        }
        if let Some(root) = self.hierarchies.v1.get("cpuset") {
            self.inherit_cpuset(root)?;
        }
        let Some(root) = &self.hierarchies.v2 else { return Ok(()) };
        let mut folder = root.clone();
        for part in &self.name {
            // Only groups above this one hand controllers down: a group with controllers for others may hold no process.
            self.hand_down(&folder)?;
            folder.push(part);
            make(&folder)?;
        }
        Ok(())
    }

    /// Removes the group's folders, not those above it. None is no error.
    ///
    /// # Errors
    /// `ResourceBusy` as long as processes or groups are in it.
    pub fn remove(&self) -> Result<(), Error> {
        for folder in self.v1_folders().into_iter().chain(self.v2_folder()) {
            match fs::remove_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.map_err(|source| Error { path: folder, source })?,
            }
        }
        Ok(())
    }

    /// The files and values that set these limits where the machine has the controllers.
    pub fn limit(&self, limits: &Limits) -> Vec<Write> {
        let mut plan = Vec::new();
        let mut set = |controller: &str, v1: &[(&str, String)], v2: &[(&str, String)]| {
            let (folder, files) = match self.hierarchies.v1.get(controller) {
                Some(root) => (root.join(&self.name), v1),
                None if self.hierarchies.v2_controllers.contains(controller) => match self.v2_folder() {
                    Some(folder) => (folder, v2),
                    None => return,
                },
                None => return,
            };
            plan.extend(files.iter().map(|(file, value)| Write { path: folder.join(file), value: value.clone() }));
        };
        if let Some(bytes) = limits.memory_bytes {
            set("memory", &[("memory.limit_in_bytes", or(bytes, "-1"))], &[("memory.max", or(bytes, "max"))]);
        }
        if let Some(pids) = limits.pids.map(|pids| or(pids, "max")) {
            set("pids", &[("pids.max", pids.clone())], &[("pids.max", pids)]);
        }
        if let Some(quota) = limits.cpu_quota_us {
            let v1 = [("cpu.cfs_period_us", CPU_PERIOD_US.to_string()), ("cpu.cfs_quota_us", or(quota, "-1"))];
            set("cpu", &v1, &[("cpu.max", format!("{} {CPU_PERIOD_US}", or(quota, "max")))]);
        }
        if let Some(shares) = limits.cpu_shares.map(|shares| shares.clamp(2, 262_144)) {
            set("cpu", &[("cpu.shares", shares.to_string())], &[("cpu.weight", weight(shares).to_string())]);
        }
        for (page, bytes) in &limits.hugepages_bytes {
            let (page, v1, v2) = (page_name(*page), or(*bytes, "-1"), or(*bytes, "max"));
            let files = [format!("hugetlb.{page}.limit_in_bytes"), format!("hugetlb.{page}.max")];
            set("hugetlb", &[(&files[0], v1)], &[(&files[1], v2)]);
        }
        plan
    }

    /// Keeps the group's memory out of swap space, where v2 and this kernel count it.
    pub fn without_swap(&self) -> Vec<Write> {
        let file = self.v2_folder().map(|folder| folder.join("memory.swap.max")).filter(|file| file.exists());
        file.map(|path| Write { path, value: "0".to_owned() }).into_iter().collect()
    }

    /// Lets the kernel kill all of the group together when one of it has to go. v1 has no such thing.
    pub fn kill_together(&self) -> Vec<Write> {
        let folder = self.v2_folder().filter(|_| self.hierarchies.v2_controllers.contains("memory"));
        let file = folder.map(|folder| folder.join("memory.oom.group"));
        file.map(|path| Write { path, value: "1".to_owned() }).into_iter().collect()
    }

    fn v1_folders(&self) -> BTreeSet<PathBuf> {
        self.hierarchies.v1.values().map(|root| root.join(&self.name)).collect()
    }

    fn inherit_cpuset(&self, root: &Path) -> Result<(), Error> {
        let mut folder = root.to_owned();
        for part in &self.name {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let (above, below) = (folder.join(file), folder.join(part).join(file));
                if read(&below)?.trim().is_empty() {
                    apply(&[Write { value: read(&above)?.trim().to_owned(), path: below }])?;
                }
            }
            folder.push(part);
        }
        Ok(())
    }

    fn hand_down(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join("cgroup.subtree_control");
        let controllers = self.hierarchies.v2_controllers.iter();
        let plan: Vec<_> =
            controllers.map(|controller| Write { path: path.clone(), value: format!("+{controller}") }).collect();
        apply(&plan)
    }
}

/// A limit's number, or the word for none.
fn or(value: u64, none: &str) -> String {
    if value == UNLIMITED { none.to_owned() } else { value.to_string() }
}

/// As the kernel names a size of pages: the largest unit that leaves a whole number.
fn page_name(bytes: u64) -> String {
    let units = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit).unwrap_or((1, "B"));
    format!("{}{}", bytes / unit.0, unit.1)
}

/// v2's scale of 1 to 10,000 for v1's of 2 to 262,144, converted as KEP-2254 does.
fn weight(shares: u64) -> u64 {
    1 + (shares - 2) * 9999 / 262_142
}

fn make(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(|source| Error { path: folder.to_owned(), source })
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:39 / /proc rw - proc proc rw
";

    fn plan(hierarchies: &Hierarchies) -> Vec<String> {
        let limits = Limits {
            memory_bytes: Some(9),
            pids: Some(8),
            cpu_quota_us: Some(50_000),
            cpu_shares: Some(1024),
            ..Limits::default()
        };
        let writes = hierarchies.group("a/b").limit(&limits);
        writes.iter().map(|write| format!("{} {}", write.path.display(), write.value)).collect()
    }

    #[test]
    fn each_controller_is_found_where_it_is() {
        let hybrid = Hierarchies::mounted(HYBRID).with_v2("/u".into(), &["pids", "hugetlb", "rdma"]);
        assert!(hybrid.has("memory") && hybrid.has("pids") && !hybrid.has("rdma") && !hybrid.has("cpuset"));
        let joins = hybrid.group("a").v1_joins();
        let expected = ["/sys/fs/cgroup/cpu,cpuacct/a/cgroup.procs", "/sys/fs/cgroup/memory/a/cgroup.procs"];
        assert_eq!(joins, expected.map(PathBuf::from));
        let expected = [
            "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes 9",
            "/u/a/b/pids.max 8",
            "/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us 100000",
            "/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us 50000",
            "/sys/fs/cgroup/cpu,cpuacct/a/b/cpu.shares 1024",
        ];
        assert_eq!(plan(&hybrid), expected);
    }

    #[test]
    fn limits_of_v2() {
        let v2 = Hierarchies::default().with_v2("/u".into(), &["cpu", "memory", "pids"]);
        let expected =
            ["/u/a/b/memory.max 9", "/u/a/b/pids.max 8", "/u/a/b/cpu.max 50000 100000", "/u/a/b/cpu.weight 39"];
        assert_eq!(plan(&v2), expected);
        assert!(plan(&Hierarchies::default()).is_empty());
        assert_eq!(v2.group("a").kill_together()[0].path, PathBuf::from("/u/a/memory.oom.group"));
        let lifted = Limits { memory_bytes: Some(UNLIMITED), cpu_quota_us: Some(UNLIMITED), ..Limits::default() };
        let values: Vec<_> = v2.group("a").limit(&lifted).into_iter().map(|write| write.value).collect();
        assert_eq!(values, ["max", "max 100000"]);
        assert_eq!([2 << 20, 1 << 30, 64 << 10].map(page_name), ["2MB", "1GB", "64KB"]);
        assert_eq!((weight(2), weight(262_144)), (1, 10_000));
    }
}
