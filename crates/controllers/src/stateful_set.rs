//! Keeps so many pods that each have a name, a number and claims of their own: made in order, deleted from the end, brought
//! to a new template one by one from the end (`pkg/controller/statefulset`).

mod plan;
mod replica;

use std::sync::Arc;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Patch, Resource};
use corten_stdx::clock::Clock;

use self::plan::{Order, Plan};
use self::replica::Ordinals;
use crate::Base;
use crate::owned::{Claimed, Owner, label, selector};
use crate::pod::{PODS, PodView, orphans_of};
use crate::revision::{self, History, Keeper, POD_LABEL, REVISIONS};

const STATEFUL_SETS: Resource = Resource::new("apps", "v1", "statefulsets");
const CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");
const OWNER: Owner = Owner { api_version: "apps/v1", kind: "StatefulSet" };
const REVISION_LABEL: &str = "controller.kubernetes.io/hash";

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    sets: Informer<Value>,
    pods: Informer<PodView>,
    revisions: Informer<Value>,
    claims: Informer<Value>,
}

type Pod = Arc<Held<PodView>>;

pub fn controller(base: &Base) -> Controller {
    let sets = base.informers.of::<Value>(Scope::all(STATEFUL_SETS));
    let pods = base.informers.of::<PodView>(Scope::all(PODS));
    let revisions = base.informers.of::<Value>(Scope::all(REVISIONS));
    let claims = base.informers.of::<Value>(Scope::all(CLAIMS));
    let context = Context {
        client: (base.client_of)("statefulset-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("statefulset-controller", "statefulset-controller"),
        sets: sets.clone(),
        pods: pods.clone(),
        revisions: revisions.clone(),
        claims: claims.clone(),
    };
    let of = sets.clone();
    Controller::new("stateful-set", Arc::new(context), reconcile)
        .watches(&sets)
        .watches_for(&pods, move |pod| OWNER.concerned(&of, &pod.head))
        .watches_for(&revisions, |revision| revision::concerned(&OWNER, revision))
        // A pod may wait for a claim of its name to be gone.
        .watches_for(&claims, |claim| replica::sets_of_claim(&claim.head))
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(set) = ctx.sets.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let mut pods = ctx.pods.cache().owned_by(&set.head.uid);
    pods.extend(ctx.pods.cache().by_key(orphans_of(&key.namespace)));
    let named = |pod: &Held<PodView>| replica::ordinal(&key.name, &pod.head.name).is_some();
    let claimed = Claimed::sort(&set.head, &selector(&set.view)?, pods, named);
    claimed.write(&ctx.client, &PODS, &OWNER, &set.view).await?;
    let keeper = ctx.keeper();
    let history = keeper.settle(&set).await?;
    let order = Order::of(&set, &history);
    let now_s = ctx.clock.now_s();
    let plan = plan::plan(&order, &claimed.own, |ordinal| ctx.waits_for_claims(&set.view, ordinal), now_s);
    let done = ctx.carry_out(&set.view, &order, &history, &plan).await;
    ctx.keep_claims(&set.view, &order.ordinals, &claimed.own).await?;
    if let Some(status) = plan::status(&set.view, &order, &plan, history.collisions) {
        let mut set = set.view.clone();
        if let Some(object) = set.as_object_mut() {
            object.insert("status", status);
        }
        unless_gone(ctx.client.update(&STATEFUL_SETS, "status", &set).await)?;
    }
    let live = |known: &Held<Value>| {
        let name = &known.head.name;
        [&order.current, &order.update].contains(&name)
            || claimed.own.iter().any(|pod| label(&pod.head, POD_LABEL) == name.as_str())
    };
    keeper.truncate(&set.view, &history, live).await?;
    done.map(|()| plan.next)
}

impl Context {
    fn keeper(&self) -> Keeper<'_> {
        Keeper {
            client: &self.client,
            revisions: &self.revisions,
            clock: &self.clock,
            owner: &OWNER,
            label: REVISION_LABEL,
        }
    }

    /// Whether a replica's claim is still an earlier pod's and goes with it.
    fn waits_for_claims(&self, set: &Value, ordinal: i64) -> bool {
        let namespace = Meta::of(set).namespace();
        let claims = replica::claims(set, ordinal);
        let held = claims.iter().filter_map(|claim| self.claims.cache().get(namespace, Meta::of(claim).name()));
        replica::deletes_scaled(set)
            && held.into_iter().any(|claim| claim.head.owners.iter().any(|by| by.kind == "Pod"))
    }

    async fn carry_out(&self, set: &Value, order: &Order, history: &History, plan: &Plan) -> Result<(), Error> {
        let mut last = 0;
        for ordinal in &plan.claims {
            self.make_claims(set, *ordinal).await?;
        }
        for (ordinal, name) in plan.create.iter().map(|ordinal| (*ordinal, order.revision_of(*ordinal))) {
            let Some(revision) = history.named(name) else { continue };
            self.make_claims(set, ordinal).await?;
            let pod = replica::pod(set, &revision::template(revision), ordinal, name, OWNER.reference(set));
            last = last.max(self.create(set, &pod).await?);
        }
        for pod in &plan.label {
            let labels = replica::identity(&pod.head.name);
            let patch = Patch::Merge(value!({"metadata": {"uid": (pod.head.uid.clone()), "labels": labels}}));
            unless_gone(self.client.patch(&PODS, &pod.head.namespace, &pod.head.name, "", &patch).await)?;
        }
        for pod in &plan.delete {
            last = last.max(self.delete(set, pod).await?);
        }
        if last > 0 { self.pods.caught_up(&last.to_string(), &self.clock).await } else { Ok(()) }
    }

    /// Makes a pod and tells of it. Gives the revision that it was written at; 0 where nothing was.
    async fn create(&self, set: &Value, pod: &Value) -> Result<u64, Error> {
        let (about, of) = (Reference::of("apps/v1", "StatefulSet", set), Meta::of(set).name());
        let name = Meta::of(pod).name();
        match self.client.create(&PODS, Meta::of(set).namespace(), pod).await {
            Ok(made) => {
                let note = format!("create Pod {name} in StatefulSet {of} successful");
                self.recorder.normal(&about, "SuccessfulCreate", note);
                Ok(Meta::of(&made).resource_version().parse().unwrap_or_default())
            }
            Err(error) if error.is_namespace_terminating() => Ok(0),
            Err(error) => {
                let note = format!("create Pod {name} in StatefulSet {of} failed error: {error}");
                self.recorder.warning(&about, "FailedCreate", note);
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &Value, pod: &Pod) -> Result<u64, Error> {
        let (about, of) = (Reference::of("apps/v1", "StatefulSet", set), Meta::of(set).name());
        let head = &pod.head;
        let deleted = self.client.delete(&PODS, &head.namespace, &head.name, &Delete::of(&head.uid)).await;
        match unless_gone(deleted) {
            Ok(Some(pod)) => {
                let note = format!("delete Pod {} in StatefulSet {of} successful", head.name);
                self.recorder.normal(&about, "SuccessfulDelete", note);
                Ok(Meta::of(&pod).resource_version().parse().unwrap_or_default())
            }
            Ok(None) => Ok(0),
            Err(error) => {
                let note = format!("delete Pod {} in StatefulSet {of} failed error: {error}", head.name);
                self.recorder.warning(&about, "FailedDelete", note);
                Err(error)
            }
        }
    }

    /// Makes the claims of a replica that are missing.
    async fn make_claims(&self, set: &Value, ordinal: i64) -> Result<(), Error> {
        let meta = Meta::of(set);
        let about = Reference::of("apps/v1", "StatefulSet", set);
        for claim in replica::claims(set, ordinal) {
            let name = Meta::of(&claim).name();
            if self.claims.cache().get(meta.namespace(), name).is_some() {
                continue;
            }
            let (pod, of) = (replica::name(meta.name(), ordinal), meta.name());
            match self.client.create(&CLAIMS, meta.namespace(), &claim).await {
                Ok(_) => {
                    let note = format!("create Claim {name} Pod {pod} in StatefulSet {of} success");
                    self.recorder.normal(&about, "SuccessfulCreate", note);
                }
                // The cache did not show it yet.
                Err(error) if error.is_already_exists() || error.is_namespace_terminating() => {}
                Err(error) => {
                    let note = format!("create Claim {name} for Pod {pod} in StatefulSet {of} failed error: {error}");
                    self.recorder.warning(&about, "FailedCreate", note);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Has claims go with the set or with their pod, as the set's retention policy says.
    async fn keep_claims(&self, set: &Value, ordinals: &Ordinals, pods: &[Pod]) -> Result<(), Error> {
        let own = Meta::of(set);
        for pod in pods {
            let Some(ordinal) = replica::ordinal(own.name(), &pod.head.name) else { continue };
            for claim in replica::claims(set, ordinal) {
                let Some(held) = self.claims.cache().get(own.namespace(), Meta::of(&claim).name()) else { continue };
                let Some(owners) = replica::claim_owners(set, ordinals, pod, &held) else { continue };
                let mut claim = held.view.clone();
                metadata_mut(&mut claim).insert("ownerReferences", owners);
                unless_gone(self.client.update(&CLAIMS, "", &claim).await)?;
            }
        }
        Ok(())
    }
}
