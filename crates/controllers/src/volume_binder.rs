//! Joins claims and volumes: a claim gets a volume that is there, or has one made; a volume whose claim is gone is released
//! and goes as its policy says (`pkg/controller/volume/persistentvolume`). A binding is four writes, each of which any
//! later look completes.

mod plan;

use std::sync::Arc;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Resource};
use corten_scheduler::volumes::class_of;

use self::plan::{ClaimStep, VolumeStep};
use crate::Base;

pub(crate) const CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");
pub(crate) const VOLUMES: Resource = Resource::new("", "v1", "persistentvolumes");
pub(crate) const CLASSES: Resource = Resource::new("storage.k8s.io", "v1", "storageclasses");
/// Who is to make a volume for a claim, in the present and in an older form.
pub(crate) const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const OLD_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Kinds of keys.
const CLAIM: &str = "claim";
const VOLUME: &str = "volume";

struct Context {
    client: Client,
    recorder: Recorder,
    claims: Informer<Value>,
    volumes: Informer<Value>,
    classes: Informer<Value>,
}

pub fn controller(base: &Base) -> Controller {
    let claims = base.informers.of::<Value>(Scope::all(CLAIMS));
    let volumes = base.informers.of::<Value>(Scope::all(VOLUMES));
    let classes = base.informers.of::<Value>(Scope::all(CLASSES));
    let context = Context {
        client: (base.client_of)("persistent-volume-binder"),
        recorder: (base.recorder_of)("persistent-volume-binder", "persistentvolume-controller"),
        claims: claims.clone(),
        volumes: volumes.clone(),
        classes: classes.clone(),
    };
    let (of_volumes, of_classes, of_claims) = (claims.clone(), claims.clone(), volumes.clone());
    Controller::new("volume-binder", Arc::new(context), reconcile)
        .watches_for(&claims, move |claim| [vec![claim_key(claim)], volumes_of(&of_claims, claim)].concat())
        .watches_for(&volumes, move |volume| [vec![volume_key(volume)], claims_of(&of_volumes, volume)].concat())
        .watches_for(&classes, move |_| of_classes.cache().all().iter().map(|claim| claim_key(claim)).collect())
        // Two claims must not be given one volume.
        .concurrency(1)
}

fn claim_key(claim: &Held<Value>) -> Key {
    Key { kind: CLAIM.into(), ..claim.head.key() }
}

fn volume_key(volume: &Held<Value>) -> Key {
    Key { kind: VOLUME.into(), ..volume.head.key() }
}

/// The volumes that are a claim's, or were.
fn volumes_of(volumes: &Informer<Value>, claim: &Held<Value>) -> Vec<Key> {
    let named = |volume: &Held<Value>| {
        volume.view.str_at(&["spec", "claimRef", "name"]) == claim.head.name.as_str()
            && volume.view.str_at(&["spec", "claimRef", "namespace"]) == claim.head.namespace.as_str()
    };
    volumes.cache().all().iter().filter(|volume| named(volume)).map(|volume| volume_key(volume)).collect()
}

/// The claims that a change of a volume may mean something for: its own, and for a free one all that have none.
fn claims_of(claims: &Informer<Value>, volume: &Held<Value>) -> Vec<Key> {
    let claim = |field| volume.view.str_at(&["spec", "claimRef", field]);
    let waits = |held: &Held<Value>| {
        let named = held.view.str_at(&["spec", "volumeName"]);
        named.is_empty() && claim("name").is_empty() || named == volume.head.name.as_str()
    };
    let mut keys: Vec<Key> =
        claims.cache().all().iter().filter(|held| waits(held)).map(|held| claim_key(held)).collect();
    if !claim("name").is_empty() {
        keys.push(Key { kind: CLAIM.into(), ..Key::new(claim("namespace"), claim("name")) });
    }
    keys
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    if key.kind == CLAIM {
        let Some(claim) = ctx.claims.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
        ctx.claim(&claim).await?;
    } else {
        let Some(volume) = ctx.volumes.cache().get("", &key.name) else { return Ok(Next::Change) };
        ctx.volume(&volume).await?;
    }
    Ok(Next::Change)
}

impl Context {
    async fn claim(&self, claim: &Held<Value>) -> Result<(), Error> {
        let volumes: Vec<Arc<Held<Value>>> = self.volumes.cache().all();
        let class = self.classes.cache().get("", class_of(&claim.view));
        let step = plan::claim(&claim.view, &volumes, class.as_deref().map(|class| &class.view));
        let about = Reference::of("v1", "PersistentVolumeClaim", &claim.view);
        match step {
            ClaimStep::Nothing => Ok(()),
            ClaimStep::Bind(volume) => {
                let Some(volume) = self.volumes.cache().get("", &volume) else { return Ok(()) };
                self.bind(&claim.view, &volume.view).await
            }
            ClaimStep::Wait(told) => {
                if let Some(class) = self.default_class().filter(|_| plan::names_no_class(&claim.view)) {
                    let mut changed = claim.view.clone();
                    changed.object_entry("spec").insert("storageClassName", class);
                    return unless_gone(self.client.update(&CLAIMS, "", &changed).await).map(drop);
                }
                if let Some(told) = told {
                    self.recorder.normal(&about, told.reason, told.note);
                }
                self.claim_status(&claim.view, "Pending", None).await.map(drop)
            }
            ClaimStep::Mismatch { reason, note } => {
                self.recorder.warning(&about, reason, note);
                self.claim_status(&claim.view, "Pending", None).await.map(drop)
            }
            ClaimStep::Provision(provisioner) => self.provision(&claim.view, &provisioner, &about).await,
            ClaimStep::Lost { reason, note } => {
                if claim.view.str_at(&["status", "phase"]) != "Lost" {
                    self.recorder.warning(&about, reason, note);
                }
                self.claim_status(&claim.view, "Lost", None).await.map(drop)
            }
        }
    }

