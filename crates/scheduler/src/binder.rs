//! What carries out the core's decisions: informers feed a [`State`], a pass over its queue decides, and each decision
//! is carried out by itself: a binding, or an event and a condition that say why not, with victims where room is made.
//!
//! A controller of the common driver with two kinds of keys: one key for the pass, and one for each pod that something
//! was decided about. So a slow answer about one pod delays no other.

mod act;
mod state;
mod storage;
mod usage;
mod views;
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use corten_apimachinery::selector::LabelSelector;
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Mark, Next};
use corten_client::events::Recorder;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Informers, Resource};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;

use self::state::{NAME, POD, Promised, State, Surroundings};
use self::storage::Stores;
use self::views::{BudgetSeen, NodeSeen, OwnerSeen, PodSeen, ServiceSeen};
use crate::decode;
use crate::hints::Event;
use crate::preempt::Budget;
use crate::view::Pod;
use crate::volumes::{PodVolumes, gather};

const PODS: Resource = Resource::new("", "v1", "pods");
const NODES: Resource = Resource::new("", "v1", "nodes");
const NAMESPACES: Resource = Resource::new("", "v1", "namespaces");
const SERVICES: Resource = Resource::new("", "v1", "services");
const BUDGETS: Resource = Resource::new("policy", "v1", "poddisruptionbudgets");
const CONTROLLERS: Resource = Resource::new("", "v1", "replicationcontrollers");
const REPLICA_SETS: Resource = Resource::new("apps", "v1", "replicasets");
const STATEFUL_SETS: Resource = Resource::new("apps", "v1", "statefulsets");

/// The component in events.
pub const COMPONENT: &str = NAME;
/// Decisions carried out at the same time.
const CONCURRENCY: usize = 64;
/// Decisions of one pass, after which others get their turn.
const PASS_MAX: usize = 32;

/// What the binder stands on; the client and the caches have the scheduler's identity.
pub struct Base {
    pub informers: Informers,
    pub client: Client,
    pub recorder: Recorder,
    pub clock: Clock,
    pub random: Random,
    /// Whether pods go rather to nodes that were seen to use little, beside those whose pods have asked for little.
    pub weighs_use: bool,
}

