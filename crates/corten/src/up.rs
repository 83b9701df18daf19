//! `corten up`: everything on this server, in the foreground.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use corten_apiserver::http::server::{ConnectionLimits, Server};
use corten_apiserver::http::tls::Tls;
use corten_builtin::bootstrap::Network;
use corten_client::Informers;
use corten_gateway::zones;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::api::{self, Base};
use crate::args::{self, Controllers, Up};
use crate::certificates::{Certificates, Users};
use crate::datadir::{DataDir, RUN};
use crate::demo::Demo;
use crate::dial::Connections;
use crate::edge::doors::Doors;
use crate::edge::publish::Publisher;
use crate::edge::start::Place;
use crate::inside::Inside;
use crate::node::Node;
use crate::pki::{EdgeAuthority, Pki};
use crate::progress::Progress;
use crate::ranges::Ranges;
use crate::reach::{self, Reach};
use crate::site::Site;
use crate::token_keys::TokenKeys;
use crate::{controllers, edge, files, keys, network, node, preflight, store};

/// How long requests and watches may take to end after a signal.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT. What cannot work is refused before anything is started.
pub fn run(settings: &Up) -> anyhow::Result<()> {
    let progress = Progress::start();
    preflight::fit(settings)?;
    let clock = Clock::from_environment().map_err(anyhow::Error::msg)?;
    let random = Random::system();
    let demo = if settings.demo { Some(Demo::find(settings)?) } else { None };
    let dir = DataDir::open(&settings.data_dir, &random)?;
    let (ranges, listener, doors) = open(settings, &dir).inspect_err(|_| take_back(settings, &dir))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime")?;
    let site = Site::new(settings, &dir, ranges, clock, random);
    runtime.block_on(serve(&site, listener, doors, demo, progress))?;
    node::leave(&dir);
    Ok(())
}

/// Leaves everything as it was before a start that was refused.
fn take_back(settings: &Up, dir: &DataDir) {
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
fn open(settings: &Up, dir: &DataDir) -> anyhow::Result<(Ranges, TcpListener, Option<Doors>)> {
    let ranges = Ranges::open(settings, dir.instance())?;
    let listener = preflight::listen(settings.listen, "--listen ADDR:PORT")?;
    let doors = match settings.controllers {
        Controllers::All => Doors::open(settings, &Path::new(RUN).join(dir.instance()))?,
        Controllers::None => None,
    };
    if settings.network == args::Network::All {
        ranges.claim(&settings.data_dir, dir.instance())?;
    }
    let doors = match doors {
        Some(doors) if settings.network == args::Network::All => Some(doors.with_names(dir, ranges.dns())?),
        other => other,
    };
    Ok((ranges, listener, doors))
}

async fn serve(
    site: &Site<'_>,
    listener: TcpListener,
    edge_doors: Option<Doors>,
    demo: Option<Demo>,
    progress: Progress,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let Site { up, dir, ranges, clock, random, tasks, .. } = site;

    let store: Arc<dyn Store> = Arc::new(store::open(&dir.join("store"), clock.clone(), random)?);
    let status = store.status();
    progress.part("store", &format!("{} objects at revision {}", status.objects, status.revision))?;

    let address = listener.local_addr()?;
    let kubeconfig = dir.join("admin.kubeconfig");
    let pki = Pki::open(&dir.join("pki"), clock.clone())?;
    let certificates = Certificates::new(pki, &site.name, address, ranges.api(), &kubeconfig);
    let in_use = certificates.current()?;
    let tls = Arc::new(Tls::new(certificates.material(&in_use)?, clock.clone())?);
    let connections = Arc::new(Connections::new(certificates.node_client(&in_use)?)?);
    let (node, identity) = watch::channel(certificates.node_identity(&in_use)?);
    progress.part("certificates", &dir.join("pki").display().to_string())?;

    let Reach { doors, endpoint } = reach::open(listener, ranges.pod)?;
    let token_keys = TokenKeys::open(&dir.join("pki").join("service-accounts.pem"), clock)?;
    let base = Base {
        store: store.clone(),
        keys: keys::open(&dir.join("keys"), random)?,
        signing: token_keys.keys.clone(),
        external: endpoint.map_or(address, SocketAddr::V4),
        network: Network { services: ranges.service, endpoint },
        dial: connections.clone(),
        authorities: certificates.authorities(),
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
    };
    tasks.spawn("token-keys", token_keys.keep(clock.clone(), tasks.stopped()));
    let api = api::start(base).await?;
    Server::start(doors, tls.clone(), api.clone(), ConnectionLimits::default(), tasks)?;
    progress.part("api", certificates.server_url())?;
    let inside = Inside { api, clock: clock.clone(), random: random.clone(), tasks: tasks.clone() };
    let running = start_controllers(site, &inside, certificates.authority_pem()).await;
    progress.part("controllers", &running.to_string())?;
    let reading = network::reading(site, &inside);
    let mut traffic = None;
    if up.network == args::Network::All {
        traffic = Some(network::start(site, &inside, &reading).await?);
        progress.part("network", &format!("pods {}, services {}", ranges.pod, ranges.service))?;
    }
    if up.controllers == Controllers::All {
        let listener = preflight::listen_node(up.node_listen)?;
        let pods = node::start(site, &inside, Node { traffic, listener, identity }).await?.all().len();
        progress.part("node", &format!("{}, {pods} pods", site.name))?;
    }
    let mut edge = None;
    if let Some(doors) = edge_doors {
        let url = start_edge(site, &inside, &reading, doors).await?;
        progress.part("edge", &url)?;
        edge = Some(url);
    }
    let users = Users { tls, connections, node };
    tasks.spawn("certificates", certificates.keep(in_use, users, clock.clone(), tasks.stopped()));
    progress.done(&kubeconfig)?;

    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        failed = show(demo, up, &inside, edge, &progress) => failed,
    };
    drain(tasks, &*store).await?;
    ended
}

