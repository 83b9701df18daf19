//! Where the files of a pod are. Everything below the pod's own folder goes with the pod; logs go when its object has
//! gone.

use std::path::{Path, PathBuf};

use corten_apimachinery::value::Value;

use crate::pod::Pod;
use crate::settings::Settings;

impl Settings {
    /// Files of all pods.
    pub fn pods(&self) -> PathBuf {
        self.dir.join("pods")
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        pod_dir(&self.dir, uid)
    }

    /// Volumes that never reach a disk.
    pub fn memory(&self) -> PathBuf {
        self.run_dir.join("volumes")
    }

    /// Logs of all pods.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs/pods")
    }

    pub fn log_dir(&self, pod: Pod<'_>) -> PathBuf {
        self.logs().join(format!("{}_{}_{}", pod.namespace(), pod.name(), pod.uid()))
    }

    pub fn log_path(&self, pod: Pod<'_>, container: &str, attempt: u32) -> PathBuf {
        self.log_dir(pod).join(container).join(format!("{attempt}.log"))
    }

    /// The file behind a container's termination message path.
    pub fn message_path(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod_dir(uid).join("containers").join(container).join(attempt.to_string())
    }

    /// What a volume's mounts show.
    pub fn volume_path(&self, uid: &str, volume: &Value) -> PathBuf {
        let name = volume.str_at(&["name"]);
        let host = volume.str_at(&["hostPath", "path"]);
        if !host.is_empty() {
            return PathBuf::from(host);
        }
        if in_memory(volume) { self.memory().join(uid).join(name) } else { disk_volume(&self.dir, uid, name) }
    }
}

fn pod_dir(data_dir: &Path, uid: &str) -> PathBuf {
    data_dir.join("pods").join(uid).join("node")
}

/// What the mounts of a volume show that is neither the host's nor in memory.
pub(crate) fn disk_volume(data_dir: &Path, uid: &str, name: &str) -> PathBuf {
    pod_dir(data_dir, uid).join("volumes").join(name)
}

/// Nothing of the volume may reach a disk.
pub fn in_memory(volume: &Value) -> bool {
    let given = |field: &str| volume.get(field).is_some_and(|source| !source.is_null());
    let tmpfs = volume.str_at(&["emptyDir", "medium"]) == "Memory";
    tmpfs || given("secret") || given("projected") || given("downwardAPI") || given("configMap")
}

/// The last part of a path that outsiders name, which must be one part.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains('/') && Path::new(name).components().count() == 1
}
