//! What a group has used, whether the kernel killed in it for want of memory, and who is in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::{Error, Group, Write, apply, read};

/// Figures of one group with those below it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    pub cpu_ns: u64,
    pub memory_bytes: u64,
    /// Of `memory_bytes`, file pages that nobody has touched for long.
    pub inactive_file_bytes: u64,
    pub pids: u64,
}

impl Group<'_> {
    /// What the group's controllers tell; 0 where the machine has none.
    ///
    /// # Errors
    /// A file that cannot be read: the group is not there.
    pub fn usage(&self) -> Result<Usage, Error> {
        let inactive = |row| self.row("memory", "memory.stat", "memory.stat", row);
        Ok(Usage {
            cpu_ns: match self.file("cpuacct", "cpuacct.usage", "") {
                Some(path) => number(&path)?,
                None => self.row("cpu", "cpu.stat", "cpu.stat", "usage_usec")?.unwrap_or(0) * 1000,
            },
            memory_bytes: self.figure("memory", "memory.usage_in_bytes", "memory.current")?,
            inactive_file_bytes: match inactive("total_inactive_file")? {
                Some(bytes) => bytes,
                None => inactive("inactive_file")?.unwrap_or(0),
            },
            pids: self.figure("pids", "pids.current", "pids.current")?,
        })
    }

    /// How many processes of the group the kernel has killed for want of memory.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn oom_kills(&self) -> Result<u64, Error> {
        Ok(self.row("memory", "memory.oom_control", "memory.events", "oom_kill")?.unwrap_or(0))
    }

    /// Processes in the group and in those below it.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn members(&self) -> Result<Vec<i32>, Error> {
        let mut found = Vec::new();
        if let Some(folder) = self.any_folder() {
            collect(&folder, &mut found)?;
        }
        Ok(found)
    }

    /// Kills every process in the group and below it: at once in v2, one by one in v1. Whether there was any.
    ///
    /// # Errors
    /// As [`Self::usage`].
    pub fn kill(&self) -> Result<bool, Error> {
        let members = self.members()?;
        let at_once = self.v2_folder().map(|folder| folder.join("cgroup.kill")).filter(|file| file.exists());
        if let Some(path) = at_once.filter(|_| !members.is_empty()) {
            apply(&[Write { path, value: "1".to_owned() }])?;
        }
        for pid in members.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(Error { path: self.name.clone(), source: error.into() }),
            }
        }
        Ok(!members.is_empty())
    }

    /// Removes the group and all groups below it.
    ///
    /// # Errors
    /// `ResourceBusy` as long as processes are in one of them.
    pub fn remove_all(&self) -> Result<(), Error> {
        self.v1_folders().into_iter().chain(self.v2_folder()).try_for_each(|folder| remove_tree(&folder))
    }

    /// Where a controller's file is; none where the machine has no such controller, or that version no such file.
    fn file(&self, controller: &str, v1: &str, v2: &str) -> Option<PathBuf> {
        let (folder, file) = match self.hierarchies.v1.get(controller) {
            Some(root) => (root.join(&self.name), v1),
            None if self.hierarchies.v2_controllers.contains(controller) => (self.v2_folder()?, v2),
            None => return None,
        };
        (!file.is_empty()).then(|| folder.join(file))
    }

    fn figure(&self, controller: &str, v1: &str, v2: &str) -> Result<u64, Error> {
        self.file(controller, v1, v2).map_or(Ok(0), |path| number(&path))
    }

    /// The number in the row of this name.
    fn row(&self, controller: &str, v1: &str, v2: &str, name: &str) -> Result<Option<u64>, Error> {
        let Some(path) = self.file(controller, v1, v2) else { return Ok(None) };
        let text = read(&path)?;
        let value = text.lines().find_map(|line| line.split_once(' ').filter(|(row, _)| *row == name));
        value.map(|(_, value)| parse(&path, value)).transpose()
    }

    fn any_folder(&self) -> Option<PathBuf> {
        let counted = self.hierarchies.v1.get("pids").map(|root| root.join(&self.name));
        counted.or_else(|| self.v2_folder()).or_else(|| self.v1_folders().pop_first())
    }
}

fn number(path: &Path) -> Result<u64, Error> {
    parse(path, &read(path)?)
}

fn parse(path: &Path, text: &str) -> Result<u64, Error> {
    text.trim().parse().map_err(|_| Error { path: path.to_owned(), source: io::ErrorKind::InvalidData.into() })
}

/// A group that is gone has no members.
fn collect(folder: &Path, found: &mut Vec<i32>) -> Result<(), Error> {
    let failed = |source| Error { path: folder.to_owned(), source };
    match read(&folder.join("cgroup.procs")) {
        Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok().filter(|pid| *pid > 0))),
        Err(error) if is_gone(&error.source) => return Ok(()),
        Err(error) => return Err(error),
    }
    for below in below(folder).map_err(failed)? {
        collect(&below, found)?;
    }
    Ok(())
}

fn remove_tree(folder: &Path) -> Result<(), Error> {
    let failed = |source| Error { path: folder.to_owned(), source };
    for below in below(folder).map_err(failed)? {
        remove_tree(&below)?;
    }
    match fs::remove_dir(folder) {
        Err(error) if is_gone(&error) => Ok(()),
        other => other.map_err(failed),
    }
}

fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if is_gone(&error) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// ENODEV is what a file of a removed group answers.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}
