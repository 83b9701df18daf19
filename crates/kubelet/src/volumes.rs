//! The volumes of a pod on this node: made before its first container, kept true while it runs, taken away after it.
//!
//! What comes from objects is written by [`atomic`] and lies in one memory file system of this instance, so that no
//! Secret reaches a disk. Everything here is safe to repeat.

mod atomic;
mod claimed;
mod disk;
mod mounts;
mod ownership;
mod payload;
mod sub_path;

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::Value;
use corten_runtime::spec::{Mount, Propagation};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::container::propagation;
use crate::env::expand;
use crate::fields::Subject;
use crate::paths::in_memory;
use crate::pod::{Container, Pod};
use crate::settings::Settings;
use crate::sources::{SourceError, Sources};
pub use claimed::{
    Claimed, Claims, DRIVER, NODE_ATTRIBUTE, bound_volume, capacity, check_bound, claim_name, disk_node,
};
pub(crate) use disk::{Disk, DiskError, shown_bytes};
use mounts::{is_mount, mounts_below};
pub use payload::{TokenKey, Tokens, fs_user, token_keys};

/// Room for what comes from objects, for all pods of the node.
const MEMORY_MIB_MAX: u64 = 256;

#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{what} {path}: {source}")]
    Io { what: &'static str, path: String, source: io::Error },
    #[error("hostPath type check failed: {path} is not {wanted}")]
    HostPath { path: String, wanted: &'static str },
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPath {
        volume: String,
        container: String,
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, path: path.display().to_string(), source }
    }
}

/// What volumes are made of.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    pub settings: &'a Settings,
    pub subject: Subject<'a>,
    pub sources: &'a Sources,
    pub tokens: &'a Tokens,
    pub claims: &'a Claims,
    /// Different at every call: names what is written now.
    pub stamp: &'a str,
}

/// Whether a volume's content follows other objects, or the pod's own metadata.
pub fn follows(volume: &Value) -> bool {
    in_memory(volume) && volume.get("emptyDir").is_none_or(Value::is_null)
}

/// Whether a volume is another object's, by a claim.
fn is_claimed(volume: &Value) -> bool {
    ["persistentVolumeClaim", "ephemeral"].iter().any(|field| volume.get(field).is_some_and(|source| !source.is_null()))
}

/// Makes a volume, or makes it true again.
pub fn prepare(making: Making<'_>, volume: &Value) -> Result<(), VolumeError> {
    let pod = making.subject.pod;
    let path = making.settings.volume_path(pod.uid(), volume);
    let given = |field: &str| volume.get(field).is_some_and(|source| !source.is_null());
    let group = pod.security("fsGroup").and_then(Value::as_i64).and_then(|group| u32::try_from(group).ok());
    if given("hostPath") {
        host_path(volume, &path)
    } else if given("emptyDir") {
        empty_dir(making, volume, &path, group)
    } else if is_claimed(volume) {
        claimed::prepare(making, volume, &path, group)
    } else if follows(volume) {
        let payload = payload::payload(making.subject, making.sources, making.tokens, volume)?;
        ensure_memory(making.settings)?;
        make_dir(&path, 0o755)?;
        atomic::write(&path, &payload, making.stamp, group).map_err(VolumeError::io("cannot write volume", &path))
    } else {
        let map = volume.as_object();
        let kind = map.and_then(|map| map.keys().find(|key| *key != "name")).map_or("unknown", |kind| kind.as_str());
        Err(VolumeError::Unsupported(format!("volumes of type {kind} are not supported by this node")))
    }
}

/// Whether the folder of a volume that this node makes, and the container mounts, is not there.
pub fn are_lost(settings: &Settings, pod: Pod<'_>, container: Container<'_>) -> bool {
    let mounts = container.list("volumeMounts").iter();
    let mut volumes = mounts.filter_map(|mount| pod.volume(mount.str_at(&["name"])));
    volumes.any(|volume| {
        let of_host = volume.get("hostPath").is_some_and(|source| !source.is_null());
        let path = settings.volume_path(pod.uid(), volume);
        !of_host && (!path.exists() || is_claimed(volume) && !is_mount(&path))
    })
}

fn make_dir(path: &Path, mode: u32) -> Result<(), VolumeError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    let set = made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    set.map_err(VolumeError::io("cannot make", path))
}