    async fn volume(&self, volume: &Held<Value>) -> Result<(), Error> {
        let claim = |field| volume.view.str_at(&["spec", "claimRef", field]);
        let (namespace, name) = (claim("namespace"), claim("name"));
        let mut found = self.claims.cache().get(namespace, name).map(|held| held.view.clone());
        let is_it = |found: &Option<Value>| found.as_ref().is_some_and(|found| Meta::of(found).uid() == claim("uid"));
        if !claim("uid").is_empty() && !is_it(&found) {
            // The cache may be behind; data hangs on this.
            found = unless_gone(self.client.get(&CLAIMS, namespace, name).await)?;
        }
        match plan::volume(&volume.view, found.as_ref()) {
            VolumeStep::Nothing => Ok(()),
            VolumeStep::Phase(phase) => self.volume_phase(&volume.view, phase).await.map(drop),
            VolumeStep::Unbind => {
                let mut changed = volume.view.clone();
                plan::unbind(&mut changed);
                let Some(changed) = unless_gone(self.client.update(&VOLUMES, "", &changed).await)? else {
                    return Ok(());
                };
                self.volume_phase(&changed, "Available").await.map(drop)
            }
            VolumeStep::Fail { reason, note } => {
                let about = Reference::of("v1", "PersistentVolume", &volume.view);
                self.recorder.warning(&about, reason, note);
                self.volume_phase(&volume.view, "Failed").await.map(drop)
            }
        }
    }

    /// Makes both mean each other, as far as they do not yet.
    async fn bind(&self, claim: &Value, volume: &Value) -> Result<(), Error> {
        let mut volume = volume.clone();
        if plan::bind_volume(&mut volume, claim) {
            volume = self.client.update(&VOLUMES, "", &volume).await?;
        }
        let volume = self.volume_phase(&volume, "Bound").await?;
        let mut claim = claim.clone();
        if plan::bind_claim(&mut claim, &volume) {
            claim = self.client.update(&CLAIMS, "", &claim).await?;
        }
        self.claim_status(&claim, "Bound", Some(&volume)).await.map(drop)
    }

    /// Asks for a volume; who makes it finds the claim by the annotation.
    async fn provision(&self, claim: &Value, provisioner: &str, about: &Reference) -> Result<(), Error> {
        let told = claim.str_at(&["metadata", "annotations", PROVISIONER]) == provisioner;
        let mut claim = claim.clone();
        if !told {
            let annotations = metadata_mut(&mut claim).object_entry("annotations");
            annotations.insert(PROVISIONER, provisioner);
            annotations.insert(OLD_PROVISIONER, provisioner);
            claim = self.client.update(&CLAIMS, "", &claim).await?;
            let note = format!(
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
                 system administrator. If volume creation is delayed, please verify that the provisioner is running and \
                 correctly registered."
            );
            self.recorder.normal(about, "ExternalProvisioning", note);
        }
        self.claim_status(&claim, "Pending", None).await.map(drop)
    }

    fn default_class(&self) -> Option<Str> {
        let classes = self.classes.cache().all();
        let marked =
            classes.iter().filter(|class| class.view.str_at(&["metadata", "annotations", DEFAULT_CLASS]) == "true");
        let age = |class: &&Arc<Held<Value>>| {
            (class.view.str_at(&["metadata", "creationTimestamp"]).to_owned(), class.head.name.clone())
        };
        marked.max_by_key(age).map(|class| class.head.name.clone())
    }

    async fn volume_phase(&self, volume: &Value, phase: &str) -> Result<Value, Error> {
        if volume.str_at(&["status", "phase"]) == phase {
            return Ok(volume.clone());
        }
        let mut changed = volume.clone();
        let status = changed.object_entry("status");
        status.insert("phase", phase);
        self.client.update(&VOLUMES, "status", &changed).await
    }

    async fn claim_status(&self, claim: &Value, phase: &str, volume: Option<&Value>) -> Result<Value, Error> {
        match plan::claim_status(claim, phase, volume) {
            Some(status) => {
                let mut changed = claim.clone();
                changed.as_object_mut().expect("a claim is an object").insert("status", status);
                self.client.update(&CLAIMS, "status", &changed).await
            }
            None => Ok(claim.clone()),
        }
    }
}
