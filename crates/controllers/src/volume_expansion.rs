//! Lets volumes of nodes' disks grow with their claims: the volume's capacity follows the claim's request, and the node that has the
//! disk does the rest and tells the claim. What others have made is theirs to expand.

use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Patch};
use corten_scheduler::volumes::Claim;
use corten_stdx::clock::Clock;

use crate::Base;
use crate::local_provisioner::{node_of, size};
use crate::volume_binder::{CLAIMS, VOLUMES};

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    claims: Informer<Value>,
    volumes: Informer<Value>,
}

pub fn controller(base: &Base) -> Controller {
    let claims = base.informers.of::<Value>(Scope::all(CLAIMS));
    let volumes = base.informers.of::<Value>(Scope::all(VOLUMES));
    let context = Context {
        client: (base.client_of)("expand-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("expand-controller", "volume_expand"),
        claims: claims.clone(),
        volumes: volumes.clone(),
    };
    let of = |volume: &Held<Value>| {
        let claim = |field| volume.view.str_at(&["spec", "claimRef", field]);
        Key::new(claim("namespace"), claim("name"))
    };
    Controller::new("volume-expansion", Arc::new(context), reconcile)
        .watches(&claims)
        .watches_for(&volumes, move |volume| vec![of(volume)])
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(claim) = ctx.claims.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let Some(volume) = ctx.volumes.cache().get("", claim.view.str_at(&["spec", "volumeName"])) else {
        return Ok(Next::Change);
    };
    let Some(wanted) = plan(&claim.view, &volume.view) else { return Ok(Next::Change) };
    // First what the claim waits for, then that it happens: its node takes it off again.
    let since = Time::from_seconds(ctx.clock.now_s()).to_rfc3339();
    let condition = value!({
        "type": "FileSystemResizePending", "status": "True", "lastTransitionTime": since,
        "message": "Waiting for user to (re-)start a pod to finish file system resize of volume on node."
    });
    let patch = value!({"metadata": {"uid": (claim.head.uid.clone())}, "status": {"conditions": [condition]}});
    unless_gone(ctx.client.patch(&CLAIMS, &key.namespace, &key.name, "status", &Patch::Merge(patch)).await)?;
    let patch = value!({
        "metadata": {"uid": (volume.head.uid.clone()), "resourceVersion": (volume.head.revision.clone())},
        "spec": {"capacity": {"storage": wanted}}
    });
    if unless_gone(ctx.client.patch(&VOLUMES, "", &volume.head.name, "", &Patch::Merge(patch)).await)?.is_some() {
        let about = Reference::of("v1", "PersistentVolumeClaim", &claim.view);
        ctx.recorder.normal(&about, "FileSystemResizeRequired", "Require file system resize of volume on node");
    }
    Ok(Next::Change)
}

/// The capacity that a volume is to have for its claim; `None` where it has that. Whether a claim may ask for more was decided when it asked.
fn plan(claim: &Value, volume: &Value) -> Option<Value> {
    node_of(volume)?;
    let read = Claim::read(claim).filter(|read| read.bound)?;
    let is_its = volume.str_at(&["spec", "claimRef", "uid"]) == Meta::of(claim).uid();
    let capacity = Quantity::from_value(volume.at(&["spec", "capacity", "storage"])?).ok()?;
    (is_its && capacity < read.size).then(|| size(claim, &read.size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(asked: &str, has: &str, driver: &str, expect: Option<&str>) {
        let claim = value!({
            "metadata": {"name": "a", "uid": "u", "annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
            "spec": {"volumeName": "v", "resources": {"requests": {"storage": asked}}}
        });
        let volume = value!({
            "spec": {"capacity": {"storage": has}, "claimRef": {"uid": "u"}, "csi": {"driver": driver}}
        });
        assert_eq!(plan(&claim, &volume), expect.map(Value::from));
    }

    #[test]
    fn a_volume_follows_its_claim_upwards() {
        check("2Gi", "1Gi", "local.corten.dev", Some("2Gi"));
        check("1Gi", "1Gi", "local.corten.dev", None);
        check("1Mi", "8388608", "local.corten.dev", None);
        check("2Gi", "1Gi", "other", None);
    }
}
