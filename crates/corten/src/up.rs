//! `corten up`: everything on this server, in the foreground.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apiserver::http::server::{ConnectionLimits, Server};
use corten_apiserver::http::tls::Tls;
use corten_builtin::bootstrap::{Joining, Network};
use corten_client::Informers;
use corten_gateway::ingress;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::Store;
use tokio::sync::watch;

use crate::access::Access;
use crate::agent::Agent;
use crate::api::{self, Base};
use crate::args::{self, Controllers, Up};
use crate::certificates::{Certificates, Users};
use crate::datadir::{DataDir, RUN};
use crate::demo::Demo;
use crate::dial::Connections;
use crate::edge::doors::Doors;
use crate::inside::Inside;
use crate::pki::Pki;
use crate::progress::Progress;
use crate::ranges::Ranges;
use crate::reach::{self, Reach};
use crate::seams::Seams;
use crate::signals::Signals;
use crate::site::{Site, node_name};
use crate::token_keys::TokenKeys;
use crate::{cluster, controllers, edge, keys, network, node, preflight, store};

/// How long requests and watches may take to end after a signal.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// What is opened before anything is started.
struct Opened {
    ranges: Ranges,
    api: TcpListener,
    /// Of the node's server, where this server is a node.
    node: Option<TcpListener>,
    doors: Option<Doors>,
}

/// Runs until SIGTERM or SIGINT. What cannot work is refused before anything is started.
pub fn run(settings: &Up) -> anyhow::Result<()> {
    let progress = Progress::start();
    preflight::fit(settings)?;
    let seams = Seams::new(Clock::from_environment().map_err(anyhow::Error::msg)?, Random::system());
    let demo = if settings.demo { Some(Demo::find(settings)?) } else { None };
    let dir = DataDir::open(&settings.node.data_dir, &seams.random)?;
    let opened = open(settings, &dir).inspect_err(|_| take_back(&settings.node, &dir))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime")?;
    let site = Site {
        settings: &settings.node,
        name: node_name(&settings.node),
        address: reach::address(settings.listen),
        dir: &dir,
        ranges: opened.ranges,
        seams,
    };
    runtime.block_on(serve(&site, settings, opened, demo, progress))?;
    node::leave(&dir);
    Ok(())
}

/// Leaves everything as it was before a start that was refused.
pub fn take_back(settings: &args::Node, dir: &DataDir) {
    if !dir.is_fresh() {
        return;
    }
    if let Err(error) = edge::address::remove(&settings.data_dir) {
        tracing::warn!(%error, "the address of cluster DNS stays");
    }
    if let Err(error) = Ranges::release(dir.instance()) {
        tracing::warn!(%error, "the note of this server's ranges stays");
    }
    dir.take_back();
}

/// The address ranges and the sockets of this server, as far as they can be had.
fn open(settings: &Up, dir: &DataDir) -> anyhow::Result<Opened> {
    let ranges = Ranges::open(settings, dir.instance())?;
    let api = preflight::listen(settings.listen, "--listen ADDR:PORT")?;
    let is_node = settings.controllers == Controllers::All;
    let node = if is_node { Some(preflight::listen_node(settings.node.node_listen)?) } else { None };
    let doors = if is_node { Doors::open(&settings.node, &Path::new(RUN).join(dir.instance()))? } else { None };
    if settings.network == args::Network::All {
        ranges.claim(&settings.node.data_dir, dir.instance())?;
    }
    let doors = match doors {
        Some(doors) if settings.network == args::Network::All => Some(doors.with_names(dir, ranges.dns())?),
        other => other,
    };
    Ok(Opened { ranges, api, node, doors })
}

/// A signal ends it in order at any time, also while it starts.
async fn serve(site: &Site<'_>, up: &Up, opened: Opened, demo: Option<Demo>, progress: Progress) -> anyhow::Result<()> {
    let mut signals = Signals::take()?;
    let store = open_store(site, &progress)?;
    let lives = async {
        let started = start(site, up, opened, &store, &progress).await?;
        if let Some(demo) = demo {
            progress.demo(&demo.start(up, &started.inside, &started.edge.unwrap_or_default()).await?)?;
        }
        std::future::pending().await
    };
    let ended = tokio::select! {
        () = signals.end() => Ok(()),
        failed = lives => failed,
    };
    drain(&site.seams.tasks).await;
    // Behind them, so that every answered write is on the disk and nothing else is.
    let closed = store.close().await.context("the store could not be closed cleanly; the next start checks it");
    // Where both failed the first one is the cause; the other is told all the same.
    if ended.is_err()
        && let Err(error) = &closed
    {
        tracing::error!(error = format!("{error:#}"), "the store");
    }
    ended.and(closed)
}

/// What a server is once it has started.
struct Started {
    inside: Inside,
    /// Where the edge is reached, if there is one.
    edge: Option<String>,
}

