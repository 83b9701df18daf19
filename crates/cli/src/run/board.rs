//! The objects of one application, followed.

use std::sync::Arc;

use corten_apimachinery::value::{Str, Value};
use corten_client::Resource;
use corten_client::informer::{Informer, Scope};
use tokio::sync::Notify;

use crate::app::{DEPLOYMENTS, INGRESSES, PODS, REPLICA_SETS, of};
use crate::connect::Session;
use crate::state::{Objects, State};

pub(super) struct Board {
    deployments: Informer<Value>,
    sets: Informer<Value>,
    pods: Informer<Value>,
    ingresses: Informer<Value>,
    changed: Arc<Notify>,
}

impl Board {
    /// Resolves when everything there is has been seen.
    pub(super) async fn open(session: &Session, name: &str) -> Self {
        let (informers, changed) = (session.informers(), Arc::new(Notify::new()));
        let follow = |resource: Resource| {
            let scope =
                Scope { namespace: session.namespace.as_str().into(), labels: of(name), ..Scope::all(resource) };
            let (informer, changed) = (informers.of::<Value>(scope), changed.clone());
            informer.subscribe(move |_| changed.notify_one());
            informer
        };
        let board = Self {
            deployments: follow(DEPLOYMENTS),
            sets: follow(REPLICA_SETS),
            pods: follow(PODS),
            ingresses: follow(INGRESSES),
            changed: changed.clone(),
        };
        board.deployments.synced().await;
        board.sets.synced().await;
        board.pods.synced().await;
        board.ingresses.synced().await;
        board
    }

    /// Resolves when something has changed since it last did.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// `None` once the application is removed.
    pub(super) fn state(&self) -> Option<State> {
        let deployments = all(&self.deployments);
        let deployment = deployments.first()?;
        Some(Objects { deployment, sets: &all(&self.sets), pods: &self.pods() }.state())
    }

    pub(super) fn pods(&self) -> Vec<Value> {
        all(&self.pods)
    }

    pub(super) fn is_there(&self) -> bool {
        !self.deployments.cache().all().is_empty()
    }

    pub(super) fn ingress(&self) -> Option<Value> {
        all(&self.ingresses).into_iter().next()
    }
}

fn all(informer: &Informer<Value>) -> Vec<Value> {
    let mut held = informer.cache().all();
    held.sort_by_key(|held| Str::clone(&held.head.name));
    held.iter().map(|held| held.view.clone()).collect()
}
