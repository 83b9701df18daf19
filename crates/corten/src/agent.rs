//! What every server of a cluster runs: its node, its network and its edge, over whichever way to the API.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use corten_client::Informers;
use corten_dns::Zones;
use corten_gateway::{ingress, zones};
use corten_kubelet::server::Identity;
use futures_core::future::BoxFuture;
use tokio::sync::watch;

use crate::access::Access;
use crate::dial::Connections;
use crate::edge::doors::Doors;
use crate::edge::publish::{FromApi, Publisher};
use crate::edge::start::Place;
use crate::node::{self, Node};
use crate::pki::EdgeAuthority;
use crate::progress::Progress;
use crate::site::Site;
use crate::{edge, files, network};

/// What a server brings for that.
pub struct Agent<'a> {
    pub access: Access,
    /// Caches of everything that leads to pods, under the data path's identity.
    pub reading: Informers,
    /// Of the node's own server; `None` where somebody else runs the pods.
    pub listener: Option<TcpListener>,
    /// Who that is, asked once the cluster knows the node.
    pub identity: BoxFuture<'a, anyhow::Result<watch::Receiver<Identity>>>,
    /// To the other nodes' servers.
    pub dial: Arc<Connections>,
    /// Whether the kernel is told of Services.
    pub network: bool,
    /// Of the cluster's network between servers.
    pub number: u32,
    pub doors: Option<Doors>,
}

impl Agent<'_> {
    /// Starts all of it, a part after the other. Gives where the edge is reached, if there is one.
    pub async fn start(self, site: &Site<'_>, progress: &Progress) -> anyhow::Result<Option<String>> {
        let Self { access, reading, listener, identity, dial, network, number, doors } = self;
        let mut registered = None;
        if let Some(listener) = listener {
            let port = listener.local_addr()?.port();
            registered = Some((node::register(site, &access, port).await?, listener));
        }
        // Without a node of ours, all pods may be here.
        let own = registered.as_ref().map_or(site.ranges.pod, |(node, _)| node.range);
        let mut traffic = None;
        if network {
            traffic = Some(network::start(site, &reading, own).await?);
            progress.part("network", &format!("pods {own}, services {}", site.ranges.service))?;
        }
        if let Some((registered, listener)) = registered {
            if network {
                network::start_overlay(site, &reading, own, number)?;
            }
            let node = Node { traffic, listener, identity: identity.await?, dial };
            let pods = node::start(site, &access, registered, node).await?.all().len();
            progress.part("node", &format!("{}, {pods} pods", site.name))?;
        }
        let Some(doors) = doors else { return Ok(None) };
        let url = start_edge(site, &reading, doors).await?;
        progress.part("edge", &url)?;
        Ok(Some(url))
    }
}

/// Starts or finds the edge, and keeps it up to date. Gives where it is reached.
async fn start_edge(site: &Site<'_>, reading: &Informers, doors: Doors) -> anyhow::Result<String> {
    let Site { dir, ranges, seams, .. } = site;
    let names = zones::Settings { domain: node::CLUSTER_DOMAIN.to_owned(), upstreams: upstreams(ranges.dns())? };
    let (told, url) = (follow(site, reading, names).await, doors.url());
    let place = Arc::new(Place::open(dir, doors.run_dir(), &seams.random)?);
    let authority = EdgeAuthority::open(&dir.join("pki"), seams.clock.clone())?;
    let mut publisher =
        Publisher::new(place.clone(), doors.https_port(), authority, seams.clock.clone(), seams.random.clone());
    let (first, zones) = (told.wanted.borrow().clone().unwrap_or_default(), told.zones.borrow().clone());
    publisher.write(&first, &zones)?;
    let guard = edge::start::start(doors, &place, dir.instance(), &seams.clock).await?;
    publisher.tell().await?;
    let guarded = guard.keep(place, dir.instance().to_owned(), seams.clock.clone(), seams.tasks.stopped());
    seams.tasks.spawn("edge's holder", guarded);
    seams.tasks.spawn("edge", publisher.keep(told, seams.tasks.stopped()));
    Ok(url)
}

/// Routes and names of the edge as the API says, from now on.
async fn follow(site: &Site<'_>, reading: &Informers, names: zones::Settings) -> FromApi {
    let (out, mut wanted) = watch::channel(None);
    let driver = site.seams.driver();
    let (out_zones, mut zones_told) = watch::channel(Arc::<Zones>::default());
    ingress::controller(reading, out).run(&driver);
    zones::controller(reading, names, out_zones).run(&driver);
    // An error means that the family of tasks is gone, and with it whoever waits.
    let routes = wanted.wait_for(Option::is_some).await.is_ok();
    let names = zones_told.wait_for(|zones| !zones.domain.is_empty()).await.is_ok();
    if !routes || !names {
        tracing::debug!("no routes or names: the tasks have ended");
    }
    FromApi { wanted, zones: zones_told }
}

/// The servers that this node asks for names, without cluster DNS itself: it would ask itself.
fn upstreams(dns: Ipv4Addr) -> anyhow::Result<Vec<SocketAddr>> {
    let text = files::read_if_there(Path::new("/etc/resolv.conf"))?.unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.trim().parse::<IpAddr>().ok()).filter(|address| *address != dns);
    Ok(addresses.map(|address| SocketAddr::new(address, 53)).collect())
}
