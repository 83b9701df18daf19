//! This server as a node of the cluster: who it is to the API server, and what it is told.

use std::net::{IpAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::events::{Form, Recorder};
use corten_image::{self as image, Image};
use corten_kubelet::eviction::gauge::OfMachine;
use corten_kubelet::eviction::{self, pressure};
use corten_kubelet::node;
use corten_kubelet::reading::Reading;
use corten_kubelet::server::{Identity, Server};
use corten_kubelet::{Parts, Settings, Traffic};
use corten_network::pods;
use corten_runtime::own as runtime;
use corten_sys::cgroup::Hierarchies;
use corten_sys::namespace::NetNs;
use ipnet::Ipv4Net;
use tokio::sync::watch;

use crate::access::Access;
use crate::datadir::{self, DataDir};
use crate::dial::Connections;
use crate::edge::start::asked_at;
use crate::edge::talk::Asked;
use crate::neighbours::Neighbours;
use crate::site::Site;
use crate::{api, network};

/// The name in the cluster's own zone.
pub const CLUSTER_DOMAIN: &str = "cluster.local";

/// A node that the API server knows.
pub struct Registered {
    node: node::Node,
    images: image::Store,
    settings: Settings,
    recorder: Recorder,
    pressure: pressure::Shared,
    /// Of its pods' addresses.
    pub range: Ipv4Net,
}

/// What the node needs beside the site and the API.
pub struct Node {
    /// What leads to pods, if this server sees to that.
    pub traffic: Option<Arc<dyn Traffic>>,
    /// Where the node's own server listens, and who it is.
    pub listener: TcpListener,
    pub identity: watch::Receiver<Identity>,
    /// To the other nodes' servers.
    pub dial: Arc<Connections>,
}

/// Registers this server under its name. Resolves when it has a range for its pods.
///
/// # Errors
/// When the API server refuses it.
pub async fn register(site: &Site<'_>, access: &Access, port: u16) -> anyhow::Result<Registered> {
    let settings = settings(site, port);
    let images = images(site)?;
    let listed = images.clone();
    let list = move || image::Images::list(&listed).iter().map(|image| node_image(image)).collect();
    let form = Form::Counted { component: "kubelet".into(), host: site.name.as_str().into() };
    let recorder = site.seams.recorder(form, access.kubelet());
    let clock = site.seams.clock.clone();
    let pressure = pressure::Shared::default();
    let (client, told) = (access.kubelet(), pressure.clone());
    let mut node = node::Node::new(client, settings.clone(), clock, recorder.clone(), told, list);
    let refused = || format!("the node {} cannot be registered", site.name);
    node.register().await.with_context(refused)?;
    let range = node.range().await.with_context(refused)?;
    let range = range.parse().with_context(|| format!("the range of this node's pods, {range}"))?;
    Ok(Registered { node, images, settings, recorder, pressure, range })
}

/// Takes over what runs, and keeps the node. The answer tells of its pods.
pub async fn start(site: &Site<'_>, access: &Access, registered: Registered, node: Node) -> anyhow::Result<Reading> {
    let Node { traffic, listener, identity, dial } = node;
    let Registered { node: object, images, settings, recorder, pressure, range } = registered;
    let run_dir = settings.run_dir.clone();
    let engine = Arc::new(engine(site, &settings).await?);
    let (clock, tasks, client) = (site.seams.clock.clone(), site.seams.tasks.clone(), access.kubelet());
    let informers = site.seams.informers(client.clone());
    let own = informers.of(node::scope(&site.name));
    tasks.spawn("node", object.keep(own, tasks.stopped()));
    let reader = access.data_path("corten-images");
    let neighbours = Neighbours { store: images.clone(), client: reader, dial, own: site.name.clone() };
    let images_dir = datadir::content(&site.settings.data_dir)?;
    let parts = Parts {
        gauges: Arc::new(OfMachine { dir: settings.dir.clone(), images: images_dir }),
        pressure,
        settings,
        engine: engine.clone(),
        images: Arc::new(neighbours),
        network: Arc::new(links(site, range)?),
        traffic,
        informers,
        recorder,
        client,
        clock: clock.clone(),
        random: site.seams.random.clone(),
        tasks: tasks.clone(),
    };
    let reading = corten_kubelet::start(parts).await?;
    let (node, dir) = (site.name.clone(), site.dir.join(""));
    let (host, images) = (Arc::new(reading.clone()), Arc::new(images));
    let edge = Arc::new(Asked(asked_at(&run_dir)));
    let server = Server { node, dir, identity, host, engine, images, edge, clock, tasks };
    listener.set_nonblocking(true)?;
    server.start(tokio::net::TcpListener::from_std(listener)?)?;
    Ok(reading)
}

/// This server's own way to run containers.
async fn engine(site: &Site<'_>, settings: &Settings) -> anyhow::Result<runtime::Own> {
    let own = runtime::Settings {
        instance: site.dir.instance().to_owned(),
        pods: settings.pods(),
        sockets: settings.run_dir.join("pods"),
        hierarchies: Hierarchies::detect().context("the control groups of this server")?,
        tasks: site.seams.tasks.clone(),
        clock: site.seams.clock.clone(),
    };
    runtime::Own::open(own).await.context("the runtime")
}

/// The images of this server, from now on collected when nobody needs them.
fn images(site: &Site<'_>) -> anyhow::Result<image::Store> {
    let content = datadir::content(&site.settings.data_dir)?;
    let seams = &site.seams;
    let settings = image::Settings::new(seams.clock.clone(), seams.random.clone(), seams.tasks.clone());
    let images = image::Store::open(&content, settings).context("the images")?;
    seams.tasks.spawn("image-collection", images.clone().keep_collecting(seams.tasks.stopped()));
    Ok(images)
}

/// The links of pods, with addresses of a range.
fn links(site: &Site<'_>, own: Ipv4Net) -> anyhow::Result<pods::Pods> {
    let settings = pods::Settings {
        instance: site.dir.instance().to_owned(),
        node_range: network::range(own)?,
        cluster_range: network::range(site.ranges.pod)?,
        mtu: None,
        host: NetNs::current().context("the network of this server")?,
        records: datadir::RUN.into(),
    };
    pods::Pods::open(settings).context("the network of pods")
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
        addresses: vec![site.address],
        cluster_dns: vec![IpAddr::V4(site.ranges.dns())],
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        port,
        version: api::git_version(),
        pods_max: site.settings.max_pods.into(),
        pids_of_pod_max: site.settings.pod_pids_limit.get(),
        eviction: eviction::Settings {
            hard: site.settings.eviction_hard.clone(),
            transition: site.settings.eviction_pressure_transition_period,
        },
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