async fn start(
    site: &Site<'_>,
    up: &Up,
    opened: Opened,
    store: &Arc<dyn Store>,
    progress: &Progress,
) -> anyhow::Result<Started> {
    let Site { dir, ranges, seams, .. } = site;
    let Seams { clock, random, tasks } = seams;
    let address = opened.api.local_addr()?;
    let kubeconfig = dir.join("admin.kubeconfig");
    let pki = Pki::open(&dir.join("pki"), clock.clone())?;
    let certificates = Certificates::new(pki, &site.name, address, ranges.api(), &kubeconfig);
    let in_use = certificates.current()?;
    let tls = Arc::new(Tls::new(certificates.material(&in_use)?, clock.clone())?);
    let connections = Arc::new(Connections::new(certificates.node_client(&in_use)?, clock.clone())?);
    let (node, identity) = watch::channel(certificates.node_identity(&in_use)?);
    progress.part("certificates", &dir.join("pki").display().to_string())?;

    let Reach { doors, endpoint } = reach::open(opened.api, ranges.pod)?;
    let token_keys = TokenKeys::open(&dir.join("pki").join("service-accounts.pem"), clock)?;
    let reached = endpoint.filter(|_| !address.ip().is_loopback());
    let base = Base {
        store: store.clone(),
        keys: keys::open(&dir.join("keys"), random)?,
        signing: token_keys.keys.clone(),
        external: endpoint.map_or(address, SocketAddr::V4),
        network: Network { services: ranges.service, endpoint },
        dial: connections.clone(),
        published: vec![certificates.authorities().object(), joining(ranges, &certificates, reached).object()],
        kinds: if up.controllers == Controllers::All { vec![corten_notify::kind::definition()] } else { Vec::new() },
        measures: up.controllers == Controllers::All,
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
    };
    tasks.spawn("token-keys", token_keys.keep(clock.clone(), tasks.stopped()));
    let api = api::start(base).await?;
    Server::start(doors, tls.clone(), api.clone(), ConnectionLimits::default(), tasks)?;
    progress.part("api", certificates.server_url())?;
    let inside = Inside { api, seams: seams.clone() };
    let running = start_controllers(site, up, &inside, &certificates).await?;
    progress.part("controllers", &running.to_string())?;
    let access = Access::inside(&inside, &site.name);
    let reading = seams.informers(access.data_path("corten-edge"));
    let network = up.network == args::Network::All;
    let agent = Agent {
        access: access.clone(),
        reading: reading.clone(),
        listener: opened.node,
        identity: Box::pin(std::future::ready(Ok(identity))),
        dial: connections.clone(),
        network,
        number: cluster::network_number(certificates.authority_pem())?,
        doors: opened.doors,
    };
    let edge = agent.start(site, progress).await?;
    if network {
        network::start_balancer(site, &inside, &reading);
    }
    if edge.is_some() {
        start_status(site, &access, &reading);
    }
    let users = Users { tls, connections, node };
    tasks.spawn("certificates", certificates.keep(in_use, users, clock.clone(), tasks.stopped()));
    progress.done(&kubeconfig)?;
    Ok(Started { inside, edge })
}

fn open_store(site: &Site<'_>, progress: &Progress) -> anyhow::Result<Arc<dyn Store>> {
    let Seams { clock, random, .. } = &site.seams;
    let store = store::open(&site.dir.join("store"), clock.clone(), random)?;
    let status = store.status();
    progress.part("store", &format!("{} objects at revision {}", status.objects, status.revision))?;
    Ok(Arc::new(store))
}

/// Tells in Ingresses where they are reached; on a server that others cannot reach, at itself.
fn start_status(site: &Site<'_>, access: &Access, reading: &Informers) {
    let address = site.outside_address().unwrap_or(Ipv4Addr::LOCALHOST);
    let ports = [site.settings.http_port, site.settings.https_port].into_iter().filter(|port| *port != 0);
    let client = access.data_path(ingress::status::AGENT);
    let ports: Vec<u16> = ports.collect();
    ingress::status::controller(reading, address, &ports, client).run(&site.seams.driver());
}

/// What a server has to know to join; `reached` is where it finds the API, if it can.
fn joining(ranges: &Ranges, certificates: &Certificates, reached: Option<SocketAddrV4>) -> Joining {
    Joining {
        server: reached.map(|endpoint| cluster::server_url(endpoint.into())),
        authority: STANDARD.encode(certificates.authority_pem()),
        pods: ranges.pod,
        services: ranges.service,
    }
}

/// Starts the controllers that this server has, and gives their number.
async fn start_controllers(
    site: &Site<'_>,
    up: &Up,
    inside: &Inside,
    certificates: &Certificates,
) -> anyhow::Result<usize> {
    if up.controllers == Controllers::None {
        return Ok(0);
    }
    let told = controllers::Settings {
        authority_pem: certificates.authority_pem(),
        node_grace: up.node_grace,
        weighs_use: up.weigh_use,
        pods: site.ranges.node_source(site.settings.max_pods),
        signer: Arc::new(certificates.signer()?),
    };
    Ok(controllers::start(inside, &told).await.len())
}

/// Ends what runs.
pub async fn drain(tasks: &Tasks) {
    let left = tasks.stop(DRAIN_MAX).await;
    if left > 0 {
        tracing::warn!(left, names = ?tasks.names(), "tasks did not end in time");
    }
}
