//! Asks the servers for their figures, as long as there is a notifier: of servers those of everything are told, of volumes others too. Asking is all it does: what the
//! figures mean is `sight::figures`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use corten_apimachinery::value::Str;
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Mark, Next};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Resource};
use corten_stats::Stats;
use corten_stdx::error::Chain;

use crate::controller::{Base, Declared};
use crate::kind::NOTIFIERS;
use crate::sight::figures::ailing;
use crate::sight::nodes::Server;

const NODES: Resource = Resource::new("", "v1", "nodes");

/// A server is asked so often, up to so many servers; of twice as many each is asked half as often, and so on. With what the ledger
/// waits it leaves time enough of the five seconds in which a fact is told, and in which its end is.
const PAUSE: Duration = Duration::from_secs(2);
const SERVERS: usize = 50;

/// What the servers said last. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Figures(Arc<Shared>);

#[derive(Default)]
struct Shared {
    said: Mutex<BTreeMap<Str, Stats>>,
    /// Has a notifier looked at.
    notifier: OnceLock<Mark>,
}

struct Context {
    client: Client,
    figures: Figures,
    nodes: Informer<Server>,
    notifiers: Informer<Declared>,
}

impl Figures {
    pub(crate) fn said(&self) -> MutexGuard<'_, BTreeMap<Str, Stats>> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to tell of what changes.
    pub(crate) fn tell(&self, notifier: Mark) {
        if self.0.notifier.set(notifier).is_err() {
            tracing::warn!("the controller of notifiers was started twice");
        }
    }
}

/// Asks for the figures that the notifiers of `figures` are told of.
pub(crate) fn controller(base: &Base, figures: &Figures) -> Controller {
    let nodes = base.informers.of::<Server>(Scope::all(NODES));
    let notifiers = base.informers.of::<Declared>(Scope::all(NOTIFIERS));
    let context = Context {
        client: base.client.clone(),
        figures: figures.clone(),
        nodes: nodes.clone(),
        notifiers: notifiers.clone(),
    };
    let all = nodes.clone();
    let every_node = move |_: &Held<Declared>| all.cache().all().iter().map(|node| node.head.key()).collect();
    Controller::new("notifier-figures", Arc::new(context), reconcile)
        .watches_view_for(&nodes, |node| vec![node.head.key()])
        .watches_view_for(&notifiers, every_node)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let told: Vec<Key> = ctx.notifiers.cache().all().iter().map(|one| one.head.key()).collect();
    let Some(node) = ctx.nodes.cache().get("", &key.name) else {
        ctx.figures.said().remove(&key.name);
        return Ok(Next::Change);
    };
    if told.is_empty() || !node.is_ready() {
        return Ok(Next::Change);
    }
    let path = format!("{}/metrics", NODES.path("", &key.name, "proxy"));
    match ctx.client.text(&path).await {
        Ok(metrics) => {
            let stats = Stats::parse(&metrics);
            let now = ailing(&stats);
            let before = ctx.figures.said().insert(key.name.clone(), stats);
            let mark = ctx.figures.0.notifier.get();
            if before.as_ref().map(ailing) != Some(now) {
                mark.into_iter().for_each(|mark| told.iter().cloned().for_each(|key| mark.now(key)));
            }
        }
        // It says nothing for now; that it is silent is told of the node itself.
        Err(error) => tracing::debug!(node = %key.name, error = %Chain(&error), "a server's figures are not there"),
    }
    let rarer = u32::try_from(ctx.nodes.cache().len() / SERVERS).unwrap_or(u32::MAX).max(1);
    Ok(Next::After(PAUSE * rarer))
}
