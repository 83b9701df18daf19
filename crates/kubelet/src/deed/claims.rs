//! The claims of a pod's volumes and what they are bound to, read; and what became of a claim's size, told.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::error::unless_gone;
use corten_client::{Client, Error, Patch, Resource};
use corten_stdx::error::Chain;

use super::Subjected;
use crate::volumes::{Claimed, Claims, bound_volume, capacity, check_bound, claim_name, disk_node, shown_bytes};

pub(crate) const CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");
pub(crate) const VOLUMES: Resource = Resource::new("", "v1", "persistentvolumes");

/// What the pod's claims are bound to. The error is the text of an event.
pub(super) async fn read(of: &Subjected) -> Result<Claims, String> {
    let mut claims = Claims::new();
    for asked in of.pod().spec_list("volumes") {
        let Some(name) = claim_name(of.pod(), asked) else { continue };
        let claimed = claimed(of, &name).await.map_err(|error| {
            let (volume, namespace) = (asked.str_at(&["name"]), of.pod().namespace());
            format!("Unable to attach or mount volumes: unmounted volumes=[{volume}]: error processing PVC {namespace}/{name}: {error}")
        })?;
        claims.insert(Str::from(asked.str_at(&["name"])), claimed);
    }
    Ok(claims)
}

async fn claimed(of: &Subjected, name: &str) -> Result<Claimed, String> {
    let client = &of.ground.parts.client;
    let failed = |error: Error| Chain(&error).to_string();
    let claim = client.get(&CLAIMS, of.pod().namespace(), name).await.map_err(failed)?;
    let volume = client.get(&VOLUMES, "", bound_volume(&claim)?).await.map_err(failed)?;
    check_bound(&claim, &volume)?;
    Ok(Claimed { claim, volume })
}

/// Tells of claims whose disks have grown with their mount.
pub(super) async fn tell_sizes(of: &Subjected, claims: &Claims) -> Result<(), Error> {
    let parts = &of.ground.parts;
    for asked in of.pod().spec_list("volumes") {
        let Some(Claimed { claim, volume }) = claims.get(asked.str_at(&["name"])) else { continue };
        let at = parts.settings.volume_path(of.pod().uid(), asked);
        let whole = |bytes: Quantity| {
            shown_bytes(&at).is_ok_and(|shown| i64::try_from(shown).is_ok_and(|shown| shown >= bytes.value()))
        };
        if disk_node(volume).is_some() && capacity(volume).is_some_and(whole) {
            tell_size(&parts.client, claim, volume).await?;
        }
    }
    Ok(())
}

/// Says in a claim's status that it has all of its volume's capacity.
pub(crate) async fn tell_size(client: &Client, claim: &Value, volume: &Value) -> Result<(), Error> {
    let told = claim.at(&["status", "capacity", "storage"]).and_then(|told| Quantity::from_value(told).ok());
    let (Some(capacity), Some(told)) = (capacity(volume), told) else { return Ok(()) };
    if told >= capacity {
        return Ok(());
    }
    let meta = Meta::of(claim);
    let size = volume.str_at(&["spec", "capacity", "storage"]);
    let patch = value!({
        "metadata": {"uid": (meta.uid())},
        "status": {"capacity": {"storage": size}, "conditions": []}
    });
    unless_gone(client.patch(&CLAIMS, meta.namespace(), meta.name(), "status", &Patch::Merge(patch)).await).map(drop)
}
