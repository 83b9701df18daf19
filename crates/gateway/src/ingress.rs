//! Ingresses as the routes of the edge. Requests go to the endpoints themselves, not through the Service's address, so that the
//! edge balances, and an endpoint that ends is left in the moment in which its slice says so.

mod annotations;
mod plan;
pub mod status;
mod view;

use std::sync::Arc;

use corten_client::cache::Key;
use corten_client::controller::{Controller, Next};
use corten_client::informer::{Informer, Scope};
use corten_client::{Error, Informers, Resource};
use corten_proxy::config::NodeConfig;
use tokio::sync::watch;

use self::plan::{Inputs, plan};
use self::view::{Class, Ingress, TlsSecret};
use crate::view::{SERVICES, SLICES, Service, Slice};

pub const INGRESSES: Resource = Resource::new("networking.k8s.io", "v1", "ingresses");
pub const CLASSES: Resource = Resource::new("networking.k8s.io", "v1", "ingressclasses");
const SECRETS: Resource = Resource::new("", "v1", "secrets");

/// The controller that an IngressClass names for this edge.
pub const CONTROLLER: &str = "corten.dev/edge";

/// The routes, and the hosts that want a certificate and name none that there is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub config: NodeConfig,
    pub without_certificate: Vec<String>,
}

struct Context {
    ingresses: Informer<Ingress>,
    classes: Informer<Class>,
    secrets: Informer<TlsSecret>,
    services: Informer<Service>,
    slices: Informer<Slice>,
    /// Informers end with the last handle of their family.
    _informers: Informers,
    out: watch::Sender<Option<Arc<Wanted>>>,
}

/// Keeps the edge's configuration as the API says, and tells it when it has changed; nothing before all of it is known.
pub fn controller(informers: &Informers, out: watch::Sender<Option<Arc<Wanted>>>) -> Controller {
    let secrets = Scope { fields: "type=kubernetes.io/tls".to_owned(), ..Scope::all(SECRETS) };
    let context = Arc::new(Context {
        ingresses: informers.of::<Ingress>(Scope::all(INGRESSES)),
        classes: informers.of::<Class>(Scope::all(CLASSES)),
        secrets: informers.of::<TlsSecret>(secrets),
        services: informers.of::<Service>(Scope::all(SERVICES)),
        slices: informers.of::<Slice>(Scope::all(SLICES)),
        _informers: informers.clone(),
        out,
    });
    // All routes are one configuration: any change asks for the whole, and changes in a row for one.
    let whole = || vec![Key::new("", "routes")];
    Controller::new("ingress", context.clone(), reconcile)
        .watches_for(&context.ingresses, move |_| whole())
        .watches_for(&context.classes, move |_| whole())
        .watches_for(&context.secrets, move |_| whole())
        .watches_for(&context.services, move |_| whole())
        .watches_for(&context.slices, move |_| whole())
        .begins(move |mark| whole().into_iter().for_each(|key| mark.now(key)))
}

async fn reconcile(ctx: Arc<Context>, _: Key) -> Result<Next, Error> {
    let inputs = Inputs {
        ingresses: &ctx.ingresses.cache().all(),
        classes: &ctx.classes.cache().all(),
        secret: &|namespace, name| ctx.secrets.cache().get(namespace, name),
        service: &|namespace, name| ctx.services.cache().get(namespace, name),
        slices: &|key| ctx.slices.cache().by_key(key),
    };
    let wanted = plan(&inputs);
    ctx.out.send_if_modified(|known| {
        let changed = known.as_deref() != Some(&wanted);
        if changed {
            *known = Some(Arc::new(wanted));
        }
        changed
    });
    Ok(Next::Change)
}
