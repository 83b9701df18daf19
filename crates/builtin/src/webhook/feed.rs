//! Keeps the webhooks in step with the stored configurations. A configuration that changes takes its own webhooks along,
//! with their connections, and leaves the others alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::registry::Registry;
use tokio::sync::watch;

use super::hook::Hook;
use super::{Set, Shared};
use crate::follow::{Seen, follow};
use crate::lookup::{Resource, kind_of};

const GROUP: &str = "admissionregistration.k8s.io";

/// The webhooks of one kind, by the name of their configuration: the order in which they are called.
pub(super) struct Feed {
    shared: Arc<Shared>,
    set: fn(&Shared) -> &Set,
    hooks: BTreeMap<String, Vec<Arc<Hook>>>,
}

impl Feed {
    /// Follows both kinds; returns when what is stored is in effect.
    pub(super) async fn start(shared: &Arc<Shared>, registry: &Registry) -> Result<(), Status> {
        let kinds: [(&'static str, fn(&Shared) -> &Set); 2] = [
            ("mutatingwebhookconfigurations", |shared| &shared.mutating),
            ("validatingwebhookconfigurations", |shared| &shared.validating),
        ];
        let tasks = &shared.ground.tasks;
        let mut ready = Vec::new();
        for (plural, set) in kinds {
            let kind = kind_of(registry, Resource { group: GROUP, plural })?;
            let mut feed = Self { shared: shared.clone(), set, hooks: BTreeMap::new() };
            let (sender, receiver) = watch::channel(false);
            let (registry, stopped) = (registry.clone(), tasks.stopped());
            ready.push(receiver);
            tasks.spawn("webhook-configurations", async move {
                follow(&registry, &kind, stopped, |seen| {
                    feed.note(seen);
                    sender.send_replace(true);
                })
                .await;
            });
        }
        for mut ready in ready {
            let known = ready.wait_for(|known| *known).await;
            known.map_err(|_| Status::unavailable("the webhook configurations could not be read"))?;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, seen: Seen) {
        match seen {
            Seen::All(all) => {
                self.hooks.clear();
                for configuration in all {
                    self.take(&configuration);
                }
            }
            Seen::Now(configuration) => self.take(&configuration),
            Seen::Gone(configuration) => {
                self.hooks.remove(configuration.str_at(&["metadata", "name"]));
            }
        }
        (self.set)(&self.shared).replace(self.hooks.values().flatten().cloned().collect());
    }

    fn take(&mut self, configuration: &Value) {
        let hooks = Hook::all(configuration, &self.shared.trust);
        self.hooks.insert(configuration.str_at(&["metadata", "name"]).to_owned(), hooks);
    }
}
