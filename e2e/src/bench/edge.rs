//! Requests through the edge against Debian's nginx: the same load (wrk), the same upstream, the same number of workers on the same
//! processors, connections kept on both sides, an access log and timeouts for both. The rounds alternate, and so does who begins.
//!
//! With one worker the proxy has the first processor for itself, load and upstream have the second: so its own costs are
//! measured, not what others take from it. With more, all share all processors.

mod nginx;
mod wrk;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::json;

use super::census::{Census, Role, cpu};
use super::figures::{median, spread};
use crate::process::wait;
use crate::sandbox;
use crate::spine::node::{LIMIT, Node};
use nginx::{Log, Nginx};
use wrk::{Load, Seen};

#[derive(Args)]
pub(crate) struct Arguments {
    /// How often each proxy gets the load.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each load.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Connections of clients.
    #[arg(long, default_value_t = 32)]
    connections: u32,
    /// Bytes of each answer.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    /// Workers of each proxy; may be given more than once.
    #[arg(long, default_values_t = [1, 2])]
    workers: Vec<usize>,
    /// The access log of nginx.
    #[arg(long, value_enum, default_value_t = Log::Facts)]
    peer_log: Log,
}

/// Where the upstream and the peer listen.
const UPSTREAM: u16 = 8081;
const PEER: u16 = 8082;

const HOST: &str = "bench.localhost";

/// What one proxy did in one round.
struct Round {
    /// Processor time a request.
    cpu_us: f64,
    seen: Seen,
}

pub(crate) async fn run(corten: &Path, programs: &Path, arguments: Arguments) -> Result<ExitCode> {
    if !sandbox::is_inside() {
        return sandbox::enter();
    }
    sandbox::network()?;
    println!(
        "{} rounds of {} s, {} connections, answers of {} bytes; medians [least–greatest], ratios round by round",
        arguments.rounds, arguments.seconds, arguments.connections, arguments.bytes
    );
    println!(
        "\n| workers | CPU µs/request corten | nginx | ratio | requests/s corten | nginx | ratio | p50/p99 ms corten | nginx |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for workers in &arguments.workers {
        let (own, other) = compare(corten, programs, &arguments, *workers).await?;
        row(*workers, &own, &other);
    }
    Ok(ExitCode::SUCCESS)
}

async fn compare(
    corten: &Path,
    programs: &Path,
    arguments: &Arguments,
    workers: usize,
) -> Result<(Vec<Round>, Vec<Round>)> {
    let (proxies, others) = processors(workers)?;
    let folder = tempfile::tempdir()?;
    let _upstream = Nginx::upstream(folder.path(), UPSTREAM, arguments.bytes, &others)?;
    let peer = Nginx::proxy(folder.path(), PEER, UPSTREAM, workers, &proxies, arguments.peer_log)?;
    let mut node = Node::new(corten.to_owned(), programs)?;
    node.started_by(&["taskset", "--cpu-list", &proxies]);
    let outcome = alternate(&mut node, &peer, arguments, workers, &others).await;
    if outcome.is_err() {
        println!("{}\n{}", node.report()?, peer.tail()?);
    }
    node.purge()?;
    outcome
}

/// For the proxy, and for what is around it.
fn processors(workers: usize) -> Result<(String, String)> {
    let all = std::thread::available_parallelism()?.get();
    ensure!(workers <= all, "{workers} workers need as many processors");
    ensure!(all > 1, "load and proxy need a processor each");
    let list = |from: usize, to: usize| format!("{from}-{}", to - 1);
    Ok(if workers < all { (list(0, workers), list(workers, all)) } else { (list(0, all), list(0, all)) })
}

async fn alternate(
    node: &mut Node,
    peer: &Nginx,
    arguments: &Arguments,
    workers: usize,
    around: &str,
) -> Result<(Vec<Round>, Vec<Round>)> {
    node.up()?;
    publish(node)?;
    let census = Census::take(node.program(), &node.instance()?)?;
    let edge: Vec<u32> =
        census.own.iter().filter(|member| member.role == Role::Edge).map(|member| member.pid).collect();
    let nginx = peer.pids(workers)?;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for round in 0..arguments.rounds {
        let load = |address: String, seconds| Load {
            address,
            host: HOST,
            seconds,
            connections: arguments.connections,
            around,
        };
        let mut sides = [(node.edge().to_string(), &edge, &mut own), (format!("127.0.0.1:{PEER}"), &nginx, &mut other)];
        if round % 2 == 1 {
            sides.reverse();
        }
        for (address, pids, rounds) in sides {
            load(address.clone(), 1).run()?;
            let before = cpu(pids.iter().copied())?;
            let seen = load(address, arguments.seconds).run()?;
            let used: Duration = cpu(pids.iter().copied())? - before;
            rounds.push(Round { cpu_us: used.as_secs_f64() * 1e6 / seen.requests, seen });
        }
    }
    Ok((own, other))
}

/// A Service whose one endpoint is the upstream, and an Ingress for it.
fn publish(node: &Node) -> Result<()> {
    let metadata = json!({"name": "bench"});
    let backend = json!({"service": {"name": "bench", "port": {"name": "http"}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": UPSTREAM}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "bench-1", "labels": {"kubernetes.io/service-name": "bench"}},
        "ports": [{"name": "http", "port": UPSTREAM, "protocol": "TCP"}],
        "endpoints": [{"addresses": [sandbox::ADDRESS], "conditions": {"ready": true}}]});
    let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata,
        "spec": {"rules": [{"host": HOST, "http": {"paths": [path]}}]}});
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("objects.yaml");
    std::fs::write(&file, format!("{service}\n---\n{ingress}\n---\n{slice}\n"))?;
    node.kubectl(&["apply", "-f", &file.display().to_string()])?;
    wait(LIMIT, || Ok((wrk::code(node.edge(), HOST)? == 200).then_some(()))).context("the edge does not answer 200")
}

fn row(workers: usize, own: &[Round], other: &[Round]) {
    let column = |rounds: &[Round], of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let ratio =
        |of: fn(&Round) -> f64| -> Vec<f64> { own.iter().zip(other).map(|(own, other)| of(own) / of(other)).collect() };
    let (cpu, rate): (fn(&Round) -> f64, fn(&Round) -> f64) = (|round| round.cpu_us, |round| round.seen.per_second);
    let latency = |rounds: &[Round]| {
        let of = |of: fn(&Round) -> f64| median(rounds.iter().map(of));
        format!("{:.2} / {:.2}", of(|round| round.seen.p50_ms), of(|round| round.seen.p99_ms))
    };
    println!(
        "| {workers} | {} | {} | {} | {:.0} | {:.0} | {} | {} | {} |",
        spread(&column(own, cpu), 1),
        spread(&column(other, cpu), 1),
        spread(&ratio(cpu), 2),
        median(column(own, rate)),
        median(column(other, rate)),
        spread(&ratio(rate), 2),
        latency(own),
        latency(other),
    );
}
