//! This server as a node of the cluster: who it is to the API server, and what it is told.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use corten_apiserver::auth::{AUTHENTICATED, User};
use corten_apiserver::http::pipeline::Api;
use corten_client::Client;
use corten_kubelet::Settings;
use corten_kubelet::node::Node;
use corten_stdx::clock::Clock;
use corten_stdx::task::Tasks;

use crate::api;
use crate::args::Up;
use crate::controllers::InProcess;
use crate::datadir::DataDir;
use crate::ranges::Ranges;
use crate::reach::node_address;

/// The name in the cluster's own zone.
const CLUSTER_DOMAIN: &str = "cluster.local";
const PORT: u16 = 10250;
const PODS_MAX: i64 = 110;
/// The address of DNS, counted from the start of the Service range.
const DNS_OFFSET: u32 = 10;

/// Registers the node and keeps it. Resolves when the API server has it as ready.
pub async fn start(
    up: &Up,
    name: &str,
    dir: &DataDir,
    ranges: &Ranges,
    api: &Arc<Api>,
    clock: &Clock,
    tasks: &Tasks,
) -> anyhow::Result<()> {
    let settings = settings(up, name, dir, ranges);
    let mut node = Node::new(client(api, name), settings, clock.clone(), Vec::new);
    node.register().await.with_context(|| format!("the node {name} cannot be registered"))?;
    tasks.spawn("node", node.keep(tasks.stopped()));
    Ok(())
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

fn settings(up: &Up, name: &str, dir: &DataDir, ranges: &Ranges) -> Settings {
    let dns = u32::from(ranges.service.network()) + DNS_OFFSET;
    Settings {
        name: name.to_owned(),
        dir: dir.join(""),
        run_dir: PathBuf::from("/run/corten").join(dir.instance()),
        addresses: vec![address(up.listen)],
        pod_cidrs: vec![ranges.pod.to_string()],
        cluster_dns: vec![IpAddr::V4(dns.into())],
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        port: PORT,
        version: api::git_version(),
        pods_max: PODS_MAX,
    }
}

/// The address under which others reach this server.
fn address(listen: SocketAddr) -> IpAddr {
    let own = Some(listen.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback());
    own.or_else(|| node_address().map(IpAddr::V4)).unwrap_or_else(|| listen.ip())
}
