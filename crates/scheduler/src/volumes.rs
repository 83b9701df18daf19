//! Claims, volumes and classes of storage: which volume a claim may get (`component-helpers/storage/volume`), and what
//! a pod's claims ask of a node (`pkg/scheduler/framework/plugins/volumebinding`). Pure; the controller that binds uses the
//! same rules.

use std::collections::BTreeSet;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value::{Map, Str, Value};

use crate::decode;
use crate::outcome::Reason;
use crate::view::{Labels, NodeSelector, NodeTerm};

pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
/// A class of this provisioner has volumes that somebody makes by hand.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// A PersistentVolumeClaim.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub namespace: Str,
    pub name: Str,
    pub uid: Str,
    pub class: Str,
    pub size: Quantity,
    pub modes: BTreeSet<Str>,
    pub selector: Option<LabelSelector>,
    pub block: bool,
    pub attributes_class: Str,
    /// Empty for none.
    pub volume: Str,
    pub bound: bool,
    pub lost: bool,
    pub deleting: bool,
    pub selected_node: Str,
    /// UIDs of owners.
    pub owners: Vec<Str>,
}

/// A PersistentVolume.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    pub name: Str,
    pub labels: Labels,
    pub class: Str,
    pub size: Quantity,
    pub modes: BTreeSet<Str>,
    pub block: bool,
    pub attributes_class: Str,
    /// Namespace, name and UID of the claim that it is for; the UID is empty until they are bound.
    pub claim: Option<[Str; 3]>,
    pub available: bool,
    pub deleting: bool,
    pub affinity: Option<NodeSelector>,
}

/// A StorageClass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    /// Claims are bound where their first pod goes.
    pub waits: bool,
    pub provisions: bool,
    pub topologies: Option<NodeSelector>,
}

impl Claim {
    /// `None` where the request or the selector cannot be read; the API server accepts no such claim.
    pub fn read(claim: &Value) -> Option<Self> {
        let meta = Meta::of(claim);
        let size = claim.at(&["spec", "resources", "requests", "storage"]);
        let selector = claim.at(&["spec", "selector"]).filter(|selector| !selector.is_null());
        let owners = claim.at(&["metadata", "ownerReferences"]).and_then(Value::as_array).unwrap_or_default();
        Some(Self {
            namespace: meta.namespace().into(),
            name: meta.name().into(),
            uid: meta.uid().into(),
            class: class_of(claim).into(),
            size: size.map_or(Some(none()), |size| Quantity::from_value(size).ok())?,
            modes: modes(claim),
            selector: selector.map(|selector| LabelSelector::from_object(Some(selector))).transpose().ok()?,
            block: claim.str_at(&["spec", "volumeMode"]) == "Block",
            attributes_class: claim.str_at(&["spec", "volumeAttributesClassName"]).into(),
            volume: claim.str_at(&["spec", "volumeName"]).into(),
            bound: claim.at(&["metadata", "annotations", BIND_COMPLETED]).is_some(),
            lost: claim.str_at(&["status", "phase"]) == "Lost",
            deleting: meta.deletion_timestamp().is_some(),
            selected_node: claim.str_at(&["metadata", "annotations", SELECTED_NODE]).into(),
            owners: owners.iter().map(|owner| owner.str_at(&["uid"]).into()).collect(),
        })
    }
}

impl Volume {
    /// `None` where the capacity cannot be read.
    pub fn read(volume: &Value) -> Option<Self> {
        let meta = Meta::of(volume);
        let size = volume.at(&["spec", "capacity", "storage"]);
        let claim = volume.at(&["spec", "claimRef"]).filter(|claim| !claim.is_null());
        let required = volume.at(&["spec", "nodeAffinity", "required"]).filter(|required| !required.is_null());
        Some(Self {
            name: meta.name().into(),
            labels: decode::labels(volume.at(&["metadata", "labels"])),
            class: class_of(volume).into(),
            size: size.map_or(Some(none()), |size| Quantity::from_value(size).ok())?,
            modes: modes(volume),
            block: volume.str_at(&["spec", "volumeMode"]) == "Block",
            attributes_class: volume.str_at(&["spec", "volumeAttributesClassName"]).into(),
            claim: claim.map(|claim| ["namespace", "name", "uid"].map(|field| claim.str_at(&[field]).into())),
            available: volume.str_at(&["status", "phase"]) == "Available",
            deleting: meta.deletion_timestamp().is_some(),
            affinity: required.map(decode::node_selector),
        })
    }

    /// The volume is this claim's, or kept for it.
    pub fn is_for(&self, claim: &Claim) -> bool {
        self.claim.as_ref().is_some_and(|[namespace, name, uid]| {
            *namespace == claim.namespace && *name == claim.name && (uid.is_empty() || *uid == claim.uid)
        })
    }

