//! The node's network: the kernel's table of Services, and the address of those that want a balancer.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use corten_client::Informers;
use corten_client::events::Form;
use corten_gateway::services::{self, DataPath};
use corten_gateway::{balancer, peers};
use corten_kubelet::Traffic;
use corten_network::Range;
use corten_network::overlay::{self, Overlay};
use corten_network::services::{Services, Settings};
use corten_sys::namespace::NetNs;
use futures_core::future::BoxFuture;
use ipnet::Ipv4Net;

use crate::inside::{Inside, service_account};
use crate::preflight;
use crate::site::Site;

/// Who gives balancers' addresses; upstream's role is bound to its service account.
const BALANCER: &str = "service-controller";

/// Fills the kernel's table and keeps it. Resolves when it is complete. `own` is the range of this node's pods.
pub async fn start(site: &Site<'_>, reading: &Informers, own: Ipv4Net) -> anyhow::Result<Arc<dyn Traffic>> {
    let kernel =
        Services::open(settings(site, own)?).context("the network needs root; `--network none` leaves it to others")?;
    let told = services::Settings { node: site.name.clone(), own_addresses: vec![site.ranges.dns()] };
    let (controller, data_path) = services::controller(reading, told, kernel);
    // Each node has a kernel of its own.
    controller.run(&site.seams.driver());
    data_path.written().await;
    Ok(Arc::new(Leading(data_path)))
}

/// Leads to the pods of other servers, as soon as there are some. `number` tells the cluster's network from others at the same
/// port. A server that others cannot reach stays alone.
pub fn start_overlay(site: &Site<'_>, reading: &Informers, own: Ipv4Net, number: u32) -> anyhow::Result<()> {
    let Some(address) = site.outside_address() else { return Ok(()) };
    let overlay = Overlay::open(overlay::Settings {
        instance: site.dir.instance().to_owned(),
        node_range: range(own)?,
        cluster_range: range(site.ranges.pod)?,
        address,
        mtu: None,
        port: overlay::PORT,
        number,
        host: NetNs::current().context("the network namespace")?,
    })?;
    peers::controller(reading, site.name.clone(), overlay).run(&site.seams.driver());
    Ok(())
}

/// Gives Services that want a balancer this server's address, if others can reach it.
pub fn start_balancer(site: &Site<'_>, inside: &Inside, reading: &Informers) {
    let Some(address) = site.outside_address() else { return };
    let client = inside.client(service_account(BALANCER), balancer::AGENT);
    let form = Form::Counted { component: BALANCER.into(), host: "".into() };
    let recorder = site.seams.recorder(form, client.clone());
    let told = balancer::Settings { address, busy: Box::new(move || preflight::listening(address)) };
    balancer::controller(reading, told, client, recorder).run(&site.seams.driver());
}

/// The kernel's table as the node's pods see it when they end.
struct Leading(DataPath);

impl Traffic for Leading {
    fn left(&self, address: IpAddr) -> BoxFuture<'_, ()> {
        Box::pin(self.0.left(address))
    }
}

/// A range as the network has it.
pub fn range(net: Ipv4Net) -> anyhow::Result<Range> {
    Range::new(net.addr(), net.prefix_len()).context("a prefix is 32 at most")
}

fn settings(site: &Site<'_>, own: Ipv4Net) -> anyhow::Result<Settings> {
    let ranges = &site.ranges;
    Ok(Settings {
        instance: site.dir.instance().to_owned(),
        cluster_range: range(ranges.pod)?,
        node_range: range(own)?,
        service_range: range(ranges.service)?,
        host: NetNs::current().context("the network namespace")?,
    })
}
