//! Corten's scheduler against upstream's, both on the same API server of Corten with hollow nodes, alternately: pods wait when a
//! scheduler's process starts (which for Corten is all of control), and then all are bound. Who places a pod is said by the pod.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use corten_stdx::clock::Stopwatch;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::census::cpu;
use super::crew::Crew;
use super::figures::spread;
use super::hollow::{Hollow, PLACE};
use super::of_node;
use crate::http::{Client, Lines, Request};
use crate::kubeconfig::Endpoint;
use crate::process::Process;
use crate::spine::node::{LIMIT, NAME, Node};

const NAMESPACE: &str = "/api/v1/namespaces/placement";
const PODS: &str = "/api/v1/namespaces/placement/pods";

/// The schedulers, as pods name them.
const CORTEN: &str = "default-scheduler";
const UPSTREAM: &str = "upstream";

#[derive(Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 1000)]
    nodes: usize,
    /// Pods a round.
    #[arg(long, default_value_t = 5000)]
    pods: usize,
    /// Rounds of each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Clients that create pods at the same time.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Requests a second that upstream's scheduler allows itself; its own default is 50, its benchmarks use 5,000.
    #[arg(long, default_value_t = 5000)]
    qps: u32,
}

/// What one round took, in seconds.
struct Round {
    /// From the start of the scheduler's process until the first pod was seen bound, and the last one.
    first: f64,
    bound: f64,
    /// Processor of control, and of the scheduler where that is a process of its own.
    control: f64,
    scheduler: f64,
}

pub(crate) async fn run(corten: PathBuf, programs: &Path, arguments: Arguments) -> Result<ExitCode> {
    of_node(|| Ok(Node::new(corten, programs)?.at(&PLACE)), async |node| figures(node, programs, &arguments).await)
        .await
}

async fn figures(node: &mut Node, programs: &Path, arguments: &Arguments) -> Result<()> {
    node.up()?;
    // What is bound here would be run.
    node.kubectl(&["cordon", NAME])?;
    node.kubectl(&["create", "namespace", "placement"])?;
    let mut hollow = Hollow::start(&node.kubeconfig(), arguments.nodes).await?;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        drop(hollow);
        own.push(corten(node, arguments).await.context("Corten's scheduler")?);
        hollow = Hollow::again(&node.kubeconfig(), arguments.nodes)?;
        node.until_ready()?;
        let mut scheduler = None;
        let done = upstream(node, programs, arguments, &mut scheduler).await;
        let said = scheduler.and_then(|scheduler| scheduler.tail().ok()).unwrap_or_default();
        other.push(done.context(said).context("kube-scheduler")?);
    }
    drop(hollow);
    table(arguments, &own, &other);
    Ok(())
}

fn table(arguments: &Arguments, own: &[Round], other: &[Round]) {
    println!("{} pods that wait, {} nodes", arguments.pods, arguments.nodes);
    println!(
        "| scheduler | first bound, s after its start | all bound, s | pods/s from the first | CPU of control, s | CPU of the scheduler's process, s |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, rounds) in [("Corten", own), ("kube-scheduler", other)] {
        let column = |of: &dyn Fn(&Round) -> f64, digits| spread(&rounds.iter().map(of).collect::<Vec<f64>>(), digits);
        let [first, bound] = [column(&|round| round.first, 2), column(&|round| round.bound, 2)];
        let rate = column(&|round| arguments.pods as f64 / (round.bound - round.first), 0);
        let [control, scheduler] = [column(&|round| round.control, 2), column(&|round| round.scheduler, 2)];
        println!("| {name} | {first} | {bound} | {rate} | {control} | {scheduler} |");
    }
    let ratio = |of: fn(&Round) -> f64| {
        spread(&own.iter().zip(other).map(|(own, other)| of(other) / of(own)).collect::<Vec<f64>>(), 1)
    };
    println!("\nAll bound after a start, kube-scheduler's time by Corten's: {} ×;", ratio(|round| round.bound));
    println!("from the first bound to the last: {} ×.", ratio(|round| round.bound - round.first));
}

/// Control is started without controllers, so that pods wait, and then with them.
async fn corten(node: &mut Node, arguments: &Arguments) -> Result<Round> {
    node.kill()?;
    node.controllers("none");
    node.start()?;
    node.until_ready()?;
    create(node, arguments, CORTEN).await?;
    node.kill()?;
    node.controllers("all");
    let since = Stopwatch::start();
    node.start()?;
    let client = Client::new(&Endpoint::read(&node.kubeconfig())?)?;
    let mut lines = loop {
        node.control()?.check()?;
        match watch(&client).await {
            Ok(lines) => break lines,
            Err(error) => ensure!(since.elapsed() < LIMIT, "no API: {error:#}"),
        }
        sleep(Duration::from_millis(2)).await;
    };
    let (first, bound) = bound(&mut lines, arguments.pods, &since).await?;
    let control = used(node.control()?)?;
    remove(client).await?;
    Ok(Round { first, bound, control, scheduler: 0.0 })
}

