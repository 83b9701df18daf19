//! A rolling update and its undo under load lose nothing: by GET and POST, through the edge with keep-alive and without,
//! and through the ClusterIP with a connection for every request.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::node::Node;
use super::shop::{HOSTS, NAMESPACE};
use crate::load::Load;

/// Requests a second over all loads together.
const REQUESTS_PER_S_MIN: f64 = 2000.0;

pub(super) async fn nothing_lost(node: &mut Node) -> Result<()> {
    let address = node.field(NAMESPACE, "service/www", "{.spec.clusterIP}:{.spec.ports[0].port}")?;
    let service: SocketAddr = address.parse().with_context(|| format!("the Service's address is {address:?}"))?;
    let load = |name, address, echo: bool, keep_alive| Load {
        name,
        address,
        host: HOSTS[0].0.to_owned(),
        path: if echo { "/echo" } else { "/" }.to_owned(),
        echo,
        expect: if echo { String::new() } else { HOSTS[0].1.to_owned() },
        keep_alive,
        connections: 16,
        requests_per_s: 450,
    };
    let loads = [
        load("GET, edge, keep-alive", node.edge(), false, true),
        load("GET, edge, one request a connection", node.edge(), false, false),
        load("POST, edge, keep-alive", node.edge(), true, true),
        load("POST, edge, one request a connection", node.edge(), true, false),
        load("GET, ClusterIP, one request a connection", service, false, false),
    ];
    let running: Vec<_> = loads.into_iter().map(Load::start).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rolled = roll(node);
    let mut rate = 0.0;
    let mut lost = Vec::new();
    for load in running {
        let report = load.stop().await?;
        rate += report.requests_per_s;
        println!("        {}: {} sent, slowest {:?}", report.name, report.sent, report.slowest);
        lost.extend(report.nothing_lost().err());
    }
    rolled?;
    ensure!(lost.is_empty(), "{}", lost.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n"));
    ensure!(rate >= REQUESTS_PER_S_MIN, "only {rate:.0} requests a second were sent");
    Ok(())
}

/// A new template, then back.
fn roll(node: &Node) -> Result<()> {
    node.kubectl(&["-n", NAMESPACE, "set", "env", "deployment/www", "RELEASE=two"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/www", "--timeout=120s"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "undo", "deployment/www"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/www", "--timeout=120s"])?;
    Ok(())
}
