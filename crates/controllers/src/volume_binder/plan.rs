//! What a claim and a volume come to next: pure.

use std::sync::Arc;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::Held;
use corten_scheduler::volumes::{BIND_COMPLETED, BOUND_BY_CONTROLLER, Claim, Class, Volume, class_of, find};

const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// What is told of a claim that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) reason: &'static str,
    pub(super) note: &'static str,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ClaimStep {
    Nothing,
    /// To the volume of this name.
    Bind(Str),
    Wait(Option<Told>),
    /// What it names will not do.
    Mismatch {
        reason: &'static str,
        note: String,
    },
    /// This provisioner is to make a volume.
    Provision(Str),
    Lost {
        reason: &'static str,
        note: &'static str,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum VolumeStep {
    Nothing,
    Phase(&'static str),
    /// The claim has another volume by now.
    Unbind,
    Fail {
        reason: &'static str,
        note: String,
    },
}

const FIRST_CONSUMER: Told =
    Told { reason: "WaitForFirstConsumer", note: "waiting for first consumer to be created before binding" };
const NO_CLASS: Told = Told {
    reason: "FailedBinding",
    note: "no persistent volumes available for this claim and no storage class is set",
};

/// The next step for a claim, which has this class.
pub(super) fn claim(object: &Value, volumes: &[Arc<Held<Value>>], class: Option<&Value>) -> ClaimStep {
    // What the API server has accepted can be read.
    let Some(claim) = Claim::read(object) else { return ClaimStep::Nothing };
    let named = volumes.iter().find(|volume| volume.head.name == claim.volume);
    if claim.bound {
        return bound(&claim, named);
    }
    if !claim.volume.is_empty() {
        return named.map_or(ClaimStep::Wait(None), |named| by_name(object, &claim, named));
    }
    let read = class.map(Class::read).unwrap_or_default();
    let waits = read.waits && claim.selected_node.is_empty();
    let known: Vec<Volume> = volumes.iter().filter_map(|volume| Volume::read(&volume.view)).collect();
    if let Some(found) = find(&claim, &known, None, read.waits) {
        return ClaimStep::Bind(found.name.clone());
    }
    match class.map(|class| class.str_at(&["provisioner"])) {
        _ if waits => ClaimStep::Wait(Some(FIRST_CONSUMER)),
        Some(provisioner) if read.provisions => ClaimStep::Provision(provisioner.into()),
        _ if claim.class.is_empty() => ClaimStep::Wait(Some(NO_CLASS)),
        Some(_) => ClaimStep::Wait(None),
        None => ClaimStep::Mismatch {
            reason: "ProvisioningFailed",
            note: format!("storageclass.storage.k8s.io {:?} not found", claim.class.as_str()),
        },
    }
}

/// A claim that was bound before.
fn bound(claim: &Claim, named: Option<&Arc<Held<Value>>>) -> ClaimStep {
    let lost = |note| ClaimStep::Lost { reason: "ClaimLost", note };
    if claim.volume.is_empty() {
        return lost("Bound claim has lost reference to PersistentVolume. Data on the volume is lost!");
    }
    let Some(named) = named else {
        return lost("Bound claim has lost its PersistentVolume. Data on the volume is lost!");
    };
    match named.view.at(&["spec", "claimRef", "uid"]).and_then(Value::as_str) {
        Some(uid) if uid == claim.uid => ClaimStep::Bind(claim.volume.clone()),
        None if named.view.at(&["spec", "claimRef"]).is_none_or(Value::is_null) => {
            ClaimStep::Bind(claim.volume.clone())
        }
        _ => ClaimStep::Lost {
            reason: "ClaimMisbound",
            note: "Two claims are bound to the same volume, this one is bound incorrectly",
        },
    }
}

/// A claim whose user has chosen the volume.
fn by_name(object: &Value, claim: &Claim, named: &Arc<Held<Value>>) -> ClaimStep {
    let Some(volume) = Volume::read(&named.view) else { return ClaimStep::Nothing };
    let name = volume.name.as_str();
    if volume.is_for(claim) {
        return ClaimStep::Bind(volume.name);
    }
    if volume.claim.is_some() {
        let note = format!("volume {name:?} already bound to a different claim.");
        return ClaimStep::Mismatch { reason: "FailedBinding", note };
    }
    match volume.mismatch(claim) {
        Some(why) => {
            let note = format!("Cannot bind to requested volume {name:?}: {why}");
            ClaimStep::Mismatch { reason: "VolumeMismatch", note }
        }
        None if is_noted(object, BIND_COMPLETED) => ClaimStep::Nothing,
        None => ClaimStep::Bind(volume.name),
    }
}

/// The claim was made before there was a default class.
pub(super) fn names_no_class(claim: &Value) -> bool {
    class_of(claim).is_empty() && claim.at(&["spec", "storageClassName"]).is_none_or(Value::is_null)
}

/// The next step for a volume. `found` is the claim of the name that the volume has, whoever's it is now.
pub(super) fn volume(volume: &Value, found: Option<&Value>) -> VolumeStep {
    let spec = |path: &[&str]| volume.at(&["spec"]).map_or("", |spec| spec.str_at(path));
    let phase = volume.str_at(&["status", "phase"]);
    let to = |wanted: &'static str| if phase == wanted { VolumeStep::Nothing } else { VolumeStep::Phase(wanted) };
    let uid = spec(&["claimRef", "uid"]);
    if uid.is_empty() {
        return to("Available");
    }
    let name = Meta::of(volume).name();
    let Some(claim) = found.filter(|claim| Meta::of(claim).uid() == uid) else { return released(volume, phase) };
    match claim.str_at(&["spec", "volumeName"]) {
        // The claim's own turn brings them together.
        "" => VolumeStep::Nothing,
        own if own == name => to("Bound"),
        _ if is_noted(volume, PROVISIONED_BY) && spec(&["persistentVolumeReclaimPolicy"]) == "Delete" => {
            released(volume, phase)
        }
        _ => VolumeStep::Unbind,
    }
}

fn released(volume: &Value, phase: &str) -> VolumeStep {
    if !matches!(phase, "Released" | "Failed") {
        return VolumeStep::Phase("Released");
    }
    let policy = volume.str_at(&["spec", "persistentVolumeReclaimPolicy"]);
    // Who has made a volume deletes it; of what was made by hand nobody knows how.
    let fail = match policy {
        "Delete" if !is_noted(volume, PROVISIONED_BY) => {
            let name = Meta::of(volume).name();
            let note = format!("error getting deleter volume plugin for volume {name:?}: no volume plugin matched");
            Some(("VolumeFailedDelete", note))
        }
        "Recycle" => Some(("VolumeFailedRecycle", "No recycler plugin found for the volume!".to_owned())),
        _ => None,
    };
    match fail {
        Some((reason, note)) if phase != "Failed" => VolumeStep::Fail { reason, note },
        _ => VolumeStep::Nothing,
    }
}

/// Makes a volume mean a claim. Whether that is new.
pub(super) fn bind_volume(volume: &mut Value, claim: &Value) -> bool {
    let meta = Meta::of(claim);
    let own = |field| volume.str_at(&["spec", "claimRef", field]);
    if own("uid") == meta.uid() {
        return false;
    }
    let ours = own("name").is_empty();
    let reference = value!({
        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": (meta.namespace()), "name": (meta.name()),
        "uid": (meta.uid()), "resourceVersion": (meta.resource_version())
    });
    volume.object_entry("spec").insert("claimRef", reference);
    if ours {
        note(volume, BOUND_BY_CONTROLLER);
    }
    true
}

/// Makes a claim mean a volume. Whether that is new.
pub(super) fn bind_claim(claim: &mut Value, volume: &Value) -> bool {
    let name = Meta::of(volume).name();
    let mut new = false;
    if claim.str_at(&["spec", "volumeName"]) != name {
        claim.object_entry("spec").insert("volumeName", name);
        note(claim, BOUND_BY_CONTROLLER);
        new = true;
    }
    if !is_noted(claim, BIND_COMPLETED) {
        note(claim, BIND_COMPLETED);
        new = true;
    }
    new
}

/// Lets go of a claim; a volume that its maker kept for a claim stays kept.
pub(super) fn unbind(volume: &mut Value) {
    let ours = is_noted(volume, BOUND_BY_CONTROLLER);
    let spec = volume.object_entry("spec");
    if ours {
        spec.remove("claimRef");
        metadata_mut(volume).object_entry("annotations").remove(BOUND_BY_CONTROLLER);
    } else if let Some(reference) = spec.get_mut("claimRef").and_then(Value::as_object_mut) {
        reference.remove("uid");
    }
}

/// A claim's new status; `None` where it is so. The capacity of one that is bound already is its node's to tell.
pub(super) fn claim_status(claim: &Value, phase: &str, volume: Option<&Value>) -> Option<Value> {
    let old = claim.get("status").filter(|status| status.as_object().is_some()).cloned().unwrap_or_else(Value::object);
    let mut new = old.clone();
    let status = new.as_object_mut()?;
    let becomes = old.str_at(&["phase"]) != phase;
    status.insert("phase", phase);
    let spec = |field: &str| volume.and_then(|volume| volume.at(&["spec", field])).cloned();
    match volume {
        None => {
            for field in ["accessModes", "capacity", "currentVolumeAttributesClassName"] {
                status.remove(field);
            }
        }
        Some(_) => {
            if let Some(modes) = spec("accessModes") {
                status.insert("accessModes", modes);
            }
            if let Some(capacity) = spec("capacity").filter(|_| becomes) {
                status.insert("capacity", capacity);
            }
        }
    }
    (new != old).then_some(new)
}

/// Whether an annotation is there.
fn is_noted(object: &Value, annotation: &str) -> bool {
    object.at(&["metadata", "annotations", annotation]).is_some()
}

/// Marks an object.
fn note(object: &mut Value, annotation: &str) {
    metadata_mut(object).object_entry("annotations").insert(annotation, "yes");
}

#[cfg(test)]
mod tests;
