//! The disks of this node, kept in step with their PersistentVolumes: one whose volume was made larger grows while it is
//! used, and one whose volume is being deleted goes, if that is the volume's policy. A disk is never taken for superfluous because
//! its volume is not there: only a volume that says so lets data go.

use std::sync::Arc;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Informers};

use crate::deed::blocking;
use crate::deed::claims::{CLAIMS, VOLUMES, tell_size};
use crate::settings::Settings;
use crate::volumes::{Disk, DiskError, capacity, disk_node};

/// Keeps a volume's object until its disk is gone.
const FINALIZER: &str = "corten.dev/local-disk";
/// Somebody claims the volume.
const IN_USE: &str = "kubernetes.io/pv-protection";

/// A volume that is a disk of some node.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    node: Str,
    bytes: u64,
    deletes: bool,
}

impl View for Seen {
    fn from_object(volume: &Value) -> Option<Self> {
        Some(Self {
            node: disk_node(volume)?.into(),
            bytes: u64::try_from(capacity(volume)?.value()).ok()?,
            deletes: volume.str_at(&["spec", "persistentVolumeReclaimPolicy"]) == "Delete",
        })
    }
}

struct Context {
    settings: Settings,
    client: Client,
    volumes: Informer<Seen>,
}

/// What is to be done for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Nothing,
    Grow,
    /// The volume may go; the disk stays where its policy says so.
    LetGo {
        remove: bool,
    },
}

pub(crate) fn controller(settings: &Settings, client: &Client, informers: &Informers) -> Controller {
    let volumes = informers.of::<Seen>(Scope::all(VOLUMES));
    let context = Context { settings: settings.clone(), client: client.clone(), volumes: volumes.clone() };
    let node = settings.name.clone();
    let own = move |held: &Held<Seen>| held.node == node.as_str();
    Controller::new("disks", Arc::new(context), reconcile)
        .watches_for(&volumes, move |held| own(held).then(|| held.head.key()).into_iter().collect())
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(held) = ctx.volumes.cache().get("", &key.name) else { return Ok(Next::Change) };
    match plan(&held, &ctx.settings.name) {
        Do::Nothing => {}
        Do::Grow => {
            let bytes = held.bytes;
            if ctx.with_disk(&key, move |disk| disk.grow(bytes)).await? {
                ctx.tell(&key).await?;
            }
        }
        Do::LetGo { remove } => {
            if remove {
                ctx.with_disk(&key, |disk| disk.remove()).await?;
                tracing::info!(volume = %key.name, "a disk is removed");
            }
            ctx.let_go(&key).await?;
        }
    }
    Ok(Next::Change)
}

fn plan(held: &Held<Seen>, node: &str) -> Do {
    let has = |finalizer: &str| held.head.finalizers.iter().any(|own| own == finalizer);
    match held.head.deleting {
        _ if held.node != node => Do::Nothing,
        false => Do::Grow,
        true if has(FINALIZER) && !has(IN_USE) => Do::LetGo { remove: held.deletes },
        true => Do::Nothing,
    }
}

impl Context {
    async fn with_disk<T: Send + 'static>(
        &self,
        key: &Key,
        work: impl FnOnce(&Disk) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, Error> {
        let disk = Disk::new(&self.settings, &key.name);
        let done = blocking(move || work(&disk).map_err(std::io::Error::other)).await;
        done.map_err(|error| Error::Shape(format!("the disk of volume {}: {error}", key.name)))
    }

    /// The claim of a disk that has grown is told of it.
    async fn tell(&self, key: &Key) -> Result<(), Error> {
        let Some(volume) = unless_gone(self.client.get(&VOLUMES, "", &key.name).await)? else { return Ok(()) };
        let claim = |field| volume.str_at(&["spec", "claimRef", field]);
        let read = self.client.get(&CLAIMS, claim("namespace"), claim("name")).await;
        match unless_gone(read)? {
            Some(claimed) if Meta::of(&claimed).uid() == claim("uid") => {
                tell_size(&self.client, &claimed, &volume).await
            }
            _ => Ok(()),
        }
    }

    async fn let_go(&self, key: &Key) -> Result<(), Error> {
        let Some(mut volume) = unless_gone(self.client.get(&VOLUMES, "", &key.name).await)? else { return Ok(()) };
        let left: Vec<Value> =
            Meta::of(&volume).finalizers().filter(|own| *own != FINALIZER).map(Value::from).collect();
        metadata_mut(&mut volume).insert("finalizers", left);
        unless_gone(self.client.update(&VOLUMES, "", &volume).await).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(finalizers: &[&str], deleting: bool, policy: &str, node: &str, expect: Do) {
        let finalizers: Vec<Value> = finalizers.iter().map(|own| Value::from(*own)).collect();
        let mut volume = value!({
            "metadata": {"name": "v", "finalizers": finalizers},
            "spec": {
                "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": policy,
                "csi": {"driver": "local.corten.dev", "volumeAttributes": {"corten.dev/node": node}}
            }
        });
        if deleting {
            volume.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        assert_eq!(plan(&Held::from_object(&volume).expect("a disk"), "n"), expect);
    }

    #[test]
    fn only_a_volume_that_says_so_lets_its_disk_go() {
        check(&[FINALIZER, IN_USE], false, "Delete", "n", Do::Grow);
        check(&[FINALIZER], false, "Delete", "other", Do::Nothing);
        check(&[FINALIZER, IN_USE], true, "Delete", "n", Do::Nothing);
        check(&[FINALIZER], true, "Delete", "n", Do::LetGo { remove: true });
        check(&[FINALIZER], true, "Retain", "n", Do::LetGo { remove: false });
        check(&[FINALIZER], true, "Delete", "other", Do::Nothing);
        check(&[], true, "Delete", "n", Do::Nothing);
    }

    #[test]
    fn other_volumes_are_not_held() {
        let volume = value!({"spec": {"capacity": {"storage": "1"}, "csi": {"driver": "other"}}});
        assert_eq!(Seen::from_object(&volume), None);
    }
}
