//! Makes volumes of nodes' own disks for claims that ask for one: an object alone, which names a node; the node makes the disk when
//! a pod first mounts it, and takes it away when the object is deleted. Where a claim waits for its first pod, the scheduler has
//! chosen the node; else it is the one with the fewest disks.

use std::sync::Arc;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error};
use corten_scheduler::decode::labels;
use corten_scheduler::volumes::{Claim, Class, SELECTED_NODE, class_of};

use crate::Base;
use crate::node::NODES;
use crate::volume_binder::{CLAIMS, CLASSES, PROVISIONER, VOLUMES};

/// The name by which classes ask for it, and that volumes name as their driver.
pub(crate) const NAME: &str = "local.corten.dev";
/// The node of a volume, in its attributes.
const NODE: &str = "corten.dev/node";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Keeps the object until the node has taken the disk away.
const FINALIZER: &str = "corten.dev/local-disk";
const PROTECTION: &str = "kubernetes.io/pv-protection";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// A file system needs some room for itself.
const BYTES_MIN: i64 = 8 << 20;
const BLOCK: i64 = 4096;

/// Kinds of keys.
const CLAIM: &str = "claim";
const VOLUME: &str = "volume";

/// A node that may have disks: its labels.
#[derive(Clone, Debug, PartialEq)]
struct Place(Vec<(Str, Str)>);

impl View for Place {
    fn from_object(node: &Value) -> Option<Self> {
        Some(Self(labels(node.at(&["metadata", "labels"]))))
    }
}

struct Context {
    client: Client,
    recorder: Recorder,
    claims: Informer<Value>,
    volumes: Informer<Value>,
    classes: Informer<Value>,
    nodes: Informer<Place>,
}

pub fn controller(base: &Base) -> Controller {
    let claims = base.informers.of::<Value>(Scope::all(CLAIMS));
    let volumes = base.informers.of::<Value>(Scope::all(VOLUMES));
    let classes = base.informers.of::<Value>(Scope::all(CLASSES));
    let nodes = base.informers.of::<Place>(Scope::all(NODES));
    let context = Context {
        client: (base.client_of)("persistent-volume-binder"),
        recorder: (base.recorder_of)("persistent-volume-binder", NAME),
        claims: claims.clone(),
        volumes: volumes.clone(),
        classes: classes.clone(),
        nodes: nodes.clone(),
    };
    let (all_claims, all_volumes) = (claims.clone(), volumes.clone());
    let on_nodes = move |_: &Held<Place>| {
        let waiting = all_claims.cache().all().into_iter().filter(|claim| waits(&claim.view));
        let kept = all_volumes.cache().all().into_iter().filter(|volume| volume.head.deleting);
        let claims = waiting.map(|claim| key(CLAIM, &claim));
        claims.chain(kept.map(|volume| key(VOLUME, &volume))).collect()
    };
    Controller::new("local-provisioner", Arc::new(context), reconcile)
        .watches_for(&claims, |claim| vec![key(CLAIM, claim)])
        .watches_for(&volumes, |volume| vec![key(VOLUME, volume)])
        .watches_for(&classes, |_| Vec::new())
        .watches_view_for(&nodes, on_nodes)
        .concurrency(1)
}

fn key(kind: &'static str, held: &Held<Value>) -> Key {
    Key { kind: kind.into(), ..held.head.key() }
}

/// The claim asks for a volume of this provisioner and has none.
fn waits(claim: &Value) -> bool {
    claim.str_at(&["metadata", "annotations", PROVISIONER]) == NAME
        && claim.str_at(&["spec", "volumeName"]).is_empty()
        && Meta::of(claim).deletion_timestamp().is_none()
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    if key.kind == CLAIM {
        ctx.claim(&key).await?;
    } else if let Some(volume) = ctx.volumes.cache().get("", &key.name) {
        ctx.volume(&volume).await?;
    }
    Ok(Next::Change)
}

/// What a claim comes to.
#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Make(Value),
    /// The node that was chosen will not do: another one is to be.
    Unselect,
    Refuse(String),
}

impl Context {
    async fn claim(&self, key: &Key) -> Result<(), Error> {
        let Some(claim) = self.claims.cache().get(&key.namespace, &key.name) else { return Ok(()) };
        let Some(class) = self.classes.cache().get("", class_of(&claim.view)) else { return Ok(()) };
        let nodes: Vec<(Str, Place)> =
            self.nodes.cache().all().iter().map(|node| (node.head.name.clone(), node.view.clone())).collect();
        let volumes = self.volumes.cache().all();
        let used = |node: &str| volumes.iter().filter(|volume| node_of(&volume.view) == Some(node)).count();
        let about = Reference::of("v1", "PersistentVolumeClaim", &claim.view);
        match plan(&claim.view, &class.view, &nodes, used) {
            Plan::Nothing => Ok(()),
            Plan::Make(volume) => {
                match self.client.create(&VOLUMES, "", &volume).await {
                    // Made before, and not seen yet.
                    Err(error) if error.is_already_exists() => Ok(()),
                    other => other.map(|volume| {
                        let note = format!("Successfully provisioned volume {}", Meta::of(&volume).name());
                        self.recorder.normal(&about, "ProvisioningSucceeded", note);
                    }),
                }
            }
            Plan::Unselect => {
                let mut changed = claim.view.clone();
                metadata_mut(&mut changed).object_entry("annotations").remove(SELECTED_NODE);
                unless_gone(self.client.update(&CLAIMS, "", &changed).await).map(drop)
            }
            Plan::Refuse(why) => {
                let note =
                    format!("failed to provision volume with StorageClass {:?}: {why}", class.head.name.as_str());
                self.recorder.warning(&about, "ProvisioningFailed", note);
                Ok(())
            }
        }
    }

