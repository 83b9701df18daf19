//! The built-in controllers: the one place that lists them.

use std::sync::Arc;
use std::time::Duration;

use corten_client::controller::{Controller, Handle};
use corten_client::events::{Form, Recorder};
use corten_controllers::certificate::Signer;
use corten_controllers::node_ipam::PodRange;
use corten_controllers::{
    Base, autoscaler, certificate, cron_job, daemon_set, deployment, disruption, endpoint_slice,
    endpoint_slice_mirroring, endpoints, garbage, job, local_provisioner, namespace, node_ipam, node_lifecycle, pod_gc,
    replica_set, resource_quota, root_ca, service_account, stateful_set, taint_eviction, token_cleaner,
    ttl_after_finished, volume_binder, volume_expansion, volume_protection,
};
use corten_notify::carry::Post;
use corten_scheduler::binder;
use futures_util::future::join_all;

use crate::inside::{Inside, service_account, user};

/// Reads for the caches of all controllers; upstream's role of the name reads everything.
const READER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";
/// Reads what is to be told, and the Secrets that its targets need.
const NOTIFIER: &str = "notifier";

/// What some controllers are told.
pub struct Settings<'a> {
    pub authority_pem: &'a str,
    /// How long a node may be silent.
    pub node_grace: Duration,
    /// Whether pods go rather where little is really used.
    pub weighs_use: bool,
    pub pods: PodRange,
    /// The cluster's authority.
    pub signer: Arc<dyn Signer>,
}

type RecorderOf = Arc<dyn Fn(&'static str, &'static str) -> Recorder + Send + Sync>;

/// Starts every controller, each under the service account that upstream's roles are bound to. Resolves when all of
/// them have seen what there is; one that cannot read something (a Secret whose key is lost) goes on trying by itself.
pub async fn start(inside: &Inside, settings: &Settings<'_>) -> Vec<Handle> {
    let informers = inside.seams.informers(inside.client(user(READER, &[]), "kube-controller-manager"));
    let of = inside.clone();
    let client_of = Arc::new(move |name: &'static str| of.client(service_account(name), name));
    let base = Base { informers, client_of, recorder_of: recorder_of(inside), clock: inside.seams.clock.clone() };
    let driver = inside.seams.driver();
    let controllers = [
        namespace::controller(&base),
        service_account::controller(&base),
        root_ca::controller(&base, settings.authority_pem),
        garbage::controller(&base),
        replica_set::controller(&base),
        replica_set::replication_controller(&base),
        daemon_set::controller(&base, &inside.seams.random),
        deployment::controller(&base),
        stateful_set::controller(&base),
        endpoint_slice::controller(&base),
        endpoint_slice_mirroring::controller(&base),
        endpoints::controller(&base),
        node_lifecycle::controller(&base, settings.node_grace),
        node_ipam::controller(&base, settings.pods),
        taint_eviction::controller(&base),
        pod_gc::controller(&base),
        volume_binder::controller(&base),
        local_provisioner::controller(&base),
        volume_expansion::controller(&base),
        volume_protection::claims(&base),
        volume_protection::volumes(&base),
        volume_protection::classes(&base),
        job::controller(&base),
        cron_job::controller(&base),
        ttl_after_finished::controller(&base),
        disruption::controller(&base),
        resource_quota::controller(&base),
        autoscaler::controller(&base),
        certificate::approve::controller(&base, settings.signer.clone()),
        certificate::sign::controller(&base, settings.signer.clone()),
        certificate::clean::controller(&base),
        token_cleaner::controller(&base),
        scheduler(inside, settings.weighs_use),
        corten_notify::controller(notifying(&base), driver.clone()),
    ];
    let running: Vec<Handle> = controllers.into_iter().map(|controller| controller.run(&driver)).collect();
    join_all(running.iter().map(Handle::settled)).await;
    running
}

/// What somebody is told by.
fn notifying(base: &Base) -> corten_notify::Base {
    corten_notify::Base {
        informers: base.informers.clone(),
        client: (base.client_of)(NOTIFIER),
        recorder: (base.recorder_of)(NOTIFIER, NOTIFIER),
        clock: base.clock.clone(),
        carrier: Arc::new(Post),
    }
}

/// The recorder of an account and the component that it is used by.
fn recorder_of(inside: &Inside) -> RecorderOf {
    let inside = inside.clone();
    Arc::new(move |account, component| {
        let form = Form::Counted { component: component.into(), host: "".into() };
        inside.seams.recorder(form, inside.client(service_account(account), component))
    })
}

/// The scheduler reads, binds and tells under its own identity.
fn scheduler(inside: &Inside, weighs_use: bool) -> Controller {
    let client = inside.client(user(SCHEDULER, &[]), "kube-scheduler");
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let instance = format!("{}-{host}", binder::COMPONENT).into();
    let form = Form::Series { controller: binder::COMPONENT.into(), instance };
    binder::controller(&binder::Base {
        informers: inside.seams.informers(client.clone()),
        recorder: inside.seams.recorder(form, client.clone()),
        client,
        clock: inside.seams.clock.clone(),
        random: inside.seams.random.clone(),
        weighs_use,
    })
}
