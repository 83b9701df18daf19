//! A node in a process: an API server over a store in memory, the loop, and the fakes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::{Attributes, Authorizer, Decision, User};
use corten_apiserver::connect::{Connectors, Routes};
use corten_apiserver::health::{Checks, VersionInfo};
use corten_apiserver::http::body::full;
use corten_apiserver::http::{Access, Api, ApiConfig, RequestLimits};
use corten_apiserver::registry::Registry;
use corten_apiserver::registry::seal::Plain;
use corten_client::events::{Form, Recorder};
use corten_client::{Client, Informers, Resource, StreamBody, Transport, TransportError};
use corten_kubelet::eviction::pressure::Shared;
use corten_kubelet::reading::Reading;
use corten_kubelet::{Parts, Settings, eviction, start};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::Store;
use corten_store::model::ModelStore;
use futures_core::future::BoxFuture;
use tempfile::TempDir;

use crate::fakes::{FakeEngine, FakeGauges, FakeImages, FakeNetwork, FakeTraffic};

pub(crate) const PODS: Resource = Resource::new("", "v1", "pods");
pub(crate) const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

struct Everybody;

impl Authorizer for Everybody {
    fn authorize<'a>(&'a self, _: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(Decision::Allow))
    }
}

pub(crate) struct InProcess(Arc<Api>);

impl Transport for InProcess {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>> {
        Box::pin(async move { Ok(self.0.call(request.map(full), Arc::new(User::default())).await) })
    }
}

/// A client of an API server with every kind over a store.
pub(crate) fn api_client(store: Arc<dyn Store>, clock: &Clock, tasks: &Tasks) -> Client {
    Client::new(Arc::new(in_process(store, clock, tasks)), "test")
}

pub(crate) fn in_process(store: Arc<dyn Store>, clock: &Clock, tasks: &Tasks) -> InProcess {
    let random = Random::system();
    let registry = Registry::new(store, clock.clone(), random.clone(), Vec::new(), Arc::new(Plain), tasks);
    registry.install(corten_api::kinds());
    InProcess(Api::new(ApiConfig {
        registry,
        access: Access { authorizers: vec![Arc::new(Everybody)], anonymous: true, ..Access::default() },
        connectors: Connectors::default(),
        routes: Routes::default(),
        checks: Checks::default(),
        version: VersionInfo::default(),
        limits: RequestLimits::default(),
        metrics: Arc::default(),
        clock: clock.clone(),
        random,
        tasks: tasks.clone(),
    }))
}

pub(crate) struct Node {
    pub(crate) dir: TempDir,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) network: Arc<FakeNetwork>,
    pub(crate) traffic: Arc<FakeTraffic>,
    pub(crate) gauges: Arc<FakeGauges>,
    pub(crate) client: Client,
    tasks: Tasks,
}

impl Node {
    /// A node that runs, with a namespace for its pods.
    pub(crate) async fn new() -> (Self, Reading) {
        let clock = Clock::system();
        let client = api_client(Arc::new(ModelStore::new(clock.clone())), &clock, &Tasks::new());
        let engine = Arc::new(FakeEngine::default());
        let dir = tempfile::tempdir().expect("a directory");
        let traffic = Arc::new(FakeTraffic::default());
        traffic.left.send_replace(true);
        let mut node =
            Self { dir, engine, network: Arc::default(), traffic, gauges: Arc::default(), client, tasks: Tasks::new() };
        let reading = node.restart().await;
        (node, reading)
    }

    /// Ends the loop, and begins another one with what is there.
    pub(crate) async fn restart(&mut self) -> Reading {
        self.stop().await;
        self.tasks = Tasks::new();
        let (clock, random, tasks) = (Clock::system(), Random::system(), self.tasks.clone());
        let form = Form::Counted { component: "kubelet".into(), host: "n".into() };
        let parts = Parts {
            settings: self.settings(),
            engine: self.engine.clone(),
            images: Arc::new(FakeImages(self.gauges.clone())),
            network: self.network.clone(),
            traffic: Some(self.traffic.clone()),
            gauges: self.gauges.clone(),
            pressure: Shared::default(),
            client: self.client.clone(),
            informers: Informers::new(self.client.clone(), clock.clone(), random.clone(), tasks.clone()),
            recorder: Recorder::new(form, self.client.clone(), &clock, &random, &tasks),
            clock,
            random,
            tasks,
        };
        start(parts).await.expect("it starts")
    }

    pub(crate) async fn stop(&self) {
        assert_eq!(self.tasks.stop(Duration::from_secs(5)).await, 0, "everything ends");
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            name: "n".to_owned(),
            dir: self.dir.path().to_owned(),
            run_dir: self.dir.path().join("run"),
            addresses: vec![[192, 0, 2, 1].into()],
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
            port: 10250,
            version: "v1.36.3".to_owned(),
            pods_max: 110,
            pids_of_pod_max: 4096,
            eviction: eviction::Settings::default(),
        }
    }

    pub(crate) async fn create(&self, resource: &Resource, object: &Value) -> Value {
        self.client.create(resource, "shop", object).await.expect("it is made")
    }

    /// Waits until a pod is as expected; shows it as it last was otherwise.
    #[track_caller]
    pub(crate) fn wait(
        &self,
        name: &str,
        what: &'static str,
        holds: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Value> {
        let client = self.client.clone();
        let name = name.to_owned();
        async move {
            for _ in 0..500 {
                let pod = client.get(&PODS, "shop", &name).await.unwrap_or_default();
                if holds(&pod) {
                    return pod;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let pod = client.get(&PODS, "shop", &name).await;
            panic!("{what}: {}", pod.map(|pod| corten_apimachinery::json::to_string(&pod)).unwrap_or_default());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let volumes = self.dir.path().join("run/volumes");
        match rustix::mount::unmount(volumes, rustix::mount::UnmountFlags::DETACH) {
            // There is nothing mounted where no volume was made.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => panic!("volumes stay mounted: {error}"),
        }
    }
}

/// The first container's status of a list.
pub(crate) fn first<'a>(pod: &'a Value, list: &str) -> &'a Value {
    let statuses = pod.at(&["status", list]).and_then(Value::as_array).unwrap_or_default();
    statuses.first().unwrap_or(&Value::Null)
}

pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> &'a str {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let found = conditions.iter().find(|condition| condition.str_at(&["type"]) == kind);
    found.map(|condition| condition.str_at(&["status"])).unwrap_or_default()
}
