//! Brings a deployment's template out by replica sets: one for every template it has had, of which the newest grows as
//! the others shrink (`pkg/controller/deployment`).

mod rollout;
mod status;

use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Patch, Resource};
use corten_stdx::clock::Clock;

use self::rollout::{Changes, Fleet};
use crate::Base;
use crate::pod::{PODS, Phase, PodView};
use crate::replica_set::REPLICA_SETS;

const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");

/// The label that tells the pods of one template from those of another.
const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    deployments: Informer<Value>,
    sets: Informer<Value>,
    pods: Informer<PodView>,
}

pub fn controller(base: &Base) -> Controller {
    let deployments = base.informers.of::<Value>(Scope::all(DEPLOYMENTS));
    let sets = base.informers.of::<Value>(Scope::all(REPLICA_SETS));
    let pods = base.informers.of::<PodView>(Scope::all(PODS));
    let context = Context {
        client: (base.client_of)("deployment-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("deployment-controller", "deployment-controller"),
        deployments: deployments.clone(),
        sets: sets.clone(),
        pods: pods.clone(),
    };
    let (of, between) = (deployments.clone(), sets.clone());
    Controller::new("deployment", Arc::new(context), reconcile)
        .watches(&deployments)
        .watches_for(&sets, move |set| concerned(&of, set))
        .watches_for(&pods, move |pod| {
            // Only a deployment that waits for its old pods to end looks at pods itself.
            let set = pod.head.controller().and_then(|owner| between.cache().get(&pod.head.namespace, &owner.name));
            set.and_then(|set| owner_key(&set)).into_iter().collect()
        })
}

fn owner_key(set: &Held<Value>) -> Option<Key> {
    let owner = set.head.controller().filter(|owner| owner.kind == "Deployment")?;
    Some(Key::new(set.head.namespace.clone(), owner.name.clone()))
}

/// The deployment that controls a set, or those that could adopt it.
fn concerned(deployments: &Informer<Value>, set: &Held<Value>) -> Vec<Key> {
    if set.head.controller().is_some() {
        return owner_key(set).into_iter().collect();
    }
    let all = deployments.cache().in_namespace(&set.head.namespace);
    let adopt = all.iter().filter(|of| selector(&of.view).is_ok_and(|selector| selector.matches(&set.head.labels)));
    adopt.map(|of| of.head.key()).collect()
}

fn selector(deployment: &Value) -> Result<LabelSelector, Error> {
    let selector = LabelSelector::from_object(deployment.at(&["spec", "selector"]));
    selector.map_err(|error| Error::Shape(format!("the selector of {}: {error}", Meta::of(deployment).name())))
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(deployment) = ctx.deployments.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let sets = ctx.own_sets(&deployment).await?;
    let now_s = ctx.clock.now_s();
    let fleet = Fleet::new(&deployment.view, &sets, ctx.has_pods(&sets));
    let changes = if deployment.head.deleting { Changes::default() } else { rollout::plan(&fleet) };
    let created = ctx.carry_out(&deployment.view, &changes).await;
    let planned = status::plan(&fleet, &changes, created.as_ref().err(), now_s);
    if let Some(wanted) = planned.deployment {
        ctx.write(&deployment.view, &wanted).await?;
    }
    created.map(|()| planned.next)
}

impl Context {
    /// The sets that a deployment controls, with those that it adopts now.
    async fn own_sets(&self, deployment: &Held<Value>) -> Result<Vec<Arc<Held<Value>>>, Error> {
        let selector = selector(&deployment.view)?;
        let mut own = Vec::new();
        for set in self.sets.cache().in_namespace(&deployment.head.namespace) {
            match set.head.controller() {
                Some(owner) if owner.uid == deployment.head.uid => own.push(set),
                None if !deployment.head.deleting && !set.head.deleting && selector.matches(&set.head.labels) => {
                    let head = &set.head;
                    let owner = owner_reference(&deployment.view);
                    let patch = value!({"metadata": {"uid": (head.uid.clone()), "ownerReferences": [owner]}});
                    let patch = Patch::Strategic(patch);
                    let adopted = self.client.patch(&REPLICA_SETS, &head.namespace, &head.name, "", &patch).await;
                    own.extend(unless_gone(adopted)?.as_ref().and_then(Held::from_object).map(Arc::new));
                }
                _ => {}
            }
        }
        Ok(own)
    }

    /// For each set, whether pods of it have not ended.
    fn has_pods(&self, sets: &[Arc<Held<Value>>]) -> Vec<bool> {
        let runs = |set: &Arc<Held<Value>>| {
            self.pods.cache().owned_by(&set.head.uid).iter().any(|pod| pod.phase != Phase::Over)
        };
        sets.iter().map(runs).collect()
    }

    async fn carry_out(&self, deployment: &Value, changes: &Changes) -> Result<(), Error> {
        let namespace = Meta::of(deployment).namespace();
        let mut last = 0;
        let mut written = |set: &Value| last = last.max(Meta::of(set).resource_version().parse().unwrap_or(0_u64));
        for set in &changes.update {
            written(&self.client.update(&REPLICA_SETS, "", set).await?);
            self.tell_size(deployment, set);
        }
        for (name, uid) in &changes.delete {
            unless_gone(self.client.delete(&REPLICA_SETS, namespace, name, &Delete::of(uid)).await)?;
        }
        if let Some(set) = &changes.create {
            match self.client.create(&REPLICA_SETS, namespace, set).await {
                Err(error) if error.is_namespace_terminating() => {}
                Err(error) => {
                    let note = format!("Failed to create new replica set {:?}: {error}", Meta::of(set).name());
                    self.recorder.warning(&about(deployment), "ReplicaSetCreateError", note);
                    return Err(error);
                }
                Ok(made) => {
                    written(&made);
                    let (name, size) = (Meta::of(set).name(), size(set));
                    if size > 0 {
                        let note = format!("Scaled up replica set {name} from 0 to {size}");
                        self.recorder.normal(&about(deployment), "ScalingReplicaSet", note);
                    }
                }
            }
        }
        if last > 0 { self.sets.caught_up(&last.to_string(), &self.clock).await } else { Ok(()) }
    }

    /// Says that a set was resized, if it was.
    fn tell_size(&self, deployment: &Value, set: &Value) {
        let meta = Meta::of(set);
        let Some(known) = self.sets.cache().get(meta.namespace(), meta.name()) else { return };
        let (old, new) = (size(&known.view), size(set));
        if old != new {
            let way = if new > old { "up" } else { "down" };
            let note = format!("Scaled {way} replica set {} from {old} to {new}", meta.name());
            self.recorder.normal(&about(deployment), "ScalingReplicaSet", note);
        }
    }

    /// Writes annotations and status, where they differ.
    async fn write(&self, old: &Value, wanted: &Value) -> Result<(), Error> {
        let mut wanted = wanted.clone();
        if old.at(&["metadata", "annotations"]) != wanted.at(&["metadata", "annotations"]) {
            let Some(written) = unless_gone(self.client.update(&DEPLOYMENTS, "", &wanted).await)? else {
                return Ok(());
            };
            let revision = Meta::of(&written).resource_version().to_owned();
            wanted.object_entry("metadata").insert("resourceVersion", revision);
        }
        if old.get("status") != wanted.get("status") {
            unless_gone(self.client.update(&DEPLOYMENTS, "status", &wanted).await)?;
        }
        Ok(())
    }
}

fn about(deployment: &Value) -> Reference {
    Reference::of("apps/v1", "Deployment", deployment)
}

/// The pods that a set wants.
fn size(set: &Value) -> i64 {
    set.i64_at(&["spec", "replicas"]).unwrap_or(1)
}

fn owner_reference(deployment: &Value) -> Value {
    let meta = Meta::of(deployment);
    value!({
        "apiVersion": "apps/v1", "kind": "Deployment", "name": (meta.name()), "uid": (meta.uid()),
        "controller": true, "blockOwnerDeletion": true
    })
}

/// The labels of a template, without the one that its hash is.
fn template_without_hash(object: &Value) -> Value {
    let mut template = object.at(&["spec", "template"]).cloned().unwrap_or_default();
    if let Some(labels) = template.at_mut(&["metadata", "labels"]).and_then(Value::as_object_mut) {
        labels.remove(HASH_LABEL);
    }
    template
}
