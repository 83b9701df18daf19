//! Claims, volumes and classes, as the binder follows them, and what it writes before a pod with claims is bound: the volume
//! or the node that a claim is to have. Somebody else binds the claims; the pod follows when they are.

use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, View};
use corten_client::informer::{Informer, Scope};
use corten_client::{Error, Informers, Patch, Resource};
use futures_util::FutureExt as _;
use futures_util::future::{select_all, try_join_all};

use super::state::Promised;
use super::views::PodSeen;
use super::{Binder, PODS};
use crate::volumes::{BIND_COMPLETED, BOUND_BY_CONTROLLER, Choice, Claim, Class, SELECTED_NODE, Storage, Volume};

const CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");
const VOLUMES: Resource = Resource::new("", "v1", "persistentvolumes");
const CLASSES: Resource = Resource::new("storage.k8s.io", "v1", "storageclasses");

/// Claims that are not bound until then have their pod decided about anew.
const BOUND_WITHIN: Duration = Duration::from_secs(600);

impl View for Claim {
    fn from_object(object: &Value) -> Option<Self> {
        Self::read(object)
    }
}

impl View for Volume {
    fn from_object(object: &Value) -> Option<Self> {
        Self::read(object)
    }
}

impl View for Class {
    fn from_object(object: &Value) -> Option<Self> {
        Some(Self::read(object))
    }
}

pub(super) struct Stores {
    pub(super) claims: Informer<Claim>,
    pub(super) volumes: Informer<Volume>,
    pub(super) classes: Informer<Class>,
}

/// What is known of storage, without volumes that pods were promised which are not bound yet.
pub(super) struct Free<'a> {
    stores: &'a Stores,
    promised: &'a Promised,
}

impl Stores {
    pub(super) fn new(of: &Informers) -> Self {
        Self {
            claims: of.of(Scope::all(CLAIMS)),
            volumes: of.of(Scope::all(VOLUMES)),
            classes: of.of(Scope::all(CLASSES)),
        }
    }

    pub(super) fn without<'a>(&'a self, promised: &'a Promised) -> Free<'a> {
        Free { stores: self, promised }
    }
}

impl Storage for Free<'_> {
    fn claim(&self, namespace: &str, name: &str) -> Option<Claim> {
        self.stores.claims.cache().get(namespace, name).map(|held| held.view.clone())
    }

    fn volume(&self, name: &str) -> Option<Volume> {
        self.stores.volumes.cache().get("", name).map(|held| held.view.clone())
    }

    fn class(&self, name: &str) -> Option<Class> {
        self.stores.classes.cache().get("", name).map(|held| held.view.clone())
    }

    fn free(&self, class: &str) -> Vec<Volume> {
        let all = self.stores.volumes.cache().all();
        let free = all.iter().filter(|held| held.class == class && !self.promised.contains_key(&held.head.name));
        free.map(|held| held.view.clone()).collect()
    }
}

impl Binder {
    /// Has a pod's claims bound for a node. The error is the text of an event.
    pub(super) async fn bind_claims(&self, seen: &Held<PodSeen>, choices: &[Choice], node: &str) -> Result<(), String> {
        if choices.is_empty() {
            return Ok(());
        }
        let failed = |error: Error| format!("binding volumes: {error}");
        for choice in choices {
            let written = match &choice.volume {
                Some(volume) => self.promise(&seen.head.namespace, choice, volume).await,
                None => self.select(&seen.head.namespace, choice, node).await,
            };
            written.map_err(failed)?;
        }
        let head = &seen.head;
        let bound = try_join_all(choices.iter().map(|choice| self.bound(&head.namespace, choice, node)));
        let bound = bound.map(|done| done.map(drop)).boxed();
        let is_other = |pod: Option<&Value>| {
            pod.is_none_or(|pod| pod.str_at(&["metadata", "uid"]) != head.uid.as_str()).then_some(())
        };
        let gone = async {
            let gone = self.client.until(&PODS, &head.namespace, &head.name, is_other).await;
            Err(gone.err().map_or("pod does not exist any more".to_owned(), failed))
        };
        let gone = gone.boxed();
        let late = self.clock.sleep(BOUND_WITHIN);
        let late = late.map(|()| Err("binding volumes: context deadline exceeded".to_owned())).boxed();
        select_all([bound, gone, late]).await.0
    }

    /// Keeps a volume for a claim.
    async fn promise(&self, namespace: &str, choice: &Choice, name: &str) -> Result<(), Error> {
        let volume = self.client.get(&VOLUMES, "", name).await?;
        let claim = value!({
            "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": namespace,
            "name": (choice.claim.clone()), "uid": (choice.claim_uid.clone())
        });
        let mut annotations = value!({});
        annotations.as_object_mut().expect("an object").insert(BOUND_BY_CONTROLLER, "yes");
        let revision = volume.str_at(&["metadata", "resourceVersion"]);
        let patch = value!({
            "metadata": {"resourceVersion": revision, "annotations": annotations}, "spec": {"claimRef": claim}
        });
        self.client.patch(&VOLUMES, "", name, "", &Patch::Merge(patch)).await.map(drop)
    }

    /// Tells whoever makes volumes where a claim's is to be.
    async fn select(&self, namespace: &str, choice: &Choice, node: &str) -> Result<(), Error> {
        let mut annotations = value!({});
        annotations.as_object_mut().expect("an object").insert(SELECTED_NODE, node);
        let patch = value!({"metadata": {"uid": (choice.claim_uid.clone()), "annotations": annotations}});
        self.client.patch(&CLAIMS, namespace, &choice.claim, "", &Patch::Merge(patch)).await.map(drop)
    }

    /// Resolves when a claim is bound, or will not be.
    async fn bound(&self, namespace: &str, choice: &Choice, node: &str) -> Result<(), String> {
        let name = choice.claim.as_str();
        let done = |claim: Option<&Value>| {
            let Some(claim) = claim.filter(|claim| claim.str_at(&["metadata", "uid"]) == choice.claim_uid.as_str())
            else {
                return Some(Err(format!("persistentvolumeclaim {name:?} not found")));
            };
            let note = |key: &str| claim.str_at(&["metadata", "annotations", key]);
            if !claim.str_at(&["spec", "volumeName"]).is_empty() && !note(BIND_COMPLETED).is_empty() {
                return Some(Ok(()));
            }
            let refused = choice.volume.is_none() && note(SELECTED_NODE) != node;
            refused.then(|| Err(format!("provisioning failed for PVC {name:?}")))
        };
        let answer = self.client.until(&CLAIMS, namespace, name, done).await;
        answer.map_err(|error| format!("binding volumes: {error}"))?
    }
}

/// Volumes that a decision promises.
pub(super) fn promised(choices: &[Choice]) -> impl Iterator<Item = (Str, Str)> {
    choices.iter().filter_map(|choice| Some((choice.volume.clone()?, choice.claim_uid.clone())))
}