    async fn volume(&self, volume: &Held<Value>) -> Result<(), Error> {
        let Some(node) = node_of(&volume.view) else { return Ok(()) };
        let lost = self.nodes.cache().get("", node).is_none();
        if volume.head.deleting {
            let kept = |finalizer: &str| volume.head.finalizers.iter().any(|own| own == finalizer);
            // The disk has gone with its node; nobody else would say so.
            if lost && kept(FINALIZER) && !kept(PROTECTION) {
                let mut changed = volume.view.clone();
                let left: Vec<Value> =
                    Meta::of(&changed).finalizers().filter(|own| *own != FINALIZER).map(Value::from).collect();
                metadata_mut(&mut changed).insert("finalizers", left);
                unless_gone(self.client.update(&VOLUMES, "", &changed).await)?;
            }
            return Ok(());
        }
        let ends = volume.view.str_at(&["status", "phase"]) == "Released"
            && volume.view.str_at(&["spec", "persistentVolumeReclaimPolicy"]) == "Delete";
        if ends {
            let delete = Delete::of(&volume.head.uid);
            unless_gone(self.client.delete(&VOLUMES, "", &volume.head.name, &delete).await)?;
        }
        Ok(())
    }
}

/// The node whose disk a volume is.
pub(crate) fn node_of(volume: &Value) -> Option<&str> {
    let csi = volume.at(&["spec", "csi"]).filter(|csi| csi.str_at(&["driver"]) == NAME)?;
    Some(csi.str_at(&["volumeAttributes", NODE]))
}

fn plan(claim: &Value, class: &Value, nodes: &[(Str, Place)], used: impl Fn(&str) -> usize) -> Plan {
    let (Some(read), true) = (Claim::read(claim), waits(claim)) else { return Plan::Nothing };
    let topology = Class::read(class);
    if class.str_at(&["provisioner"]) != NAME || topology.waits && read.selected_node.is_empty() {
        return Plan::Nothing;
    }
    if read.block {
        return Plan::Refuse("raw block volumes are not made by this provisioner".to_owned());
    }
    if read.selector.is_some() {
        return Plan::Refuse("claim.Spec.Selector is not supported".to_owned());
    }
    if claim.at(&["spec", "dataSource"]).is_some_and(|source| !source.is_null()) {
        return Plan::Refuse("volumes are not made of others by this provisioner".to_owned());
    }
    let allowed = nodes.iter().filter(|(name, place)| topology.allows(name, &place.0));
    let chosen = if read.selected_node.is_empty() {
        allowed.min_by_key(|(name, _)| (used(name), name.clone()))
    } else {
        allowed.into_iter().find(|(name, _)| *name == read.selected_node)
    };
    match chosen {
        Some((node, place)) => match volume(claim, class, &read, node, place) {
            Ok(volume) => Plan::Make(volume),
            Err(why) => Plan::Refuse(why),
        },
        None if read.selected_node.is_empty() => Plan::Refuse("no node may have the volume".to_owned()),
        None => Plan::Unselect,
    }
}

/// The object of a new volume.
fn volume(claim: &Value, class: &Value, read: &Claim, node: &str, place: &Place) -> Result<Value, String> {
    let meta = Meta::of(claim);
    let name = format!("pvc-{}", meta.uid());
    let hostname = place.0.iter().find(|(key, _)| key == HOSTNAME).map(|(_, value)| value.as_str());
    let Some(hostname) = hostname else { return Err(format!("node {node} has no label {HOSTNAME}")) };
    let (mut annotations, mut attributes) = (value!({}), value!({}));
    annotations.as_object_mut().expect("an object").insert(PROVISIONED_BY, NAME);
    attributes.as_object_mut().expect("an object").insert(NODE, node);
    let on = value!({"key": HOSTNAME, "operator": "In", "values": [hostname]});
    let policy = match class.str_at(&["reclaimPolicy"]) {
        "" => "Delete",
        policy => policy,
    };
    let reference = value!({
        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": (meta.namespace()), "name": (meta.name()),
        "uid": (meta.uid())
    });
    let mut volume = value!({
        "kind": "PersistentVolume", "apiVersion": "v1",
        "metadata": {"name": (name.as_str()), "annotations": annotations, "finalizers": [FINALIZER]},
        "spec": {
            "capacity": {"storage": (size(claim, &read.size))},
            "accessModes": (claim.at(&["spec", "accessModes"]).cloned().unwrap_or_default()),
            "persistentVolumeReclaimPolicy": policy, "storageClassName": (class_of(claim)),
            "volumeMode": "Filesystem", "claimRef": reference,
            "csi": {"driver": NAME, "volumeHandle": (name.as_str()), "fsType": "ext4", "volumeAttributes": attributes},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on]}]}}
        }
    });
    if let Some(options) = class.get("mountOptions").filter(|options| !options.is_null()) {
        volume.object_entry("spec").insert("mountOptions", options.clone());
    }
    Ok(volume)
}

