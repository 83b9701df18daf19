//! The node's network: the kernel's table of Services.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use corten_apiserver::auth::{AUTHENTICATED, User};
use corten_apiserver::http::pipeline::Api;
use corten_client::Informers;
use corten_client::controller::{Driver, Leadership};
use corten_gateway::services::{self, DataPath};
use corten_kubelet::Traffic;
use corten_network::services::{Services, Settings};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_sys::namespace::NetNs;
use futures_core::future::BoxFuture;

use crate::controllers::InProcess;
use crate::datadir::DataDir;
use crate::ranges::Ranges;

/// Upstream's role for node proxies is bound to this name.
const READER: &str = "system:kube-proxy";

/// Fills the kernel's table and keeps it. Resolves when it is complete.
pub async fn start(
    node: &str,
    dir: &DataDir,
    ranges: &Ranges,
    api: &Arc<Api>,
    clock: &Clock,
    random: &Random,
    tasks: &Tasks,
) -> anyhow::Result<Arc<dyn Traffic>> {
    let kernel = Services::open(settings(dir, ranges)?)
        .context("the network needs root; `--network none` leaves it to others")?;
    let user = User { name: READER.into(), groups: vec![AUTHENTICATED.into()], ..User::default() };
    let reader = InProcess::client(api, user, "kube-proxy");
    let informers = Informers::new(reader, clock.clone(), random.clone(), tasks.clone());
    let told = services::Settings { node: node.to_owned(), own_addresses: vec![ranges.dns()] };
    let (controller, data_path) = services::controller(&informers, told, kernel);
    let driver = Driver {
        clock: clock.clone(),
        random: random.clone(),
        tasks: tasks.clone(),
        // Each node has a kernel of its own.
        leadership: Leadership::alone(),
    };
    controller.run(&driver);
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

fn settings(dir: &DataDir, ranges: &Ranges) -> anyhow::Result<Settings> {
    let range = |net: ipnet::Ipv4Net| {
        corten_network::Range::new(net.addr(), net.prefix_len()).context("a prefix is 32 at most")
    };
    Ok(Settings {
        instance: dir.instance().to_owned(),
        cluster_range: range(ranges.pod)?,
        // One server: all pods are here.
        node_range: range(ranges.pod)?,
        service_range: range(ranges.service)?,
        host: NetNs::current().context("the network namespace")?,
    })
}
