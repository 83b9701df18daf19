//! The node's network: the kernel's table of Services.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use corten_gateway::services::{self, DataPath};
use corten_kubelet::Traffic;
use corten_network::services::{Services, Settings};
use corten_sys::namespace::NetNs;
use futures_core::future::BoxFuture;

use crate::inside::{Inside, user};
use crate::site::Site;

/// Upstream's role for node proxies is bound to this name.
const READER: &str = "system:kube-proxy";

/// Fills the kernel's table and keeps it. Resolves when it is complete.
pub async fn start(site: &Site<'_>, inside: &Inside) -> anyhow::Result<Arc<dyn Traffic>> {
    let kernel =
        Services::open(settings(site)?).context("the network needs root; `--network none` leaves it to others")?;
    let informers = inside.informers(inside.client(user(READER, &[]), "kube-proxy"));
    let told = services::Settings { node: site.name.clone(), own_addresses: vec![site.ranges.dns()] };
    let (controller, data_path) = services::controller(&informers, told, kernel);
    // Each node has a kernel of its own.
    controller.run(&inside.driver());
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
