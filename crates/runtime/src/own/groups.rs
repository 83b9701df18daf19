//! Control groups of pods: `corten-<instance>/<the pod's>`, with a group in it for the pod process and one for each container,
//! since v2 lets only groups without groups hold processes.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;
use corten_sys::cgroup::{self, Device, Disk, Hierarchies, Rates, UNLIMITED, apply, apply_io};

use crate::engine::{ContainerId, EngineError, Usage};
use crate::plan::c_path;
use crate::spec::{Limits, PodSpec};

/// Of the pod process; a container's group has an attempt in its name, so the two never meet.
const POD_PROCESS: &str = "pod";

/// The kernel needs a moment until a killed process has left its group.
const LEAVING: Duration = Duration::from_millis(5);
const LEAVING_LOOKS: u32 = 1000;

pub(super) struct Groups {
    hierarchies: Hierarchies,
    root: PathBuf,
}

fn failed(error: &cgroup::Error) -> EngineError {
    EngineError::Failed(Chain(error).to_string())
}

impl Groups {
    pub(super) fn new(hierarchies: Hierarchies, instance: &str) -> Self {
        Self { hierarchies, root: PathBuf::from(format!("corten-{instance}")) }
    }

    pub(super) fn pod(&self, spec: &PodSpec) -> Result<PathBuf, EngineError> {
        let part = &spec.cgroup;
        let plain = part.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if part.as_os_str().is_empty() || !plain {
            return Err(EngineError::Invalid(format!("{:?} is no name of a control group", part.display())));
        }
        Ok(self.root.join(part))
    }

    pub(super) fn container(&self, spec: &PodSpec, id: &ContainerId) -> Result<PathBuf, EngineError> {
        Ok(self.pod(spec)?.join(format!("{}-{}", id.name, id.attempt)))
    }

    /// Makes the pod's group with its limits. Returns the files by which its process joins.
    pub(super) fn make_pod(&self, spec: &PodSpec) -> Result<Vec<CString>, EngineError> {
        let name = self.pod(spec)?;
        self.make(&name, &spec.limits)?;
        let leaf = self.hierarchies.group(name.join(POD_PROCESS));
        leaf.create().map_err(|error| failed(&error))?;
        let v2 = leaf.v2_folder().map(|folder| folder.join("cgroup.procs"));
        leaf.v1_joins().into_iter().chain(v2).map(c_path).collect()
    }

    /// Makes a container's group with its limits. Returns v2's group to be born in, and v1's files to join by.
    /// `devices` are those that it may use; none: all.
    pub(super) fn make_container(
        &self,
        name: &Path,
        limits: &Limits,
        devices: Option<&[Device]>,
    ) -> Result<(CString, Vec<CString>), EngineError> {
        self.make(name, limits)?;
        let group = self.hierarchies.group(name);
        // As a kubelet does whose node is not told to use swap space.
        for plan in [group.kill_together(), group.without_swap()] {
            apply(&plan).map_err(|error| failed(&error))?;
        }
        if let Some(devices) = devices {
            group.allow_devices(devices).map_err(|error| failed(&error))?;
        }
        let joins = group.v1_joins().into_iter().map(c_path).collect::<Result<_, _>>()?;
        Ok((c_path(group.v2_folder().unwrap_or_default())?, joins))
    }

    fn make(&self, name: &Path, limits: &Limits) -> Result<(), EngineError> {
        let group = self.hierarchies.group(name);
        group.create().map_err(|error| failed(&error))?;
        apply(&group.limit(&of_group(limits, None))).map_err(|error| failed(&error))?;
        self.limit_io(name, limits, None)
    }

    /// Nobody who asked for a limit goes without it.
    fn limit_io(&self, name: &Path, limits: &Limits, otherwise: Option<u64>) -> Result<(), EngineError> {
        let (read_bps, write_bps) = (limits.io_read_bps, limits.io_write_bps);
        let is_asked = read_bps.is_some() || write_bps.is_some();
        if !self.hierarchies.has_io() {
            let text = "this kernel has no control group controller for reading and writing (blkio or io)";
            return if is_asked { Err(EngineError::Invalid(text.to_owned())) } else { Ok(()) };
        }
        if !is_asked && otherwise.is_none() {
            return Ok(());
        }
        let disks = Disk::all().map_err(|error| failed(&error))?;
        let rates = Rates { read_bps: read_bps.or(otherwise), write_bps: write_bps.or(otherwise) };
        apply_io(&self.hierarchies.group(name).limit_io(rates, &disks)).map_err(|error| failed(&error))
    }

    /// What is not limited any more is set free.
    pub(super) fn resize(&self, name: &Path, limits: &Limits) -> Result<(), EngineError> {
        let group = self.hierarchies.group(name);
        if let Some(bytes) = limits.memory_bytes {
            let used = group.usage().map_err(|error| failed(&error))?.memory_bytes;
            if used > bytes {
                let text = format!("memory limit of {bytes} bytes is below the {used} bytes in use");
                return Err(EngineError::Failed(text));
            }
        }
        apply(&group.limit(&of_group(limits, Some(UNLIMITED)))).map_err(|error| failed(&error))?;
        self.limit_io(name, limits, Some(UNLIMITED))
    }

    pub(super) fn usage(&self, name: &Path) -> Result<Usage, EngineError> {
        let usage = self.hierarchies.group(name).usage().map_err(|error| failed(&error))?;
        Ok(Usage {
            cpu_ns: usage.cpu_ns,
            memory_bytes: usage.memory_bytes,
            working_set_bytes: usage.memory_bytes.saturating_sub(usage.inactive_file_bytes),
            pids: usage.pids,
        })
    }

    /// A group that is gone tells nothing.
    pub(super) fn was_out_of_memory(&self, name: &Path) -> bool {
        self.hierarchies.group(name).oom_kills().is_ok_and(|kills| kills > 0)
    }

    /// Kills all that is in the group, waits until it is gone, and removes the group.
    pub(super) async fn clear(&self, name: &Path, clock: &Clock) -> Result<(), EngineError> {
        let group = self.hierarchies.group(name);
        for _ in 0..LEAVING_LOOKS {
            match group.kill() {
                Ok(true) => {}
                Ok(false) if group.remove_all().is_ok() => return Ok(()),
                Ok(false) => {}
                Err(error) => return Err(failed(&error)),
            }
            clock.sleep(LEAVING).await;
        }
        Err(EngineError::Failed(format!("processes do not leave control group {}", name.display())))
    }
}

fn of_group(limits: &Limits, otherwise: Option<u64>) -> cgroup::Limits {
    cgroup::Limits {
        memory_bytes: limits.memory_bytes.or(otherwise),
        pids: limits.pids.or(otherwise),
        // The kernel takes no quota below 1 ms a period.
        cpu_quota_us: limits.cpu_milli.map(|milli| (milli * 100).max(1000)).or(otherwise),
        cpu_shares: limits.cpu_shares,
        hugepages_bytes: limits.hugepages_bytes.clone(),
    }
}
