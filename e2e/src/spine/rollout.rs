//! A rolling update and its undo under load lose nothing: by GET and POST, through the edge with keep-alive and without,
//! and through the ClusterIP with a connection for every request.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::node::Node;
use super::shop::{HOSTS, NAMESPACE};
use crate::load::Load;

/// Requests a second over all loads together, where the machine has nothing else to do.
const REQUESTS_PER_S_MIN: f64 = 2000.0;

/// The share of the machine's time that its own small things take.
const USUALLY_BUSY: f64 = 0.2;

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
    let busy = busy_with_other_things().await?;
    let running: Vec<_> = loads.into_iter().map(Load::start).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rolled = roll(node);
    let mut rate = 0.0;
    let mut lost = Vec::new();
    for load in running {
        let report = load.stop().await?;
        rate += report.requests_per_s();
        println!("        {}: {} sent, slowest {:?}", report.name, report.samples.len(), report.slowest());
        lost.extend(report.nothing_lost().err());
    }
    rolled?;
    ensure!(lost.is_empty(), "{}", lost.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n"));
    println!("        {rate:.0} requests a second; the machine was {:.0} % busy before", busy * 100.0);
    let share = if busy > USUALLY_BUSY { 1.0 - busy } else { 1.0 };
    ensure!(rate >= REQUESTS_PER_S_MIN * share, "only {rate:.0} requests a second were sent");
    Ok(())
}

/// The share of a second that the machine's processors work while nobody asks the shop for anything.
async fn busy_with_other_things() -> Result<f64> {
    let (all_before, idle_before) = processor_time()?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (all, idle) = processor_time()?;
    Ok(1.0 - (idle - idle_before) / (all - all_before).max(1.0))
}

/// All time and idle time since the machine's start, in the kernel's ticks (proc_stat(5)).
fn processor_time() -> Result<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let first = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = first.split_whitespace().skip(1).map(str::parse).collect::<Result<_, _>>()?;
    // user, nice, system, idle, waiting for a disk, …; the last two are within the first.
    Ok((ticks.iter().take(8).sum(), ticks.iter().skip(3).take(2).sum()))
}

/// A new template, then back.
fn roll(node: &Node) -> Result<()> {
    node.kubectl(&["-n", NAMESPACE, "set", "env", "deployment/www", "RELEASE=two"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/www", "--timeout=120s"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "undo", "deployment/www"])?;
    node.kubectl(&["-n", NAMESPACE, "rollout", "status", "deployment/www", "--timeout=120s"])?;
    Ok(())
}
