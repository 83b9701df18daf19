//! Keeps claims, volumes and attribute classes that are in use: all are made with a finalizer, which is taken off when they are
//! being deleted and no pod uses the claim, no claim the volume, or neither a claim nor a volume names the class
//! (`pkg/controller/volume/pvcprotection`, `pvprotection`, `vacprotection`).

use std::sync::Arc;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::finalizer::{Step, step};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Resource};

use crate::Base;
use crate::pod::PODS;

const CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");
const VOLUMES: Resource = Resource::new("", "v1", "persistentvolumes");
const CLASSES: Resource = Resource::new("storage.k8s.io", "v1", "volumeattributesclasses");
const CLASS_FINALIZER: &str = "kubernetes.io/vac-protection";
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// The claims of a pod that has a node: a kubelet does not start a pod whose claim is being deleted.
struct Uses(Vec<Str>);

impl View for Uses {
    fn from_object(pod: &Value) -> Option<Self> {
        if pod.str_at(&["spec", "nodeName"]).is_empty() {
            return None;
        }
        let meta = Meta::of(pod);
        let is_shut_down = meta.deletion_timestamp().is_some() && meta.deletion_grace_period_seconds() == Some(0);
        let volumes = pod.at(&["spec", "volumes"]).and_then(Value::as_array).unwrap_or_default();
        let claim = |volume: &Value| {
            let named = volume.str_at(&["persistentVolumeClaim", "claimName"]);
            let own = volume.get("ephemeral").is_some_and(|own| !own.is_null()) && !is_shut_down;
            match named {
                "" if own => Some(Str::from(format!("{}-{}", meta.name(), volume.str_at(&["name"])))),
                "" => None,
                named => Some(named.into()),
            }
        };
        let claims: Vec<Str> = volumes.iter().filter_map(claim).collect();
        let key = |claim: Str| Str::from(format!("{}/{claim}", meta.namespace()));
        (!claims.is_empty()).then(|| Self(claims.into_iter().map(key).collect()))
    }

    fn keys(&self) -> Vec<Str> {
        self.0.clone()
    }
}

struct Claims {
    client: Client,
    claims: Informer<Value>,
    pods: Informer<Uses>,
}

/// Guards claims.
pub fn claims(base: &Base) -> Controller {
    let claims = base.informers.of::<Value>(Scope::all(CLAIMS));
    let pods = base.informers.of::<Uses>(Scope::all(PODS));
    let client = (base.client_of)("pvc-protection-controller");
    let context = Claims { client, claims: claims.clone(), pods: pods.clone() };
    let key = |pod: &Held<Uses>, claim: &Str| {
        let name = claim.split_once('/').map_or("", |(_, name)| name);
        Key::new(pod.head.namespace.clone(), name)
    };
    Controller::new("claim-protection", Arc::new(context), guard_claim)
        .watches(&claims)
        .watches_for(&pods, move |pod| pod.0.iter().map(|claim| key(pod, claim)).collect())
}

async fn guard_claim(ctx: Arc<Claims>, key: Key) -> Result<Next, Error> {
    let Some(claim) = ctx.claims.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let used = !ctx.pods.cache().by_key(&format!("{}/{}", key.namespace, key.name)).is_empty();
    let used = match plan(&claim.view, CLAIM_FINALIZER, used) {
        Do::Nothing => return Ok(Next::Change),
        Do::Keep => used,
        Do::LetGo => {
            // The cache may be behind: whether a pod uses the claim is asked again before it goes.
            let pods = ctx.client.list(&PODS, &key.namespace, &Default::default()).await?;
            let name = Str::from(format!("{}/{}", key.namespace, key.name));
            let uses = |pod: &Value| Uses::from_object(pod).is_some_and(|uses| uses.0.contains(&name));
            pods.items.iter().any(uses)
        }
    };
    carry_out(&ctx.client, &CLAIMS, &key, CLAIM_FINALIZER, used).await
}

/// Sets or takes off a finalizer of the object as it is now. Upstream's roles allow updates alone.
async fn carry_out(
    client: &Client,
    resource: &Resource,
    key: &Key,
    finalizer: &str,
    used: bool,
) -> Result<Next, Error> {
    let Some(mut object) = unless_gone(client.get(resource, &key.namespace, &key.name).await)? else {
        return Ok(Next::Change);
    };
    let mut finalizers: Vec<Value> = Meta::of(&object).finalizers().map(Value::from).collect();
    match plan(&object, finalizer, used) {
        Do::Nothing => return Ok(Next::Change),
        Do::Keep => finalizers.push(finalizer.into()),
        Do::LetGo => finalizers.retain(|own| own.as_str() != Some(finalizer)),
    }
    metadata_mut(&mut object).insert("finalizers", finalizers);
    unless_gone(client.update(resource, "", &object).await)?;
    Ok(Next::Change)
}

struct Volumes {
    client: Client,
    volumes: Informer<Value>,
}

/// Guards volumes.
pub fn volumes(base: &Base) -> Controller {
    let volumes = base.informers.of::<Value>(Scope::all(VOLUMES));
    let client = (base.client_of)("pv-protection-controller");
    let context = Volumes { client, volumes: volumes.clone() };
    Controller::new("volume-protection", Arc::new(context), guard_volume).watches(&volumes)
}