/// The capacity of a volume for a request, in its own words where it is a size that a disk can have.
pub(crate) fn size(claim: &Value, wanted: &Quantity) -> Value {
    let bytes = wanted.value();
    let whole = bytes.max(BYTES_MIN).saturating_add(BLOCK - 1) / BLOCK * BLOCK;
    match claim.at(&["spec", "resources", "requests", "storage"]) {
        Some(asked) if whole == bytes => asked.clone(),
        _ => whole.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(notes: &[(&str, &str)]) -> Value {
        let mut claim = value!({
            "metadata": {"name": "a", "namespace": "ns", "uid": "u", "annotations": {}},
            "spec": {"resources": {"requests": {"storage": "32Mi"}}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": "local"}
        });
        let annotations = metadata_mut(&mut claim).object_entry("annotations");
        annotations.insert(PROVISIONER, NAME);
        for (key, value) in notes {
            annotations.insert(*key, *value);
        }
        claim
    }

    fn class(mode: &str) -> Value {
        value!({"metadata": {"name": "local"}, "provisioner": NAME, "volumeBindingMode": mode, "reclaimPolicy": "Retain"})
    }

    fn nodes() -> Vec<(Str, Place)> {
        let place = |name: &str| (Str::from(name), Place(vec![(HOSTNAME.into(), format!("{name}.lan").into())]));
        vec![place("n1"), place("n2")]
    }

    #[track_caller]
    fn check(claim: &Value, mode: &str, expect: &str) {
        let used = |node: &str| if node == "n1" { 2 } else { 1 };
        let seen = match plan(claim, &class(mode), &nodes(), used) {
            Plan::Nothing => "nothing".to_owned(),
            Plan::Make(volume) => format!("make on {}", node_of(&volume).unwrap_or_default()),
            Plan::Unselect => "unselect".to_owned(),
            Plan::Refuse(why) => why,
        };
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_volume_is_made_where_the_pod_goes() {
        check(&claim(&[(SELECTED_NODE, "n1")]), "WaitForFirstConsumer", "make on n1");
        check(&claim(&[(SELECTED_NODE, "gone")]), "WaitForFirstConsumer", "unselect");
        check(&claim(&[]), "WaitForFirstConsumer", "nothing");
        check(&claim(&[]), "Immediate", "make on n2");
        check(&claim(&[(PROVISIONER, "other")]), "Immediate", "nothing");
        let mut bound = claim(&[]);
        bound.object_entry("spec").insert("volumeName", "v");
        check(&bound, "Immediate", "nothing");
        let mut block = claim(&[]);
        block.object_entry("spec").insert("volumeMode", "Block");
        check(&block, "Immediate", "raw block volumes are not made by this provisioner");
    }

    #[test]
    fn a_volume_says_where_it_is_and_whose() {
        let Plan::Make(volume) = plan(&claim(&[(SELECTED_NODE, "n1")]), &class("Immediate"), &nodes(), |_| 0) else {
            panic!("it is made");
        };
        let text = |path: &[&str]| volume.str_at(path);
        assert_eq!(text(&["metadata", "name"]), "pvc-u");
        assert_eq!(text(&["spec", "claimRef", "uid"]), "u");
        assert_eq!(text(&["spec", "capacity", "storage"]), "32Mi");
        assert_eq!(text(&["spec", "persistentVolumeReclaimPolicy"]), "Retain");
        let read = corten_scheduler::volumes::Volume::read(&volume).expect("a volume");
        let host = |name: &str| vec![(Str::from(HOSTNAME), Str::from(name))];
        assert!(read.is_reached("n1", &host("n1.lan")) && !read.is_reached("n2", &host("n2.lan")));
    }

    #[test]
    fn sizes_are_those_of_disks() {
        let check = |asked: &str, expect: &str| {
            let claim = value!({"spec": {"resources": {"requests": {"storage": asked}}}});
            assert_eq!(size(&claim, &Quantity::parse(asked).expect("a quantity")), Value::from(expect));
        };
        check("1Gi", "1Gi");
        check("1Mi", "8388608");
        check("10M", "10002432");
    }
}
