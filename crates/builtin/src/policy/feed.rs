//! Keeps policies and bindings in step with what is stored.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::registry::Registry;
use corten_stdx::task::Tasks;
use tokio::sync::watch;

use super::compiled::{Binding, Policy};
use super::{GROUP, Shared, Stored};
use crate::follow::{Seen, follow};
use crate::lookup::{Resource, kind_of};

/// Follows both kinds; returns when what is stored is in force.
pub(super) async fn start(shared: &Arc<Shared>, registry: &Registry, tasks: &Tasks) -> Result<(), Status> {
    let policies: fn(&mut Stored, Seen) = |stored, seen| note(Arc::make_mut(&mut stored.policies), seen, Policy::read);
    let bindings: fn(&mut Stored, Seen) = |stored, seen| note(Arc::make_mut(&mut stored.bindings), seen, Binding::read);
    let kinds = [("validatingadmissionpolicies", policies), ("validatingadmissionpolicybindings", bindings)];
    let mut ready = Vec::new();
    for (plural, change) in kinds {
        let kind = kind_of(registry, Resource { group: GROUP, plural })?;
        let (sender, receiver) = watch::channel(false);
        let (shared, registry, stopped) = (shared.clone(), registry.clone(), tasks.stopped());
        ready.push(receiver);
        tasks.spawn("admission-policies", async move {
            follow(&registry, &kind, stopped, |seen| {
                shared.change(|stored| change(stored, seen));
                sender.send_replace(true);
            })
            .await;
        });
    }
    for mut ready in ready {
        let known = ready.wait_for(|known| *known).await;
        known.map_err(|_| Status::unavailable("the admission policies could not be read"))?;
    }
    Ok(())
}

impl Shared {
    pub(super) fn change(&self, change: impl FnOnce(&mut Stored)) {
        change(&mut self.stored.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn note<T>(all: &mut BTreeMap<String, Arc<T>>, seen: Seen, read: fn(&Value) -> T) {
    let name = |object: &Value| object.str_at(&["metadata", "name"]).to_owned();
    match seen {
        Seen::All(objects) => *all = objects.iter().map(|object| (name(object), Arc::new(read(object)))).collect(),
        Seen::Now(object) => {
            all.insert(name(&object), Arc::new(read(&object)));
        }
        Seen::Gone(object) => {
            all.remove(&name(&object));
        }
    }
}
