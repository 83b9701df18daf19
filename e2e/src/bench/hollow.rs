//! Nodes without machines: objects whose leases are renewed, and whose pods are said to run, by requests like those of
//! kubelets. What they cost a control plane is the same.

mod objects;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use corten_stdx::clock::Stopwatch;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::crew::{Crew, succeed};
use crate::http::{Client, Request};
use crate::kubeconfig::Endpoint;
use crate::spine::node::NAME;

/// Where a server with these nodes is: a thousand of them need a wide range.
pub(super) const PLACE: [&str; 6] = ["--listen", "127.0.0.1:6443", "--name", NAME, "--pod-cidr", "10.128.0.0/9"];

/// What the names of these nodes begin with.
pub(super) const PREFIX: &str = "hollow-";

/// How often a kubelet renews its lease, and every how many times it tells its node's status again.
const RENEWAL: Duration = Duration::from_secs(10);
const STATUS_EVERY: usize = 30;

/// Leases renewed at the same time: one that waits keeps few others waiting.
const RENEWERS: usize = 32;

/// Requests about pods at the same time.
const WORKERS: usize = 8;

/// Pods that wait for a worker: so many that the watch never waits for them.
const QUEUE: usize = 1 << 16;

/// The nodes, for as long as this lives.
pub(super) struct Hollow {
    working: JoinSet<Result<()>>,
    pods: Arc<AtomicUsize>,
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Pod,
}

/// What a kubelet of these looks at.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    deletion_timestamp: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    node_name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl Hollow {
    /// Registers so many nodes and keeps them alive.
    pub(super) async fn start(kubeconfig: &Path, nodes: usize) -> Result<Self> {
        let register = (0..nodes).map(|number| objects::post("/api/v1/nodes", &objects::node(number)));
        let lease = (0..nodes).map(|number| objects::post(objects::LEASES, &objects::lease(number)));
        Crew::new(kubeconfig, WORKERS)?.send(register.chain(lease).collect()).await?;
        Self::again(kubeconfig, nodes)
    }

    /// Keeps nodes alive that are registered.
    pub(super) fn again(kubeconfig: &Path, nodes: usize) -> Result<Self> {
        let mut working = JoinSet::new();
        let endpoint = Endpoint::read(kubeconfig)?;
        for first in 0..RENEWERS.min(nodes) {
            working.spawn(renew(Client::new(&endpoint)?, (first..nodes).step_by(RENEWERS).collect()));
        }
        Ok(Self { working, pods: Arc::default() })
    }

    /// Says of the pods that are bound to them that they run, and of those that are to end that they have.
    pub(super) fn run_pods(&mut self, kubeconfig: &Path) -> Result<()> {
        let endpoint = Endpoint::read(kubeconfig)?;
        let (asked, work) = mpsc::channel(QUEUE);
        self.working.spawn(watch(Client::new(&endpoint)?, asked));
        let work = Arc::new(Mutex::new(work));
        for _ in 0..WORKERS {
            self.working.spawn(tell(Client::new(&endpoint)?, work.clone(), self.pods.clone()));
        }
        Ok(())
    }

    /// Waits until so many pods were said to run, in all.
    pub(super) async fn until_running(&mut self, pods: usize, limit: Duration) -> Result<()> {
        let since = Stopwatch::start();
        loop {
            self.check()?;
            let running = self.pods.load(Ordering::Relaxed);
            if running >= pods {
                return Ok(());
            }
            ensure!(since.elapsed() < limit, "{running} of {pods} pods run after {limit:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// An error if one of the workers has ended: none has an end of its own.
    fn check(&mut self) -> Result<()> {
        match self.working.try_join_next() {
            Some(ended) => ended.context("a worker of the hollow nodes")?.context("a hollow node"),
            None => Ok(()),
        }
    }
}

/// Renews leases, each every ten seconds, evenly.
async fn renew(mut client: Client, nodes: Vec<usize>) -> Result<()> {
    let mut ticks = interval(RENEWAL / u32::try_from(nodes.len().max(1))?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for round in 0.. {
        for &number in &nodes {
            ticks.tick().await;
            succeed(&mut client, &objects::renewal(number, round)).await?;
            if (number + round) % STATUS_EVERY == STATUS_EVERY - 1 {
                succeed(&mut client, &objects::heartbeat(number, round)).await?;
            }
        }
    }
    Ok(())
}

/// Finds what a kubelet would have to do, from everything that there is on. Begins anew where it was too slow.
async fn watch(client: Client, work: mpsc::Sender<Request>) -> Result<()> {
    let mut known = Known::default();
    loop {
        let path =
            "/api/v1/pods?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
        let mut lines = client.lines(&Request::get(path)).await?;
        loop {
            let line = lines.next().await.context("the watch of pods")?;
            let Ok(event) = serde_json::from_slice::<Event>(&line) else {
                let refusal: Value = serde_json::from_slice(&line)?;
                ensure!(refusal["object"]["code"] == 410, "the watch of pods says {refusal}");
                break;
            };
            if let Some(request) = known.look(&event.r#type, &event.object)
                && work.send(request).await.is_err()
            {
                bail!("nobody works");
            }
        }
    }
}

/// The pods that something was asked for already, by UID.
#[derive(Default)]
struct Known {
    told: HashSet<String>,
    ended: HashSet<String>,
    /// For addresses, which are never given twice.
    count: usize,
}

impl Known {
    /// What is to be asked for now.
    fn look(&mut self, what: &str, pod: &Pod) -> Option<Request> {
        let uid = &pod.metadata.uid;
        if !pod.spec.node_name.starts_with(PREFIX) {
            return None;
        }
        if what == "DELETED" {
            self.told.remove(uid);
            self.ended.remove(uid);
            return None;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return self.ended.insert(uid.clone()).then(|| objects::end(pod));
        }
        let new = pod.status.phase == "Pending" && self.told.insert(uid.clone());
        self.count += usize::from(new);
        new.then(|| objects::running(pod, self.count))
    }
}

/// Does it.
async fn tell(mut client: Client, work: Arc<Mutex<mpsc::Receiver<Request>>>, pods: Arc<AtomicUsize>) -> Result<()> {
    loop {
        let next = work.lock().await.recv().await;
        let Some(request) = next else { return Ok(()) };
        let answer = client.send(&request).await?;
        let said = || String::from_utf8_lossy(&answer.body).into_owned();
        // A pod that is gone meanwhile is nobody's any more.
        let fine = matches!(answer.code, 200 | 202 | 404 | 409);
        ensure!(fine, "{} {}: {}: {}", request.method, request.path, answer.code, said());
        if request.method == "PATCH" {
            pods.fetch_add(1, Ordering::Relaxed);
        }
    }
}
