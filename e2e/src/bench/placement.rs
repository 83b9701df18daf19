//! Corten's scheduler against upstream's, both on the same API server of Corten with hollow nodes, alternately: how long it
//! takes until all of many pods are bound, from the first request that creates one. Who places a pod is said by the pod.

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
use super::figures::{median, spread};
use super::hollow::{Hollow, PLACE};
use crate::http::{Client, Lines, Request};
use crate::kubeconfig::Endpoint;
use crate::process::Process;
use crate::sandbox;
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
    /// Until the last pod was created.
    created: f64,
    /// Until the last pod was seen bound.
    bound: f64,
    /// Processor of control, and of the scheduler where that is a process of its own.
    control: f64,
    scheduler: f64,
}

pub(crate) async fn run(corten: PathBuf, programs: &Path, arguments: Arguments) -> Result<ExitCode> {
    if !sandbox::is_inside() {
        return sandbox::enter();
    }
    sandbox::network()?;
    let mut node = Node::new(corten, programs)?.at(&PLACE);
    let outcome = figures(&mut node, programs, &arguments).await;
    if let Err(error) = &outcome {
        println!("{error:#}\n{}", node.control()?.tail()?);
    }
    node.purge()?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn figures(node: &mut Node, programs: &Path, arguments: &Arguments) -> Result<()> {
    node.up()?;
    // What is bound here would be run.
    node.kubectl(&["cordon", NAME])?;
    node.kubectl(&["create", "namespace", "placement"])?;
    let hollow = Hollow::start(&node.kubeconfig(), arguments.nodes).await?;
    let (mut own, mut other) = (Vec::new(), Vec::new());
    for _ in 0..arguments.rounds {
        own.push(round(node, arguments, CORTEN, None).await.context("Corten's scheduler")?);
        let scheduler = upstream(node, programs, arguments.qps)?;
        let done = round(node, arguments, UPSTREAM, Some(&scheduler)).await;
        other.push(done.with_context(|| scheduler.tail().unwrap_or_default()).context("kube-scheduler")?);
    }
    drop(hollow);
    table(arguments, &own, &other);
    Ok(())
}

fn table(arguments: &Arguments, own: &[Round], other: &[Round]) {
    println!("{} pods on {} nodes, created by {} clients", arguments.pods, arguments.nodes, arguments.clients);
    println!(
        "| scheduler | all created, s | all bound, s | pods/s | CPU of control, s | CPU of the scheduler's process, s |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, rounds) in [("Corten", own), ("kube-scheduler", other)] {
        let column = |of: fn(&Round) -> f64| spread(&rounds.iter().map(of).collect::<Vec<f64>>(), 2);
        let rate = arguments.pods as f64 / median(rounds.iter().map(|round| round.bound));
        let [created, bound] = [column(|round| round.created), column(|round| round.bound)];
        let [control, scheduler] = [column(|round| round.control), column(|round| round.scheduler)];
        println!("| {name} | {created} | {bound} | {rate:.0} | {control} | {scheduler} |");
    }
    let ratios: Vec<f64> = own.iter().zip(other).map(|(own, other)| other.bound / own.bound).collect();
    println!("\nAll bound, kube-scheduler's time by Corten's: {} ×.", spread(&ratios, 1));
}

/// Creates pods for a scheduler, waits until all are bound, and takes them away.
async fn round(node: &mut Node, arguments: &Arguments, name: &str, scheduler: Option<&Process>) -> Result<Round> {
    let kubeconfig = node.kubeconfig();
    let client = Client::new(&Endpoint::read(&kubeconfig)?)?;
    let mut crew = Crew::new(&kubeconfig, arguments.clients)?;
    // Whoever has placed one has begun.
    let mut lines = watch(&client).await?;
    crew.send(vec![pod(name, "first")]).await?;
    bound(&mut lines, 1).await?;
    let used = |node: &mut Node| -> Result<(f64, f64)> {
        let control = cpu([node.control()?.identity().1].into_iter())?;
        let scheduler = cpu(scheduler.map(|process| process.identity().1).into_iter())?;
        Ok((control.as_secs_f64(), scheduler.as_secs_f64()))
    };
    let before = used(node)?;
    let pods = (0..arguments.pods).map(|number| pod(name, &number.to_string())).collect();
    let since = Stopwatch::start();
    let create = async {
        crew.send(pods).await?;
        Ok::<f64, anyhow::Error>(since.elapsed().as_secs_f64())
    };
    let see = async {
        bound(&mut lines, arguments.pods).await?;
        Ok::<f64, anyhow::Error>(since.elapsed().as_secs_f64())
    };
    let (created, bound) = tokio::try_join!(create, see)?;
    let after = used(node)?;
    remove(client).await?;
    Ok(Round { created, bound, control: after.0 - before.0, scheduler: after.1 - before.1 })
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
fn upstream(node: &Node, programs: &Path, qps: u32) -> Result<Process> {
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

/// From now on; only what is selected.
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
    spec: Spec,
}

#[derive(Default, Deserialize)]
struct Spec {
    #[serde(default, rename = "nodeName")]
    node_name: String,
}

/// Waits until so many more pods were bound: each is modified once.
async fn bound(lines: &mut Lines, number: usize) -> Result<()> {
    let mut seen = 0;
    while seen < number {
        let Ok(line) = timeout(LIMIT, lines.next()).await else {
            anyhow::bail!("{seen} of {number} pods are bound, and then nothing for {LIMIT:?}")
        };
        let event: Event = serde_json::from_slice(&line?)?;
        ensure!(event.r#type != "ERROR", "the watch has ended");
        seen += usize::from(event.r#type == "MODIFIED" && !event.object.spec.node_name.is_empty());
    }
    Ok(())
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
