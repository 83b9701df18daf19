//! Persistent volumes in pods: what a claim is bound to, mounted in the pod's folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value::{Str, Value};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

use super::disk::Disk;
use super::mounts::is_mount;
use super::{Making, VolumeError, host_path, make_dir, ownership, sub_path};
use crate::paths::is_plain_name;
use crate::pod::Pod;

/// The driver of the disks that nodes make themselves (`spec.csi.driver`), and the attribute that names the node.
pub const DRIVER: &str = "local.corten.dev";
pub const NODE_ATTRIBUTE: &str = "corten.dev/node";

/// A claim of a pod, and the volume that it is bound to.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub claim: Value,
    pub volume: Value,
}

/// By the name of the pod's volume.
pub type Claims = BTreeMap<Str, Claimed>;

/// The claim that a volume of a pod stands for.
pub fn claim_name(pod: Pod<'_>, volume: &Value) -> Option<String> {
    let named = volume.str_at(&["persistentVolumeClaim", "claimName"]);
    let own = volume.get("ephemeral").is_some_and(|own| !own.is_null());
    match named {
        "" if own => Some(format!("{}-{}", pod.name(), volume.str_at(&["name"]))),
        "" => None,
        named => Some(named.to_owned()),
    }
}

/// The volume that a pod may use through a claim: both must mean each other.
pub fn bound_volume(claim: &Value) -> Result<&str, String> {
    let name = claim.str_at(&["spec", "volumeName"]);
    if name.is_empty() || claim.str_at(&["status", "phase"]) != "Bound" {
        return Err("PVC is not bound".to_owned());
    }
    Ok(name)
}

pub fn check_bound(claim: &Value, volume: &Value) -> Result<(), String> {
    let (own, other) = (Meta::of(claim).uid(), volume.str_at(&["spec", "claimRef", "uid"]));
    if own == other {
        return Ok(());
    }
    let name = Meta::of(volume).name();
    Err(format!("PVC UID {own} does not match the UID {other} in claimRef of volume {name}"))
}

/// The bytes of a volume's capacity.
pub fn capacity(volume: &Value) -> Option<Quantity> {
    Quantity::from_value(volume.at(&["spec", "capacity", "storage"])?).ok()
}

/// A disk of a node, by the volume's own words.
pub fn disk_node(volume: &Value) -> Option<&str> {
    let csi = volume.at(&["spec", "csi"]).filter(|csi| csi.str_at(&["driver"]) == DRIVER)?;
    Some(csi.str_at(&["volumeAttributes", NODE_ATTRIBUTE]))
}

pub(super) fn prepare(making: Making<'_>, asked: &Value, path: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    if is_mount(path) {
        return Ok(());
    }
    let missing =
        || VolumeError::Unsupported(format!("the claim of volume {:?} was not read", asked.str_at(&["name"])));
    let volume = &making.claims.get(asked.str_at(&["name"])).ok_or_else(missing)?.volume;
    mount(making, volume, path)?;
    let given = give(making, asked, volume, path, group);
    if given.is_err() {
        // The next try begins anew.
        unmount(path, UnmountFlags::DETACH).map_err(|error| VolumeError::io("cannot unmount", path)(error.into()))?;
    }
    given
}

fn mount(making: Making<'_>, volume: &Value, path: &Path) -> Result<(), VolumeError> {
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    let given = |field: &str| spec.get(field).filter(|source| !source.is_null());
    let name = Meta::of(volume).name();
    if spec.str_at(&["volumeMode"]) == "Block" {
        return Err(VolumeError::Unsupported("block volumes are not supported by this node".to_owned()));
    }
    if let Some(node) = disk_node(volume) {
        let own = &making.settings.name;
        if node != own || !is_plain_name(name) {
            return Err(VolumeError::Unsupported(format!("the volume {name} is a disk of node {node}, this is {own}")));
        }
        make_dir(path, 0o755)?;
        let bytes = capacity(volume).and_then(|bytes| u64::try_from(bytes.value()).ok()).unwrap_or_default();
        let options = given("mountOptions").and_then(Value::as_array).unwrap_or_default();
        let options: Vec<&str> = options.iter().filter_map(Value::as_str).collect();
        return Ok(Disk::new(making.settings, name).mount(bytes, path, &options)?);
    }
    let source = if given("local").is_some() {
        PathBuf::from(spec.str_at(&["local", "path"]))
    } else if given("hostPath").is_some() {
        let source = PathBuf::from(spec.str_at(&["hostPath", "path"]));
        if spec.str_at(&["hostPath", "type"]).is_empty() && !source.exists() {
            make_dir(&source, 0o755)?;
        }
        host_path(spec, &source)?;
        source
    } else {
        let known = ["capacity", "accessModes", "claimRef", "nodeAffinity", "mountOptions", "volumeMode"];
        let map = spec.as_object().map(|map| map.iter()).into_iter().flatten();
        let kind = map.filter(|(key, value)| value.as_object().is_some() && !known.contains(&key.as_str()));
        let kind = kind.map(|(key, _)| key.as_str()).next().unwrap_or("unknown");
        return Err(VolumeError::Unsupported(format!(
            "persistent volumes of type {kind} are not supported by this node"
        )));
    };
    let shown = open(&source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(std::io::Error::from);
    shown.and_then(|part| sub_path::show(&part, path)).map_err(VolumeError::io("cannot mount", &source))
}

/// Gives the volume to the pod's group, and takes away the right to write where nobody may.
fn give(making: Making<'_>, asked: &Value, volume: &Value, path: &Path, group: Option<u32>) -> Result<(), VolumeError> {
    let is = |object: &Value, path: &[&str]| object.at(path).and_then(Value::as_bool).unwrap_or_default();
    let readonly = is(asked, &["persistentVolumeClaim", "readOnly"]) || is(volume, &["spec", "csi", "readOnly"]);
    if let Some(group) = group.filter(|_| !readonly && volume.at(&["spec", "hostPath"]).is_none_or(Value::is_null)) {
        let failing = VolumeError::io("cannot give away", path);
        let on_mismatch = making.subject.pod.security("fsGroupChangePolicy").and_then(Value::as_str);
        let given = match on_mismatch {
            Some("OnRootMismatch") => ownership::is_given(path, group, false),
            _ => Ok(false),
        };
        given.and_then(|given| if given { Ok(()) } else { ownership::give(path, group, false) }).map_err(failing)?;
    }
    if readonly {
        mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV, "")
            .map_err(|error| VolumeError::io("cannot make read-only", path)(error.into()))?;
    }
    Ok(())
}
