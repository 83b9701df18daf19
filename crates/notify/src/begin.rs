//! The first notifier begins everything: without one nothing of the cluster is read or held to be told.

use std::sync::{Arc, OnceLock};

use corten_client::Error;
use corten_client::cache::Key;
use corten_client::controller::{Controller, Driver, Handle, Next};
use corten_client::informer::{Informer, Scope};

use crate::controller::{Base, Declared};
use crate::figures::Figures;
use crate::kind::NOTIFIERS;
use crate::{controller as notifier, figures};

struct Context {
    base: Base,
    driver: Driver,
    notifiers: Informer<Declared>,
    running: OnceLock<[Handle; 2]>,
}

/// Runs what tells and what asks servers for their figures, from the first notifier on.
pub fn controller(base: Base, driver: Driver) -> Controller {
    let notifiers = base.informers.of::<Declared>(Scope::all(NOTIFIERS));
    let context = Context { base, driver, notifiers: notifiers.clone(), running: OnceLock::new() };
    Controller::new("notifiers", Arc::new(context), begin).watches_view_for(&notifiers, |one| vec![one.head.key()])
}

async fn begin(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    if ctx.notifiers.cache().get(&key.namespace, &key.name).is_some() {
        ctx.running.get_or_init(|| {
            let figures = Figures::default();
            let telling = [notifier::controller(&ctx.base, &figures), figures::controller(&ctx.base, &figures)];
            telling.map(|controller| controller.run(&ctx.driver))
        });
    }
    Ok(Next::Change)
}
