//! The node's network: the kernel's table of Services, and the address of those that want a balancer.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Context as _;
use corten_apiserver::auth::User;
use corten_client::Informers;
use corten_client::events::Form;
use corten_gateway::balancer;
use corten_gateway::services::{self, DataPath};
use corten_kubelet::Traffic;
use corten_network::services::{Services, Settings};
use corten_sys::namespace::NetNs;
use futures_core::future::BoxFuture;

use crate::inside::{Inside, service_account, user};
use crate::site::Site;
use crate::{node, preflight};

/// What the data path of a node is allowed: to read what leads to pods, and to say where Ingresses are reached.
const GROUP: &str = "corten:edges";

/// Who gives balancers' addresses; upstream's role is bound to its service account.
const BALANCER: &str = "service-controller";

/// This node's data path as a user.
pub fn identity(site: &Site<'_>) -> User {
    user(&format!("corten:edge:{}", site.name), &[GROUP])
}

/// One set of caches for everything that leads to pods: the kernel's table, names, routes.
pub fn reading(site: &Site<'_>, inside: &Inside) -> Informers {
    inside.informers(inside.client(identity(site), "corten-edge"))
}

/// The address of this server that others can reach, if it has one.
pub fn outside_address(site: &Site<'_>) -> Option<Ipv4Addr> {
    match node::address(site.up.listen) {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => Some(address),
        _ => None,
    }
}

/// Fills the kernel's table and keeps it. Resolves when it is complete.
pub async fn start(site: &Site<'_>, inside: &Inside, reading: &Informers) -> anyhow::Result<Arc<dyn Traffic>> {
    let kernel =
        Services::open(settings(site)?).context("the network needs root; `--network none` leaves it to others")?;
    let told = services::Settings { node: site.name.clone(), own_addresses: vec![site.ranges.dns()] };
    let (controller, data_path) = services::controller(reading, told, kernel);
    // Each node has a kernel of its own.
    controller.run(&inside.driver());
    if let Some(address) = outside_address(site) {
        let client = inside.client(service_account(BALANCER), balancer::AGENT);
        let form = Form::Counted { component: BALANCER.into(), host: "".into() };
        let recorder = inside.recorder(form, client.clone());
        let told = balancer::Settings { address, busy: Box::new(move || preflight::listening(address)) };
        balancer::controller(reading, told, client, recorder).run(&inside.driver());
    }
    data_path.written().await;
    Ok(Arc::new(Leading(data_path)))
}

/// The kernel's table as the node's pods see it when they end.
struct Leading(DataPath);

impl Traffic for Leading {
    fn left(&self, address: IpAddr) -> BoxFuture<'_, ()> {
        Box::pin(self.0.left(address))
    }
}

fn settings(site: &Site<'_>) -> anyhow::Result<Settings> {
    let ranges = &site.ranges;
    let range = |net: ipnet::Ipv4Net| {
        corten_network::Range::new(net.addr(), net.prefix_len()).context("a prefix is 32 at most")
    };
    Ok(Settings {
        instance: site.dir.instance().to_owned(),
        cluster_range: range(ranges.pod)?,
        // One server: all pods are here.
        node_range: range(ranges.pod)?,
        service_range: range(ranges.service)?,
        host: NetNs::current().context("the network namespace")?,
    })
}