/// Brings the demo up, if there is one; resolves only where that fails.
async fn show(
    demo: Option<Demo>,
    up: &Up,
    inside: &Inside,
    edge: Option<String>,
    progress: &Progress,
) -> anyhow::Result<()> {
    if let Some(demo) = demo {
        progress.demo(&demo.start(up, inside, &edge.unwrap_or_default()).await?)?;
    }
    std::future::pending().await
}

/// Starts the controllers that this server has, and gives their number.
async fn start_controllers(site: &Site<'_>, inside: &Inside, authority_pem: &str) -> usize {
    match site.up.controllers {
        Controllers::All => {
            let pods = site.ranges.node_source();
            let told = controllers::Settings { authority_pem, node_grace: site.up.node_grace, pods };
            controllers::start(inside, &told).await.len()
        }
        Controllers::None => 0,
    }
}

/// Starts or finds the edge, and keeps it up to date. Gives where it is reached.
async fn start_edge(site: &Site<'_>, inside: &Inside, reading: &Informers, doors: Doors) -> anyhow::Result<String> {
    let Site { dir, ranges, clock, random, tasks, .. } = site;
    let names = zones::Settings { domain: node::CLUSTER_DOMAIN.to_owned(), upstreams: upstreams(ranges.dns())? };
    let (told, url) = (controllers::start_edge(site, inside, reading, names).await, doors.url());
    let place = Place::open(dir, doors.run_dir(), random)?;
    let authority = EdgeAuthority::open(&dir.join("pki"), clock.clone())?;
    let mut publisher = Publisher::new(place, doors.https_port(), authority, clock.clone(), random.clone());
    let (first, zones) = (told.wanted.borrow().clone().unwrap_or_default(), told.zones.borrow().clone());
    publisher.write(&first, &zones)?;
    edge::start::start(doors, publisher.place(), dir.instance(), clock).await?;
    publisher.tell().await?;
    tasks.spawn("edge", publisher.keep(told, tasks.stopped()));
    Ok(url)
}

/// The servers that this node asks for names, without cluster DNS itself: it would ask itself.
fn upstreams(dns: Ipv4Addr) -> anyhow::Result<Vec<SocketAddr>> {
    let text = files::read_if_there(Path::new("/etc/resolv.conf"))?.unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.trim().parse::<IpAddr>().ok()).filter(|address| *address != dns);
    Ok(addresses.map(|address| SocketAddr::new(address, 53)).collect())
}

/// Ends what runs, then the store, so that every answered write is on the disk and nothing else is.
async fn drain(tasks: &Tasks, store: &dyn Store) -> anyhow::Result<()> {
    let left = tasks.stop(DRAIN_MAX).await;
    if left > 0 {
        tracing::warn!(left, names = ?tasks.names(), "tasks did not end in time");
    }
    store.close().await.context("the store could not be closed cleanly; the next start checks it")
}