fn empty_dir(making: Making<'_>, volume: &Value, path: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    if path.exists() && (!in_memory(volume) || is_mount(path)) {
        return Ok(());
    }
    if in_memory(volume) {
        ensure_memory(making.settings)?;
        make_dir(path, 0o777)?;
        let limit = volume.at(&["emptyDir", "sizeLimit"]).filter(|limit| !limit.is_null());
        let limit = limit.or_else(|| making.subject.allocatable.get("memory"));
        // What the API server has accepted is a quantity.
        let bytes = limit.and_then(|limit| Quantity::from_value(limit).ok()).map_or(0, |limit| limit.value());
        mount_tmpfs(path, &format!("size={bytes},mode=0777"))?;
    } else {
        make_dir(path, 0o777)?;
    }
    match group {
        Some(group) => ownership::give(path, group, false).map_err(VolumeError::io("cannot give away", path)),
        None => Ok(()),
    }
}

fn host_path(volume: &Value, path: &Path) -> Result<(), VolumeError> {
    let wanted = match volume.str_at(&["hostPath", "type"]) {
        "DirectoryOrCreate" if !path.exists() => return make_dir(path, 0o755),
        "FileOrCreate" if !path.exists() => {
            return fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map(drop)
                .map_err(VolumeError::io("cannot make", path));
        }
        "Directory" | "DirectoryOrCreate" => "a directory",
        "File" | "FileOrCreate" => "a file",
        "Socket" => "a socket file",
        "CharDevice" => "a character device",
        "BlockDevice" => "a block device",
        _ => return Ok(()),
    };
    let holds = fs::metadata(path).is_ok_and(|meta| {
        let kind = meta.file_type();
        match wanted {
            "a directory" => kind.is_dir(),
            "a file" => kind.is_file(),
            "a socket file" => kind.is_socket(),
            "a character device" => kind.is_char_device(),
            _ => kind.is_block_device(),
        }
    });
    if holds { Ok(()) } else { Err(VolumeError::HostPath { path: path.display().to_string(), wanted }) }
}

/// The memory file system of all pods' objects; made with the first volume that needs it. Pods start side by side: a second
/// one mounted over the first would hide what is in it.
fn ensure_memory(settings: &Settings) -> Result<(), VolumeError> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let path = settings.memory();
    if is_mount(&path) {
        return Ok(());
    }
    make_dir(&path, 0o700)?;
    mount_tmpfs(&path, &format!("size={MEMORY_MIB_MAX}m,mode=0700"))
}

fn mount_tmpfs(path: &Path, options: &str) -> Result<(), VolumeError> {
    let options = std::ffi::CString::new(options).expect("options have no zero byte");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", path, "tmpfs", flags, Some(options.as_c_str()))
        .map_err(io::Error::from)
        .map_err(VolumeError::io("cannot mount a memory file system at", path))
}

/// Takes away everything that a pod has on this node, logs and what its hostPath volumes show excepted.
pub fn remove(settings: &Settings, uid: &str) -> io::Result<()> {
    for dir in [settings.memory().join(uid), settings.pod_dir(uid)] {
        for point in mounts_below(&dir)? {
            unmount(&point, UnmountFlags::DETACH)?;
            // What is below a mount that stays is not the pod's to take away: a folder that still is one cannot go.
            let gone = if point.is_dir() { fs::remove_dir(&point) } else { fs::remove_file(&point) };
            gone?;
        }
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // The pod's folder is also the runtime's, which may not have left yet; whoever leaves last takes it away.
    match fs::remove_dir(settings.pods().join(uid)) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Err(error),
        _ => Ok(()),
    }
}

/// The mounts of a container that its specification asks for.
pub fn mounts(
    settings: &Settings,
    subject: Subject<'_>,
    container: Container<'_>,
    env: &[(String, String)],
) -> Result<Vec<Mount>, VolumeError> {
    let find = |name: &str| env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut mounts = Vec::new();
    for (index, asked) in container.list("volumeMounts").iter().enumerate() {
        let name = asked.str_at(&["name"]);
        let Some(volume) = subject.pod.volume(name) else {
            return Err(VolumeError::Unsupported(format!("volume {name:?} is not there")));
        };
        let mut source = settings.volume_path(subject.pod.uid(), volume);
        let expression = asked.str_at(&["subPathExpr"]);
        let sub = if expression.is_empty() { asked.str_at(&["subPath"]).to_owned() } else { expand(expression, &find) };
        if !sub.is_empty() {
            let at =
                settings.pod_dir(subject.pod.uid()).join("subpaths").join(container.name()).join(index.to_string());
            sub_path::bind(&source, &sub, &at).map_err(|source| VolumeError::SubPath {
                volume: name.to_owned(),
                container: container.name().to_owned(),
                source,
            })?;
            source = at;
        }
        let follows = follows(volume);
        mounts.push(Mount {
            source,
            target: asked.str_at(&["mountPath"]).into(),
            readonly: follows || asked.get("readOnly").and_then(Value::as_bool).unwrap_or_default(),
            propagation: if follows { Propagation::Private } else { propagation(asked) },
        });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests;
