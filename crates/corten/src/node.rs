//! This server as a node of the cluster: who it is to the API server, and what it is told.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::events::Form;
use corten_image::{self as image, Image};
use corten_kubelet::node;
use corten_kubelet::reading::Reading;
use corten_kubelet::server::{Identity, Server};
use corten_kubelet::{Parts, Settings, Traffic};
use corten_network::Range;
use corten_network::pods as network;
use corten_runtime::own as runtime;
use corten_sys::cgroup::Hierarchies;
use corten_sys::namespace::NetNs;
use tokio::sync::watch;

use crate::api;
use crate::datadir::{self, DataDir};
use crate::inside::{Inside, user};
use crate::reach::node_address;
use crate::site::Site;

/// The name in the cluster's own zone.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
const PODS_MAX: i64 = 110;

/// What the node needs beside the site and the API.
pub struct Node {
    /// What leads to pods, if this server sees to that.
    pub traffic: Option<Arc<dyn Traffic>>,
    /// Where the node's own server listens, and who it is.
    pub listener: TcpListener,
    pub identity: watch::Receiver<Identity>,
}

/// Takes over what runs, registers the node and keeps it. Resolves when the API server has it as ready; the answer tells
/// of its pods.
pub async fn start(site: &Site<'_>, inside: &Inside, node: Node) -> anyhow::Result<Reading> {
    let Node { traffic, listener, identity } = node;
    let parts = parts(site, inside, traffic, listener.local_addr()?.port()).await?;
    let listed = parts.images.clone();
    let images = move || listed.list().iter().map(|image| node_image(image)).collect();
    let (client, settings, recorder) = (parts.client.clone(), parts.settings.clone(), parts.recorder.clone());
    let mut registered = node::Node::new(client, settings, site.clock.clone(), recorder, images);
    registered.register().await.with_context(|| format!("the node {} cannot be registered", site.name))?;
    site.tasks.spawn("node", registered.keep(site.tasks.stopped()));
    let (engine, clock, tasks) = (parts.engine.clone(), site.clock.clone(), site.tasks.clone());
    let reading = corten_kubelet::start(parts).await?;
    let server = Server { node: site.name.clone(), host: Arc::new(reading.clone()), engine, clock, tasks };
    listener.set_nonblocking(true)?;
    server.start(tokio::net::TcpListener::from_std(listener)?, identity)?;
    Ok(reading)
}

/// This server's own way to run containers, to keep images and to link pods.
async fn parts(
    site: &Site<'_>,
    inside: &Inside,
    traffic: Option<Arc<dyn Traffic>>,
    port: u16,
) -> anyhow::Result<Parts> {
    let settings = settings(site, port);
    let runtime = runtime::Settings {
        instance: site.dir.instance().to_owned(),
        pods: settings.pods(),
        sockets: settings.run_dir.join("pods"),
        hierarchies: Hierarchies::detect().context("the control groups of this server")?,
        tasks: site.tasks.clone(),
        clock: site.clock.clone(),
    };
    let engine = runtime::Own::open(runtime).await.context("the runtime")?;
    // Requests as the node of this name, which upstream's role for nodes is bound to.
    let client = inside.client(user(&format!("system:node:{}", site.name), &["system:nodes"]), "kubelet");
    let form = Form::Counted { component: "kubelet".into(), host: site.name.as_str().into() };
    Ok(Parts {
        settings,
        engine: Arc::new(engine),
        images: Arc::new(images(site)?),
        network: Arc::new(links(site)?),
        traffic,
        informers: inside.informers(client.clone()),
        recorder: inside.recorder(form, client.clone()),
        client,
        clock: site.clock.clone(),
        random: site.random.clone(),
        tasks: site.tasks.clone(),
    })
}

/// The images of this server, from now on collected when nobody needs them.
fn images(site: &Site<'_>) -> anyhow::Result<image::Store> {
    let content = datadir::content(&site.up.data_dir)?;
    let settings = image::Settings::new(site.clock.clone(), site.random.clone(), site.tasks.clone());
    let images = image::Store::open(&content, settings).context("the images")?;
    site.tasks.spawn("image-collection", images.clone().keep_collecting(site.tasks.stopped()));
    Ok(images)
}

/// The links of pods.
fn links(site: &Site<'_>) -> anyhow::Result<network::Pods> {
    let pods = site.ranges.pod;
    let range = Range::new(pods.addr(), pods.prefix_len()).context("the range of pods")?;
    let host = NetNs::current().context("the network of this server")?;
    let settings = network::Settings {
        instance: site.dir.instance().to_owned(),
        node_range: range,
        cluster_range: range,
        mtu: None,
        host,
        records: datadir::RUN.into(),
    };
    network::Pods::open(settings).context("the network of pods")
}

/// An entry of the node's `status.images`.
fn node_image(image: &Image) -> Value {
    let names: Vec<&str> = image.digests.iter().chain(&image.tags).map(String::as_str).collect();
    value!({"names": names, "sizeBytes": (i64::try_from(image.size_bytes).unwrap_or(i64::MAX))})
}

fn settings(site: &Site<'_>, port: u16) -> Settings {
    Settings {
        name: site.name.clone(),
        dir: site.dir.join(""),
        run_dir: run_dir(site.dir),
        addresses: vec![address(site.up.listen)],
        pod_cidrs: vec![site.ranges.pod.to_string()],
        cluster_dns: vec![IpAddr::V4(site.ranges.dns())],
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        port,
        version: api::git_version(),
        pods_max: PODS_MAX,
        pids_of_pod_max: site.up.pod_pids_limit.get(),
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
pub fn address(listen: SocketAddr) -> IpAddr {
    let own = Some(listen.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
    own.or_else(|| node_address().map(IpAddr::V4)).unwrap_or_else(|| listen.ip())
}
