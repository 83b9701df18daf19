//! This server as a node of the cluster: who it is to the API server, and what it is told.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::{AUTHENTICATED, User};
use corten_apiserver::http::pipeline::Api;
use corten_client::events::{Form, Recorder};
use corten_client::{Client, Informers};
use corten_image::{self as image, Image};
use corten_kubelet::node::Node;
use corten_kubelet::reading::Reading;
use corten_kubelet::server::{Identity, Server};
use corten_kubelet::{Parts, Settings, Traffic};
use corten_network::Range;
use corten_network::pods as network;
use corten_runtime::own as runtime;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_sys::cgroup::Hierarchies;
use corten_sys::namespace::NetNs;
use tokio::sync::watch;

use crate::api;
use crate::args::Up;
use crate::controllers::InProcess;
use crate::datadir::{self, DataDir};
use crate::ranges::Ranges;
use crate::reach::node_address;

/// The name in the cluster's own zone.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
const PODS_MAX: i64 = 110;

/// What the node needs of the rest of this process.
pub struct Base<'a> {
    pub up: &'a Up,
    pub name: &'a str,
    pub dir: &'a DataDir,
    pub ranges: &'a Ranges,
    pub api: &'a Arc<Api>,
    /// What leads to pods, if this server sees to that.
    pub traffic: Option<Arc<dyn Traffic>>,
    /// Where the node's own server listens, and who it is.
    pub listener: TcpListener,
    pub identity: watch::Receiver<Identity>,
    pub clock: &'a Clock,
    pub random: &'a Random,
    pub tasks: &'a Tasks,
}

/// Takes over what runs, registers the node and keeps it. Resolves when the API server has it as ready; the answer tells
/// of its pods.
pub async fn start(base: Base<'_>) -> anyhow::Result<Reading> {
    let parts = parts(&base).await?;
    let listed = parts.images.clone();
    let images = move || listed.list().iter().map(|image| node_image(image)).collect();
    let mut node = Node::new(parts.client.clone(), parts.settings.clone(), base.clock.clone(), images);
    node.register().await.with_context(|| format!("the node {} cannot be registered", base.name))?;
    base.tasks.spawn("node", node.keep(base.tasks.stopped()));
    let (engine, clock, tasks) = (parts.engine.clone(), base.clock.clone(), base.tasks.clone());
    let reading = corten_kubelet::start(parts).await?;
    let server = Server { node: base.name.to_owned(), host: Arc::new(reading.clone()), engine, clock, tasks };
    base.listener.set_nonblocking(true)?;
    server.start(tokio::net::TcpListener::from_std(base.listener)?, base.identity)?;
    Ok(reading)
}

/// This server's own way to run containers, to keep images and to link pods.
async fn parts(base: &Base<'_>) -> anyhow::Result<Parts> {
    let Base { up, name, dir, ranges, api, traffic, clock, random, tasks, .. } = base;
    let settings = settings(up, name, dir, ranges, base.listener.local_addr()?.port());
    let runtime = runtime::Settings {
        instance: dir.instance().to_owned(),
        pods: settings.pods(),
        sockets: settings.run_dir.join("pods"),
        hierarchies: Hierarchies::detect().context("the control groups of this server")?,
        tasks: (*tasks).clone(),
        clock: (*clock).clone(),
    };
    let engine = runtime::Own::open(runtime).await.context("the runtime")?;
    let content = datadir::content(&up.data_dir)?;
    let of_images = image::Settings::new((*clock).clone(), (*random).clone(), (*tasks).clone());
    let images = image::Store::open(&content, of_images).context("the images")?;
    tasks.spawn("image-collection", images.clone().keep_collecting(tasks.stopped()));
    let range = Range::new(ranges.pod.addr(), ranges.pod.prefix_len()).context("the range of pods")?;
    let host = NetNs::current().context("the network of this server")?;
    let of_links = network::Settings {
        instance: dir.instance().to_owned(),
        node_range: range,
        cluster_range: range,
        mtu: None,
        host,
    };
    let network = network::Pods::open(of_links).context("the network of pods")?;
    let client = client(api, name);
    let (clock, random, tasks) = ((*clock).clone(), (*random).clone(), (*tasks).clone());
    let form = Form::Counted { component: "kubelet".into(), host: (*name).into() };
    Ok(Parts {
        settings,
        engine: Arc::new(engine),
        images: Arc::new(images),
        network: Arc::new(network),
        traffic: traffic.clone(),
        informers: Informers::new(client.clone(), clock.clone(), random.clone(), tasks.clone()),
        recorder: Recorder::new(form, client.clone(), &clock, &random, &tasks),
        client,
        clock,
        random,
        tasks,
    })
}

/// An entry of the node's `status.images`.
fn node_image(image: &Image) -> Value {
    let names: Vec<&str> = image.digests.iter().chain(&image.tags).map(String::as_str).collect();
    value!({"names": names, "sizeBytes": (i64::try_from(image.size_bytes).unwrap_or(i64::MAX))})
}

/// Requests as the node of a name, which upstream's role for nodes is bound to.
fn client(api: &Arc<Api>, name: &str) -> Client {
    let user = User {
        name: format!("system:node:{name}").into(),
        groups: vec!["system:nodes".into(), AUTHENTICATED.into()],
        ..User::default()
    };
    InProcess::client(api, user, "kubelet")
}

fn settings(up: &Up, name: &str, dir: &DataDir, ranges: &Ranges, port: u16) -> Settings {
    Settings {
        name: name.to_owned(),
        dir: dir.join(""),
        run_dir: run_dir(dir),
        addresses: vec![address(up.listen)],
        pod_cidrs: vec![ranges.pod.to_string()],
        cluster_dns: vec![IpAddr::V4(ranges.dns())],
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        port,
        version: api::git_version(),
        pods_max: PODS_MAX,
    }
}

/// What lives in memory, and until the next reboot at most.
fn run_dir(dir: &DataDir) -> PathBuf {
    PathBuf::from(datadir::RUN).join(dir.instance())
}

/// Takes away what the node had in memory, if no pod needs it any more.
pub fn leave(dir: &DataDir) {
    if let Err(error) = corten_kubelet::leave(&run_dir(dir)) {
        tracing::warn!(%error, "something stays below /run");
    }
}

/// The address under which others reach this server.
fn address(listen: SocketAddr) -> IpAddr {
    let own = Some(listen.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
    own.or_else(|| node_address().map(IpAddr::V4)).unwrap_or_else(|| listen.ip())
}
