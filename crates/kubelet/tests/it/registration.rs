//! The node's own object: said to be there, and made again, without being asked for again and again.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::events::{Form, Recorder};
use corten_client::{Client, Delete, Informers, Patch, Resource, StreamBody, Transport, TransportError};
use corten_kubelet::eviction::pressure::{Kind, Pressures, Shared};
use corten_kubelet::{Settings, eviction, node};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::model::ModelStore;
use futures_core::future::BoxFuture;

use crate::node::{InProcess, condition, in_process};

/// Notes what is asked, as `METHOD PATH`.
struct Noting {
    api: InProcess,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Transport for Noting {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>> {
        let said = format!("{} {}", request.method(), request.uri().path());
        self.asked.lock().expect("no panic under it").push(said);
        self.api.send(request)
    }
}

/// A registered node that keeps itself, and somebody who looks at it.
struct Rig {
    clock: Clock,
    asked: Arc<Mutex<Vec<String>>>,
    /// Not the node's own.
    client: Client,
    pressure: Shared,
    tasks: Tasks,
}

impl Rig {
    async fn new() -> Self {
        let (clock, random, tasks) = (Clock::manual(1_800_000_000_000), Random::seeded(1), Tasks::new());
        let (store, asked) = (Arc::new(ModelStore::new(clock.clone())), Arc::default());
        let api = |asked| Noting { api: in_process(store.clone(), &clock, &tasks), asked };
        let client = Client::new(Arc::new(api(Arc::default())), "test");
        let own = Client::new(Arc::new(api(Arc::clone(&asked))), "kubelet");
        let recorder = Recorder::new(
            Form::Counted { component: "kubelet".into(), host: "n".into() },
            client.clone(),
            &clock,
            &random,
            &tasks,
        );
        let pressure = Shared::default();
        let mut kept = node::Node::new(own.clone(), settings(), clock.clone(), recorder, pressure.clone(), Vec::new);
        kept.register().await.expect("it is registered");
        let informers = Informers::new(own, clock.clone(), random, tasks.clone());
        let followed = informers.of::<Value>(node::scope("n"));
        followed.synced().await;
        asked.lock().expect("no panic under it").clear();
        tasks.spawn("node", kept.keep(followed, tasks.stopped()));
        Self { clock, asked, client, pressure, tasks }
    }

    async fn until<T>(
        &self,
        what: &str,
        resource: &Resource,
        namespace: &str,
        found: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let done = |object: Option<&Value>| object.and_then(&found);
        let until = self.client.until(resource, namespace, "n", done);
        let in_time = tokio::time::timeout(Duration::from_secs(60), until).await;
        in_time.unwrap_or_else(|_| panic!("{what}")).expect("it can be watched")
    }

    async fn until_ready(&self, what: &str) -> Value {
        let ready = |node: &Value| (condition(node, "Ready") == "True").then(|| node.clone());
        self.until(what, &node::NODES, "", ready).await
    }

    /// Second by second, as nobody tells when the node begins to wait.
    async fn time_goes_on(&self) -> Infallible {
        loop {
            self.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(&self) {
        assert_eq!(self.tasks.stop(Duration::from_secs(5)).await, 0, "everything ends");
    }
}

fn settings() -> Settings {
    Settings {
        name: "n".to_owned(),
        dir: "/".into(),
        run_dir: "/".into(),
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

#[tokio::test]
async fn a_node_says_that_it_is_there_without_asking_for_itself() {
    let rig = Rig::new().await;
    let renewed = |lease: &Value| lease.str_at(&["spec", "renewTime"]).to_owned();
    let leases = Resource::new("coordination.k8s.io", "v1", "leases");
    let mut last = rig.until("there is a lease", &leases, "kube-node-lease", |lease| Some(renewed(lease))).await;
    for _ in 0..3 {
        let newer = |lease: &Value| Some(renewed(lease)).filter(|newer| *newer > last);
        last = tokio::select! {
            newer = rig.until("the lease is renewed", &leases, "kube-node-lease", newer) => newer,
            never = rig.time_goes_on() => match never {},
        };
    }
    rig.end().await;
    let asked = rig.asked.lock().expect("no panic under it").clone();
    assert!(!asked.iter().any(|said| said == "GET /api/v1/nodes/n"), "{asked:?}");
}

/// The clock stands: nothing but what is heard of the object makes the node act.
#[tokio::test]
async fn a_node_that_was_given_up_or_deleted_comes_back_at_once() {
    let rig = Rig::new().await;
    let registered = rig.until_ready("it is ready").await;
    let given_up = value!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
    let patched = rig.client.patch(&node::NODES, "", "n", "status", &Patch::Strategic(given_up)).await;
    assert_eq!(condition(&patched.expect("patched"), "Ready"), "Unknown");
    let back = rig.until_ready("it is ready again").await;
    assert_eq!(back.str_at(&["metadata", "uid"]), registered.str_at(&["metadata", "uid"]));
    rig.client.delete(&node::NODES, "", "n", &Delete::default()).await.expect("deleted");
    let anew = rig.until_ready("it is registered again").await;
    assert_ne!(anew.str_at(&["metadata", "uid"]), registered.str_at(&["metadata", "uid"]));
    rig.end().await;
}

/// The clock stands here too.
#[tokio::test]
async fn a_node_that_runs_short_says_so_at_once() {
    let rig = Rig::new().await;
    let state = |wanted: &'static str| {
        move |node: &Value| {
            (condition(node, "DiskPressure") == wanted).then(|| condition(node, "MemoryPressure").to_owned())
        }
    };
    assert_eq!(rig.until("it has room", &node::NODES, "", state("False")).await, "False");
    rig.pressure.put(Pressures::of(&[Kind::Disk]));
    assert_eq!(rig.until("it says so", &node::NODES, "", state("True")).await, "False");
    rig.pressure.put(Pressures::default());
    rig.until("it says that it is over", &node::NODES, "", state("False")).await;
    rig.end().await;
}
