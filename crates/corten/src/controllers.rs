//! The built-in controllers: the one place that lists them, and their way into the API server of this process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_apiserver::auth::{AUTHENTICATED, User};
use corten_apiserver::http::body::full;
use corten_apiserver::http::pipeline::Api;
use corten_client::controller::{Controller, Driver, Handle, Leadership};
use corten_client::events::{Form, Recorder};
use corten_client::{Client, Informers, StreamBody, Transport, TransportError};
use corten_controllers::node_ipam::PodRange;
use corten_controllers::{
    Base, deployment, disruption, endpoint_slice, endpoint_slice_mirroring, endpoints, garbage, job, namespace,
    node_ipam, node_lifecycle, pod_gc, replica_set, root_ca, service_account, taint_eviction, ttl_after_finished,
    volume_protection,
};
use corten_dns::Zones;
use corten_gateway::{ingress, zones};
use corten_scheduler::binder;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::edge::publish::FromApi;

/// Reads for the caches of all controllers; upstream's role of the name reads everything.
const READER: &str = "system:kube-controller-manager";
const SCHEDULER: &str = "system:kube-scheduler";

/// What some controllers are told.
pub struct Settings<'a> {
    pub authority_pem: &'a str,
    /// How long a node may be silent.
    pub node_grace: Duration,
    pub pods: PodRange,
}

type RecorderOf = Arc<dyn Fn(&'static str, &'static str) -> Recorder + Send + Sync>;

/// Starts every controller, each under the service account that upstream's roles are bound to. Resolves when all of
/// them have seen what there is.
pub async fn start(
    api: &Arc<Api>,
    settings: &Settings<'_>,
    clock: &Clock,
    random: &Random,
    tasks: &Tasks,
) -> Vec<Handle> {
    let reader = InProcess::client(api, user(READER, &[]), "kube-controller-manager");
    let informers = Informers::new(reader, clock.clone(), random.clone(), tasks.clone());
    let of = api.clone();
    let client_of = Arc::new(move |name: &'static str| InProcess::client(&of, service_account(name), name));
    let base = Base { informers, client_of, recorder_of: recorder_of(api, clock, random, tasks), clock: clock.clone() };
    let controllers = [
        namespace::controller(&base),
        service_account::controller(&base),
        root_ca::controller(&base, settings.authority_pem),
        garbage::controller(&base),
        replica_set::controller(&base),
        deployment::controller(&base),
        endpoint_slice::controller(&base),
        endpoint_slice_mirroring::controller(&base),
        endpoints::controller(&base),
        node_lifecycle::controller(&base, settings.node_grace),
        node_ipam::controller(&base, settings.pods),
        taint_eviction::controller(&base),
        pod_gc::controller(&base),
        volume_protection::claims(&base),
        volume_protection::volumes(&base),
        job::controller(&base),
        ttl_after_finished::controller(&base),
        disruption::controller(&base),
        scheduler(api, clock, random, tasks),
    ];
    let driver =
        Driver { clock: clock.clone(), random: random.clone(), tasks: tasks.clone(), leadership: Leadership::alone() };
    let running: Vec<Handle> = controllers.into_iter().map(|controller| controller.run(&driver)).collect();
    join_all(running.iter().map(Handle::synced)).await;
    running
}

/// The recorder of an account and the component that it is used by.
fn recorder_of(api: &Arc<Api>, clock: &Clock, random: &Random, tasks: &Tasks) -> RecorderOf {
    let (api, clock, random, tasks) = (api.clone(), clock.clone(), random.clone(), tasks.clone());
    Arc::new(move |account, component| {
        let client = InProcess::client(&api, service_account(account), component);
        let form = Form::Counted { component: component.into(), host: "".into() };
        Recorder::new(form, client, &clock, &random, &tasks)
    })
}

/// The scheduler reads, binds and tells under its own identity.
fn scheduler(api: &Arc<Api>, clock: &Clock, random: &Random, tasks: &Tasks) -> Controller {
    let client = InProcess::client(api, user(SCHEDULER, &[]), "kube-scheduler");
    let informers = Informers::new(client.clone(), clock.clone(), random.clone(), tasks.clone());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let instance = format!("{}-{host}", binder::COMPONENT).into();
    let form = Form::Series { controller: binder::COMPONENT.into(), instance };
    let recorder = Recorder::new(form, client.clone(), clock, random, tasks);
    let (clock, random) = (clock.clone(), random.clone());
    binder::controller(&binder::Base { informers, client, recorder, clock, random })
}

/// Routes and names of the edge as the API says, from now on.
pub async fn start_edge(
    api: &Arc<Api>,
    names: zones::Settings,
    clock: &Clock,
    random: &Random,
    tasks: &Tasks,
) -> FromApi {
    let reader = InProcess::client(api, user(READER, &[]), "corten-edge");
    let informers = Informers::new(reader, clock.clone(), random.clone(), tasks.clone());
    let (out, mut wanted) = watch::channel(None);
    let driver =
        Driver { clock: clock.clone(), random: random.clone(), tasks: tasks.clone(), leadership: Leadership::alone() };
    let (out_zones, mut zones_told) = watch::channel(Arc::<Zones>::default());
    ingress::controller(&informers, out).run(&driver);
    zones::controller(&informers, names, out_zones).run(&driver);
    // An error means that the family of tasks is gone, and with it whoever waits.
    let routes = wanted.wait_for(Option::is_some).await.is_ok();
    let names = zones_told.wait_for(|zones| !zones.domain.is_empty()).await.is_ok();
    if !routes || !names {
        tracing::debug!("no routes or names: the tasks have ended");
    }
    FromApi { wanted, zones: zones_told }
}

/// A service account of `kube-system`, as its token would show it.
fn service_account(name: &str) -> User {
    let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system"];
    user(&format!("system:serviceaccount:kube-system:{name}"), &groups)
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().copied().chain([AUTHENTICATED]).map(Into::into).collect();
    User { name: name.into(), groups, ..User::default() }
}

/// Requests straight into the API server's pipeline, under an identity that no network client can claim.
pub struct InProcess {
    api: Arc<Api>,
    user: Arc<User>,
}

impl InProcess {
    pub fn client(api: &Arc<Api>, user: User, agent: &str) -> Client {
        Client::new(Arc::new(Self { api: api.clone(), user: Arc::new(user) }), agent)
    }
}

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>> {
        Box::pin(async move { Ok(self.api.call(request.map(full), self.user.clone()).await) })
    }
}