async fn guard_volume(ctx: Arc<Volumes>, key: Key) -> Result<Next, Error> {
    let Some(volume) = ctx.volumes.cache().get("", &key.name) else { return Ok(Next::Change) };
    let bound = volume.view.str_at(&["status", "phase"]) == "Bound";
    match plan(&volume.view, VOLUME_FINALIZER, bound) {
        Do::Nothing => Ok(Next::Change),
        Do::Keep | Do::LetGo => carry_out(&ctx.client, &VOLUMES, &key, VOLUME_FINALIZER, bound).await,
    }
}

/// The attribute classes that a claim or a volume names.
struct Attributed(Vec<Str>);

impl View for Attributed {
    fn from_object(object: &Value) -> Option<Self> {
        let named = [
            object.str_at(&["spec", "volumeAttributesClassName"]),
            object.str_at(&["status", "currentVolumeAttributesClassName"]),
            object.str_at(&["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"]),
        ];
        let mut named: Vec<Str> = named.into_iter().filter(|name| !name.is_empty()).map(Str::from).collect();
        named.sort();
        named.dedup();
        (!named.is_empty()).then_some(Self(named))
    }

    fn keys(&self) -> Vec<Str> {
        self.0.clone()
    }
}

struct Classes {
    client: Client,
    classes: Informer<Value>,
    /// Claims and volumes.
    users: [Informer<Attributed>; 2],
}

/// Guards attribute classes.
pub fn classes(base: &Base) -> Controller {
    let classes = base.informers.of::<Value>(Scope::all(CLASSES));
    let users = [CLAIMS, VOLUMES].map(|resource| base.informers.of::<Attributed>(Scope::all(resource)));
    let client = (base.client_of)("volumeattributesclass-protection-controller");
    let context = Classes { client, classes: classes.clone(), users: users.clone() };
    let named = |user: &Held<Attributed>| user.0.iter().map(|class| Key::new("", class.clone())).collect();
    let [claims, volumes] = &users;
    Controller::new("attribute-class-protection", Arc::new(context), guard_class)
        .watches(&classes)
        .watches_for(claims, named)
        .watches_for(volumes, named)
}

async fn guard_class(ctx: Arc<Classes>, key: Key) -> Result<Next, Error> {
    let Some(class) = ctx.classes.cache().get("", &key.name) else { return Ok(Next::Change) };
    let used = ctx.users.iter().any(|users| !users.cache().by_key(&key.name).is_empty());
    match plan(&class.view, CLASS_FINALIZER, used) {
        Do::Nothing => Ok(Next::Change),
        Do::Keep | Do::LetGo => carry_out(&ctx.client, &CLASSES, &key, CLASS_FINALIZER, used).await,
    }
}

#[derive(Debug, PartialEq)]
enum Do {
    Nothing,
    /// Set the finalizer.
    Keep,
    /// Take it off.
    LetGo,
}

fn plan(object: &Value, finalizer: &str, used: bool) -> Do {
    match step(object, finalizer) {
        Step::Set(_) => Do::Keep,
        Step::CleanUp(_) if !used => Do::LetGo,
        Step::CleanUp(_) | Step::Apply | Step::Nothing => Do::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(finalizers: Vec<&str>, deleting: bool, used: bool, expect: &str) {
        let mut claim = value!({"metadata": {"uid": "u", "resourceVersion": "1", "finalizers": finalizers}});
        if deleting {
            claim.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        let seen = match plan(&claim, CLAIM_FINALIZER, used) {
            Do::Nothing => "nothing",
            Do::Keep => "keep",
            Do::LetGo => "let go",
        };
        assert_eq!(seen, expect);
    }

    #[test]
    fn what_is_used_stays() {
        check(vec![], false, false, "keep");
        check(vec![CLAIM_FINALIZER], false, false, "nothing");
        check(vec![CLAIM_FINALIZER], true, true, "nothing");
        check(vec![CLAIM_FINALIZER], true, false, "let go");
        check(vec!["other"], true, false, "nothing");
    }

    #[test]
    fn claims_and_volumes_name_classes() {
        let names = |object: Value| Attributed::from_object(&object).map(|of| of.0.join(" "));
        assert_eq!(names(value!({"spec": {"volumeAttributesClassName": "gold"}})).as_deref(), Some("gold"));
        let changing = value!({
            "spec": {"volumeAttributesClassName": "gold"},
            "status": {"currentVolumeAttributesClassName": "tin", "modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold"}}
        });
        assert_eq!(names(changing).as_deref(), Some("gold tin"));
        assert_eq!(names(value!({"spec": {}})), None);
    }

    #[test]
    fn pods_use_claims_by_name_and_their_own() {
        let mut pod = value!({
            "metadata": {"name": "a", "namespace": "shop"},
            "spec": {"nodeName": "n1", "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "db"}}, {"name": "tmp", "ephemeral": {}},
                {"name": "none", "emptyDir": {}}]}
        });
        let uses = |pod: &Value| Uses::from_object(pod).map(|uses| uses.0.join(" ")).unwrap_or_default();
        assert_eq!(uses(&pod), "shop/db shop/a-tmp");
        pod.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        pod.object_entry("metadata").insert("deletionGracePeriodSeconds", 0);
        assert_eq!(uses(&pod), "shop/db");
        pod.object_entry("spec").remove("nodeName");
        assert_eq!(uses(&pod), "");
    }
}