    /// Whether pods on a node can use it.
    pub fn is_reached(&self, node: &str, labels: &Labels) -> bool {
        self.affinity.as_ref().is_none_or(|affinity| affinity.matches(node, labels))
    }

    /// Why the volume will not do for a claim that names it.
    pub fn mismatch(&self, claim: &Claim) -> Option<String> {
        if self.deleting {
            return Some(format!("the volume is marked for deletion {:?}", self.name.as_str()));
        }
        let text = if self.size < claim.size {
            "requested PV is too small"
        } else if self.class != claim.class {
            "storageClassName does not match"
        } else if self.attributes_class != claim.attributes_class {
            "volumeAttributesClassName does not match"
        } else if self.block != claim.block {
            "incompatible volumeMode"
        } else if !claim.modes.is_subset(&self.modes) {
            "incompatible accessMode"
        } else {
            return None;
        };
        Some(text.to_owned())
    }
}

impl Class {
    pub fn read(class: &Value) -> Self {
        let provisioner = class.str_at(&["provisioner"]);
        let terms = class.get("allowedTopologies").and_then(Value::as_array).unwrap_or_default();
        Self {
            waits: class.str_at(&["volumeBindingMode"]) == "WaitForFirstConsumer",
            provisions: !matches!(provisioner, "" | NO_PROVISIONER),
            topologies: (!terms.is_empty())
                .then(|| NodeSelector { terms: terms.iter().map(decode::topology_term).collect() }),
        }
    }

    /// Whether volumes may be made for a node.
    pub fn allows(&self, node: &str, labels: &Labels) -> bool {
        self.topologies.as_ref().is_none_or(|terms| terms.matches(node, labels))
    }
}

fn none() -> Quantity {
    Quantity::from_milli(0, corten_apimachinery::quantity::Format::BinarySi)
}

/// The class of a claim or a volume; empty for none.
pub fn class_of(object: &Value) -> &str {
    match object.at(&["metadata", "annotations", CLASS_ANNOTATION]).and_then(Value::as_str) {
        Some(class) => class,
        None => object.str_at(&["spec", "storageClassName"]),
    }
}

fn modes(object: &Value) -> BTreeSet<Str> {
    let modes = object.at(&["spec", "accessModes"]).and_then(Value::as_array).unwrap_or_default();
    modes.iter().filter_map(Value::as_str).map(Str::from).collect()
}

/// The volume for a claim: one that is kept for it, else the smallest that will do, of those with the fewest further modes.
/// Without a node only volumes that are kept for it are looked at if the claim waits for its first pod.
pub fn find<'a>(
    claim: &Claim,
    volumes: impl IntoIterator<Item = &'a Volume>,
    node: Option<(&str, &Labels)>,
    waits: bool,
) -> Option<&'a Volume> {
    let mut best: Option<&Volume> = None;
    for volume in volumes {
        let kept = volume.is_for(claim);
        let possible = (kept || volume.claim.is_none())
            && volume.size >= claim.size
            && volume.block == claim.block
            && volume.attributes_class == claim.attributes_class
            && !volume.deleting;
        if !possible {
            continue;
        }
        let reached = node.is_none_or(|(name, labels)| volume.is_reached(name, labels));
        if kept {
            return reached.then_some(volume);
        }
        let selected = claim.selector.as_ref().is_none_or(|selector| selector.matches(&volume.labels));
        let fits = volume.available && selected && volume.class == claim.class && claim.modes.is_subset(&volume.modes);
        if !fits || !reached || node.is_none() && waits {
            continue;
        }
        let order = |volume: &Volume| (volume.modes.len(), volume.size.clone(), volume.name.clone());
        let better = |known: &Volume| {
            let (left, right) = (order(volume), order(known));
            if node.is_some() { (left.1, left.2) < (right.1, right.2) } else { left < right }
        };
        if best.is_none_or(better) {
            best = Some(volume);
        }
    }
    best
}

/// What a pod's claims ask of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodVolumes {
    /// The pod runs nowhere now, wherever it is tried.
    pub refused: Option<String>,
    /// What claims are bound to; `None` for a volume that is not there.
    pub bound: Vec<Option<Volume>>,
    /// Claims that are bound where the pod goes, the smallest first.
    pub open: Vec<Open>,
}

/// A claim that waits for its pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    pub claim: Claim,
    /// Volumes that it may get.
    pub volumes: Vec<Volume>,
    pub class: Class,
}

/// What becomes of an open claim on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub claim: Str,
    pub claim_uid: Str,
    /// `None`: a volume is made for it.
    pub volume: Option<Str>,
}