async fn upstream(
    node: &mut Node,
    programs: &Path,
    arguments: &Arguments,
    started: &mut Option<Process>,
) -> Result<Round> {
    create(node, arguments, UPSTREAM).await?;
    let client = Client::new(&Endpoint::read(&node.kubeconfig())?)?;
    let mut lines = watch(&client).await?;
    let before = used(node.control()?)?;
    let since = Stopwatch::start();
    let scheduler = started.insert(kube_scheduler(node, programs, arguments.qps)?);
    let (first, bound) = bound(&mut lines, arguments.pods, &since).await?;
    let (control, scheduler) = (used(node.control()?)? - before, used(scheduler)?);
    remove(client).await?;
    Ok(Round { first, bound, control, scheduler })
}

/// Processor that a process has used, in seconds.
fn used(process: &Process) -> Result<f64> {
    Ok(cpu([process.identity().1].into_iter())?.as_secs_f64())
}

/// Creates pods for a scheduler that is not there.
async fn create(node: &Node, arguments: &Arguments, scheduler: &str) -> Result<()> {
    let pods = (0..arguments.pods).map(|number| pod(scheduler, &number.to_string())).collect();
    Crew::new(&node.kubeconfig(), arguments.clients)?.send(pods).await
}

fn pod(scheduler: &str, name: &str) -> Request {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{name}"), "labels": {"app": "placement"}},
        "spec": {"schedulerName": scheduler, "containers": [{
            "name": "app", "image": "registry.example/app-1:1",
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        }]},
    });
    Request::new("POST", PODS).body("application/json", pod.to_string())
}

/// Upstream's scheduler under a name of its own, with its own defaults but for its allowance of requests.
fn kube_scheduler(node: &Node, programs: &Path, qps: u32) -> Result<Process> {
    let kubeconfig = node.kubeconfig().display().to_string();
    let settings = json!({
        "apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
        "clientConnection": {"kubeconfig": kubeconfig, "qps": qps, "burst": qps},
        "leaderElection": {"leaderElect": false},
        "profiles": [{"schedulerName": UPSTREAM}],
    });
    let file = node.folder().join("kube-scheduler.json");
    fs::write(&file, settings.to_string())?;
    let mut command = Command::new(programs.join("kube-scheduler"));
    command.arg("--config").arg(&file).args(["--secure-port", "0"]);
    command.args([
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
    ]);
    Process::start("kube-scheduler", &command, node.folder())
}

/// Every pod that is there, and what changes.
async fn watch(client: &Client) -> Result<Lines> {
    let path =
        format!("{PODS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    client.lines(&Request::get(path)).await
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Seen,
}

#[derive(Deserialize)]
struct Seen {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default, rename = "nodeName")]
    node_name: String,
}

/// Waits until so many pods are bound; when the first and the last one were seen so.
async fn bound(lines: &mut Lines, number: usize, since: &Stopwatch) -> Result<(f64, f64)> {
    let (mut seen, mut first) = (HashSet::new(), None);
    while seen.len() < number {
        let Ok(line) = timeout(LIMIT, lines.next()).await else {
            anyhow::bail!("{} of {number} pods are bound, and then nothing for {LIMIT:?}", seen.len())
        };
        let event: Event = serde_json::from_slice(&line?)?;
        ensure!(event.r#type != "ERROR", "the watch has ended");
        if !event.object.spec.node_name.is_empty() {
            first.get_or_insert_with(|| since.elapsed().as_secs_f64());
            seen.insert(event.object.metadata.name);
        }
    }
    Ok((first.unwrap_or_default(), since.elapsed().as_secs_f64()))
}

async fn remove(mut client: Client) -> Result<()> {
    let path = format!("{PODS}?gracePeriodSeconds=0");
    let answer = client.send(&Request::new("DELETE", path)).await?;
    ensure!(answer.code == 200, "{PODS}: {}", answer.code);
    let since = Stopwatch::start();
    loop {
        let list = client.send(&Request::get(format!("{PODS}?limit=1"))).await?;
        let list: Value = serde_json::from_slice(&list.body)?;
        if list["items"].as_array().is_none_or(Vec::is_empty) {
            break;
        }
        ensure!(since.elapsed() < LIMIT, "pods of {NAMESPACE} are still there");
        sleep(Duration::from_millis(100)).await;
    }
    // What was told of their end is done with before the next begin.
    sleep(Duration::from_secs(2)).await;
    Ok(())
}