struct Binder {
    client: Client,
    recorder: Recorder,
    clock: Clock,
    random: Random,
    state: Mutex<State>,
    mark: OnceLock<Mark>,
    pods: Informer<PodSeen>,
    services: Informer<ServiceSeen>,
    budgets: Informer<BudgetSeen>,
    stores: Stores,
    /// By the kind of the owner.
    owners: [(&'static str, Informer<OwnerSeen>); 3],
}

pub fn controller(base: &Base) -> Controller {
    let of = &base.informers;
    let owners = [
        ("ReplicationController", of.of(Scope::all(CONTROLLERS))),
        ("ReplicaSet", of.of(Scope::all(REPLICA_SETS))),
        ("StatefulSet", of.of(Scope::all(STATEFUL_SETS))),
    ];
    let binder = Arc::new(Binder {
        client: base.client.clone(),
        recorder: base.recorder.clone(),
        clock: base.clock.clone(),
        random: base.random.clone(),
        state: Mutex::new(State::new()),
        mark: OnceLock::new(),
        pods: of.of(Scope::all(PODS)),
        services: of.of(Scope::all(SERVICES)),
        budgets: of.of(Scope::all(BUDGETS)),
        stores: Stores::new(of),
        owners: owners.clone(),
    });
    let (nodes, namespaces) = (of.of::<NodeSeen>(Scope::all(NODES)), of.of::<()>(Scope::metadata(NAMESPACES)));
    let (feeds, of_nodes, of_namespaces) = (binder.clone(), nodes.clone(), namespaces.clone());
    let measured = base.weighs_use.then(usage::key);
    let controller = Controller::new("scheduler", binder.clone(), reconcile)
        .begins(move |mark| {
            measured.into_iter().for_each(|key| mark.now(key));
            feeds.follow(mark, &of_nodes, &of_namespaces);
        })
        .watches_for(&nodes, |_| Vec::new())
        .watches_for(&namespaces, |_| Vec::new())
        .watches_for(&binder.services, |_| Vec::new())
        .watches_for(&binder.budgets, |_| Vec::new())
        .watches_for(&binder.pods, |_| Vec::new())
        .watches_for(&binder.stores.claims, |_| Vec::new())
        .watches_for(&binder.stores.volumes, |_| Vec::new())
        .watches_for(&binder.stores.classes, |_| Vec::new())
        .concurrency(CONCURRENCY);
    owners.iter().fold(controller, |controller, (_, owner)| controller.watches_for(owner, |_| Vec::new()))
}

/// The key of the pass.
fn pass() -> Key {
    Key::default()
}

async fn reconcile(binder: Arc<Binder>, key: Key) -> Result<Next, Error> {
    if key == usage::key() {
        return Ok(binder.measure().await);
    }
    if key.kind != POD {
        return Ok(binder.pass());
    }
    let Some(decision) = binder.state().decision(&key) else { return Ok(Next::Change) };
    binder.carry_out(&decision).await?;
    binder.state().done(&key, &decision);
    Ok(Next::Change)
}

impl Binder {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, key: Key) {
        self.mark.get().expect("it is set before anything is looked at").now(key);
    }

    /// Feeds the state with every change from now on.
    fn follow(self: &Arc<Self>, mark: Mark, nodes: &Informer<NodeSeen>, namespaces: &Informer<()>) {
        let mark = self.mark.get_or_init(|| mark).clone();
        let (binder, marks) = (self.clone(), mark.clone());
        namespaces.subscribe(move |change| {
            let labels = change.new.map(|new| new.head.labels.to_vec());
            binder.state().namespace_changed(&change.held().head.name, labels);
            marks.now(pass());
        });
        let (binder, marks) = (self.clone(), mark.clone());
        nodes.subscribe(move |change| {
            let [old, new] = [change.old, change.new].map(|held| held.map(|held| &held.view));
            binder.state().node_changed(old, new, binder.clock.now_ms());
            marks.now(pass());
        });
        self.follow_storage(&mark);
        let binder = self.clone();
        self.pods.subscribe(move |change| {
            binder.state().pod_changed(change.old, change.new, binder.clock.now_ms());
            mark.now(pass());
        });
    }

    /// What changes for claims may help pods that wait for them.
    fn follow_storage(self: &Arc<Self>, mark: &Mark) {
        let (binder, marks) = (self.clone(), mark.clone());
        self.stores.claims.subscribe(move |change| {
            let Some(new) = change.new.filter(|new| change.old.is_none_or(|old| old.view != new.view)) else { return };
            let event = Event::Claim(&new.head.namespace, &new.head.name);
            binder.state().happened(event, binder.clock.now_ms());
            marks.now(pass());
        });
        let (binder, marks) = (self.clone(), mark.clone());
        self.stores.volumes.subscribe(move |change| {
            let Some(new) = change.new.filter(|new| change.old.is_none_or(|old| old.view != new.view)) else { return };
            let mut state = binder.state();
            if new.view.claim.is_some() {
                state.promised.remove(&new.head.name);
            }
            state.happened(Event::Storage, binder.clock.now_ms());
            marks.now(pass());
        });
        let (binder, marks) = (self.clone(), mark.clone());
        self.stores.classes.subscribe(move |change| {
            if change.new.is_some() {
                binder.state().happened(Event::Storage, binder.clock.now_ms());
                marks.now(pass());
            }
        });
    }

    /// Decides about the pods that are next.
    fn pass(&self) -> Next {
        let now_ms = self.clock.now_ms();
        let mut decided = Vec::new();
        let next_ms = {
            let mut state = self.state();
            while decided.len() < PASS_MAX
                && let Some(key) = state.decide(self, self.random.next_u64(), now_ms)
            {
                decided.push(key);
            }
            state.next_ms()
        };
        let full = decided.len() == PASS_MAX;
        decided.into_iter().for_each(|key| self.mark(key));
        match next_ms {
            _ if full => Next::After(Duration::ZERO),
            Some(next_ms) => {
                let left_ms = next_ms.saturating_sub(now_ms).max(1);
                Next::After(Duration::from_millis(u64::try_from(left_ms).unwrap_or(1)))
            }
            None => Next::Change,
        }
    }
}

impl Surroundings for Binder {
    fn siblings(&self, pod: &Held<PodSeen>, decoded: &Pod) -> Option<LabelSelector> {
        let labels = &decoded.peer.labels;
        let services = self.services.cache().in_namespace(&pod.head.namespace);
        let own = services.iter().filter(|service| service.0.iter().all(|label| labels.contains(label)));
        let owner = pod.head.controller().and_then(|owner| {
            let (_, owners) = self.owners.iter().find(|(kind, _)| *kind == owner.kind)?;
            owners.cache().get(&pod.head.namespace, &owner.name)
        });
        decode::siblings(own.map(|service| &service.0), owner.as_ref().map(|owner| &owner.0))
    }

    fn volumes(&self, pod: &Pod, promised: &Promised) -> PodVolumes {
        gather(&self.stores.without(promised), &pod.peer.namespace, &pod.uid, &pod.claims)
    }

    fn budgets(&self) -> Vec<Budget> {
        self.budgets.cache().all().iter().map(|budget| budget.0.clone()).collect()
    }
}