impl PodVolumes {
    pub fn is_empty(&self) -> bool {
        self.bound.is_empty() && self.open.is_empty()
    }

    /// Which volumes the pod would have on a node.
    pub fn choose(&self, node: &str, labels: &Labels) -> Result<Vec<Choice>, Reason> {
        for volume in &self.bound {
            match volume {
                None => return Err(Reason::VolumeMissing),
                Some(volume) if !volume.is_reached(node, labels) => return Err(Reason::VolumeElsewhere),
                Some(_) => {}
            }
        }
        let mut taken: Vec<&str> = Vec::new();
        let mut choices = Vec::new();
        for Open { claim, volumes, class } in &self.open {
            let volume = if claim.selected_node.is_empty() {
                find(
                    claim,
                    volumes.iter().filter(|volume| !taken.contains(&volume.name.as_str())),
                    Some((node, labels)),
                    true,
                )
            } else if claim.selected_node != node {
                // Its volume is being made elsewhere.
                return Err(Reason::VolumeElsewhere);
            } else {
                None
            };
            if volume.is_none() && !(class.provisions && class.allows(node, labels)) {
                return Err(Reason::NoVolume);
            }
            taken.extend(volume.map(|volume| volume.name.as_str()));
            let volume = volume.map(|volume| volume.name.clone());
            choices.push(Choice { claim: claim.name.clone(), claim_uid: claim.uid.clone(), volume });
        }
        Ok(choices)
    }
}

/// A claim that a pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodClaim {
    pub name: Str,
    /// The pod's own (`volumes[].ephemeral`), which somebody makes for it.
    pub own: bool,
}

/// The claims of a pod.
pub fn pod_claims(pod: &Value) -> Vec<PodClaim> {
    let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array).unwrap_or_default();
    let claim = |volume: &Value| {
        let named = volume.str_at(&["persistentVolumeClaim", "claimName"]);
        let own = volume.get("ephemeral").and_then(Value::as_object).is_some_and(|own: &Map| !own.is_empty());
        if named.is_empty() && !own {
            return None;
        }
        let own_name = || format!("{}-{}", pod.str_at(&["metadata", "name"]), volume.str_at(&["name"])).into();
        Some(PodClaim { name: if named.is_empty() { own_name() } else { named.into() }, own: named.is_empty() })
    };
    volumes.iter().filter_map(claim).collect()
}

/// What the cluster knows of storage.
pub trait Storage {
    fn claim(&self, namespace: &str, name: &str) -> Option<Claim>;
    fn volume(&self, name: &str) -> Option<Volume>;
    fn class(&self, name: &str) -> Option<Class>;
    /// Volumes of a class that nobody else was promised.
    fn free(&self, class: &str) -> Vec<Volume>;
}

/// Gathers what a pod's claims ask of nodes.
pub fn gather(storage: &dyn Storage, namespace: &str, pod_uid: &str, claims: &[PodClaim]) -> PodVolumes {
    let mut gathered = PodVolumes::default();
    for named in claims {
        if let Err(text) = add(storage, namespace, pod_uid, named, &mut gathered) {
            return PodVolumes { refused: Some(text), ..PodVolumes::default() };
        }
    }
    gathered.open.sort_by(|left, right| left.claim.size.cmp(&right.claim.size));
    gathered
}

fn add(
    storage: &dyn Storage,
    namespace: &str,
    pod_uid: &str,
    named: &PodClaim,
    gathered: &mut PodVolumes,
) -> Result<(), String> {
    let name = named.name.as_str();
    let Some(claim) = storage.claim(namespace, name) else {
        return Err(if named.own {
            format!("waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}")
        } else {
            format!("persistentvolumeclaim {name:?} not found")
        });
    };
    if claim.lost {
        let volume = claim.volume.as_str();
        return Err(format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"));
    }
    if claim.deleting {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    if named.own && !claim.owners.iter().any(|owner| owner == pod_uid) {
        return Err(format!("PVC {namespace}/{name} was not created for pod (pod is not owner)"));
    }
    if !claim.volume.is_empty() && claim.bound {
        gathered.bound.push(storage.volume(&claim.volume));
        return Ok(());
    }
    let class = storage.class(&claim.class).unwrap_or_default();
    if !class.waits || !claim.volume.is_empty() {
        return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
    }
    gathered.open.push(Open { volumes: storage.free(&claim.class), class, claim });
    Ok(())
}

impl NodeSelector {
    /// Whether one of the terms takes a node of that name with those labels.
    pub fn matches(&self, node: &str, labels: &Labels) -> bool {
        self.terms.iter().any(|term: &NodeTerm| term.matches(node, labels))
    }
}

#[cfg(test)]
mod tests;
